package fio

import (
	"time"

	"heliotrope/internal/load/spec"
)

// Memory that fio uses in the guest. Measured with fio 3.33 at 17,000 I/Os a second: 5 MiB of its
// own, 40 bytes for each I/O that it keeps until it ends, and 8.5 bytes of log for each I/O,
// compressed while it is written.
const (
	ownBytes  = 8 << 20
	keptPerIO = 48 // the size of a sample in newer versions
	logPerIO  = 12
)

// MemoryBytes returns the guest's memory that fio and its log need at iops I/Os a second for the
// given time, when the log is compressed while it is written.
func MemoryBytes(a spec.Access, iops float64, length time.Duration) int64 {
	a = a.Complete()
	longest := 0
	for _, line := range a.Lines {
		longest = max(longest, line.SizeBytes)
	}
	return ownBytes + int64(a.Outstanding)*int64(longest) + int64(iops*length.Seconds())*(keptPerIO+logPerIO)
}
