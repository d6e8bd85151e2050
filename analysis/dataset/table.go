package dataset

import (
	"fmt"
	"slices"
	"strings"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/memory"
	"github.com/apache/arrow/go/v15/parquet"
)

// Column says what a column of a table is.
type Column struct {
	Name        string
	Type        arrow.DataType
	Unit        string // "" when it has none
	Description string
	Nullable    bool // null is "not known" or "does not apply", never 0
	// encoding in Parquet; a dictionary unless it says otherwise.
	encoding parquet.Encoding
}

// Table is a table of rows of type R. From its definition come the Arrow
// schema, Parquet's settings and the data dictionary.
type Table[R any] struct {
	Name        string
	Description string
	file        layout[R] // of Parquet files
	segment     layout[R] // of segments: without derived columns
}

// layout is columns, and the Arrow schema of files that have them.
type layout[R any] struct {
	table   string
	columns []column[R]
	schema  *arrow.Schema
}

// newTable makes a table of its columns. It adds to each time in ns since 1970
// a column with the same as a time stamp, and at the end whether the rows are
// simulated.
func newTable[R any](name, description string, columns ...column[R]) *Table[R] {
	var all []column[R]
	for _, c := range columns {
		all = append(all, c)
		if strings.HasSuffix(c.Name, "ts_ns") {
			all = append(all, timeOf(c))
		}
	}
	return newLargeTable(name, description, all...)
}

// newLargeTable is newTable without time stamps, for tables of many rows, whose
// files they would make larger by a third and more.
func newLargeTable[R any](name, description string, columns ...column[R]) *Table[R] {
	return tableOf(name, description, append(columns, derived("simulated", "the numbers are a model's, and no measurement", false,
		func(_ *R, simulated bool) (bool, bool) { return simulated, true }))...)
}

// tableOf makes a table of just these columns.
func tableOf[R any](name, description string, columns ...column[R]) *Table[R] {
	stored := slices.DeleteFunc(slices.Clone(columns), func(c column[R]) bool { return c.isDerived() })
	version := arrow.MetadataFrom(map[string]string{keySchemaVersion: SchemaVersion})
	return &Table[R]{Name: name, Description: description, file: layoutOf(name, nil, columns), segment: layoutOf(name, &version, stored)}
}

func layoutOf[R any](table string, metadata *arrow.Metadata, columns []column[R]) layout[R] {
	fields := make([]arrow.Field, len(columns))
	for i, c := range columns {
		fields[i] = arrow.Field{Name: c.Name, Type: c.Type, Nullable: c.Nullable}
		if c.Unit != "" {
			fields[i].Metadata = arrow.MetadataFrom(map[string]string{"unit": c.Unit})
		}
	}
	return layout[R]{table, columns, arrow.NewSchema(fields, metadata)}
}

// timeOf is the time stamp of a column of ns since 1970.
func timeOf[R any](c column[R]) column[R] {
	stamp := derived(strings.TrimSuffix(c.Name, "_ns"), "the same as a time stamp", c.Nullable, func(row *R, _ bool) (arrow.Timestamp, bool) {
		ns, known := c.ns(row)
		return arrow.Timestamp(ns), known
	})
	stamp.encoding = c.encoding
	return stamp
}

// Columns lists the table's columns in their order.
func (t *Table[R]) Columns() []Column {
	columns := make([]Column, len(t.file.columns))
	for i, c := range t.file.columns {
		columns[i] = c.Column
	}
	return columns
}

// record makes an Arrow record of rows. Release it.
func (l layout[R]) record(rows []R, simulated bool) arrow.Record {
	builder := array.NewRecordBuilder(memory.DefaultAllocator, l.schema)
	defer builder.Release()
	builder.Reserve(len(rows))
	for i, c := range l.columns {
		c.build(builder.Field(i), rows, simulated)
	}
	return builder.NewRecord()
}

// only is the layout of the columns that are named.
func (l layout[R]) only(names []string) layout[R] {
	l.columns = slices.DeleteFunc(slices.Clone(l.columns), func(c column[R]) bool { return !slices.Contains(names, c.Name) })
	return l
}

// scanner finds the columns in a file's schema. A column that the file
// does not have is read as null when it is nullable, and as zero when it was
// added later: files outlive binaries. Any other difference is an error. The
// scanner's own error says that a derived column is not what it follows from.
func (l layout[R]) scanner(schema *arrow.Schema, facts facts) (func(arrow.Record, []R) error, error) {
	old, err := facts.old()
	if err != nil {
		return nil, fmt.Errorf("is no file of table %s that this program can read: %w", l.table, err)
	}
	position := make([]int, len(l.columns))
	known := 0
	for i, c := range l.columns {
		name := c.Name
		if old && c.was != "" {
			name = c.was
		}
		found := schema.FieldIndices(name)
		switch {
		case old && c.isDerived(), len(found) == 0 && !c.isDerived() && (c.Nullable || c.added):
			position[i] = -1
			continue
		case len(found) != 1:
			return nil, fmt.Errorf("is no file of table %s: %d columns are called %s, want 1", l.table, len(found), name)
		}
		if field := schema.Field(found[0]); !arrow.TypeEqual(field.Type, c.Type) || field.Nullable && !c.Nullable {
			return nil, fmt.Errorf("is no file of table %s: column %s is %s (nullable: %v), want %s (nullable: %v)",
				l.table, name, field.Type, field.Nullable, c.Type, c.Nullable)
		}
		position[i] = found[0]
		known++
	}
	if known != len(schema.Fields()) {
		return nil, fmt.Errorf("is no file of table %s, or of a newer one: it has columns that are not known (%s)", l.table, schema)
	}
	return func(record arrow.Record, rows []R) error {
		for i, c := range l.columns {
			if position[i] >= 0 && !c.isDerived() {
				c.scan(record.Column(position[i]), rows)
			}
		}
		for i, c := range l.columns {
			if position[i] < 0 || !c.isDerived() {
				continue
			}
			if row := c.differs(record.Column(position[i]), rows, facts.simulated()); row >= 0 {
				return fmt.Errorf("column %s is not what it follows from, in row %d of a batch", c.Name, row+1)
			}
		}
		return nil
	}, nil
}

// sums is the number of rows and the columns' checksums.
type sums struct {
	rows    int64
	columns []uint64
}

// add counts some rows in.
func (t *Table[R]) add(s *sums, rows []R) {
	if s.columns == nil {
		s.columns = make([]uint64, len(t.segment.columns))
	}
	s.rows += int64(len(rows))
	for i, c := range t.segment.columns {
		s.columns[i] += c.sum(rows)
	}
}

// compare says in what the rows that were read differ from those written.
func (t *Table[R]) compare(written, read sums) error {
	if written.rows != read.rows {
		return fmt.Errorf("%d rows were written, and %d are read back", written.rows, read.rows)
	}
	for i := range read.columns {
		if written.columns[i] != read.columns[i] {
			return fmt.Errorf("the values of column %s that are read back are not those that were written", t.segment.columns[i].Name)
		}
	}
	return nil
}
