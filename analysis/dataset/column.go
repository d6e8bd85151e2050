package dataset

import (
	"hash/crc32"
	"math"
	"strings"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/parquet"
)

// column is a Column and how its values get into an R and out of it.
type column[R any] struct {
	Column
	// build appends the rows' values. Whether they are simulated is the file's to say.
	build func(builder array.Builder, rows []R, simulated bool)
	scan  func(values arrow.Array, rows []R)
	// sum is a checksum of the values, whatever their order; it wraps.
	sum func(rows []R) uint64
	// differs finds the first row that a derived column has another value of; -1
	// is none. Such a column follows from the others: it has no scan and no sum,
	// and is in Parquet files only, for those who read them.
	differs func(values arrow.Array, rows []R, simulated bool) int
	// added says that files from before do not have the column: they are read
	// as if it held the zero value of its type.
	added bool
	// was is its name in files of schema version 1, when that is another.
	was string
	// ns gives its value, if it is an int64; false is null.
	ns func(*R) (int64, bool)
}

func (c *column[R]) isDerived() bool { return c.differs != nil }

// value is what a column may hold.
type value interface {
	int64 | int32 | uint64 | float64 | bool | string | arrow.Timestamp
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
		kind[arrow.Timestamp]{&arrow.TimestampType{Unit: arrow.Nanosecond, TimeZone: "UTC"}, func(v arrow.Timestamp) uint64 { return uint64(v) }},
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
		ns: func(row *R) (int64, bool) {
			ns, ok := any(*field(row)).(int64)
			return ns, ok
		},
		build: func(builder array.Builder, rows []R, _ bool) {
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
		ns: func(row *R) (int64, bool) {
			v := *field(row)
			if v == nil {
				return 0, false
			}
			ns, ok := any(*v).(int64)
			return ns, ok
		},
		build: func(builder array.Builder, rows []R, _ bool) {
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
		ns: func(row *R) (int64, bool) {
			v := field(row)
			ns, ok := any(v.Value).(int64)
			return ns, ok && v.Known
		},
		build: func(builder array.Builder, rows []R, _ bool) {
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

// derived is a column that follows from the row, and from whether the file is
// simulated. The value's second result is false for null.
func derived[R any, T value](name, description string, nullable bool, value func(row *R, simulated bool) (T, bool)) column[R] {
	return column[R]{
		Column: Column{Name: name, Type: kindOf[T]().arrow, Description: description, Nullable: nullable, encoding: parquet.Encodings.PlainDict},
		build: func(builder array.Builder, rows []R, simulated bool) {
			typed := builder.(builderOf[T])
			for i := range rows {
				if v, known := value(&rows[i], simulated); known {
					typed.Append(v)
				} else {
					builder.AppendNull()
				}
			}
		},
		differs: func(values arrow.Array, rows []R, simulated bool) int {
			typed := values.(valuesOf[T])
			for i := range rows {
				if v, known := value(&rows[i], simulated); known == values.IsNull(i) || known && typed.Value(i) != v {
					return i
				}
			}
			return -1
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

// renamed is for a column whose name in files of schema version 1 is another.
func (c column[R]) renamed(was string) column[R] {
	c.was = was
	return c
}

// plain is for numbers that seldom repeat.
func (c column[R]) plain() column[R] {
	c.encoding = parquet.Encodings.Plain
	return c
}
