package fio

import (
	"io"
	"time"

	"heliotrope/internal/load/spec"
)

// Line is one line of fio's log: a completed I/O.
type Line struct {
	GuestTimeNs int64 // completion, on the guest's wall clock, ns since 1970 UTC; resolution 1 ms
	LatencyNs   int64 // from when fio made the I/O ready to its completion, on the guest's clock
	Write       bool
	SizeBytes   int32
	OffsetBytes int64 // on the disk
}

// Result is fio's own summary of a load.
type Result struct {
	Version string // fio's, "fio-3.33"
	IOs     int64  // completed; as many as the log has lines
	Error   int    // the errno of the first I/O that failed and ended the load, or 0
}

// Args are the program and arguments that run a specification on a target
// until it is stopped.
func Args(a spec.Access, target spec.Target, seed uint64, log string) ([]string, error) {
	panic("not built")
}

// MemoryBytes is what fio and its log need of the guest's memory.
func MemoryBytes(a spec.Access, iops float64, length time.Duration) int64 { panic("not built") }

// CheckVersion says of the text of `fio --version` whether its log is understood.
func CheckVersion(text string) error { panic("not built") }

// ReadLog gives the lines of a log in their order. A time that is not within a
// day of near is refused.
func ReadLog(r io.Reader, near time.Time, give func(Line) error) error { panic("not built") }

// ReadResult reads fio's summary.
func ReadResult(r io.Reader) (Result, error) { panic("not built") }
