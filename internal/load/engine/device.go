package engine

import (
	"errors"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"heliotrope/internal/load/spec"
)

// device does the I/Os of one worker on its targets.
type device interface {
	// submit begins an I/O in a free slot, at the latest with the next submit or wait. If it
	// cannot be begun, the next wait returns the error.
	submit(slot int, io spec.IO, buffer []byte)
	// wait waits until at least `least` I/Os have completed or the limit is over, and may return
	// earlier. It passes every I/O that has completed to done: result is the number of bytes
	// transferred, or the negative errno.
	wait(least int, limit time.Duration, done func(slot, result int)) error
	// close releases everything. It is called when nothing is in flight.
	close() error
}

// method is a way of doing I/O: it opens devices.
type method struct {
	name   string
	detail string // details of the method, for Result
	open   func(files []int, slots int) (device, error)
}

// chooseMethod returns the wanted method, or finds out which one the kernel has. When none is
// asked for, threads take the place of io_uring if the kernel lacks it, does not allow it, or
// allows it only with locked memory.
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

// probeRing makes a ring and returns the flags that it has.
func probeRing() (flags string, err error) {
	runtime.LockOSThread() // a ring is its thread's
	defer runtime.UnlockOSThread()
	r, err := newRing(1)
	if err != nil {
		return "", err
	}
	return r.flags(), r.free()
}

// pages returns memory that is aligned for direct I/O and that Go's garbage collector does not
// manage.
func pages(bytes int) ([]byte, error) {
	memory, err := unix.Mmap(-1, 0, bytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("memory of %d bytes for direct I/O: %w", bytes, err)
	}
	return memory, nil
}
