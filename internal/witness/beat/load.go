package beat

import (
	"golang.org/x/sys/unix"

	"heliotrope/internal/load/inflight"
	"heliotrope/internal/witness"
)

// load is what the guest's witness knows of the load beside it. It is for one
// goroutine.
type load struct {
	path  string // of the page; "": there is no load that has one
	token uint64

	page      *inflight.Page // nil until it is there
	oldest    int64
	completed uint64
}

// find opens the page once the load has made it. One that cannot be opened is
// not there yet, or another attempt's.
func (l *load) find() {
	if l.page != nil || l.path == "" {
		return
	}
	if page, err := inflight.Open(l.path, l.token); err == nil {
		l.page = page
	}
}

// look is when the oldest I/O in flight was submitted, and how many have
// completed: what was read before, when the load is just writing it.
func (l *load) look() (oldest int64, completed uint64) {
	if l.page == nil {
		return witness.NotTold, 0
	}
	if oldest, completed, ok := l.page.Get(); ok {
		l.oldest, l.completed = oldest, completed
	}
	return l.oldest, l.completed
}

// near tells the load at which site it runs.
func (l *load) near(site byte) {
	if l.page != nil {
		l.page.SetNear(site, clockNs(unix.CLOCK_MONOTONIC))
	}
}

func (l *load) close() error {
	if l.page == nil {
		return nil
	}
	return l.page.Close()
}

// clockNs reads one of the kernel's clocks, which every kernel has: 0 when it
// has not.
func clockNs(clock int32) int64 {
	var now unix.Timespec
	if err := unix.ClockGettime(clock, &now); err != nil {
		return 0
	}
	return now.Nano()
}
