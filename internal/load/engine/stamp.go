package engine

import (
	"time"

	"golang.org/x/sys/unix"

	"heliotrope/internal/load/iolog"
)

// clock reads both of the guest's clocks. It is for one goroutine.
//
// Go reads CLOCK_REALTIME and CLOCK_MONOTONIC one after the other for time.Now,
// both by the vDSO, where unix.ClockGettime enters the kernel for each
// (BenchmarkStamp). Its monotonic clock counts from the program's start.
type clock struct {
	start   time.Time
	startNs int64 // CLOCK_MONOTONIC at start
	apartNs int64 // the wall clock less the monotonic one, when they were read last
}

const (
	// tornNs is more than lies between two readings of a thread that runs.
	tornNs = 20_000
	tries  = 3
)

func newClock() (*clock, error) {
	c := &clock{}
	best := time.Hour // the least time in between, of some pairs
	for range 16 {
		var now unix.Timespec
		before := time.Now()
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
			return nil, err
		}
		if took := time.Since(before); took < best {
			best, c.start, c.startNs = took, before, now.Nano()-int64(took/2)
		}
	}
	c.apartNs = c.start.UnixNano() - c.startNs
	return c, nil
}

// stamp reads both. A thread that was suspended between the two reads again: what
// is left is a step of the wall clock, which stays.
func (c *clock) stamp() (at iolog.Stamp) {
	for range tries {
		now := time.Now()
		at = iolog.Stamp{WallNs: now.UnixNano(), MonoNs: c.startNs + int64(now.Sub(c.start))}
		apart := at.WallNs - at.MonoNs
		moved := apart - c.apartNs
		c.apartNs = apart
		if -tornNs < moved && moved < tornNs {
			break
		}
	}
	return at
}
