package load

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

// Names of a load's raw files, on the guest and where Fetch puts them.
const (
	LogFile    = "io_lat.log" // one line for each completed I/O: see ReadLog
	ResultFile = "fio.json"   // fio's own summary: see ReadResult
)

// Directions of an I/O.
const (
	Read  = "read"
	Write = "write"
)

// Entry is one completed I/O, as the log has it.
type Entry struct {
	GuestTimeNs int64  // completion, on the guest's wall clock, ns since 1970 UTC; resolution 1 ms
	LatencyNs   int64  // from when fio made the I/O ready to its completion, on the guest's clock
	Op          string // Read or Write
	SizeBytes   int32
	OffsetBytes int64 // on the disk
}

// ErrEmptyLog says that a log has no line at all: the load did nothing.
var ErrEmptyLog = errors.New("the log has no I/O in it")

const nsPerMs = int64(time.Millisecond)

// ReadLog reads a raw log and gives its entries in their order, which is nearly
// that of their completion. Its format is fio's latency log with offsets
// (fio(1), 'LOG FILE FORMATS'):
//
//	time in ms, latency in ns, direction (0 read, 1 write), size, offset, priority
//
// An empty log, a last line that was cut off and a line that is none of these
// are errors which name the line; entries before it have been given by then.
func ReadLog(r io.Reader, give func(Entry) error) error {
	input := bufio.NewReader(r)
	for number := 1; ; number++ {
		line, err := input.ReadString('\n')
		if errors.Is(err, io.EOF) {
			switch {
			case line != "":
				return fmt.Errorf("line %d of the I/O log is cut off: %.80q", number, line)
			case number == 1:
				return ErrEmptyLog
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("line %d of the I/O log: %w", number, err)
		}
		entry, err := parseEntry(strings.TrimSuffix(line, "\n"))
		if err != nil {
			return fmt.Errorf("line %d of the I/O log, %.80q: %w", number, line, err)
		}
		if err := give(entry); err != nil {
			return err
		}
	}
}

// logFields is how many fields a line has.
const logFields = 6

func parseEntry(line string) (Entry, error) {
	fields := strings.Split(line, ", ")
	if len(fields) != logFields {
		return Entry{}, fmt.Errorf("want %d fields, have %d", logFields, len(fields))
	}
	var values [logFields]int64
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
			return Entry{}, fmt.Errorf("field %d is no number in range", i+1)
		}
		values[i] = value
	}
	entry := Entry{GuestTimeNs: values[0] * nsPerMs, LatencyNs: values[1], SizeBytes: int32(values[3]), OffsetBytes: values[4]} //nolint:gosec // parsed with 32 bits
	switch values[2] {
	case 0:
		entry.Op = Read
	case 1:
		entry.Op = Write
	default:
		return Entry{}, fmt.Errorf("direction %d is neither 0 (read) nor 1 (write)", values[2])
	}
	return entry, nil
}

// WriteLog writes entries as ReadLog reads them. Times are cut to ms.
func WriteLog(w io.Writer, entries iter.Seq[Entry]) error {
	output := bufio.NewWriter(w)
	for entry := range entries {
		direction := 0
		if entry.Op == Write {
			direction = 1
		}
		// bufio keeps its first error for Flush.
		fmt.Fprintf(output, "%d, %d, %d, %d, %d, 0\n",
			entry.GuestTimeNs/nsPerMs, entry.LatencyNs, direction, entry.SizeBytes, entry.OffsetBytes)
	}
	return output.Flush()
}
