package dataset

import (
	"context"
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
	"github.com/apache/arrow/go/v15/arrow/memory"
	"github.com/apache/arrow/go/v15/parquet/file"
	parquetmeta "github.com/apache/arrow/go/v15/parquet/metadata"
	"github.com/apache/arrow/go/v15/parquet/pqarrow"
	"golang.org/x/sys/unix"
)

// ReadIO reads an io.parquet: all of its columns, or only those that are named. The
// others are 0 then, and what they are is not looked at; it takes half of the time.
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

// ReadAttempts reads table attempts of a campaign's folder, in the order of the
// plan. It has what the last CompactCampaign put together. In folders of schema
// version 1 it is table trials.
func ReadAttempts(folder string) ([]Trial, error) { return All(readAttemptsTable(folder)) }

// ReadTrials reads table trials of a campaign's folder: of schema version 2.
func ReadTrials(folder string) Batches[Trial] {
	return readParquet(Trials, filepath.Join(folder, trialsFile))
}

func readAttemptsTable(folder string) Batches[Trial] {
	path, old := filepath.Join(folder, attemptsFile), filepath.Join(folder, trialsFile)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		provenance, err := ReadProvenance(old)
		if err == nil && provenance[keySchemaVersion] == "" || err != nil && !errors.Is(err, fs.ErrNotExist) {
			path = old // a damaged one too: its reader says so
		}
	}
	return readParquet(Attempts, path)
}

// ReadPhases reads table phases of a campaign's folder, in the order of the plan.
func ReadPhases(folder string) ([]Phase, error) {
	return All(readParquet(Phases, filepath.Join(folder, phasesFile)))
}

// ReadWitnesses reads table witnesses of a campaign's folder, in the order of
// the plan. A campaign from before there was the table has no rows; so have the
// following.
func ReadWitnesses(folder string) ([]Witness, error) { return readLater(Witnesses, folder) }

// ReadCertificates reads table certificates of a campaign's folder.
func ReadCertificates(folder string) ([]Certificate, error) { return readLater(Certificates, folder) }

// ReadTraffic reads table traffic of a campaign's folder.
func ReadTraffic(folder string) ([]Traffic, error) { return readLater(Traffics, folder) }

// ReadLedger reads table ledger of a campaign's folder.
func ReadLedger(folder string) ([]Ledger, error) { return readLater(Ledgers, folder) }

// readLater reads a table that campaigns did not always have. One that is
// missing though it should be there is found by Check.
func readLater[R any](table *Table[R], folder string) ([]R, error) {
	rows, err := All(readParquet(table, filepath.Join(folder, table.Name+".parquet")))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return rows, err
}

// ReadProvenance reads what a Parquet file says of itself.
func ReadProvenance(path string) (Provenance, error) {
	in, err := openSource(path)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	opened, err := openParquet(in)
	return Provenance(opened.metadata), err
}

// readParquet reads a file in batches. A file that is not as it was written is
// a DamagedError, and so are panics of the library over it; a missing one is
// fs.ErrNotExist; one of another table is neither. Of the columns it reads all, or
// only those that are named, of which none may have had another name once.
func readParquet[R any](table *Table[R], path string, only ...string) Batches[R] {
	return func(yield func([]R, error) bool) {
		in, err := openSource(path)
		if err != nil {
			yield(nil, err)
			return
		}
		defer in.Close()
		opened, err := openParquet(in, only...)
		if err != nil {
			yield(nil, err)
			return
		}
		scan, err := table.file.scanner(opened.schema, opened.metadata)
		if part := table.file.only(only); err == nil && len(only) > 0 {
			if len(part.columns) != len(only) {
				err = fmt.Errorf("is to be read by columns that table %s does not have, among %q", table.Name, only)
			} else {
				scan, err = part.scanner(opened.records.Schema(), opened.metadata)
			}
		}
		if err != nil {
			yield(nil, fmt.Errorf("%s %w", path, err))
			return
		}
		var rows []R
		for left := opened.rows; left > 0; left -= int64(len(rows)) {
			err := guard(in, func() error {
				record, err := opened.next()
				if err != nil {
					return err
				}
				if n := record.NumRows(); n == 0 || n > left {
					return fmt.Errorf("%d more rows come where %d of %d are left", n, left, opened.rows)
				}
				rows = grown(rows, int(record.NumRows()))
				return scan(record, rows)
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

// opened is a Parquet file that is being read.
type opened struct {
	schema   *arrow.Schema
	rows     int64
	metadata facts
	records  pqarrow.RecordReader
}

// openParquet reads the footer. The records are read by the caller's goroutine
// alone: a panic in another one would end the process. They have all columns, or only
// those that are named.
func openParquet(in *source, only ...string) (o opened, err error) {
	err = guard(in, func() error {
		parquetFile, err := file.NewParquetReader(in)
		if err != nil {
			return err
		}
		if err := checkChunks(in, parquetFile.MetaData()); err != nil {
			return err
		}
		o.rows = parquetFile.NumRows()
		o.metadata = facts{}
		for _, entry := range parquetFile.MetaData().GetKeyValueMetadata() {
			o.metadata[entry.GetKey()] = entry.GetValue()
		}
		// The reader allocates a whole batch of each column, however few rows come.
		options := pqarrow.ArrowReadProperties{BatchSize: min(batchRows, max(1, o.rows))}
		reader, err := pqarrow.NewFileReader(parquetFile, options, memory.DefaultAllocator)
		if err != nil {
			return err
		}
		if o.schema, err = reader.Schema(); err != nil {
			return err
		}
		var columns []int // nil is all
		for _, name := range only {
			columns = append(columns, o.schema.FieldIndices(name)...)
		}
		slices.Sort(columns)
		o.records, err = reader.GetRecordReader(context.Background(), columns, nil)
		return err
	})
	return o, err
}

// checkChunks makes sure that the columns are where they can be: Arrow opens them
// in goroutines of its own, where it panics over a length below 0.
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

// next reads the next record. It never returns neither.
func (o opened) next() (arrow.Record, error) {
	record, err := o.records.Read()
	switch {
	case err == nil && record == nil, errors.Is(err, io.EOF):
		return nil, io.ErrUnexpectedEOF
	case err != nil:
		return nil, err
	}
	return record, nil
}

// source is a file that is read by others' code, which may put another error in the place
// of the disk's.
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

// Stat is os.File's.
func (s *source) Stat() (os.FileInfo, error) {
	info, err := s.File.Stat()
	return info, s.note(err)
}

// note notes an error of the system. That there is nothing at a place where the file's
// content says that there is something is none of the disk's.
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

// guard runs what reads a file, and makes a DamagedError of its error or panic. When the
// file could not be read, it is no damage, and guard returns that.
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

// openSource opens a file to read it under guard.
func openSource(path string) (*source, error) {
	in, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return &source{File: in}, nil
}

// grown is a slice of n rows, in the memory of an earlier one when it is large
// enough. Its rows hold whatever they held.
func grown[R any](rows []R, n int) []R {
	if cap(rows) < n {
		return make([]R, n)
	}
	clear(rows[:n])
	return rows[:n]
}
