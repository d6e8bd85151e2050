package dataset

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/apache/arrow/go/v15/arrow/ipc"
)

// segmentSuffix ends the name of a segment: an Arrow IPC stream.
const segmentSuffix = ".arrows"

// sidePath is the path of a segment's side file.
func sidePath(path string) string { return path + ".index" }

// entry is a line of a side file: a batch that is on the disk. All lines have the same
// width, so that a truncated line is recognised by its length.
type entry struct {
	end  int64  // offset in the segment of the first byte after the batch
	rows int64  // in the batch
	crc  uint32 // CRC-32C of the bytes since the entry before, or since the start
}

const (
	entryFormat = "%016x %08x %08x\n"
	entryBytes  = 16 + 1 + 8 + 1 + 8 + 1
)

func (e entry) String() string { return fmt.Sprintf(entryFormat, e.end, e.rows, e.crc) }

// parseEntries reads whole lines.
func parseEntries(text []byte) ([]entry, error) {
	var entries []entry
	for line := range slices.Chunk(text, entryBytes) {
		var e entry
		if _, err := fmt.Sscanf(string(line), entryFormat, &e.end, &e.rows, &e.crc); err != nil || e.String() != string(line) {
			return nil, fmt.Errorf("line %d of the side file is %q", len(entries)+1, line)
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// Segment is a file of rows on their way into a table: an Arrow IPC stream, and a side file
// that says which batches are on the disk. It is meant for few rows, and not compressed:
// Arrow 15 makes a new zstd encoder for each batch, which takes far longer than it saves.
// Older segments, which are compressed, can still be read.
//
// What Append has acknowledged is there after any crash. Another process never writes to a
// segment again: it goes on in the next one (NextSegment).
type Segment[R any] struct {
	table  *Table[R]
	path   string
	file   *os.File
	side   *os.File
	writer *ipc.Writer
	out    *crcWriter
	broken error // error of an earlier Append: what is on the disk since is unknown
	rows   int64
}

// crcWriter counts the bytes that it writes, and has the checksum of those since the last
// entry.
type crcWriter struct {
	file io.Writer
	end  int64
	crc  uint32
}

func (w *crcWriter) Write(p []byte) (int, error) {
	n, err := w.file.Write(p)
	w.end += int64(n)
	w.crc = crc32.Update(w.crc, castagnoli, p[:n])
	return n, err
}

// OpenSegment begins a new segment: path must not exist yet, but its folder must.
func OpenSegment[R any](path string, table *Table[R]) (*Segment[R], error) {
	// The side file comes first: a segment without one counts as damaged, not as empty.
	side, err := os.OpenFile(sidePath(path), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, fmt.Errorf("begin a segment: %w", err)
	}
	if err := SyncFolder(filepath.Dir(path)); err != nil {
		return nil, errors.Join(fmt.Errorf("begin segment %s: %w", path, err), side.Close())
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("begin a segment: %w", err), side.Close())
	}
	out := &crcWriter{file: file}
	return &Segment[R]{table: table, path: path, file: file, side: side, out: out,
		writer: ipc.NewWriter(out, ipc.WithSchema(table.segment.schema))}, nil
}

// Append writes rows as one batch. When it returns nil they are on the disk.
// After an error the segment takes no more rows: go on in the next one.
func (s *Segment[R]) Append(rows []R) error {
	if s.broken != nil {
		return s.broken
	}
	if len(rows) == 0 {
		return nil
	}
	if err := s.append(rows); err != nil {
		s.broken = fmt.Errorf("append to segment %s: %w", s.path, err)
	}
	return s.broken
}

func (s *Segment[R]) append(rows []R) error {
	record := s.table.segment.record(rows, false)
	defer record.Release()
	if err := s.writer.Write(record); err != nil {
		return err
	}
	if err := s.file.Sync(); err != nil {
		return err
	}
	if s.rows == 0 { // makes the segment's name durable, too
		if err := SyncFolder(filepath.Dir(s.path)); err != nil {
			return err
		}
	}
	line := entry{s.out.end, int64(len(rows)), s.out.crc}.String()
	s.out.crc = 0
	s.rows += int64(len(rows))
	if _, err := s.side.WriteString(line); err != nil {
		return err
	}
	return s.side.Sync()
}

// Close closes the files. All that was acknowledged is on the disk already.
func (s *Segment[R]) Close() error {
	return errors.Join(s.file.Close(), s.side.Close())
}

// NextSegment is the path of the next segment of a table in a folder:
// "events-0001.arrows" and so on.
func NextSegment[R any](folder string, table *Table[R]) (string, error) {
	for n := 1; ; n++ {
		path := filepath.Join(folder, fmt.Sprintf("%s-%04d%s", table.Name, n, segmentSuffix))
		// A segment that was set aside keeps its number.
		found, err := filepath.Glob(escapeGlob(path) + "*")
		if err != nil {
			return "", err
		}
		if len(found) == 0 {
			return path, nil
		}
	}
}

// SegmentPaths lists the segments of a table in a folder, in their order, including a
// segment of which only the side file exists.
func SegmentPaths[R any](folder string, table *Table[R]) ([]string, error) {
	return segmentPaths(folder, table.Name)
}

func segmentPaths(folder, prefix string) ([]string, error) {
	pattern := filepath.Join(escapeGlob(folder), prefix+"-*"+segmentSuffix)
	paths, err := filepath.Glob(pattern)
	if err != nil {
		return nil, err
	}
	sides, err := filepath.Glob(sidePath(pattern))
	for _, side := range sides {
		paths = append(paths, side[:len(side)-len(sidePath(""))])
	}
	slices.Sort(paths)
	return slices.Compact(paths), err
}

// writeSealed writes rows as a segment that is complete from the start, and replaces a
// segment of the same name. It has one batch, whose entry is in the file itself, after the
// end of the stream. The caller flushes the folder.
func writeSealed[R any](path string, table *Table[R], rows []R) error {
	var content bytes.Buffer
	out := &crcWriter{file: &content}
	writer := ipc.NewWriter(out, ipc.WithSchema(table.segment.schema))
	record := table.segment.record(rows, false)
	defer record.Release()
	if err := writer.Write(record); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	line := entry{out.end, int64(len(rows)), out.crc}.String()
	if err := writer.Close(); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	content.WriteString(line)
	return replaceContent(path, content.Bytes())
}
