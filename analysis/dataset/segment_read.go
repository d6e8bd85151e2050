package dataset

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/apache/arrow/go/v15/arrow/ipc"
)

// ReadSegments reads segments, one after the other: exactly the batches that were
// acknowledged. It does not read what a crash left after the last of them. When an
// acknowledged batch is not as it was written, the error is a DamagedError, which comes
// before any row of that segment.
func ReadSegments[R any](table *Table[R], paths ...string) Batches[R] {
	return func(yield func([]R, error) bool) {
		for _, path := range paths {
			for rows, err := range readSegment(table, path) {
				if !yield(rows, err) || err != nil {
					return
				}
			}
		}
	}
}

func readSegment[R any](table *Table[R], path string) Batches[R] {
	return func(yield func([]R, error) bool) {
		entries, err := readEntries(path)
		if err != nil || len(entries) == 0 {
			if err != nil {
				yield(nil, err)
			}
			return
		}
		in, err := openSource(path)
		if err != nil {
			yield(nil, missing(path, err))
			return
		}
		defer in.Close()
		var stream *ipc.Reader
		err = guard(in, func() error {
			if err := verifyEntries(in, entries); err != nil {
				return err
			}
			stream, err = ipc.NewReader(io.NewSectionReader(in, 0, entries[len(entries)-1].end))
			return err
		})
		if err != nil {
			yield(nil, err)
			return
		}
		defer stream.Release()
		metadata := stream.Schema().Metadata()
		scanner, err := table.segment.scanner(stream.Schema(), metadata.ToMap())
		if err != nil {
			yield(nil, fmt.Errorf("%s %w", path, err))
			return
		}
		defer scanner.close()
		var rows []R
		for _, entry := range entries {
			err := guard(in, func() error {
				record, err := stream.Read()
				if err != nil {
					return err
				}
				if record.NumRows() != entry.rows {
					return fmt.Errorf("a batch of %d rows is read, its side file says %d", record.NumRows(), entry.rows)
				}
				rows = grown(rows, int(entry.rows))
				return scanner.scanRecord(record, rows)
			})
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(rows, nil) {
				return
			}
		}
	}
}

// missing turns the error of a missing file of a segment into a DamagedError.
func missing(path string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return &DamagedError{Path: path, Problem: err}
	}
	return err
}

// readEntries reads a segment's side file, or the end of a sealed segment. When the last
// line of a side file is truncated, it is left out: its batch was not acknowledged.
func readEntries(path string) ([]entry, error) {
	text, err := os.ReadFile(sidePath(path))
	if errors.Is(err, fs.ErrNotExist) {
		return readSeal(path)
	}
	if err != nil {
		return nil, err
	}
	entries, err := parseEntries(text[:len(text)-len(text)%entryBytes])
	if err != nil {
		return nil, &DamagedError{Path: path, Problem: err}
	}
	return entries, nil
}

// readSeal reads the line at the end of a sealed segment.
func readSeal(path string) ([]entry, error) {
	in, err := openSource(path)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	var entries []entry
	err = guard(in, func() error {
		info, err := in.Stat()
		if err != nil {
			return err
		}
		line := make([]byte, entryBytes)
		if _, err := in.ReadAt(line, max(0, info.Size()-entryBytes)); err != nil {
			return fmt.Errorf("it has neither a side file nor a seal: %w", err)
		}
		if entries, err = parseEntries(line); err != nil {
			return fmt.Errorf("it has neither a side file nor a seal: it ends with %q", strings.ToValidUTF8(string(line), "?"))
		}
		return nil
	})
	return entries, err
}

// verifyEntries compares the batches with their checksums.
func verifyEntries(in io.ReaderAt, entries []entry) error {
	start := int64(0)
	for i, e := range entries {
		if e.end <= start {
			return fmt.Errorf("batch %d ends at %d, the one before at %d", i+1, e.end, start)
		}
		sum := crc32.New(castagnoli)
		room := make([]byte, min(e.end-start, 1<<15)) // most batches are smaller
		n, err := io.CopyBuffer(sum, io.NewSectionReader(in, start, e.end-start), room)
		switch {
		case err != nil:
			return err
		case n != e.end-start:
			return fmt.Errorf("batch %d is cut: it has %d of %d bytes", i+1, n, e.end-start)
		case sum.Sum32() != e.crc:
			return fmt.Errorf("batch %d has checksum %08x, want %08x", i+1, sum.Sum32(), e.crc)
		}
		start = e.end
	}
	return nil
}
