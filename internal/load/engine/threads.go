package engine

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"heliotrope/internal/load/spec"
)

// threads does each I/O by pread(2) or pwrite(2), in as many goroutines as there are slots. Go
// makes the OS threads: each goroutine in a system call has one.
type threads struct {
	files    []int
	requests chan request
	results  chan result
	event    int // an eventfd(2), written when something has completed
	serving  sync.WaitGroup
}

type request struct {
	slot, file int
	write      bool
	offset     int64
	buffer     []byte
}

type result struct{ slot, result int }

func openThreads(files []int, slots int) (device, error) {
	event, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make an eventfd: %w", err)
	}
	t := &threads{files: files, requests: make(chan request, slots), results: make(chan result, slots), event: event}
	for range slots {
		t.serving.Go(t.serve)
	}
	return t, nil
}

// serve does one I/O after the other.
func (t *threads) serve() {
	one := []byte{1, 0, 0, 0, 0, 0, 0, 0}
	for r := range t.requests {
		t.results <- result{r.slot, r.do()}
		_, _ = unix.Write(t.event, one) // fails only when the counter of unread events is full, at nearly 2⁶⁴
	}
}

func (r request) do() int {
	for {
		call := unix.Pread
		if r.write {
			call = unix.Pwrite
		}
		bytes, err := call(r.file, r.buffer, r.offset)
		var errno unix.Errno
		switch {
		case err == nil:
			return bytes
		case errors.As(err, &errno) && errno != unix.EINTR:
			return -int(errno)
		}
	}
}

func (t *threads) submit(slot int, io spec.IO, buffer []byte) {
	t.requests <- request{slot, t.files[io.Target], io.Write, io.OffsetBytes, buffer[:io.SizeBytes]}
}

func (t *threads) wait(least int, limit time.Duration, done func(slot, result int)) error {
	if t.take(done) >= least {
		return nil
	}
	// Go's own timers sleep for whole milliseconds.
	until := unix.NsecToTimespec(int64(limit))
	ready, err := unix.Ppoll([]unix.PollFd{{Fd: int32(t.event), Events: unix.POLLIN}}, &until, nil) //nolint:gosec // a descriptor
	if err != nil && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("wait for I/Os: %w", err)
	}
	if ready > 0 {
		var count [8]byte
		if _, err := unix.Read(t.event, count[:]); err != nil && !errors.Is(err, unix.EAGAIN) {
			return fmt.Errorf("wait for I/Os: %w", err)
		}
	}
	t.take(done)
	return nil
}

// take passes everything that has completed to done, and returns how many there were.
func (t *threads) take(done func(slot, result int)) (taken int) {
	for {
		select {
		case r := <-t.results:
			done(r.slot, r.result)
			taken++
		default:
			return taken
		}
	}
}

func (t *threads) close() error {
	close(t.requests)
	t.serving.Wait()
	return unix.Close(t.event)
}
