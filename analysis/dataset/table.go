package dataset

import (
	"fmt"
	"slices"
	"strings"
	"sync"

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
	// encoding is the column's encoding in Parquet: a dictionary unless set otherwise.
	encoding parquet.Encoding
}

// Table is a table of rows of type R. The Arrow schema, Parquet's settings and the data
// dictionary all come from its definition.
type Table[R any] struct {
	Name        string
	Description string
	file        layout[R] // of Parquet files
	segment     layout[R] // of segments: without derived columns
	atOnce      int       // most rows that are in memory at once
	group       int       // most rows of a row group, which is in memory while it is written
}

// How many values of a table are in memory at once, and how many a row group has at most,
// for tables that are not large. Most of a row group's memory is dictionaries, which take
// up to some 40 bytes a value until Arrow gives up the column's dictionary.
const (
	atOnceValues = 1 << 17
	groupValues  = 1 << 19
)

// layout is a list of columns, and the Arrow schema of files that have them.
type layout[R any] struct {
	table   string
	columns []column[R]
	schema  *arrow.Schema
	// idle has sets of carriers for all columns that nobody uses at the moment, so that
	// their memory is used again.
	idle *sync.Pool
}

// newTable makes a table of these columns. After each column of nanoseconds since 1970 it
// adds one with the same time as a time stamp, and at the end one that says whether the
// rows are simulated.
func newTable[R any](name, description string, columns ...column[R]) *Table[R] {
	var all []column[R]
	for _, c := range columns {
		all = append(all, c)
		if strings.HasSuffix(c.Name, "ts_ns") {
			all = append(all, timeOf(c))
		}
	}
	return tableOf(name, description, append(all, simulatedOf[R]())...)
}

// newLargeTable is newTable without the time stamps, for tables of many rows: they would
// make its files larger by a third and more.
func newLargeTable[R any](name, description string, columns ...column[R]) *Table[R] {
	table := tableOf(name, description, append(columns, simulatedOf[R]())...)
	table.atOnce, table.group = batchRows, rowGroup
	return table
}

// simulatedOf is the last column of each table.
func simulatedOf[R any]() column[R] {
	return derived("simulated", "the numbers are a model's, and no measurement", false,
		func(_ *R, simulated bool) (bool, bool) { return simulated, true })
}

// tableOf makes a table of exactly these columns.
func tableOf[R any](name, description string, columns ...column[R]) *Table[R] {
	stored := slices.DeleteFunc(slices.Clone(columns), func(c column[R]) bool { return c.derived })
	version := arrow.MetadataFrom(map[string]string{keySchemaVersion: SchemaVersion})
	return &Table[R]{Name: name, Description: description, file: layoutOf(name, nil, columns), segment: layoutOf(name, &version, stored),
		atOnce: min(batchRows, atOnceValues/len(columns)), group: min(rowGroup, groupValues/len(columns))}
}

func layoutOf[R any](table string, metadata *arrow.Metadata, columns []column[R]) layout[R] {
	fields := make([]arrow.Field, len(columns))
	for i, c := range columns {
		fields[i] = arrow.Field{Name: c.Name, Type: c.Type, Nullable: c.Nullable}
		if c.Unit != "" {
			fields[i].Metadata = arrow.MetadataFrom(map[string]string{"unit": c.Unit})
		}
	}
	return layout[R]{table, columns, arrow.NewSchema(fields, metadata), &sync.Pool{}}
}

// timeOf is the time stamp column of a column of nanoseconds since 1970.
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

// open gives a carrier for each column; close takes the carriers back.
func (l layout[R]) open() []carrier[R] {
	if carriers, are := l.idle.Get().(*[]carrier[R]); are {
		return *carriers
	}
	carriers := make([]carrier[R], len(l.columns))
	for i, c := range l.columns {
		carriers[i] = c.open()
	}
	return carriers
}

func (l layout[R]) close(carriers []carrier[R]) { l.idle.Put(&carriers) }

// record makes an Arrow record of rows. The caller releases it.
func (l layout[R]) record(rows []R, simulated bool) arrow.Record {
	builder := array.NewRecordBuilder(memory.DefaultAllocator, l.schema)
	defer builder.Release()
	carriers := l.open()
	defer l.close(carriers)
	for i, carrier := range carriers {
		carrier.gather(rows, simulated)
		carrier.fill(builder.Field(i))
	}
	return builder.NewRecord()
}

// scanner finds the columns in a file's schema. A column that the file does not have is
// read as null when it is nullable, and as zero when it was added later, because files
// outlive programs. Any other difference is an error.
func (l layout[R]) scanner(schema *arrow.Schema, facts facts) (*scanner[R], error) {
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
		case old && c.derived, len(found) == 0 && !c.derived && (c.Nullable || c.added):
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
	return &scanner[R]{l, position, l.open(), facts.simulated(), nil}, nil
}

// scanner makes rows of a file's columns. Call close after use.
type scanner[R any] struct {
	layout    layout[R]
	position  []int // of each column in the file; -1: the file does not have it
	carriers  []carrier[R]
	simulated bool
	wanted    []string // names of the columns to read; nil stands for all
}

func (s *scanner[R]) close() { s.layout.close(s.carriers) }

// scan makes rows of a batch. It calls load to have a carrier take the values of the file's
// column at position. An error that is not load's says that a derived column does not have
// the value that follows from the others.
func (s *scanner[R]) scan(rows []R, load func(carrier carrier[R], position int) error) error {
	for _, derived := range []bool{false, true} { // the columns that derived ones follow from come first
		for i, c := range s.layout.columns {
			if s.position[i] < 0 || c.derived != derived || s.wanted != nil && !slices.Contains(s.wanted, c.Name) {
				continue
			}
			if err := load(s.carriers[i], s.position[i]); err != nil {
				return fmt.Errorf("column %s: %w", c.Name, err)
			}
			if row := s.carriers[i].scatter(rows, s.simulated); row >= 0 {
				return fmt.Errorf("column %s is not what it follows from, in row %d of a batch", c.Name, row+1)
			}
		}
	}
	return nil
}

// scanRecord makes rows of an Arrow record.
func (s *scanner[R]) scanRecord(record arrow.Record, rows []R) error {
	return s.scan(rows, func(carrier carrier[R], position int) error {
		carrier.take(record.Column(position))
		return nil
	})
}

// sums is the number of rows and the columns' checksums.
type sums struct {
	rows    int64
	columns []uint64
}

// add adds a batch of rows, whose values the carriers have, to the sums.
func add[R any](s *sums, rows int, carriers []carrier[R]) {
	if s.columns == nil {
		s.columns = make([]uint64, len(carriers))
	}
	s.rows += int64(rows)
	for i, carrier := range carriers {
		s.columns[i] += carrier.sum()
	}
}

// compare is an error that says how the rows that were read differ from those that were
// written.
func (t *Table[R]) compare(written, read sums) error {
	if written.rows != read.rows {
		return fmt.Errorf("%d rows were written, and %d are read back", written.rows, read.rows)
	}
	for i := range read.columns {
		if written.columns[i] != read.columns[i] {
			return fmt.Errorf("the values of column %s that are read back are not those that were written", t.file.columns[i].Name)
		}
	}
	return nil
}
