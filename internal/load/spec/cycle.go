package spec

import "fmt"

// Depths returns the queue depths of Iometer's cycling (GalileoView.cpp, CycleQueue): start,
// start+step, … up to end, or start·stepⁿ when exponential is set. A step of 1 is always added,
// never multiplied.
func Depths(start, end, step int, exponential bool) ([]int, error) {
	if start < 1 || step < 1 || end < start || end > MaxOutstanding {
		return nil, fmt.Errorf("queue depths from %d to %d by %d: want 1 or more, up to %d", start, end, step, MaxOutstanding)
	}
	var depths []int
	for depth := start; depth <= end; {
		depths = append(depths, depth)
		if exponential && step > 1 {
			depth *= step
		} else {
			depth += step
		}
	}
	return depths, nil
}

// sliceBytes is the alignment of targets in bytes: no disk has a larger physical sector.
const sliceBytes = 4096

// Slices cuts a region into n equal targets. A rest at the region's end, of less than 4 KiB for
// each target, stays unused.
func Slices(region Target, n int) ([]Target, error) {
	if n < 1 || n > maxTargets {
		return nil, fmt.Errorf("%d targets of %s: want 1 to %d", n, region.Device, maxTargets)
	}
	if n == 1 {
		return []Target{region}, nil
	}
	size := region.SizeBytes / int64(n) / sliceBytes * sliceBytes
	if size <= 0 {
		return nil, fmt.Errorf("%d targets of %s: %d bytes are too small for that", n, region.Device, region.SizeBytes)
	}
	targets := make([]Target, n)
	for i := range targets {
		targets[i] = Target{Device: region.Device, OffsetBytes: region.OffsetBytes + int64(i)*size, SizeBytes: size}
	}
	return targets, nil
}
