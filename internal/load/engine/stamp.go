package engine

import (
	"time"

	"golang.org/x/sys/unix"

	"heliotrope/internal/load/iolog"
)

// clock reads both of the guest's clocks. It is for one goroutine.
//
// time.Now reads CLOCK_REALTIME and CLOCK_MONOTONIC one after the other, both through the vDSO;
// unix.ClockGettime would enter the kernel for each (BenchmarkStamp). Go's monotonic clock counts
// from the program's start, so it is converted to CLOCK_MONOTONIC.
type clock struct {
	start   time.Time
	startNs int64 // CLOCK_MONOTONIC at start
	apartNs int64 // the wall clock minus the monotonic one, when both were last read
}

const (
	// tornNs is more than the time between the two readings in a thread that keeps running.
	tornNs = 20_000
	tries  = 3
)

func newClock() (*clock, error) {
	c := &clock{}
	best := time.Hour // the shortest time that a pair of readings took
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

// stamp reads both clocks. When the thread was suspended between the two readings, it reads them
// again. A difference that remains after that is a step of the wall clock, and is kept.
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
