package dataset

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"
	"github.com/apache/arrow/go/v15/parquet/file"
	"github.com/apache/arrow/go/v15/parquet/pqarrow"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// writtenOf writes rows of a table and gives the file's schema, metadata and records.
func writtenOf[R any](t *testing.T, table *Table[R], kind string, rows []R) (*arrow.Schema, facts, arrow.Record) {
	t.Helper()
	path := filepath.Join(t.TempDir(), table.Name+".parquet")
	_, err := writeParquet(table, path, metadata(table, Provenance{KeyCampaign: "test", KeyTestbedKind: kind}), Rows(rows))
	require.NoError(t, err)
	in, err := file.OpenParquetFile(path, false)
	require.NoError(t, err)
	t.Cleanup(func() { _ = in.Close() })
	reader, err := pqarrow.NewFileReader(in, pqarrow.ArrowReadProperties{BatchSize: int64(max(1, len(rows)))}, memory.DefaultAllocator)
	require.NoError(t, err)
	schema, err := reader.Schema()
	require.NoError(t, err)
	facts := facts{}
	for _, entry := range in.MetaData().GetKeyValueMetadata() {
		facts[entry.GetKey()] = entry.GetValue()
	}
	if len(rows) == 0 {
		return schema, facts, nil
	}
	records, err := reader.GetRecordReader(t.Context(), nil, nil)
	require.NoError(t, err)
	record, err := records.Read()
	require.NoError(t, err)
	return schema, facts, record
}

// schemasOf are the schemas of an empty file of each table.
func schemasOf(t *testing.T) map[string]*arrow.Schema {
	t.Helper()
	schemas := map[string]*arrow.Schema{}
	schemaOf(t, schemas, Attempts)
	schemaOf(t, schemas, Trials)
	schemaOf(t, schemas, Phases)
	schemaOf(t, schemas, Witnesses)
	schemaOf(t, schemas, Certificates)
	schemaOf(t, schemas, Traffics)
	schemaOf(t, schemas, Ledgers)
	schemaOf(t, schemas, Teardowns)
	schemaOf(t, schemas, CampaignEvents)
	schemaOf(t, schemas, IOs)
	schemaOf(t, schemas, Histograms)
	schemaOf(t, schemas, Counters)
	schemaOf(t, schemas, Events)
	schemaOf(t, schemas, Heartbeats)
	schemaOf(t, schemas, Clocks)
	schemaOf(t, schemas, Domains)
	return schemas
}

func schemaOf[R any](t *testing.T, schemas map[string]*arrow.Schema, table *Table[R]) {
	t.Helper()
	schema, metadata, _ := writtenOf(t, table, "simulated", nil)
	assert.Equal(t, "2", metadata["schema_version"], table.Name)
	schemas[table.Name] = schema
}

// TestSchemas checks that every file says, to any reader, which version of the tables it
// has, what the units are, and whether its rows are a model's.
func TestSchemas(t *testing.T) {
	for name, schema := range schemasOf(t) {
		for _, field := range schema.Fields() {
			unit, _ := field.Metadata.GetValue("unit")
			assert.Equal(t, strings.HasSuffix(field.Name, "_ns"), unit == "ns", "%s.%s has unit %q", name, field.Name, unit)
		}
		found, ok := schema.FieldsByName("simulated")
		require.True(t, ok, name)
		assert.Equal(t, arrow.BOOL, found[0].Type.ID(), name)
		assert.False(t, found[0].Nullable, name)
	}
}

// TestSimulatedRows checks that rows say the same as the file's provenance.
func TestSimulatedRows(t *testing.T) {
	for kind, simulated := range map[string]bool{"simulated": true, "emulated": false, "hardware": false} {
		schema, _, record := writtenOf(t, IOs, kind, []IO{{}, {}})
		column := record.Column(schema.FieldIndices("simulated")[0]).(*array.Boolean)
		for i := range 2 {
			assert.Equal(t, simulated, column.Value(i), kind)
		}
	}
}

// TestTimes checks that each time also exists as a time stamp, which is null where the time
// is, and that a file in which the two differ is not read.
func TestTimes(t *testing.T) {
	at := int64(1_700_000_000_123_456_789)
	rows := []Witness{{Trial: "00012.3", FromTsNs: &at}, {Trial: "00012.3"}}
	schema, _, record := writtenOf(t, Witnesses, "emulated", rows)
	column := func(name string) arrow.Array { return record.Column(schema.FieldIndices(name)[0]) }
	from := column("from_ts").(*array.Timestamp)
	assert.Equal(t, "timestamp[ns, tz=UTC]", from.DataType().String())
	assert.Equal(t, arrow.Timestamp(at), from.Value(0))
	assert.True(t, from.IsNull(1))
	assert.Equal(t, "00012.3", column("attempt").(*array.String).Value(0))
	assert.Equal(t, int32(12), column("trial").(*array.Int32).Value(0))

	wrong := tableOf(Witnesses.Name, "", slices.Clone(Witnesses.file.columns)...)
	stamp := &wrong.file.columns[wrong.file.schema.FieldIndices("from_ts")[0]]
	*stamp = derived("from_ts", "", true, func(row *Witness, _ bool) (arrow.Timestamp, bool) {
		return arrow.Timestamp(at + 1), row.FromTsNs != nil
	})
	path := filepath.Join(t.TempDir(), "witnesses.parquet")
	_, err := writeParquet(wrong, path, metadata(wrong, Provenance{KeyCampaign: "test", KeyTestbedKind: "emulated"}), Rows(rows))
	require.NoError(t, err)
	_, err = All(readParquet(Witnesses, path))
	var damaged *DamagedError
	require.ErrorAs(t, err, &damaged)
	assert.ErrorContains(t, err, "from_ts")
}

// A file of a later version is refused with its version, and does not count as damaged.
func TestNewerSchema(t *testing.T) {
	path := filepath.Join(t.TempDir(), "io.parquet")
	_, err := writeParquet(IOs, path, facts{}, Rows([]IO{{}}))
	require.Error(t, err, "a file of no version has no derived columns")
	facts := metadata(IOs, Provenance{KeyCampaign: "test", KeyTestbedKind: "emulated"})
	_, err = writeParquet(IOs, path, facts, Rows([]IO{{}}))
	require.NoError(t, err)
	facts[keySchemaVersion] = "3"
	_, err = IOs.file.scanner(IOs.file.schema, facts)
	require.ErrorContains(t, err, `schema version "3"`)
}
