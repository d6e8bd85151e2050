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
	// leastHeapBytes is how large the controller's heap may become, whatever of it is
	// in use, before it is collected: a simulated trial allocates 20 MB, and with Go's
	// default a small heap was collected for each of them. With the stacks and the
	// program itself the controller stays below 256 MiB.
	leastHeapBytes = 128 << 20
	// looseGCPercent is the most that is not collected of it, in percent of what is in use.
	looseGCPercent = 400
	// heapEvery is how often what is in use is looked at.
	heapEvery = 5 * time.Second
)

// gcPercent is what debug.SetGCPercent is to be told with so many bytes in use: as by
// default, the heap has grown by as much when it is collected, or to leastHeapBytes.
func gcPercent(inUse uint64) int {
	const byDefault = 100
	if inUse == 0 {
		return looseGCPercent
	}
	return max(byDefault, min(looseGCPercent, int(leastHeapBytes*100/inUse)-100)) //nolint:gosec // of MB
}

// collectSeldom has the process collect its heap by gcPercent until stop, unless the
// environment says how (GOGC).
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
