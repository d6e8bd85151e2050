package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// TestGCPercent: a small heap is collected when it reaches leastHeapBytes, and one with
// much in use as by default.
func TestGCPercent(t *testing.T) {
	for inUse, want := range map[uint64]int{0: 400, 1: 400, 20 << 20: 400, 32 << 20: 300, 64 << 20: 100, 72 << 20: 100, 100 << 20: 100, 1 << 40: 100} {
		assert.Equal(t, want, gcPercent(inUse), "%d MiB", inUse>>20)
	}
}
