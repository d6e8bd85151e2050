package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"
)

const (
	// leastHeapBytes is the size that the controller's heap may reach before it is
	// collected, however little of it is in use. A simulated trial allocates 20 MB, and
	// with Go's default a small heap was collected for each trial. Including the stacks and
	// the program itself, the controller stays below 256 MiB.
	leastHeapBytes = 128 << 20
	// looseGCPercent is the largest value of GOGC that is used: garbage in percent of what
	// is in use.
	looseGCPercent = 400
	// heapEvery is how often the size of what is in use is checked.
	heapEvery = 5 * time.Second
)

// gcPercent is the value for debug.SetGCPercent when inUse bytes are in use. The heap is
// collected when it has doubled, as by default, or when it reaches leastHeapBytes,
// whichever is later, but never above looseGCPercent.
func gcPercent(inUse uint64) int {
	const byDefault = 100
	if inUse == 0 {
		return looseGCPercent
	}
	return max(byDefault, min(looseGCPercent, int(leastHeapBytes*100/inUse)-100)) //nolint:gosec // of MB
}

// collectSeldom has the process collect its heap according to gcPercent until stop is
// called, unless GOGC is set in the environment.
func collectSeldom() (stop func()) {
	if os.Getenv("GOGC") != "" {
		return func() {}
	}
	before := debug.SetGCPercent(looseGCPercent)
	ctx, cancel := context.WithCancel(context.Background())
	var collecting sync.WaitGroup
	collecting.Go(func() { followHeap(ctx) })
	return func() {
		cancel()
		collecting.Wait()
		debug.SetGCPercent(before)
	}
}

func followHeap(ctx context.Context) {
	ticker := time.NewTicker(heapEvery)
	defer ticker.Stop()
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	for {
		metrics.Read(live)
		debug.SetGCPercent(gcPercent(live[0].Value.Uint64()))
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
