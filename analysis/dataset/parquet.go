package dataset

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"maps"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/apache/arrow/go/v15/arrow/flight"
	"github.com/apache/arrow/go/v15/arrow/memory"
	"github.com/apache/arrow/go/v15/parquet"
	"github.com/apache/arrow/go/v15/parquet/compress"
	"github.com/apache/arrow/go/v15/parquet/file"
	parquetmeta "github.com/apache/arrow/go/v15/parquet/metadata"
	"github.com/apache/arrow/go/v15/parquet/pqarrow"
	"golang.org/x/sync/errgroup"

	"heliotrope/internal/inventory"
)

// Provenance says where data came from: version of the program, spec, seed, hosts, kernels,
// ... It is written into every Parquet file as key-value metadata. It must have KeyCampaign
// and KeyTestbedKind.
type Provenance map[string]string

// Keys of a Provenance that always have a value.
const (
	KeyCampaign    = "campaign"
	KeyTestbedKind = "testbed_kind" // emulated, hardware, vcenter-simulator or simulated
)

// Keys of metadata that is written beside the provenance.
const (
	keyTable         = "table"
	keySchemaVersion = "schema_version"
)

// SchemaVersion is the version of the tables as this program writes them. A file that names
// no version is of version 1. There table trials has the attempts, the columns called trial
// have the attempts' keys, and the numbers of trial and attempt are called sequence and
// attempt.
const SchemaVersion = "2"

// facts are a file's metadata.
type facts map[string]string

// old says whether the file is of schema version 1.
func (f facts) old() (bool, error) {
	switch version := f[keySchemaVersion]; version {
	case "":
		return true, nil
	case SchemaVersion:
		return false, nil
	default:
		return false, fmt.Errorf("it is of schema version %q, and the newest known is %s", version, SchemaVersion)
	}
}

// simulated says whether the file's numbers come from a model.
func (f facts) simulated() bool { return f[KeyTestbedKind] == string(inventory.Simulated) }

func (p Provenance) check() error {
	for _, key := range []string{KeyCampaign, KeyTestbedKind} {
		if p[key] == "" {
			return fmt.Errorf("the provenance of a dataset's file must have %s", key)
		}
	}
	return nil
}

// File is an entry of a manifest: one Parquet file, or a file of the evidence,
// which has no table and no rows.
type File struct {
	Path   string `json:"path"` // in the campaign's folder, with slashes
	Table  string `json:"table,omitempty"`
	Rows   int64  `json:"rows"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"` // hex
}

// A row group of any table has at most rowGroup rows, and ends with the batch with which its texts are groupTexts bytes.
// It is in memory while it is written, and rows that are read at once are of one group. Only texts can be
// long: a row of table histograms has up to some 65 KB of them.
const (
	rowGroup   = 1 << 18
	groupTexts = 4 << 20
)

// properties are Parquet's settings for a table.
func (t *Table[R]) properties() *parquet.WriterProperties {
	options := []parquet.WriterProperty{
		parquet.WithVersion(parquet.V2_LATEST),
		parquet.WithCreatedBy("heliotrope"),
		parquet.WithCompression(compress.Codecs.Zstd), // its level: see codecs
		parquet.WithBatchSize(int64(t.atOnce)),
		parquet.WithMaxRowGroupLength(int64(t.group)),
	}
	for _, c := range t.file.columns {
		dictionary := c.encoding == parquet.Encodings.PlainDict
		options = append(options, parquet.WithDictionaryFor(c.Name, dictionary))
		if dictionary {
			options = append(options, parquet.WithStatsFor(c.Name, false))
		} else {
			options = append(options, parquet.WithEncodingFor(c.Name, c.encoding))
		}
	}
	return parquet.NewWriterProperties(options...)
}

// writeParquet writes a table's file. Under its final name the file is always complete: it
// is read back and compared before it is renamed. The caller flushes the folder. File.Path
// is the base name.
func writeParquet[R any](table *Table[R], path string, metadata facts, batches Batches[R]) (File, error) {
	var written, read sums
	out := &hashingWriter{hash: sha256.New()}
	err := replaceFile(path, func(file io.Writer) (err error) {
		out.file = file
		if written, err = writeRows(table, out, metadata, batches); err != nil {
			return fmt.Errorf("write %s: %w", path, err)
		}
		return nil
	}, func(temporary string) (err error) {
		if read, err = sumsOf(table, temporary); err != nil {
			return fmt.Errorf("read back what was written: %w", err)
		}
		if err := table.compare(written, read); err != nil {
			return fmt.Errorf("read back %s: %w", temporary, err)
		}
		return nil
	})
	if err != nil {
		return File{}, err
	}
	return File{
		Path: filepath.Base(path), Table: table.Name, Rows: written.rows,
		Bytes: out.bytes, SHA256: hex.EncodeToString(out.hash.Sum(nil)),
	}, nil
}

// writeRows writes a table's rows as Parquet, and sums them.
func writeRows[R any](table *Table[R], out io.Writer, metadata facts, batches Batches[R]) (written sums, err error) {
	writer, err := newWriter(table, out, metadata)
	if err != nil {
		return written, err
	}
	carriers := table.file.open()
	defer table.file.close(carriers)
	inGroup, texts := 0, 0 // rows in the group, and the bytes of their texts
	for rows, err := range batches {
		if err != nil {
			return written, err
		}
		for len(rows) > 0 {
			if inGroup == table.group || texts >= groupTexts {
				inGroup, texts = 0, 0
			}
			batch := rows[:min(len(rows), table.atOnce, table.group-inGroup)]
			rows = rows[len(batch):]
			if inGroup == 0 {
				if err := writer.next(); err != nil {
					return written, err
				}
			}
			err := eachColumn(len(carriers), len(batch), func(i int) error {
				carriers[i].gather(batch, metadata.simulated())
				return writer.write(i, carriers[i].write)
			})
			if err != nil {
				return written, err
			}
			add(&written, len(batch), carriers)
			inGroup += len(batch)
			for _, carrier := range carriers {
				texts += carrier.textBytes()
			}
		}
	}
	return written, writer.close()
}

// manyRows is the number of rows from which on each column gets a goroutine of its own.
const manyRows = 8192

// eachColumn calls do for each column, at once on all processors where there are many rows:
// columns do not depend on each other. A panic of the library becomes an error.
func eachColumn(columns, rows int, do func(column int) error) error {
	if rows < manyRows {
		for i := range columns {
			if err := do(i); err != nil {
				return err
			}
		}
		return nil
	}
	var all errgroup.Group
	all.SetLimit(runtime.GOMAXPROCS(0))
	for i := range columns {
		all.Go(func() (err error) {
			defer func() {
				if problem := recover(); problem != nil {
					err = fmt.Errorf("the library panics: %v", problem)
				}
			}()
			return do(i)
		})
	}
	return all.Wait()
}

// writer writes a Parquet file, one row group after the other.
type writer struct {
	file  *file.Writer
	group file.BufferedRowGroupWriter
}

// newWriter begins a Parquet file.
func newWriter[R any](table *Table[R], out io.Writer, metadata facts) (*writer, error) {
	properties := table.properties()
	schema, err := pqarrow.ToParquet(table.file.schema, properties, pqarrow.DefaultWriterProps())
	if err != nil {
		return nil, err
	}
	keys := parquetmeta.KeyValueMetadata{}
	// The Arrow schema itself is stored too: its fields have the units.
	if err := keys.Append("ARROW:schema", base64.StdEncoding.EncodeToString(flight.SerializeSchema(table.file.schema, memory.DefaultAllocator))); err != nil {
		return nil, err
	}
	for _, key := range slices.Sorted(maps.Keys(metadata)) {
		if err := keys.Append(key, metadata[key]); err != nil {
			return nil, err
		}
	}
	return &writer{file: file.NewParquetWriter(out, schema.Root(), file.WithWriterProps(properties), file.WithWriteMetadata(keys))}, nil
}

// next begins the next group of rows.
func (w *writer) next() error {
	if w.group != nil {
		if err := w.group.Close(); err != nil { // the file's writer would not report the error
			return err
		}
	}
	w.group = w.file.AppendBufferedRowGroup()
	return nil
}

// write has a column of the row group written.
func (w *writer) write(column int, write func(file.ColumnChunkWriter) error) error {
	to, err := w.group.Column(column)
	if err != nil {
		return err
	}
	return write(to)
}

// close ends the file.
func (w *writer) close() error {
	if w.group != nil {
		if err := w.group.Close(); err != nil {
			return err
		}
	}
	return w.file.Close()
}

// hashingWriter counts and hashes what it writes. It has no Close method on purpose: Arrow
// would close the file before it is flushed.
type hashingWriter struct {
	file  io.Writer
	hash  hash.Hash
	bytes int64
}

func (w *hashingWriter) Write(p []byte) (int, error) {
	n, err := w.file.Write(p)
	w.bytes += int64(n)
	w.hash.Write(p[:n])
	return n, err
}
