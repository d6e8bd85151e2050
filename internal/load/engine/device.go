package engine

import (
	"errors"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"heliotrope/internal/load/spec"
)

// device does the I/Os of one worker, on its targets.
type device interface {
	// submit begins an I/O in a slot that is free, at the next submit or wait at the
	// latest. What goes wrong with that is the next wait's error.
	submit(slot int, io spec.IO, buffer []byte)
	// wait waits until at least so many have completed or the limit is over, and
	// gives all that have: the bytes that were transferred, or the errno,
	// negative. It may come back earlier.
	wait(least int, limit time.Duration, done func(slot, result int)) error
	// close gives everything back, when nothing is in flight.
	close() error
}

// method makes devices.
type method struct {
	name   string
	detail string // how, for Result
	open   func(files []int, slots int) (device, error)
}

// chooseMethod finds out what the kernel has. Where nothing is asked for, threads
// take the place of io_uring when the kernel has none, does not let us, or not
// without locked memory.
func chooseMethod(wanted string) (method, error) {
	threaded := method{name: MethodThreads, open: openThreads}
	if wanted == MethodThreads {
		return threaded, nil
	}
	probe, err := probeRing()
	switch {
	case err == nil:
		return method{name: MethodURing, detail: probe, open: openRing}, nil
	case wanted == "" && (errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOMEM)):
		threaded.detail = err.Error()
		return threaded, nil
	}
	return method{}, fmt.Errorf("method %s: %w; %s would need none", MethodURing, err, MethodThreads)
}

// probeRing makes a ring and says which flags it has.
func probeRing() (flags string, err error) {
	runtime.LockOSThread() // a ring is its thread's
	defer runtime.UnlockOSThread()
	r, err := newRing(1)
	if err != nil {
		return "", err
	}
	return r.flags(), r.free()
}

// pages is memory that is aligned as direct I/O wants it, and that the collector
// knows nothing of.
func pages(bytes int) ([]byte, error) {
	memory, err := unix.Mmap(-1, 0, bytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("memory of %d bytes for direct I/O: %w", bytes, err)
	}
	return memory, nil
}
