package witness

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"
	"time"
)

// Reading is one value of one counter.
type Reading struct {
	At     time.Time // on the host's own clock
	Device string    // a role: CPU, Memory, GuestDisk, ...
	Name   string    // of the table Counters
	Value  int64
}

// ErrNoReadings says that a file of counters has no complete sample.
var ErrNoReadings = errors.New("the counters have no complete sample")

// ReadCounters reads a raw file and passes its readings to give, in their order. A sample is a
// line `@<ns since 1970 UTC>`, a line `device name value` for each counter, and a line `.` at its
// end. A last sample that was cut off, as when the host stopped, is left out. A file without any
// complete sample is ErrNoReadings; any other line is an error that names it.
func ReadCounters(r io.Reader, give func(Reading) error) error {
	input := bufio.NewReader(r)
	var sample []Reading
	var at time.Time
	complete := 0
	for number := 1; ; number++ {
		line, err := input.ReadString('\n')
		switch {
		case errors.Is(err, io.EOF) && complete == 0:
			return ErrNoReadings
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("line %d of the counters: %w", number, err)
		}
		line = strings.TrimSuffix(line, "\n")
		if line == "." && !at.IsZero() {
			for _, reading := range sample {
				if err := give(reading); err != nil {
					return err
				}
			}
			complete++
			at, sample = time.Time{}, sample[:0]
			continue
		}
		if err := parseLine(line, &at, &sample); err != nil {
			return fmt.Errorf("line %d of the counters, %.80q: %w", number, line, err)
		}
	}
}

// parseLine reads the line that begins a sample, or the line of a reading.
func parseLine(line string, at *time.Time, sample *[]Reading) error {
	if text, found := strings.CutPrefix(line, "@"); found {
		ns, err := strconv.ParseInt(text, 10, 64)
		if err != nil || ns <= 0 || !at.IsZero() {
			return errors.New("want the time of a new sample, in ns, after the end of the last one")
		}
		*at = time.Unix(0, ns).UTC()
		return nil
	}
	fields := strings.Split(line, " ")
	if len(fields) != 3 || at.IsZero() {
		return errors.New("want `device name value` within a sample")
	}
	value, err := strconv.ParseInt(fields[2], 10, 64)
	if err != nil || fields[0] == "" || fields[1] == "" {
		return errors.New("want `device name value`, the value a number of 63 bits")
	}
	*sample = append(*sample, Reading{At: *at, Device: fields[0], Name: fields[1], Value: value})
	return nil
}

// WriteCounters writes readings in the format that ReadCounters reads. Consecutive readings with
// the same time become one sample.
func WriteCounters(w io.Writer, readings iter.Seq[Reading]) error {
	output := bufio.NewWriter(w)
	var at time.Time
	for reading := range readings {
		if !reading.At.Equal(at) {
			if !at.IsZero() {
				fmt.Fprintln(output, ".")
			}
			at = reading.At
			fmt.Fprintf(output, "@%d\n", at.UnixNano())
		}
		// bufio keeps its first error for Flush.
		_, _ = output.Write(AppendCounter(output.AvailableBuffer(), reading.Device, reading.Name, reading.Value))
	}
	if !at.IsZero() {
		fmt.Fprintln(output, ".")
	}
	return output.Flush()
}

// AppendCounter appends the line of a reading to a sample.
func AppendCounter(to []byte, device, name string, value int64) []byte {
	to = append(append(append(append(to, device...), ' '), name...), ' ')
	return append(strconv.AppendInt(to, value, 10), '\n')
}
