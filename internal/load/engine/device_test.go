package engine

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"heliotrope/internal/load/spec"
)

// onThread runs a function on a thread of its own, as a worker.
func onThread(t *testing.T, f func()) {
	t.Helper()
	var running sync.WaitGroup
	running.Go(func() {
		runtime.LockOSThread()
		f()
	})
	running.Wait()
}

// TestStructures holds the sizes of linux/io_uring.h.
func TestStructures(t *testing.T) {
	assert.Equal(t, uintptr(120), unsafe.Sizeof(uringParams{}))
	assert.Equal(t, uintptr(40), unsafe.Offsetof(uringParams{}.sq))
	assert.Equal(t, uintptr(80), unsafe.Offsetof(uringParams{}.cq))
	assert.Equal(t, uintptr(64), unsafe.Sizeof(sqe{}))
	assert.Equal(t, uintptr(32), unsafe.Offsetof(sqe{}.userData))
	assert.Equal(t, uintptr(16), unsafe.Sizeof(cqe{}))
	assert.Equal(t, uintptr(eventsArgBytes), unsafe.Offsetof(eventsArg{}.seconds))
}

// TestWaitThatIsOver waits for a pipe that nobody writes to, and then for one I/O that completes.
func TestWaitThatIsOver(t *testing.T) {
	var ends [2]int
	require.NoError(t, unix.Pipe2(ends[:], unix.O_CLOEXEC))
	onThread(t, func() {
		device, err := openRing(ends[:1], 2)
		if !assert.NoError(t, err) {
			return
		}
		memory, err := pages(512)
		assert.NoError(t, err)
		var results []int
		done := func(_, result int) { results = append(results, result) }
		device.submit(1, spec.IO{SizeBytes: 512}, memory)
		assert.NoError(t, device.wait(1, time.Millisecond, done))
		assert.NoError(t, device.wait(0, 0, done))
		assert.Empty(t, results)
		_, err = unix.Write(ends[1], []byte("something"))
		assert.NoError(t, err)
		for len(results) == 0 {
			assert.NoError(t, device.wait(1, lookEvery, done))
		}
		assert.Equal(t, []int{9}, results)
		assert.Equal(t, "something", string(memory[:9]))
		assert.NoError(t, device.close())
		assert.NoError(t, unix.Munmap(memory))
	})
	require.NoError(t, closeTargets(ends[:]))
}

// TestWaitOfThreads has nothing in flight.
func TestWaitOfThreads(t *testing.T) {
	device, err := openThreads(nil, 2)
	require.NoError(t, err)
	require.NoError(t, device.wait(1, time.Millisecond, func(int, int) { t.Error("there is nothing") }))
	require.NoError(t, device.close())
}

func TestMethods(t *testing.T) {
	for _, wanted := range methods {
		how, err := chooseMethod(wanted)
		require.NoError(t, err)
		assert.Equal(t, wanted, how.name)
	}
	how, err := chooseMethod("")
	require.NoError(t, err)
	assert.Equal(t, MethodURing, how.name, "this kernel has it")
}

func TestStamps(t *testing.T) {
	c, err := newClock()
	require.NoError(t, err)
	last := c.stamp()
	for range 1000 {
		at := c.stamp()
		require.GreaterOrEqual(t, at.MonoNs, last.MonoNs)
		last = at
	}
	var wall, mono unix.Timespec
	require.NoError(t, unix.ClockGettime(unix.CLOCK_MONOTONIC, &mono))
	require.NoError(t, unix.ClockGettime(unix.CLOCK_REALTIME, &wall))
	assert.InDelta(t, mono.Nano(), last.MonoNs, 10e9)
	assert.InDelta(t, wall.Nano(), last.WallNs, 10e9)
}

// TestWaitLetsTheCollectorRun: a ring that waits for a completion which never comes stops when
// the garbage collector wants to stop all threads.
func TestWaitLetsTheCollectorRun(t *testing.T) {
	var over atomic.Bool
	waiting := make(chan bool)
	var running sync.WaitGroup
	running.Go(func() {
		runtime.LockOSThread()
		r, err := newRing(1)
		close(waiting)
		if !assert.NoError(t, err) {
			return
		}
		for !over.Load() {
			assert.NoError(t, r.enter(1, enterGetEvents, 0, 0))
		}
		assert.NoError(t, r.free())
	})
	<-waiting
	for range 100 { // this loop never ends if the ring cannot be stopped; the ring waits during most collections
		runtime.GC()
	}
	over.Store(true)
	runtime.GC()
	running.Wait()
}

// TestCancelledIsBegunAgain: an I/O that the kernel cancels, as it does when it cannot create a
// thread for it while a signal is pending, is not an error of the disk.
func TestCancelledIsBegunAgain(t *testing.T) {
	const opAsyncCancel = 14 // linux/io_uring.h
	var ends [2]int
	require.NoError(t, unix.Pipe2(ends[:], unix.O_CLOEXEC))
	onThread(t, func() {
		device, err := openRing(ends[:1], 1)
		if !assert.NoError(t, err) {
			return
		}
		r := device.(*ring)
		memory, err := pages(512)
		assert.NoError(t, err)
		var results []int
		done := func(_, result int) { results = append(results, result) }
		r.submit(0, spec.IO{SizeBytes: 512}, memory)
		for range 3 {
			r.queue(sqe{opcode: opAsyncCancel, file: -1, address: 0, userData: tickData}) // of slot 0
			assert.NoError(t, r.enter(2, enterGetEvents, 0, 0))
			r.take(done)
		}
		_, err = unix.Write(ends[1], []byte("something"))
		assert.NoError(t, err)
		for len(results) == 0 {
			assert.NoError(t, r.wait(1, lookEvery, done))
		}
		assert.Equal(t, []int{len("something")}, results)
		assert.NoError(t, r.close())
	})
}
