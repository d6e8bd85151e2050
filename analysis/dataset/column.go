package dataset

import (
	"slices"

	"github.com/apache/arrow/go/v15/parquet"
)

// column is a Column, and how its values get from rows of type R into a file and back.
type column[R any] struct {
	Column
	// open makes the carrier that moves the column's values, batch after batch.
	open func() carrier[R]
	// derived says that the column follows from the other columns, and from whether the
	// file is simulated. Such a column is only in Parquet files, for those who read them.
	derived bool
	// added says that older files do not have the column. They are read as if it held the
	// zero value of its type.
	added bool
	// was is the column's name in files of schema version 1, where it was another.
	was string
	// ns gives the column's value in a row, when the column is an int64; false is null.
	ns func(*R) (int64, bool)
}

// cells carries the values of a column of type T between rows and a vector.
type cells[R any, T value] struct {
	vector[T]
	// get copies the rows' values into the vector. The file says whether they are
	// simulated.
	get func(rows []R, simulated bool, into *vector[T])
	// put copies the vector's values into the rows; nil where the column is derived.
	put func(rows []R, from *vector[T])
	// want has the values that a derived column must have.
	want vector[T]
}

func (c *cells[R, T]) gather(rows []R, simulated bool) { c.get(rows, simulated, &c.vector) }

func (c *cells[R, T]) scatter(rows []R, simulated bool) int {
	if c.put != nil {
		c.put(rows, &c.vector)
		return -1
	}
	c.get(rows, simulated, &c.want)
	return c.differs(&c.want)
}

// columnOf is a column of values of type T.
func columnOf[R any, T value](about Column, get func(rows []R, simulated bool, into *vector[T]), put func(rows []R, from *vector[T])) column[R] {
	about.Type, about.encoding = typeOf[T](), parquet.Encodings.PlainDict
	return column[R]{Column: about, derived: put == nil, open: func() carrier[R] { return &cells[R, T]{vector: newVector[T](), get: get, put: put} }}
}

// required is a column that always has a value; field finds that value in a row.
func required[R any, T value](name, unit, description string, field func(*R) *T) column[R] {
	c := columnOf(Column{Name: name, Unit: unit, Description: description},
		func(rows []R, _ bool, into *vector[T]) {
			into.resize(len(rows), false)
			for i := range rows {
				into.values[i] = *field(&rows[i])
			}
		}, func(rows []R, from *vector[T]) {
			for i := range rows {
				*field(&rows[i]) = from.values[i]
			}
		})
	c.ns = func(row *R) (int64, bool) {
		ns, ok := any(*field(row)).(int64)
		return ns, ok
	}
	return c
}

// optional is a column that may be null: a nil pointer in the row.
func optional[R any, T value](name, unit, description string, field func(*R) **T) column[R] {
	c := columnOf(Column{Name: name, Unit: unit, Description: description, Nullable: true},
		func(rows []R, _ bool, into *vector[T]) {
			into.resize(len(rows), true)
			for i := range rows {
				if v := *field(&rows[i]); v != nil {
					into.add(i, *v)
				}
			}
		}, func(rows []R, from *vector[T]) {
			values := slices.Clone(from.values) // for the rows to point to
			for i := range rows {
				*field(&rows[i]) = nil
				if from.has(i) {
					*field(&rows[i]), values = &values[0], values[1:]
				}
			}
		})
	c.ns = func(row *R) (int64, bool) {
		v := *field(row)
		if v == nil {
			return 0, false
		}
		ns, ok := any(*v).(int64)
		return ns, ok
	}
	return c
}

// perhaps is optional for tables with many rows: the value is in the row itself, without a
// pointer.
func perhaps[R any, T value](name, unit, description string, field func(*R) *Null[T]) column[R] {
	c := columnOf(Column{Name: name, Unit: unit, Description: description, Nullable: true},
		func(rows []R, _ bool, into *vector[T]) {
			into.resize(len(rows), true)
			for i := range rows {
				if v := field(&rows[i]); v.Known {
					into.add(i, v.Value)
				}
			}
		}, func(rows []R, from *vector[T]) {
			values := from.values
			for i := range rows {
				*field(&rows[i]) = Null[T]{}
				if from.has(i) {
					*field(&rows[i]), values = Known(values[0]), values[1:]
				}
			}
		})
	c.ns = func(row *R) (int64, bool) {
		v := field(row)
		ns, ok := any(v.Value).(int64)
		return ns, ok && v.Known
	}
	return c
}

// derived is a column that is computed from the row, and from whether the file is
// simulated. The second result of value is false for null.
func derived[R any, T value](name, description string, nullable bool, value func(row *R, simulated bool) (T, bool)) column[R] {
	return columnOf(Column{Name: name, Description: description, Nullable: nullable},
		func(rows []R, simulated bool, into *vector[T]) {
			into.resize(len(rows), nullable)
			for i := range rows {
				if v, known := value(&rows[i], simulated); !nullable {
					into.values[i] = v
				} else if known {
					into.add(i, v)
				}
			}
		}, nil)
}

// delta sets the encoding for required int64 columns in which neighbouring values are
// close.
func (c column[R]) delta() column[R] {
	c.encoding = parquet.Encodings.DeltaBinaryPacked
	return c
}

// later marks a required column that older files do not have. The zero value of its type
// must be true of the rows of those files.
func (c column[R]) later() column[R] {
	c.added = true
	return c
}

// renamed marks a column that has another name in files of schema version 1.
func (c column[R]) renamed(was string) column[R] {
	c.was = was
	return c
}

// plain sets the encoding for numbers that seldom repeat.
func (c column[R]) plain() column[R] {
	c.encoding = parquet.Encodings.Plain
	return c
}
