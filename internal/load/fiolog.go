package load

import (
	"bufio"
	"compress/gzip"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"time"

	"heliotrope/internal/load/fio"
)

// Names of the raw files of fio's load where Fetch puts them. PackedFile has what LogFile
// has; there is one of the two.
const (
	LogFile    = fio.LogFile
	PackedFile = fio.PackedFile
	ResultFile = fio.ResultFile
)

// Directions of an I/O.
const (
	OpRead  = "read"
	OpWrite = "write"
)

// ErrEmptyLog says that fio's log has no line at all.
var ErrEmptyLog = fio.ErrEmptyLog

// Entry is one completed I/O, as fio's log has it.
type Entry struct {
	GuestTimeNs int64  // completion, on the guest's wall clock, ns since 1970 UTC; resolution 1 ms
	LatencyNs   int64  // from when fio made the I/O ready to its completion, on the guest's clock
	Op          string // OpRead or OpWrite
	SizeBytes   int32
	OffsetBytes int64 // on the disk
}

// LogName is the name of fio's log in a folder of raw files.
func LogName(folder string) string {
	if _, err := os.Stat(filepath.Join(folder, PackedFile)); err == nil {
		return PackedFile
	}
	return LogFile
}

// ReadLog reads a raw log of fio's, of a trial that was near a time, packed or not, as
// fio.ReadLog does.
func ReadLog(r io.Reader, near time.Time, give func(Entry) error) error {
	input := bufio.NewReader(r)
	from := io.Reader(input)
	if magic, _ := input.Peek(2); string(magic) == "\x1f\x8b" { // RFC 1952
		unpacked, err := gzip.NewReader(input)
		if err != nil {
			return fmt.Errorf("unpack the I/O log: %w", err)
		}
		from = unpacked
	}
	return fio.ReadLog(from, near, func(line fio.Line) error {
		op := OpRead
		if line.Write {
			op = OpWrite
		}
		return give(Entry{GuestTimeNs: line.GuestTimeNs, LatencyNs: line.LatencyNs, Op: op, SizeBytes: line.SizeBytes, OffsetBytes: line.OffsetBytes})
	})
}

// WriteLog writes entries as ReadLog reads them. Times are cut to ms.
func WriteLog(w io.Writer, entries iter.Seq[Entry]) error {
	return fio.WriteLog(w, func(yield func(fio.Line) bool) {
		for entry := range entries {
			if !yield(fio.Line{GuestTimeNs: entry.GuestTimeNs, LatencyNs: entry.LatencyNs, Write: entry.Op == OpWrite,
				SizeBytes: entry.SizeBytes, OffsetBytes: entry.OffsetBytes}) {
				return
			}
		}
	})
}
