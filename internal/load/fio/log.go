package fio

import (
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"
	"time"
)

// Line is one line of fio's log: a completed I/O.
type Line struct {
	GuestTimeNs int64 // completion, on the guest's wall clock, ns since 1970 UTC; resolution 1 ms
	LatencyNs   int64 // from when fio made the I/O ready to its completion, on the guest's clock
	Write       bool
	SizeBytes   int32
	OffsetBytes int64 // on the disk
}

// ErrEmptyLog says that a log has no line at all: the load did nothing.
var ErrEmptyLog = errors.New("the log has no I/O in it")

const (
	nsPerMs = int64(time.Millisecond)
	// nearBy is how far from the trial's end a time of its log may be: a day more
	// than the longest trial takes. A time of which bits are missing is of 1970.
	nearBy = 8 * 24 * time.Hour
)

// ReadLog gives the lines of a log, packed (gzip, RFC 1952) or not, in their order, which is nearly that of their
// completion. Its format is fio's latency log with offsets (fio(1), 'LOG FILE
// FORMATS'):
//
//	time in ms, latency in ns, direction (0 read, 1 write), size, offset, priority, time of submission
//
// The priority is there since fio 3.20 or so, and hexadecimal in newer ones; the
// last field is there since 3.38 where it is asked for. Neither is used.
//
// An empty log, a last line that was cut off, a time that is not within eight
// days of near and a line that is none of these are errors which name the line; lines
// before it have been given by then.
func ReadLog(r io.Reader, near time.Time, give func(Line) error) error {
	input := bufio.NewReader(r)
	if magic, _ := input.Peek(2); string(magic) == "\x1f\x8b" {
		unpacked, err := gzip.NewReader(input)
		if err != nil {
			return fmt.Errorf("unpack the I/O log: %w", err)
		}
		input = bufio.NewReader(unpacked)
	}
	for number := 1; ; number++ {
		text, err := input.ReadString('\n')
		if errors.Is(err, io.EOF) {
			switch {
			case text != "":
				return fmt.Errorf("line %d of the I/O log is cut off: %.80q", number, text)
			case number == 1:
				return ErrEmptyLog
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("line %d of the I/O log: %w", number, err)
		}
		line, err := parseLine(strings.TrimSuffix(text, "\n"), near)
		if err != nil {
			return fmt.Errorf("line %d of the I/O log, %.80q: %w", number, text, err)
		}
		if err := give(line); err != nil {
			return err
		}
	}
}

// A line has so many fields.
const (
	leastFields = 5
	mostFields  = 7
)

func parseLine(text string, near time.Time) (Line, error) {
	fields := strings.Split(text, ", ")
	if len(fields) < leastFields || len(fields) > mostFields {
		return Line{}, fmt.Errorf("want %d to %d fields, have %d", leastFields, mostFields, len(fields))
	}
	var values [mostFields]int64
	for i, field := range fields {
		// Sizes must fit the dataset; newer versions of fio have a hexadecimal priority.
		base, bits := 10, 64
		switch i {
		case 3:
			bits = 32
		case 5:
			base = 0
		}
		value, err := strconv.ParseInt(field, base, bits)
		if err != nil || value < 0 {
			return Line{}, fmt.Errorf("field %d is no number in range", i+1)
		}
		values[i] = value
	}
	if at := time.UnixMilli(values[0]); at.Before(near.Add(-nearBy)) || at.After(near.Add(nearBy)) {
		return Line{}, fmt.Errorf("its time is %s, but the trial was at %s: "+
			"the guest's clock is wrong, or its fio is a 32-bit one before 3.36, which cuts times off", said(at), said(near))
	}
	if values[2] > 1 {
		return Line{}, fmt.Errorf("direction %d is neither 0 (read) nor 1 (write)", values[2])
	}
	return Line{GuestTimeNs: values[0] * nsPerMs, LatencyNs: values[1], Write: values[2] == 1,
		SizeBytes: int32(values[3]), OffsetBytes: values[4]}, nil //nolint:gosec // parsed with 32 bits
}

func said(at time.Time) string { return at.UTC().Format(time.RFC3339) }

// WriteLog writes lines as ReadLog reads them. Times are cut to ms.
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
