package engine

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"heliotrope/internal/load/iolog"
	"heliotrope/internal/load/spec"
)

const (
	// lookEvery is how long a worker sleeps at most before it looks whether its context has ended
	// and whether there is something to seal.
	lookEvery = 100 * time.Millisecond
	// drainLimit is how long I/Os in flight may take at the end. The rest of the 10 s is for the
	// log.
	drainLimit = 9 * time.Second
	// yieldEvery is how often a worker calls Go's scheduler. A goroutine that the scheduler has
	// not seen for 10 ms (forcePreemptNS) gets a signal. One that it knows to be in system calls
	// loses its processor each time Go's monitor looks (retake, in runtime/proc.go of Go 1.26),
	// some thousand times a second.
	yieldEvery = 5 * time.Millisecond
	// errnoShort stands for a transfer that was shorter than its I/O.
	errnoShort = int(unix.ENODATA)
)

// worker is one worker of a load.
type worker struct {
	number, workers int
	access          spec.Access
	targets         []spec.Target
	sequence        *spec.Sequence
	log             writer
	device          device
	memory          memory
	publish         func(oldestNs int64, completed uint64)
	stamp           func() iolog.Stamp
	began           iolog.Stamp

	ios       []spec.IO     // by slot
	submitted []iolog.Stamp // by slot
	lateNs    []int64       // by slot: how long after its due time the I/O began, in an open loop
	begun     uint64        // number of I/Os
	drawn     int           // slot whose I/O waits for its delay to pass, or -1
	failed    error         // the error of the I/O that ends the load
	done      func(slot, result int)
	violation func(kind byte)
	yieldedNs int64 // time of the last yield, by the monotonic clock
	count     counts
}

// memory provides the buffers of I/Os.
type memory interface {
	begin(io spec.IO) []byte
	// end checks an I/O that has completed, and reports what is wrong with the data that it read.
	end(io spec.IO, errno int, violation func(kind byte))
	close() error
}

// counts are read by other goroutines while the worker runs.
type counts struct {
	ios, errors, violations, responseNs atomic.Int64
	firstErrno                          atomic.Int64
}

// none stands for no slot.
const none = -1

// run does I/Os until the context ends, or an I/O fails that ends the load. It then waits for the
// I/Os in flight, returns how many are left, and closes the log.
func (w *worker) run(ctx context.Context) (pending int, err error) {
	w.drawn, w.done, w.violation = none, w.completed, w.violated
	w.lateNs = make([]int64, len(w.ios))
	for ctx.Err() == nil && w.failed == nil && err == nil {
		var pause time.Duration
		if pause, err = w.begin(ctx); err == nil {
			err = w.wait(pause)
		}
	}
	end := w.stamp().MonoNs + int64(drainLimit)
	for err == nil && w.inFlight() > 0 && w.stamp().MonoNs < end {
		err = w.wait(lookEvery)
	}
	w.tell()
	pending = w.inFlight()
	if closing := w.log.Close(w.stamp()); err == nil {
		err = closing
	}
	if err == nil {
		err = w.failed
	}
	if err != nil {
		err = fmt.Errorf("worker %d: %w", w.number, err)
	}
	return pending, err
}

// inFlight returns the number of I/Os in flight, without the one that waits for its delay.
func (w *worker) inFlight() int {
	flying := len(w.sequence.InFlight())
	if w.drawn != none {
		flying--
	}
	return flying
}

// wait waits until an I/O completes or the limit is over, and processes all that have completed.
func (w *worker) wait(limit time.Duration) error {
	w.tell()
	if err := w.device.wait(1, limit, w.done); err != nil {
		return err
	}
	at := w.stamp()
	w.log.Tick(at)
	if at.MonoNs-w.yieldedNs >= int64(yieldEvery) {
		w.yieldedNs = at.MonoNs
		runtime.Gosched()
	}
	return nil
}

// tell publishes when the oldest I/O in flight was submitted, and how many have completed.
func (w *worker) tell() {
	oldest := int64(0)
	if w.inFlight() > 0 {
		oldest = w.submitted[w.sequence.InFlight()[0]].WallNs
	}
	w.publish(oldest, uint64(w.count.ios.Load())) //nolint:gosec // not negative
}

// begin submits I/Os as long as a slot is free and, in an open loop, an I/O is due. It returns
// how long the worker has nothing to submit.
func (w *worker) begin(ctx context.Context) (pause time.Duration, err error) {
	for {
		if w.access.RateIOPS > 0 {
			if pause := w.due(w.stamp()); pause > 0 {
				return min(pause, lookEvery), nil
			}
		}
		io, free := w.sequence.Next()
		if !free {
			return lookEvery, nil
		}
		w.drawn = io.Slot
		if io.Delay > 0 {
			if err := w.delay(ctx, io.Delay); err != nil || ctx.Err() != nil || w.failed != nil {
				return 0, err
			}
		}
		w.submit(io)
	}
}

// due returns the time until the next I/O is due by the guest's wall clock. It is negative when
// the I/O is late.
func (w *worker) due(at iolog.Stamp) time.Duration {
	next := w.access.Due(w.begun*uint64(w.workers) + uint64(w.number)) //nolint:gosec // not negative
	return next - time.Duration(at.WallNs-w.began.WallNs)
}

// delay processes completions for a time and submits nothing.
func (w *worker) delay(ctx context.Context, length time.Duration) error {
	until := w.stamp().MonoNs + int64(length)
	for ctx.Err() == nil && w.failed == nil {
		left := time.Duration(until - w.stamp().MonoNs)
		if left <= 0 {
			return nil
		}
		if err := w.wait(min(left, lookEvery)); err != nil {
			return err
		}
	}
	return nil
}

func (w *worker) submit(io spec.IO) {
	buffer := w.memory.begin(io)
	at := w.stamp()
	w.ios[io.Slot], w.submitted[io.Slot] = io, at
	w.drawn = none
	if w.access.RateIOPS > 0 {
		w.lateNs[io.Slot] = max(0, int64(-w.due(at)))
	}
	w.begun++
	w.log.Submitted(at)
	w.device.submit(io.Slot, io, buffer)
}

// completed processes an I/O's completion. result is the number of bytes transferred, or the
// negative errno.
func (w *worker) completed(slot, result int) {
	at := w.stamp()
	io, errno := w.ios[slot], 0
	switch {
	case result < 0:
		errno = -result
	case result != io.SizeBytes:
		errno = errnoShort
	}
	w.log.Completed(slot, errno, at)
	w.memory.end(io, errno, w.violation)
	w.count.ios.Add(1)
	w.count.responseNs.Add(at.MonoNs - w.submitted[slot].MonoNs + w.lateNs[slot])
	if errno != 0 {
		w.failure(io, result, errno)
	}
}

func (w *worker) violated(kind byte) {
	w.count.violations.Add(1)
	w.log.Violation(kind)
}

func (w *worker) failure(io spec.IO, result, errno int) {
	w.count.errors.Add(1)
	w.count.firstErrno.CompareAndSwap(0, int64(errno))
	if w.access.OnError != spec.ErrorStops || w.failed != nil {
		return
	}
	operation, what := "read", unix.Errno(errno).Error()
	if io.Write {
		operation = "write"
	}
	if errno == errnoShort && result >= 0 {
		what = fmt.Sprintf("%d bytes were transferred", result)
	}
	w.failed = fmt.Errorf("%s %d bytes at %d of %s: %s; on_error is %s", operation, io.SizeBytes, io.OffsetBytes, w.targets[io.Target].Device, what, spec.ErrorStops)
}
