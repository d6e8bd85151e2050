package dataset

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"maps"
	"path/filepath"
	"slices"

	"github.com/apache/arrow/go/v15/parquet"
	"github.com/apache/arrow/go/v15/parquet/compress"
	"github.com/apache/arrow/go/v15/parquet/pqarrow"

	"heliotrope/internal/inventory"
)

// Provenance says where data came from: binary version, spec, seed, hosts,
// kernels, ... It is written into every Parquet file as key-value metadata.
// KeyCampaign and KeyTestbedKind must be there.
type Provenance map[string]string

// Keys of a Provenance that always have a value.
const (
	KeyCampaign    = "campaign"
	KeyTestbedKind = "testbed_kind" // emulated, hardware, vcenter-simulator or simulated
)

// Written beside the provenance.
const (
	keyTable         = "table"
	keySchemaVersion = "schema_version"
)

// SchemaVersion is of the tables as they are written. Files without one are of
// version 1: their trials are attempts, which is what their columns called trial
// have the keys of, and their numbers are called sequence and attempt.
const SchemaVersion = "2"

// facts are a file's metadata.
type facts map[string]string

// old says whether it is of version 1.
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

// simulated says whether its numbers are a model's.
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

// rowGroup is how many rows a row group has at most: it is in memory while it is
// written.
const rowGroup = 1 << 18

// properties are Parquet's settings for a table. Snappy and not zstd: Arrow 15
// makes a new zstd encoder for each page, which doubles the time of a small
// trial for a sixth of the bytes.
func (t *Table[R]) properties() *parquet.WriterProperties {
	options := []parquet.WriterProperty{
		parquet.WithVersion(parquet.V2_LATEST),
		parquet.WithCreatedBy("heliotrope"),
		parquet.WithCompression(compress.Codecs.Snappy),
		parquet.WithBatchSize(batchRows),
		parquet.WithMaxRowGroupLength(rowGroup),
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

// writeParquet writes a table's file so that its final name is only ever a
// complete file, which was read back and compared before. The caller flushes the
// folder. File.Path is the base name.
func writeParquet[R any](table *Table[R], path string, metadata facts, batches Batches[R]) (File, error) {
	var written, read sums
	out := &hashingWriter{hash: sha256.New()}
	err := replaceFile(path, func(file io.Writer) (err error) {
		out.file = file
		if written, err = writeRows(table, out, metadata, batches); err != nil {
			return fmt.Errorf("write %s: %w", path, err)
		}
		return nil
	}, func(temporary string) error {
		for rows, err := range readParquet(table, temporary) {
			if err != nil {
				return fmt.Errorf("read back what was written: %w", err)
			}
			table.add(&read, rows)
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

// writeRows writes a table's rows as Parquet, and adds them up.
func writeRows[R any](table *Table[R], out io.Writer, metadata facts, batches Batches[R]) (written sums, err error) {
	// The Arrow schema itself: units are in its fields.
	writer, err := pqarrow.NewFileWriter(table.file.schema, out, table.properties(), pqarrow.NewArrowWriterProperties(pqarrow.WithStoreSchema()))
	if err != nil {
		return written, err
	}
	for _, key := range slices.Sorted(maps.Keys(metadata)) {
		if err := writer.AppendKeyValueMetadata(key, metadata[key]); err != nil {
			return written, err
		}
	}
	for rows, err := range batches {
		if err != nil {
			return written, err
		}
		if len(rows) == 0 {
			continue
		}
		table.add(&written, rows)
		record := table.file.record(rows, metadata.simulated())
		err := writer.WriteBuffered(record)
		record.Release()
		if err != nil {
			return written, err
		}
	}
	return written, writer.Close()
}

// hashingWriter counts and hashes what it writes. It has no Close on purpose:
// Arrow would close the file before it is flushed.
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
