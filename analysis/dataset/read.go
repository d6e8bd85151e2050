package dataset

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/parquet/file"
	parquetmeta "github.com/apache/arrow/go/v15/parquet/metadata"
	"github.com/apache/arrow/go/v15/parquet/pqarrow"
	"golang.org/x/sys/unix"
)

// ReadIO reads an io.parquet: all of its columns, or only those that are named. The other
// columns are then 0 in the rows and are not checked; this takes half of the time.
func ReadIO(path string, only ...string) Batches[IO] { return readParquet(IOs, path, only...) }

// ReadCounters reads a counters.parquet.
func ReadCounters(path string) Batches[Counter] { return readParquet(Counters, path) }

// ReadEvents reads an events.parquet.
func ReadEvents(path string) Batches[Event] { return readParquet(Events, path) }

// ReadHeartbeats reads a heartbeats.parquet.
func ReadHeartbeats(path string) Batches[Heartbeat] { return readParquet(Heartbeats, path) }

// ReadClocks reads a clocks.parquet.
func ReadClocks(path string) Batches[Clock] { return readParquet(Clocks, path) }

// ReadDomains reads a domains.parquet.
func ReadDomains(path string) Batches[Domain] { return readParquet(Domains, path) }

// ReadHistograms reads a histograms.parquet.
func ReadHistograms(path string) Batches[Histogram] { return readParquet(Histograms, path) }

// ReadAttempts reads table attempts of a campaign's folder, in the order of the plan, as
// the last CompactCampaign wrote it. In folders of schema version 1 it reads table trials.
func ReadAttempts(folder string) ([]Trial, error) { return All(readAttemptsTable(folder)) }

// ReadTrials reads table trials of a campaign's folder, which must be of schema version 2.
func ReadTrials(folder string) Batches[Trial] {
	return readInside(Trials, filepath.Join(folder, trialsFile))
}

func readAttemptsTable(folder string) Batches[Trial] {
	return readInside(Attempts, attemptsPath(folder))
}

// readInside reads a table whose rows say where an attempt's files are. When a row names a folder outside of the campaign's
// folder, the file counts as damaged: a dataset may come from a stranger.
func readInside(table *Table[Trial], path string) Batches[Trial] {
	return func(yield func([]Trial, error) bool) {
		for rows, err := range readParquet(table, path) {
			if i := slices.IndexFunc(rows, leadsOut); err == nil && i >= 0 {
				rows, err = nil, &DamagedError{Path: path, Problem: fmt.Errorf("attempt %.20q has files in %.200q or evidence in %.200q, outside of the campaign's folder",
					rows[i].Key, rows[i].Folder, rows[i].Evidence)}
			}
			if !yield(rows, err) || err != nil {
				return
			}
		}
	}
}

func leadsOut(row Trial) bool {
	return slices.ContainsFunc([]string{row.Folder, row.Evidence}, func(place string) bool {
		return place != "" && !filepath.IsLocal(filepath.FromSlash(place))
	})
}

// attemptsPath is the file of table attempts.
func attemptsPath(folder string) string {
	path, old := filepath.Join(folder, attemptsFile), filepath.Join(folder, trialsFile)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		provenance, err := ReadProvenance(old)
		if err == nil && provenance[keySchemaVersion] == "" || err != nil && !errors.Is(err, fs.ErrNotExist) {
			path = old // a damaged one too: its reader says so
		}
	}
	return path
}

// ReadPhases reads table phases of a campaign's folder, in the order of the plan.
func ReadPhases(folder string) ([]Phase, error) {
	return All(readParquet(Phases, filepath.Join(folder, phasesFile)))
}

// ReadWitnesses reads table witnesses of a campaign's folder, in the order of the plan. A
// campaign that is older than the table has no rows; that is so for the following tables,
// too.
func ReadWitnesses(folder string) ([]Witness, error) { return readLater(Witnesses, folder) }

// ReadCertificates reads table certificates of a campaign's folder.
func ReadCertificates(folder string) ([]Certificate, error) { return readLater(Certificates, folder) }

// ReadTraffic reads table traffic of a campaign's folder.
func ReadTraffic(folder string) ([]Traffic, error) { return readLater(Traffics, folder) }

// ReadLedger reads table ledger of a campaign's folder.
func ReadLedger(folder string) ([]Ledger, error) { return readLater(Ledgers, folder) }

// readLater reads a table that older campaigns do not have. Check finds one that is missing
// although it should be there.
func readLater[R any](table *Table[R], folder string) ([]R, error) {
	rows, err := All(readParquet(table, filepath.Join(folder, table.Name+".parquet")))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return rows, err
}

// ReadProvenance reads the metadata of a Parquet file.
func ReadProvenance(path string) (Provenance, error) {
	in, err := openSource(path)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	opened, err := openParquet(in)
	return Provenance(opened.metadata), err
}

// readParquet reads a file in batches: all of its columns, or only those that are named,
// none of which may have been renamed. A file that is not as it was written is a
// DamagedError, and so is a panic of the library that reads it; a missing file is
// fs.ErrNotExist; a file of another table is neither.
func readParquet[R any](table *Table[R], path string, only ...string) Batches[R] {
	return func(yield func([]R, error) bool) {
		in, err := openSource(path)
		if err != nil {
			yield(nil, err)
			return
		}
		defer in.Close()
		opened, scanner, err := openTable(table, in, only...)
		if err != nil {
			yield(nil, err)
			return
		}
		defer scanner.close()
		var rows []R
		for left := opened.rows; left > 0; left -= int64(len(rows)) {
			err := guard(in, func() error {
				n, err := opened.next(left)
				if err != nil {
					return err
				}
				rows = grown(rows, n)
				return scanner.scan(rows, func(carrier carrier[R], position int) error { return opened.read(position, n, carrier.read) })
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

// sumsOf reads a file and sums it, without making rows.
func sumsOf[R any](table *Table[R], path string) (sums sums, err error) {
	in, err := openSource(path)
	if err != nil {
		return sums, err
	}
	defer in.Close()
	opened, scanner, err := openTable(table, in)
	if err != nil {
		return sums, err
	}
	defer scanner.close()
	err = guard(in, func() error {
		for left := opened.rows; left > 0; left = opened.rows - sums.rows {
			n, err := opened.next(left)
			if err != nil {
				return err
			}
			for i := range scanner.carriers { // these are opened one after the other, and then read at once
				if err := opened.openColumn(scanner.position[i]); err != nil {
					return err
				}
			}
			err = eachColumn(len(scanner.carriers), n, func(i int) error {
				if err := opened.read(scanner.position[i], n, scanner.carriers[i].read); err != nil {
					return fmt.Errorf("column %s: %w", scanner.layout.columns[i].Name, err)
				}
				return nil
			})
			if err != nil {
				return err
			}
			add(&sums, n, scanner.carriers)
		}
		return nil
	})
	return sums, err
}

// openTable opens a table's file, and finds its columns.
func openTable[R any](table *Table[R], in *source, only ...string) (*opened, *scanner[R], error) {
	opened, err := openParquet(in)
	if err != nil {
		return nil, nil, err
	}
	scanner, err := table.file.scanner(opened.schema, opened.metadata)
	if err != nil {
		return nil, nil, fmt.Errorf("%s %w", in.Name(), err)
	}
	opened.atOnce, scanner.wanted = int64(table.atOnce), only
	for _, name := range only {
		if len(table.file.schema.FieldIndices(name)) == 0 {
			return nil, nil, fmt.Errorf("%s is to be read by columns that table %s does not have, among %q", in.Name(), table.Name, only)
		}
	}
	return opened, scanner, nil
}

// opened is a Parquet file that is being read. Goroutines other than the caller's that read
// it must catch panics: see eachColumn.
type opened struct {
	schema   *arrow.Schema
	rows     int64
	atOnce   int64 // rows that are read at once
	metadata facts
	file     *file.Reader
	// group is the number of the next row group. Of the row group before it, from reads the
	// columns, left is the number of rows still to be read, and columns has those that were
	// opened.
	group   int
	left    int64
	from    *file.RowGroupReader
	columns []file.ColumnChunkReader
}

// openParquet reads the footer.
func openParquet(in *source) (*opened, error) {
	o := &opened{metadata: facts{}}
	err := guard(in, func() (err error) {
		if o.file, err = file.NewParquetReader(in); err != nil {
			return err
		}
		if err := checkChunks(in, o.file.MetaData()); err != nil {
			return err
		}
		o.rows = o.file.NumRows()
		for _, entry := range o.file.MetaData().GetKeyValueMetadata() {
			o.metadata[entry.GetKey()] = entry.GetValue()
		}
		o.schema, err = pqarrow.FromParquet(o.file.MetaData().Schema, nil, o.file.MetaData().KeyValueMetadata())
		if err == nil && len(o.schema.Fields()) != o.file.MetaData().Schema.NumColumns() {
			err = errors.New("its columns have columns")
		}
		return err
	})
	return o, err
}

// next is how many rows to read next: from one row group, and at most those that are left
// in the file.
func (o *opened) next(left int64) (int, error) {
	if o.left == 0 {
		if o.group >= o.file.NumRowGroups() {
			return 0, io.ErrUnexpectedEOF
		}
		o.from = o.file.RowGroup(o.group)
		o.left, o.columns = o.from.NumRows(), make([]file.ColumnChunkReader, o.from.NumColumns())
		if o.left <= 0 || o.left > left {
			return 0, fmt.Errorf("group %d has %d rows where %d of %d are left", o.group+1, o.left, left, o.rows)
		}
		o.group++
	}
	n := min(o.left, o.atOnce)
	o.left -= n
	return int(n), nil
}

// read has the values of a column read, for the rows that next announced.
func (o *opened) read(column, rows int, read func(from file.ColumnChunkReader, rows int) error) error {
	if err := o.openColumn(column); err != nil {
		return err
	}
	return read(o.columns[column], rows)
}

// openColumn opens a column of the group, unless it is open.
func (o *opened) openColumn(column int) (err error) {
	if o.columns[column] == nil {
		o.columns[column], err = o.from.Column(column)
	}
	return err
}

// checkChunks makes sure that the columns are at places where they can be: Arrow allocates
// as many bytes as the footer says, and panics when a length is below 0.
func checkChunks(in *source, footer *parquetmeta.FileMetaData) error {
	info, err := in.Stat()
	if err != nil {
		return err
	}
	for g := range footer.RowGroups {
		group := footer.RowGroup(g)
		for i := range group.NumColumns() {
			chunk, err := group.ColumnChunk(i)
			if err != nil {
				return err
			}
			start, length := chunk.DataPageOffset(), chunk.TotalCompressedSize()
			if chunk.HasDictionaryPage() && chunk.DictionaryPageOffset() > 0 {
				start = min(start, chunk.DictionaryPageOffset())
			}
			if start < 0 || length < 0 || start > info.Size() || length > info.Size()-start {
				return fmt.Errorf("column %d of row group %d is said to be %d bytes at %d, of %d", i, g, length, start, info.Size())
			}
		}
	}
	return nil
}

// source is a file that a library reads. It keeps the disk's first error, which the library
// may replace by another one.
type source struct {
	*os.File
	mu     sync.Mutex // Arrow reads in goroutines of its own
	failed error      // the first error of the disk, or of whatever the file is on
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.File.Read(p)
	return n, s.note(err)
}

func (s *source) ReadAt(p []byte, offset int64) (int, error) {
	n, err := s.File.ReadAt(p, offset)
	return n, s.note(err)
}

// Stat is the file's os.File.Stat, with its error noted.
func (s *source) Stat() (os.FileInfo, error) {
	info, err := s.File.Stat()
	return info, s.note(err)
}

// note notes an error of the system. EINVAL is no error of the disk: it comes when the
// file's content points to a place that does not exist.
func (s *source) note(err error) error {
	var system syscall.Errno
	if errors.As(err, &system) && system != unix.EINVAL {
		s.mu.Lock()
		if s.failed == nil {
			s.failed = err
		}
		s.mu.Unlock()
	}
	return err
}

// guard runs read and turns its error or panic into a DamagedError. When the disk could not
// be read, the file is not damaged, and guard returns the disk's error instead.
func guard(in *source, read func() error) (err error) {
	defer func() {
		if problem := recover(); problem != nil {
			err = fmt.Errorf("the reader panics: %v", problem)
		}
		in.mu.Lock()
		defer in.mu.Unlock()
		switch {
		case err != nil && in.failed != nil:
			err = in.failed
		case err != nil:
			err = &DamagedError{Path: in.Name(), Problem: err}
		}
	}()
	return read()
}

// openSource opens a file to be read under guard.
func openSource(path string) (*source, error) {
	in, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return &source{File: in}, nil
}

// grown is a slice of n zero rows, in the memory of an earlier slice when that is large
// enough.
func grown[R any](rows []R, n int) []R {
	if cap(rows) < n {
		return make([]R, n)
	}
	clear(rows[:n])
	return rows[:n]
}
