package dataset

import (
	"fmt"
	"hash/crc32"
	"math"
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
	columns     []column[R]
	schema      *arrow.Schema
}

// column is a Column and how its values get into an R and out of it.
type column[R any] struct {
	Column
	build func(builder array.Builder, rows []R)
	scan  func(values arrow.Array, rows []R)
	// sum is a checksum of the values, whatever their order; it wraps.
	sum func(rows []R) uint64
	// added says that files from before do not have the column: they are read
	// as if it held the zero value of its type.
	added bool
}

// newTable makes a table of its columns.
func newTable[R any](name, description string, columns ...column[R]) *Table[R] {
	table := &Table[R]{Name: name, Description: description, columns: columns}
	fields := make([]arrow.Field, len(columns))
	for i, c := range columns {
		fields[i] = arrow.Field{Name: c.Name, Type: c.Type, Nullable: c.Nullable}
	}
	table.schema = arrow.NewSchema(fields, nil)
	return table
}

// Columns lists the table's columns in their order.
func (t *Table[R]) Columns() []Column {
	columns := make([]Column, len(t.columns))
	for i, c := range t.columns {
		columns[i] = c.Column
	}
	return columns
}

// record makes an Arrow record of rows. Release it.
func (t *Table[R]) record(rows []R) arrow.Record {
	builder := array.NewRecordBuilder(memory.DefaultAllocator, t.schema)
	defer builder.Release()
	builder.Reserve(len(rows))
	for i, c := range t.columns {
		c.build(builder.Field(i), rows)
	}
	return builder.NewRecord()
}

// scanner finds the table's columns in a file's schema. A column that the file
// does not have is read as null when it is nullable, and as zero when it was
// added later: files outlive binaries. Any other difference is an error.
func (t *Table[R]) scanner(schema *arrow.Schema) (func(arrow.Record, []R), error) {
	position := make([]int, len(t.columns))
	known := 0
	for i, c := range t.columns {
		found := schema.FieldIndices(c.Name)
		switch {
		case len(found) == 0 && (c.Nullable || c.added):
			position[i] = -1
			continue
		case len(found) != 1:
			return nil, fmt.Errorf("is no file of table %s: %d columns are called %s, want 1", t.Name, len(found), c.Name)
		}
		if field := schema.Field(found[0]); !arrow.TypeEqual(field.Type, c.Type) || field.Nullable && !c.Nullable {
			return nil, fmt.Errorf("is no file of table %s: column %s is %s (nullable: %v), want %s (nullable: %v)",
				t.Name, c.Name, field.Type, field.Nullable, c.Type, c.Nullable)
		}
		position[i] = found[0]
		known++
	}
	if known != len(schema.Fields()) {
		return nil, fmt.Errorf("is no file of table %s, or of a newer one: it has columns that are not known (%s)", t.Name, schema)
	}
	return func(record arrow.Record, rows []R) {
		for i, c := range t.columns {
			if position[i] >= 0 {
				c.scan(record.Column(position[i]), rows)
			}
		}
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
		s.columns = make([]uint64, len(t.columns))
	}
	s.rows += int64(len(rows))
	for i, c := range t.columns {
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
			return fmt.Errorf("the values of column %s that are read back are not those that were written", t.columns[i].Name)
		}
	}
	return nil
}

// value is what a column may hold.
type value interface {
	int64 | int32 | uint64 | float64 | bool | string
}

// kind is an Arrow type for a Go type.
type kind[T value] struct {
	arrow arrow.DataType
	sum   func(T) uint64
}

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	kinds      = []any{
		kind[int64]{arrow.PrimitiveTypes.Int64, func(v int64) uint64 { return uint64(v) }},
		kind[int32]{arrow.PrimitiveTypes.Int32, func(v int32) uint64 { return uint64(v) }},
		kind[uint64]{arrow.PrimitiveTypes.Uint64, func(v uint64) uint64 { return v }},
		kind[float64]{arrow.PrimitiveTypes.Float64, math.Float64bits},
		kind[bool]{arrow.FixedWidthTypes.Boolean, func(v bool) uint64 {
			if v {
				return 1
			}
			return 0
		}},
		kind[string]{arrow.BinaryTypes.String, func(v string) uint64 {
			return uint64(crc32.Checksum([]byte(v), castagnoli))
		}},
	}
)

// nullSum is a null's part of a checksum: no value that is likely.
const nullSum = 0x9e3779b97f4a7c15

func kindOf[T value]() kind[T] {
	for _, k := range kinds {
		if k, ok := k.(kind[T]); ok {
			return k
		}
	}
	panic("a value without a kind")
}

// Every Arrow array and builder of values T has these.
type (
	valuesOf[T value]  interface{ Value(i int) T }
	builderOf[T value] interface{ Append(v T) }
)

// required is a column that always has a value, which field finds in a row.
func required[R any, T value](name, unit, description string, field func(*R) *T) column[R] {
	kind := kindOf[T]()
	return column[R]{
		Column: Column{Name: name, Type: kind.arrow, Unit: unit, Description: description, encoding: parquet.Encodings.PlainDict},
		build: func(builder array.Builder, rows []R) {
			typed := builder.(builderOf[T])
			for i := range rows {
				typed.Append(*field(&rows[i]))
			}
		},
		scan: func(values arrow.Array, rows []R) {
			typed, keep := values.(valuesOf[T]), keeper[T]()
			for i := range rows {
				*field(&rows[i]) = keep(typed.Value(i))
			}
		},
		sum: func(rows []R) uint64 {
			var sum uint64
			for i := range rows {
				sum += kind.sum(*field(&rows[i]))
			}
			return sum
		},
	}
}

// optional is a column that may be null: a nil pointer in the row.
func optional[R any, T value](name, unit, description string, field func(*R) **T) column[R] {
	kind := kindOf[T]()
	return column[R]{
		Column: Column{Name: name, Type: kind.arrow, Unit: unit, Description: description, Nullable: true,
			encoding: parquet.Encodings.PlainDict},
		build: func(builder array.Builder, rows []R) {
			typed := builder.(builderOf[T])
			for i := range rows {
				if v := *field(&rows[i]); v != nil {
					typed.Append(*v)
				} else {
					builder.AppendNull()
				}
			}
		},
		scan: func(values arrow.Array, rows []R) {
			typed, keep := values.(valuesOf[T]), keeper[T]()
			for i := range rows {
				if values.IsNull(i) {
					*field(&rows[i]) = nil
					continue
				}
				v := keep(typed.Value(i))
				*field(&rows[i]) = &v
			}
		},
		sum: func(rows []R) uint64 {
			var sum uint64
			for i := range rows {
				if v := *field(&rows[i]); v != nil {
					sum += kind.sum(*v)
				} else {
					sum += nullSum
				}
			}
			return sum
		},
	}
}

// perhaps is optional where rows are many: its values are in the row itself.
func perhaps[R any, T value](name, unit, description string, field func(*R) *Null[T]) column[R] {
	kind := kindOf[T]()
	return column[R]{
		Column: Column{Name: name, Type: kind.arrow, Unit: unit, Description: description, Nullable: true,
			encoding: parquet.Encodings.PlainDict},
		build: func(builder array.Builder, rows []R) {
			typed := builder.(builderOf[T])
			for i := range rows {
				if v := field(&rows[i]); v.Known {
					typed.Append(v.Value)
				} else {
					builder.AppendNull()
				}
			}
		},
		scan: func(values arrow.Array, rows []R) {
			typed, keep := values.(valuesOf[T]), keeper[T]()
			for i := range rows {
				if values.IsNull(i) {
					*field(&rows[i]) = Null[T]{}
				} else {
					*field(&rows[i]) = Known(keep(typed.Value(i)))
				}
			}
		},
		sum: func(rows []R) uint64 {
			var sum uint64
			for i := range rows {
				if v := field(&rows[i]); v.Known {
					sum += kind.sum(v.Value)
				} else {
					sum += nullSum
				}
			}
			return sum
		},
	}
}

// keeper copies values out of an Arrow array: its strings share the array's
// memory. Equal strings are copied once.
func keeper[T value]() func(T) T {
	seen := map[string]string{}
	keep := func(s string) string {
		kept, ok := seen[s]
		if !ok {
			kept = strings.Clone(s)
			seen[kept] = kept
		}
		return kept
	}
	if keep, ok := any(keep).(func(T) T); ok {
		return keep
	}
	return func(v T) T { return v }
}

// delta is for required int64 whose neighbours are close.
func (c column[R]) delta() column[R] {
	c.encoding = parquet.Encodings.DeltaBinaryPacked
	return c
}

// later is for a required column that files from before do not have. Its zero
// must be true of them.
func (c column[R]) later() column[R] {
	c.added = true
	return c
}

// plain is for numbers that seldom repeat.
func (c column[R]) plain() column[R] {
	c.encoding = parquet.Encodings.Plain
	return c
}
