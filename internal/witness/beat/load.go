package beat

import (
	"golang.org/x/sys/unix"

	"heliotrope/internal/load/inflight"
	"heliotrope/internal/witness"
)

// load is what the guest's witness knows of the load that runs beside it. It is for one
// goroutine.
type load struct {
	path  string // path of the page; "": no load with a page
	token uint64

	page      *inflight.Page // nil until the page exists
	oldest    int64
	completed uint64
}

// find opens the page once the load has made it. A page that cannot be opened does not exist yet,
// or belongs to another attempt.
func (l *load) find() {
	if l.page != nil || l.path == "" {
		return
	}
	if page, err := inflight.Open(l.path, l.token); err == nil {
		l.page = page
	}
}

// look returns when the oldest I/O in flight was submitted, and how many have completed. While
// the load is writing the page, it returns the previous values.
func (l *load) look() (oldest int64, completed uint64) {
	if l.page == nil {
		return witness.NotTold, 0
	}
	if oldest, completed, ok := l.page.Get(); ok {
		l.oldest, l.completed = oldest, completed
	}
	return l.oldest, l.completed
}

// near tells the load at which site the guest runs.
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

// clockNs reads one of the clocks that every kernel has. It returns 0 if the kernel does not have
// it after all.
func clockNs(clock int32) int64 {
	var now unix.Timespec
	if err := unix.ClockGettime(clock, &now); err != nil {
		return 0
	}
	return now.Nano()
}
