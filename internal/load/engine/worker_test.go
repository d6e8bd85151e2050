package engine

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"heliotrope/internal/load/iolog"
	"heliotrope/internal/load/spec"
)

// after is a context that ends after so many events of a log.
func after(t *testing.T, log *memoryLog, events int) context.Context {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	t.Cleanup(stop)
	log.after = func(so int) {
		if so >= events {
			stop()
		}
	}
	return ctx
}

func always(length time.Duration) func(spec.IO) time.Duration {
	return func(spec.IO) time.Duration { return length }
}

// replay holds that a log's events are those of a sequence, and returns the largest number of
// I/Os in flight.
func replay(t *testing.T, c Config, worker int, log *memoryLog) (most int) {
	t.Helper()
	s, err := spec.NewSequence(c.Access, c.Targets, worker, c.Seed)
	require.NoError(t, err)
	last := iolog.Stamp{}
	for i, e := range log.events {
		require.GreaterOrEqual(t, e.at.MonoNs, last.MonoNs, "event %d", i)
		last = e.at
		if e.completed {
			s.Complete(e.slot)
			continue
		}
		want, free := s.Next()
		require.True(t, free)
		want.Delay = 0
		require.Equal(t, want, e.io, "event %d", i)
		most = max(most, len(s.InFlight()))
	}
	return most
}

var half = []spec.Line{{SizeBytes: 4096, SharePercent: 100, ReadPercent: 50, RandomPercent: 50}}

func TestClosedLoopKeepsEverySlotInFlight(t *testing.T) {
	w, log, device, said := model(t, spec.Access{Outstanding: 4, Lines: half}, always(time.Millisecond))
	pending, err := w.run(after(t, log, 1000))
	require.NoError(t, err)
	assert.Zero(t, pending)
	assert.Equal(t, 1, log.closed)
	assert.Equal(t, 4, replay(t, Config{Access: w.access, Targets: w.targets, Seed: 1}, 0, log))
	completed, failed, _ := log.count()
	assert.Equal(t, len(log.events), 2*completed)
	assert.Zero(t, failed)
	assert.Equal(t, published{0, uint64(completed)}, *said)
	assert.Equal(t, int64(completed)*int64(time.Millisecond), w.count.responseNs.Load())
	assert.Equal(t, time.Hour+time.Duration(completed/4)*time.Millisecond, device.clock.now)
}

// TestOldestIsPublishedWhileItIsWaitedFor looks at the page in the middle of a
// wait.
func TestOldestIsPublishedWhileItIsWaitedFor(t *testing.T) {
	w, log, device, said := model(t, spec.Access{Outstanding: 2, Lines: half}, nil)
	first := true
	device.service = func(spec.IO) time.Duration {
		if first {
			first = false
			return time.Second // the others overtake it
		}
		return 10 * time.Millisecond
	}
	looks := 0
	log.after = func(events int) {
		if events > 4 && device.clock.now < time.Hour+time.Second-20*time.Millisecond {
			assert.Equal(t, log.events[0].at.WallNs, said.oldest)
			looks++
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	service := device.service
	device.service = func(io spec.IO) time.Duration {
		if device.clock.now > time.Hour+2*time.Second {
			stop()
		}
		return service(io)
	}
	_, err := w.run(ctx)
	require.NoError(t, err)
	assert.Positive(t, looks)
}

// TestEndWithDiskThatHangs ends a load of which two I/Os never complete.
func TestEndWithDiskThatHangs(t *testing.T) {
	w, log, device, said := model(t, spec.Access{Outstanding: 4, Lines: half}, nil)
	submitted := 0
	device.service = func(spec.IO) time.Duration {
		submitted++
		if submitted == 10 || submitted == 20 {
			return -1
		}
		return time.Millisecond
	}
	var ended time.Duration
	ctx, stop := context.WithCancel(t.Context())
	log.after = func(events int) {
		if events == 500 {
			ended = device.clock.now
			stop()
		}
	}
	pending, err := w.run(ctx)
	require.NoError(t, err)
	assert.Equal(t, 2, pending)
	assert.Equal(t, 1, log.closed)
	took := device.clock.now - ended
	assert.GreaterOrEqual(t, took, 9*time.Second)
	assert.Less(t, took, 10*time.Second)
	var tenth iolog.Stamp
	for seen, i := 0, 0; seen < 10; i++ {
		if !log.events[i].completed {
			seen, tenth = seen+1, log.events[i].at
		}
	}
	assert.Equal(t, tenth.WallNs, said.oldest)
	assert.Len(t, w.sequence.InFlight(), 2)
}

// TestDelay has bursts of three on two slots: during a delay nothing is submitted, and
// completions are processed.
func TestDelay(t *testing.T) {
	line := spec.Line{SizeBytes: 4096, SharePercent: 100, ReadPercent: 100, Burst: 3, DelayMs: 250}
	w, log, _, _ := model(t, spec.Access{Outstanding: 2, Lines: []spec.Line{line}}, always(10*time.Millisecond))
	_, err := w.run(after(t, log, 60))
	require.NoError(t, err)
	var begun []time.Duration
	for _, e := range log.events {
		if !e.completed {
			begun = append(begun, time.Duration(e.at.MonoNs)-time.Hour)
		}
	}
	const ms = time.Millisecond
	assert.Equal(t, []time.Duration{250 * ms, 250 * ms, 260 * ms, 510 * ms, 510 * ms, 520 * ms, 770 * ms}, begun[:7])
	// The I/Os of the previous burst complete within the delay, if they complete during it at
	// all.
	for i, e := range log.events[:len(log.events)-1] {
		if e.completed && log.events[i+1].completed {
			assert.Zero(t, (e.at.MonoNs-int64(time.Hour))%int64(10*ms))
		}
	}
}

// endsAfter is a context that ends when a load has run for so long.
func endsAfter(t *testing.T, w *worker, on *modelDisk, length time.Duration) context.Context {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	publish := w.publish
	w.publish = func(oldest int64, completed uint64) {
		publish(oldest, completed)
		if on.clock.now > time.Hour+length {
			stop()
		}
	}
	return ctx
}

// TestEndInDelay ends a load before an I/O that was drawn was submitted: it is not
// in flight.
func TestEndInDelay(t *testing.T) {
	line := spec.Line{SizeBytes: 4096, SharePercent: 100, ReadPercent: 100, DelayMs: 60_000}
	w, log, device, said := model(t, spec.Access{Outstanding: 2, Lines: []spec.Line{line}}, always(90*time.Second))
	pending, err := w.run(endsAfter(t, w, device, 121*time.Second))
	require.NoError(t, err)
	assert.Equal(t, 2, pending, "the second, and the third, whose slot the first has left")
	assert.NotZero(t, said.oldest)
	assert.Equal(t, 1, log.closed)
}

func TestOpenLoop(t *testing.T) {
	w, log, device, _ := model(t, spec.Access{Outstanding: 2, Lines: half, RateIOPS: 100}, always(time.Millisecond))
	stalled := false
	device.service = func(spec.IO) time.Duration {
		if device.clock.now >= time.Hour+time.Second && !stalled {
			stalled = true
			return 500 * time.Millisecond
		}
		if device.clock.now >= time.Hour+time.Second && device.clock.now < time.Hour+time.Second+500*time.Millisecond {
			return time.Hour + 1500*time.Millisecond - device.clock.now
		}
		return time.Millisecond
	}
	_, err := w.run(after(t, log, 600))
	require.NoError(t, err)
	number := uint64(0)
	due, responses := map[int]time.Duration{}, time.Duration(0)
	for _, e := range log.events {
		if e.completed {
			responses += time.Duration(e.at.MonoNs) - time.Hour - due[e.slot]
			continue
		}
		due[e.io.Slot] = w.access.Due(number)
		late := time.Duration(e.at.MonoNs) - time.Hour - w.access.Due(number)
		switch {
		case number < 102 || number > 160: // two slots are taken from 1 s on; what waited is soon done
			assert.Zero(t, late, "I/O %d", number)
		case number < 150:
			assert.Equal(t, 1500*time.Millisecond-w.access.Due(number)+time.Duration((number-102)/2)*time.Millisecond, late, "I/O %d", number)
		}
		number++
	}
	assert.Greater(t, number, uint64(250))
	assert.Equal(t, int64(responses), w.count.responseNs.Load(), "they count from when an I/O was due")
}

// TestOpenLoopAfterStepOfWallClock: I/Os that became due by a step of the clock are submitted at
// once.
func TestOpenLoopAfterStepOfWallClock(t *testing.T) {
	w, log, device, _ := model(t, spec.Access{Outstanding: 4, Lines: half, RateIOPS: 100}, always(0))
	device.service = func(spec.IO) time.Duration {
		if device.clock.now >= time.Hour+time.Second {
			device.clock.apart = 300 * time.Millisecond
		}
		return 0
	}
	_, err := w.run(after(t, log, 400))
	require.NoError(t, err)
	at := map[time.Duration]int{}
	for _, e := range log.events {
		if !e.completed {
			at[time.Duration(e.at.MonoNs)-time.Hour]++
		}
	}
	assert.Equal(t, 1, at[990*time.Millisecond])
	assert.Equal(t, 31, at[time.Second])
	assert.Equal(t, 1, at[1010*time.Millisecond])
}

func TestWorkersShareTheRate(t *testing.T) {
	access := spec.Access{Workers: 4, Lines: half, RateIOPS: 100}
	w, log, _, _ := model(t, access, always(0))
	w.number = 3
	_, err := w.run(after(t, log, 20))
	require.NoError(t, err)
	assert.Equal(t, int64(time.Hour+30*time.Millisecond), log.events[0].at.MonoNs)
	assert.Equal(t, int64(time.Hour+70*time.Millisecond), log.events[2].at.MonoNs)
}

func TestErrorsAreCounted(t *testing.T) {
	w, log, device, _ := model(t, spec.Access{Outstanding: 2, Lines: half}, always(time.Millisecond))
	begun := 0
	device.result = func(io spec.IO) int {
		begun++
		switch {
		case begun == 11:
			return io.SizeBytes - 512
		case begun%10 == 0:
			return -int(unix.EIO)
		}
		return io.SizeBytes
	}
	_, err := w.run(after(t, log, 400))
	require.NoError(t, err)
	completed, failed, _ := log.count()
	assert.Equal(t, completed/10+1, failed)
	assert.Equal(t, int64(failed), w.count.errors.Load())
	assert.Equal(t, int64(unix.EIO), w.count.firstErrno.Load())
	assert.Equal(t, 1, log.closed)
}

func TestErrorThatStops(t *testing.T) {
	for result, says := range map[int]string{-int(unix.EIO): "input/output error", 512: "512 bytes were transferred"} {
		w, log, device, _ := model(t, spec.Access{Outstanding: 3, Lines: half, OnError: spec.ErrorStops}, always(time.Millisecond))
		begun := 0
		device.result = func(io spec.IO) int {
			if begun++; begun >= 100 {
				return result
			}
			return io.SizeBytes
		}
		pending, err := w.run(t.Context())
		assert.ErrorContains(t, err, says+"; on_error is stop")
		assert.ErrorContains(t, err, "of /dev/model")
		assert.Zero(t, pending)
		assert.Equal(t, 1, log.closed)
		completed, failed, _ := log.count()
		assert.Equal(t, len(log.events), 2*completed)
		assert.Positive(t, failed)
	}
}

// brokenDevice fails in its wait.
type brokenDevice struct{ modelDisk }

func (*brokenDevice) wait(int, time.Duration, func(slot, result int)) error {
	return errors.New("no more")
}

func TestDeviceThatFails(t *testing.T) {
	w, log, device, _ := model(t, spec.Access{Lines: half}, always(0))
	w.device = &brokenDevice{*device}
	pending, err := w.run(t.Context())
	assert.EqualError(t, err, "worker 0: no more")
	assert.Equal(t, 1, pending)
	assert.Equal(t, 1, log.closed)
}

// TestLoopAllocatesNothing: the garbage collector must have nothing to do during a long load.
func TestLoopAllocatesNothing(t *testing.T) {
	w, _, device, _ := model(t, spec.Access{Outstanding: 8, Lines: half}, nil)
	w.device, w.log = &instant{}, &countingLog{sequence: w.sequence}
	w.stamp = device.clock.stamp
	allocations := testing.AllocsPerRun(1, func() {
		ctx, stop := context.WithCancel(context.Background())
		w.log.(*countingLog).left, w.log.(*countingLog).stop = 20_000, stop
		_, _ = w.run(ctx)
	})
	assert.Less(t, allocations, 100.0)
}

// instant completes everything at once.
type instant struct{ queued []spec.IO }

func (i *instant) submit(_ int, io spec.IO, _ []byte) { i.queued = append(i.queued, io) }

func (i *instant) wait(_ int, _ time.Duration, done func(slot, result int)) error {
	for _, io := range i.queued {
		done(io.Slot, io.SizeBytes)
	}
	i.queued = i.queued[:0]
	return nil
}

func (*instant) close() error { return nil }

// countingLog stops after a number of I/Os.
type countingLog struct {
	sequence *spec.Sequence
	left     int
	stop     func()
}

func (*countingLog) Submitted(iolog.Stamp) {}
func (c *countingLog) Completed(slot, _ int, _ iolog.Stamp) {
	c.sequence.Complete(slot)
	if c.left--; c.left == 0 {
		c.stop()
	}
}
func (*countingLog) Violation(byte)          {}
func (*countingLog) Tick(iolog.Stamp)        {}
func (*countingLog) Close(iolog.Stamp) error { return nil }
