package fio

import (
	"time"

	"heliotrope/internal/load/spec"
)

// What fio takes of the guest's memory. Measured with fio 3.33 at 17,000 I/Os a
// second: 5 MiB that are its own, 40 bytes for each I/O that it keeps until it
// ends, and then 8.5 bytes of log, compressed as it is written.
const (
	ownBytes  = 8 << 20
	keptPerIO = 48 // a sample of newer versions
	logPerIO  = 12
)

// MemoryBytes is what fio and its log need of the guest's memory, at so many I/Os
// a second for so long, when the log is compressed as it is written.
func MemoryBytes(a spec.Access, iops float64, length time.Duration) int64 {
	a = a.Complete()
	longest := 0
	for _, line := range a.Lines {
		longest = max(longest, line.SizeBytes)
	}
	return ownBytes + int64(a.Outstanding)*int64(longest) + int64(iops*length.Seconds())*(keptPerIO+logPerIO)
}
