package fio

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"time"
)

// Line is one line of fio's log: a completed I/O.
type Line struct {
	GuestTimeNs int64 // completion, on the guest's wall clock, ns since 1970 UTC; resolution 1 ms
	LatencyNs   int64 // from when fio had prepared the I/O to its completion, on the guest's clock
	Write       bool
	SizeBytes   int32
	OffsetBytes int64 // on the disk
}

// ErrEmptyLog says that a log has no lines: the load did nothing.
var ErrEmptyLog = errors.New("the log has no I/O in it")

const (
	nsPerMs = int64(time.Millisecond)
	// nearBy is how far a time in the log may be from the trial's time that ReadLog is given: one
	// day more than the longest trial takes. A time that lost its upper bits is in 1970.
	nearBy = 8 * 24 * time.Hour
)

// ReadLog passes the lines of a latency log with offsets, compressed or not, to give. It keeps
// their order, which is nearly the order of completion. Fields has the format. The priority and
// the time of submission are not used.
//
// ReadLog returns an error that names the line when the log is empty, the last line was cut off,
// a time is more than eight days from near, or a line does not have the format. By then it has
// given all the lines before.
func ReadLog(r io.Reader, near time.Time, give func(Line) error) error {
	lines, err := NewScanner(r)
	if err != nil {
		return err
	}
	var fields Fields
	for {
		switch err := lines.Next(&fields); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		line, err := fields.line(near)
		if err != nil {
			return lines.Problem(err)
		}
		if err := give(line); err != nil {
			return err
		}
	}
}

// leastFields is the number of fields in the shortest line that has an offset.
const leastFields = 5

// line returns the I/O that the fields of a line with an offset describe.
func (f *Fields) line(near time.Time) (Line, error) {
	if f.N < leastFields {
		return Line{}, fmt.Errorf("want %d to %d fields, have %d", leastFields, mostFields, f.N)
	}
	ms := f.Values[0]
	if ms < near.Add(-nearBy).UnixMilli() || ms > near.Add(nearBy).UnixMilli() {
		return Line{}, fmt.Errorf("its time is %s, but the trial was at %s: "+
			"the guest's clock is wrong, or its fio is a 32-bit one before 3.36, which cuts times off", said(time.UnixMilli(ms)), said(near))
	}
	line := Line{GuestTimeNs: ms * nsPerMs, OffsetBytes: f.Values[4]}
	var err error
	line.LatencyNs, line.Write, line.SizeBytes, err = f.IO()
	return line, err
}

// IO returns what the four fields say that every line has. Values that do not fit the dataset are
// an error.
func (f *Fields) IO() (latencyNs int64, write bool, sizeBytes int32, err error) {
	switch direction, size := f.Values[2], f.Values[3]; {
	case direction > 1:
		return 0, false, 0, fmt.Errorf("direction %d is neither 0 (read) nor 1 (write)", direction)
	case size > math.MaxInt32:
		return 0, false, 0, errors.New("field 4 is no number in range: a size of 2^31 bytes or more")
	default:
		return f.Values[1], direction == 1, int32(size), nil //nolint:gosec // compared above
	}
}

func said(at time.Time) string { return at.UTC().Format(time.RFC3339) }

// WriteLog writes lines in the format that ReadLog reads. Times are truncated to ms.
func WriteLog(w io.Writer, lines iter.Seq[Line]) error {
	output := bufio.NewWriter(w)
	for line := range lines {
		direction := 0
		if line.Write {
			direction = 1
		}
		// bufio keeps its first error for Flush.
		fmt.Fprintf(output, "%d, %d, %d, %d, %d, 0\n",
			line.GuestTimeNs/nsPerMs, line.LatencyNs, direction, line.SizeBytes, line.OffsetBytes)
	}
	return output.Flush()
}
