// Package pace has tickers for programs that watch beside a measured guest: each wake-up of a
// processor takes time from the guest, which is a lot where both are emulated.
//
// It promises that all tickers with the same interval on a machine wake it at the same moment,
// and that a process is woken once for each tick. It is for Linux.
package pace

import (
	"fmt"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Ticker ticks like a time.Ticker: a tick that nobody waited for is dropped, and missed ticks are
// not made up for. Unlike a time.Ticker, it ticks at the multiples of its interval on the
// machine's monotonic clock, and wakes the process exactly then: Go's own timers first sleep for
// whole milliseconds, and then for the rest.
type Ticker struct {
	C    <-chan time.Time
	file *os.File
}

// New starts a ticker, with timerfd_create(2).
func New(interval time.Duration) (*Ticker, error) {
	if interval <= 0 {
		return nil, fmt.Errorf("a ticker each %s: want an interval above 0", interval)
	}
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make a timer: %w", err)
	}
	file := os.NewFile(uintptr(fd), "timerfd")
	raw, err := start(file, fd, interval)
	if err != nil {
		_ = file.Close() // the first error is returned
		return nil, fmt.Errorf("start a timer: %w", err)
	}
	ticks := make(chan time.Time, 1)
	go follow(raw, ticks)
	return &Ticker{C: ticks, file: file}, nil
}

func start(file *os.File, fd int, interval time.Duration) (syscall.RawConn, error) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return nil, err
	}
	next := time.Duration(now.Nano()).Truncate(interval) + interval
	setting := unix.ItimerSpec{Interval: unix.NsecToTimespec(int64(interval)), Value: unix.NsecToTimespec(int64(next))}
	if err := unix.TimerfdSettime(fd, unix.TFD_TIMER_ABSTIME, &setting, nil); err != nil {
		return nil, err
	}
	return file.SyscallConn()
}

// follow passes the ticks on until the file is closed.
func follow(raw syscall.RawConn, ticks chan<- time.Time) {
	for {
		expired := false
		err := raw.Read(func(fd uintptr) bool {
			var count [8]byte
			// The read never blocks, so Go's scheduler need not know of it.
			_, _, code := unix.RawSyscall(unix.SYS_READ, fd, uintptr(unsafe.Pointer(&count)), uintptr(len(count))) //nolint:gosec // as long as is said
			expired = code == 0
			return code != unix.EAGAIN
		})
		if err != nil {
			return
		}
		if !expired {
			continue
		}
		select {
		case ticks <- time.Now():
		default: // one is waiting
		}
	}
}

// Stop ends the ticks; C stays open.
func (p *Ticker) Stop() { _ = p.file.Close() } // nothing is lost by an error
