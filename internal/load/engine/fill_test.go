package engine

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"heliotrope/internal/load/spec"
)

func blank(t *testing.T, bytes int64) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "image")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	require.NoError(t, os.Truncate(path, bytes))
	return path
}

const fillSize = 5<<20 + 1536

// filled fills a whole image.
func filled(t *testing.T, seed uint64) []byte {
	t.Helper()
	path := blank(t, fillSize)
	last := int64(0)
	require.NoError(t, Fill(t.Context(), path, 0, fillSize, seed, func(done int64) {
		assert.GreaterOrEqual(t, done, last)
		last = done
	}))
	assert.Equal(t, int64(fillSize), last)
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	return content
}

func TestFillIsTheSameOnEachCopy(t *testing.T) {
	first := filled(t, 9)
	assert.True(t, bytes.Equal(first, filled(t, 9)))
	assert.False(t, bytes.Equal(first, filled(t, 10)))
	blocks := map[string]bool{}
	for block := range slices.Chunk(first, blockBytes) {
		assert.False(t, blocks[string(block)], "no block is there twice")
		blocks[string(block)] = true
		assert.False(t, bytes.Contains(block, make([]byte, 32)), "no part is without bytes")
	}
}

// TestFillGoesOn interrupts a fill, and continues from where it reported to be.
func TestFillGoesOn(t *testing.T) {
	path := blank(t, fillSize)
	ctx, stop := context.WithCancel(t.Context())
	far := int64(0)
	err := Fill(ctx, path, 0, fillSize, 9, func(done int64) {
		far = done
		if done > 1<<20 {
			stop()
		}
	})
	stop()
	require.ErrorIs(t, err, context.Canceled)
	require.Less(t, far, int64(fillSize))
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	whole := filled(t, 9)
	assert.True(t, bytes.Equal(whole[:far], content[:far]))
	require.NoError(t, Fill(t.Context(), path, far, fillSize, 9, func(int64) {}))
	content, err = os.ReadFile(path)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(whole, content))
}

// TestFillThroughThePageCache writes the same bytes where there is no direct I/O.
func TestFillThroughThePageCache(t *testing.T) {
	path := blank(t, fillSize)
	target := spec.Target{Device: path, SizeBytes: fillSize}
	files, err := openCached(target)
	require.NoError(t, err)
	f := filling{end: fillSize, seed: 9, report: func(int64) {}}
	require.NoError(t, errors.Join(f.open(t.Context(), files), closeTargets(files)))
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(filled(t, 9), content))
	target.SizeBytes++
	_, err = openCached(target)
	require.ErrorContains(t, err, "no file of 5244417 bytes")
	_, err = openCached(spec.Target{Device: "/dev/null"})
	require.ErrorContains(t, err, "no direct I/O")
}

func TestFillRefuses(t *testing.T) {
	path := blank(t, 1<<20)
	for says, region := range map[string][2]int64{
		"multiples of 4096":     {512, 1 << 20},
		"in order":              {8192, 4096},
		"it has 1048576 bytes:": {0, 1<<20 + 512},
		"the end of 512":        {0, 1000},
	} {
		assert.ErrorContains(t, Fill(t.Context(), path, region[0], region[1], 1, nil), says)
	}
	assert.ErrorContains(t, Fill(t.Context(), path+"x", 0, 4096, 1, nil), "no such file")
}

// fullDisk has room for a limited number of writes.
type fullDisk struct {
	modelDisk
	room int
}

func (f *fullDisk) wait(_ int, _ time.Duration, done func(slot, result int)) error {
	flying := f.flying
	f.flying = nil
	for _, each := range flying {
		if f.room--; f.room < 0 {
			done(each.io.Slot, -int(unix.ENOSPC))
		} else {
			done(each.io.Slot, each.io.SizeBytes)
		}
	}
	return nil
}

func TestFillWithoutRoom(t *testing.T) {
	last := int64(0)
	device := &fullDisk{room: 11, modelDisk: modelDisk{clock: &manual{}, service: func(spec.IO) time.Duration { return 0 }}}
	f := filling{device: device, memory: make([]byte, fillSlots*fillBytes), end: 100 * fillBytes, report: func(done int64) { last = done }}
	err := f.run(t.Context())
	assert.EqualError(t, err, "write 262144 bytes at 2883584: no space left on device")
	assert.Equal(t, int64(11*fillBytes), last, "up to the first that is missing")
	assert.False(t, errors.Is(err, context.Canceled))
}

// TestFillOfADiskThatHangs: the fill ends nevertheless.
func TestFillOfADiskThatHangs(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	device := &modelDisk{clock: &manual{}, service: always(-1)}
	f := filling{device: device, memory: make([]byte, fillSlots*fillBytes), end: 100 * fillBytes, report: func(int64) { stop() }}
	err := f.run(ctx)
	assert.EqualError(t, err, "context canceled; 8 writes are still in flight: the disk hangs")
	assert.ErrorIs(t, err, context.Canceled)
	assert.Equal(t, fillSlots, f.inFlight)
}
