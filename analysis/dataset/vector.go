package dataset

import (
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"slices"
	"strings"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/parquet"
	"github.com/apache/arrow/go/v15/parquet/file"
)

// value is what a column may hold.
type value interface {
	int64 | int32 | uint64 | float64 | bool | string | arrow.Timestamp
}

// typeOf is the Arrow type of values.
func typeOf[T value]() arrow.DataType {
	switch any(*new(T)).(type) {
	case int64:
		return arrow.PrimitiveTypes.Int64
	case int32:
		return arrow.PrimitiveTypes.Int32
	case uint64:
		return arrow.PrimitiveTypes.Uint64
	case float64:
		return arrow.PrimitiveTypes.Float64
	case bool:
		return arrow.FixedWidthTypes.Boolean
	case arrow.Timestamp:
		return &arrow.TimestampType{Unit: arrow.Nanosecond, TimeZone: "UTC"}
	default:
		return arrow.BinaryTypes.String
	}
}

// carrier moves the values of one column, batch after batch, from rows to a file or back.
// It reuses its memory for the next batch. One goroutine at a time may use it.
type carrier[R any] interface {
	// gather copies the values from the rows.
	gather(rows []R, simulated bool)
	// scatter copies the values into the rows, which are as many. For a derived column it finds the
	// first row whose other columns give another value; -1 when there is none.
	scatter(rows []R, simulated bool) int
	// sum is a checksum of the values that does not depend on their order; it wraps around.
	sum() uint64
	// textBytes is the length of the texts that were last written; 0 where the values are no texts.
	textBytes() int
	// write appends the values to a column of a Parquet file; read takes the values of the
	// next rows from one.
	write(to file.ColumnChunkWriter) error
	read(from file.ColumnChunkReader, rows int) error
	// fill appends the values to an Arrow builder; take takes them from an array.
	fill(builder array.Builder)
	take(values arrow.Array)
}

// vector has the values of one column for a batch of rows.
type vector[T value] struct {
	values []T     // without the nulls, in the rows' order
	levels []int16 // one a row, as Parquet's definition levels: 1 has a value, 0 is null; nil: no row is null

	nulls []int16 // the memory of levels
	texts *texts  // set where the values are texts
}

// texts is additional state for values that are texts. Most texts of a column are among a
// few different ones.
type texts struct {
	bytes  []parquet.ByteArray // the texts as a file has them
	memory []byte              // memory that these are slices of
	length int                 // of all of these
	recent [recentTexts]recentText
}

// recentText is a text that occurred recently.
type recentText struct {
	text  string
	sum   uint64
	bytes parquet.ByteArray // nil when the text is not in this batch's memory
}

const recentTexts = 64 // a power of two

// find finds a text among the recent ones, and otherwise puts it there.
func (t *texts) find(text string) *recentText {
	place := &t.recent[placeOf(text)]
	if place.text != text {
		*place = recentText{text: text, sum: uint64(crc32.Checksum([]byte(text), castagnoli))}
	}
	return place
}

// kept is a text in memory of its own, because the memory of a file's text is reused.
func (t *texts) kept(text []byte) string {
	if place := &t.recent[placeOf(text)]; place.text == string(text) {
		return place.text
	}
	return t.find(string(text)).text
}

// inFile converts texts to the form in which a file has them.
func (t *texts) inFile(texts []string) []parquet.ByteArray {
	t.bytes, t.memory, t.length = t.bytes[:0], t.memory[:0], 0
	for i := range t.recent {
		t.recent[i].bytes = nil
	}
	for _, text := range texts {
		place := t.find(text)
		if place.bytes == nil {
			start := len(t.memory)
			t.memory = append(t.memory, text...)
			place.bytes = t.memory[start:len(t.memory):len(t.memory)]
		}
		t.bytes = append(t.bytes, place.bytes)
		t.length += len(text)
	}
	return t.bytes
}

// placeOf is the place of a text among the recent ones.
func placeOf[S string | []byte](text S) int {
	n := len(text)
	if n == 0 {
		return 0
	}
	return (n + int(text[0]) + 7*int(text[n-1]) + 31*int(text[n/2])) & (recentTexts - 1)
}

// newVector makes a vector.
func newVector[T value]() vector[T] {
	var v vector[T]
	if _, are := any(v.values).([]string); are {
		v.texts = &texts{}
	}
	return v
}

// has says whether a row has a value.
func (v *vector[T]) has(row int) bool { return v.levels == nil || v.levels[row] != 0 }

// resize makes room for rows: for one value each, or, where they may be null, only for
// nulls.
func (v *vector[T]) resize(rows int, nullable bool) {
	v.levels, v.values = nil, slices.Grow(v.values[:0], rows)
	if !nullable {
		v.values = v.values[:rows]
		return
	}
	v.nulls = slices.Grow(v.nulls[:0], rows)[:rows]
	clear(v.nulls)
	v.levels = v.nulls
}

// add sets the value of a row, in a vector that may have nulls. Rows must come in their
// order.
func (v *vector[T]) add(row int, value T) {
	v.levels[row] = 1
	v.values = append(v.values, value)
}

// differs finds the first row whose value differs from that in want; -1 when there is none.
func (v *vector[T]) differs(want *vector[T]) int {
	next := 0
	for row := range max(len(want.levels), len(want.values)) {
		switch known := want.has(row); {
		case v.has(row) != known, known && v.values[next] != want.values[next]:
			return row
		case known:
			next++
		}
	}
	return -1
}

// nullSum is a null's part of a checksum, a number that is unlikely as a value's part.
const nullSum = 0x9e3779b97f4a7c15

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (v *vector[T]) sum() uint64 {
	var sum uint64
	if v.levels != nil {
		sum = uint64(len(v.levels)-len(v.values)) * nullSum //nolint:gosec // there are no more values than levels
	}
	switch values := any(v.values).(type) {
	case []int64:
		return sum + sumOf(values)
	case []int32:
		return sum + sumOf(values)
	case []uint64:
		return sum + sumOf(values)
	case []arrow.Timestamp:
		return sum + sumOf(values)
	case []float64:
		for _, value := range values {
			sum += math.Float64bits(value)
		}
	case []bool:
		for _, value := range values {
			if value {
				sum++
			}
		}
	case []string:
		for _, value := range values {
			sum += v.texts.find(value).sum
		}
	}
	return sum
}

func sumOf[T int64 | int32 | uint64 | arrow.Timestamp](values []T) (sum uint64) {
	for _, value := range values {
		sum += uint64(value)
	}
	return sum
}

func (v *vector[T]) textBytes() int {
	if v.texts == nil {
		return 0
	}
	return v.texts.length
}

func (v *vector[T]) write(to file.ColumnChunkWriter) error {
	var err error
	switch values := any(v.values).(type) {
	case []int64:
		_, err = to.(*file.Int64ColumnChunkWriter).WriteBatch(values, v.levels, nil)
	case []uint64:
		_, err = to.(*file.Int64ColumnChunkWriter).WriteBatch(arrow.Int64Traits.CastFromBytes(arrow.Uint64Traits.CastToBytes(values)), v.levels, nil)
	case []arrow.Timestamp:
		_, err = to.(*file.Int64ColumnChunkWriter).WriteBatch(arrow.Int64Traits.CastFromBytes(arrow.TimestampTraits.CastToBytes(values)), v.levels, nil)
	case []int32:
		_, err = to.(*file.Int32ColumnChunkWriter).WriteBatch(values, v.levels, nil)
	case []float64:
		_, err = to.(*file.Float64ColumnChunkWriter).WriteBatch(values, v.levels, nil)
	case []bool:
		_, err = to.(*file.BooleanColumnChunkWriter).WriteBatch(values, v.levels, nil)
	case []string:
		_, err = to.(*file.ByteArrayColumnChunkWriter).WriteBatch(v.texts.inFile(values), v.levels, nil)
	}
	return err
}

func (v *vector[T]) read(from file.ColumnChunkReader, rows int) error {
	// When no value of a column chunk can be null, the chunk has no levels.
	v.resize(rows, from.Descriptor().MaxDefinitionLevel() > 0)
	v.values = v.values[:rows]
	total, known, err := v.readBatch(from, int64(rows))
	switch {
	case err != nil:
		return err
	case total != int64(rows):
		return fmt.Errorf("%d rows are read where %d are left", total, rows)
	case v.levels == nil && known != rows:
		return errors.New("a value is missing")
	}
	v.values = v.values[:known]
	return nil
}

func (v *vector[T]) readBatch(from file.ColumnChunkReader, rows int64) (total int64, known int, err error) {
	switch values := any(v.values).(type) {
	case []int64:
		return from.(*file.Int64ColumnChunkReader).ReadBatch(rows, values, v.levels, nil)
	case []uint64:
		return from.(*file.Int64ColumnChunkReader).ReadBatch(rows, arrow.Int64Traits.CastFromBytes(arrow.Uint64Traits.CastToBytes(values)), v.levels, nil)
	case []arrow.Timestamp:
		return from.(*file.Int64ColumnChunkReader).ReadBatch(rows, arrow.Int64Traits.CastFromBytes(arrow.TimestampTraits.CastToBytes(values)), v.levels, nil)
	case []int32:
		return from.(*file.Int32ColumnChunkReader).ReadBatch(rows, values, v.levels, nil)
	case []float64:
		return from.(*file.Float64ColumnChunkReader).ReadBatch(rows, values, v.levels, nil)
	case []bool:
		return from.(*file.BooleanColumnChunkReader).ReadBatch(rows, values, v.levels, nil)
	case []string:
		read := slices.Grow(v.texts.bytes[:0], len(values))[:len(values)]
		v.texts.bytes = read
		if total, known, err = from.(*file.ByteArrayColumnChunkReader).ReadBatch(rows, read, v.levels, nil); err == nil {
			for i, text := range read[:known] {
				values[i] = v.texts.kept(text)
			}
		}
		return total, known, err
	}
	return 0, 0, fmt.Errorf("a value of type %T", v.values)
}

func (v *vector[T]) fill(builder array.Builder) {
	to := builder.(interface {
		AppendValues(values []T, known []bool)
	})
	if v.levels == nil {
		to.AppendValues(v.values, nil)
		return
	}
	// An Arrow array has a value for each row, known or not.
	values, known, next := make([]T, len(v.levels)), make([]bool, len(v.levels)), 0
	for row, level := range v.levels {
		if known[row] = level != 0; known[row] {
			values[row] = v.values[next]
			next++
		}
	}
	to.AppendValues(values, known)
}

func (v *vector[T]) take(values arrow.Array) {
	from := values.(interface{ Value(row int) T })
	v.resize(values.Len(), true)
	for row := range values.Len() {
		if values.IsNull(row) {
			continue
		}
		value := from.Value(row)
		if text, is := any(value).(string); is { // the array's memory is reused
			value, _ = any(strings.Clone(text)).(T)
		}
		v.add(row, value)
	}
	if values.NullN() == 0 {
		v.levels = nil
	}
}
