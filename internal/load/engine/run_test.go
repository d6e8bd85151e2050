package engine

import (
	"context"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"heliotrope/internal/load/inflight"
	"heliotrope/internal/load/spec"
)

// methods are both: the tests need a kernel that has io_uring.
var methods = []string{MethodURing, MethodThreads}

// runUntil runs a load until a worker's log has so many events, and returns what
// it has left.
func runUntil(t *testing.T, c Config, events int, also func(events int)) (*memoryStore, Result, error) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	dir := t.TempDir()
	store := &memoryStore{after: func(so int) {
		if so == events {
			stop()
		}
		if also != nil {
			also(so)
		}
	}}
	err := run(ctx, c, dir, store)
	var result Result
	text, reading := os.ReadFile(filepath.Join(dir, ResultFile))
	require.NoError(t, reading)
	require.NoError(t, json.Unmarshal(text, &result))
	for _, log := range store.logs {
		assert.Equal(t, 1, log.closed)
	}
	log, reading := os.ReadFile(filepath.Join(dir, LogFile))
	require.NoError(t, reading)
	assert.Equal(t, "log", string(log))
	return store, result, err
}

var mixed = []spec.Line{
	{SizeBytes: 4096, SharePercent: 60, ReadPercent: 67, RandomPercent: 100, Burst: 3},
	{SizeBytes: 16384, SharePercent: 30, ReadPercent: 20, RandomPercent: 50, ReplyBytes: 512},
	{SizeBytes: 65536, SharePercent: 10, ReadPercent: 0, RandomPercent: 0, AlignBytes: 4096, DelayMs: 1},
}

func TestBothMethodsGiveTheSequence(t *testing.T) {
	for _, method := range methods {
		t.Run(method, func(t *testing.T) {
			c, _ := image(t, 8<<20, spec.Access{Lines: mixed, Outstanding: 4, Workers: 2, Targets: 2})
			c.Method, c.Version = method, "v1"
			c.Page = filepath.Join(t.TempDir(), "inflight")
			require.NoError(t, c.Check())
			var near netip.AddrPort
			c.SiteB = netip.MustParseAddrPort("192.0.2.1:17192")
			store, result, err := runUntil(t, c, 2000, nil)
			require.NoError(t, err)
			total := 0
			for worker, log := range store.logs {
				assert.Equal(t, 8, replay(t, c, worker, log))
				completed, failed, _ := log.count()
				assert.Zero(t, failed)
				total += completed
			}
			assert.Equal(t, near, store.near, "nobody has said who is near")
			assert.Equal(t, method, result.Method)
			assert.Equal(t, "v1", result.Version)
			assert.NotEmpty(t, result.Kernel)
			assert.Equal(t, int64(total), result.IOs)
			assert.Zero(t, result.Errors+result.Violations+int64(result.Pending))
			assert.Empty(t, result.Problem+result.Sending)
			page, err := inflight.Open(c.Page, c.Token)
			require.NoError(t, err)
			oldest, completed, ok := page.Get()
			assert.True(t, ok)
			assert.Zero(t, oldest)
			assert.Equal(t, uint64(total), completed)
			require.NoError(t, page.Close())
		})
	}
}

// TestWhatIsWritten checks a target's bytes, and those around the target.
func TestWhatIsWritten(t *testing.T) {
	for _, pattern := range []string{spec.PatternRandom, spec.PatternFixed, spec.PatternRepeating} {
		for _, method := range methods {
			t.Run(pattern+" "+method, func(t *testing.T) {
				lines := []spec.Line{{SizeBytes: 4096, SharePercent: 100}}
				c, path := image(t, 1<<20, spec.Access{Lines: lines, Outstanding: 4, Pattern: pattern})
				c.Method = method
				c.Targets[0].OffsetBytes, c.Targets[0].SizeBytes = 256<<10, 512<<10
				_, _, err := runUntil(t, c, 400, nil)
				require.NoError(t, err)
				content, err := os.ReadFile(path)
				require.NoError(t, err)
				zero := func(b byte) bool { return b != 0 }
				assert.False(t, slices.ContainsFunc(content[:256<<10], zero))
				assert.False(t, slices.ContainsFunc(content[768<<10:], zero))
				last := content[768<<10-4096 : 768<<10]
				assert.True(t, slices.ContainsFunc(last, zero))
				same := len(slices.Compact(slices.Clone(last))) == 1
				assert.Equal(t, pattern == spec.PatternRepeating, same)
			})
		}
	}
}

// TestDiskThatEnds shortens the file while it is read: each read behind the end is short.
func TestDiskThatEnds(t *testing.T) {
	lines := []spec.Line{{SizeBytes: 4096, SharePercent: 100, ReadPercent: 100, RandomPercent: 100}}
	for _, method := range methods {
		for _, onError := range []string{spec.ErrorGoesOn, spec.ErrorStops} {
			t.Run(method+" "+onError, func(t *testing.T) {
				c, path := image(t, 1<<20, spec.Access{Lines: lines, Outstanding: 4, OnError: onError})
				c.Method = method
				_, result, err := runUntil(t, c, 1000, func(events int) {
					if events == 100 {
						assert.NoError(t, os.Truncate(path, 0))
					}
				})
				assert.Positive(t, result.Errors)
				assert.Equal(t, int64(errnoShort), result.FirstErrno)
				if onError == spec.ErrorGoesOn {
					assert.NoError(t, err)
					return
				}
				assert.ErrorContains(t, err, "0 bytes were transferred; on_error is stop")
				assert.Equal(t, err.Error(), result.Problem)
				assert.NotContains(t, err.Error(), "\n")
				assert.Less(t, result.IOs, int64(300))
			})
		}
	}
}

// TestErrnoOfTheKernel writes where no file can be that large.
func TestErrnoOfTheKernel(t *testing.T) {
	for _, method := range methods {
		t.Run(method, func(t *testing.T) {
			file, err := unix.Open("/dev/full", unix.O_RDWR|unix.O_CLOEXEC, 0)
			require.NoError(t, err)
			defer func() { assert.NoError(t, unix.Close(file)) }()
			results := onFile(t, method, file, spec.IO{Write: true, SizeBytes: 512})
			assert.Equal(t, []int{-int(unix.ENOSPC)}, results)
			results = onFile(t, method, file, spec.IO{SizeBytes: 512})
			assert.Equal(t, []int{512}, results)
		})
	}
}

// onFile does an I/O, once, and returns its result.
func onFile(t *testing.T, name string, file int, io spec.IO) (results []int) {
	t.Helper()
	method, err := chooseMethod(name)
	require.NoError(t, err)
	onThread(t, func() {
		device, err := method.open([]int{file}, 1)
		if !assert.NoError(t, err) {
			return
		}
		memory, err := pages(io.SizeBytes)
		if !assert.NoError(t, err) {
			return
		}
		device.submit(0, io, memory)
		for len(results) == 0 {
			if !assert.NoError(t, device.wait(1, lookEvery, func(_, result int) { results = append(results, result) })) {
				return
			}
		}
		assert.NoError(t, device.close())
		assert.NoError(t, unix.Munmap(memory))
	})
	return results
}

func TestChecks(t *testing.T) {
	good, path := image(t, 1<<20, spec.Access{Lines: half})
	require.NoError(t, good.Check())
	for says, change := range map[string]func(c *Config){
		"for engine fio":                    func(c *Config) { c.Access.Engine = spec.EngineFio },
		`method "fast"`:                     func(c *Config) { c.Method = "fast" },
		"a log of 0 bytes":                  func(c *Config) { c.Budget.KeepBytes = 0 },
		"lines: is empty":                   func(c *Config) { c.Access.Lines = nil },
		"2 targets are given: want 1":       func(c *Config) { c.Targets = append(c.Targets, c.Targets[0]) },
		"no such file":                      func(c *Config) { c.Targets[0].Device += "x" },
		"it has none; want a":               func(c *Config) { c.Targets[0].Device = "/proc/version" },
		"has 1048576 bytes: 1048577 from 0": func(c *Config) { c.Targets[0].SizeBytes++ },
		"has 1048576 bytes: 1048576 from 4": func(c *Config) { c.Targets[0].OffsetBytes = 4096 },
		"its first byte 256: want a multip": func(c *Config) { c.Targets[0].OffsetBytes, c.Targets[0].SizeBytes = 256, 512<<10 },
		"remembers 536870912 at most": func(c *Config) {
			c.Targets[0].SizeBytes, c.Access.Verify = 1<<30, spec.VerifyContent
		},
	} {
		c := good
		c.Targets = slices.Clone(good.Targets)
		change(&c)
		err := c.Check()
		assert.ErrorContains(t, err, says)
	}
	assert.FileExists(t, path)
}

// TestTargetsOfOneDevice share it: a device that is opened exclusively cannot be opened twice.
func TestTargetsOfOneDevice(t *testing.T) {
	c, _ := image(t, 1<<20, spec.Access{Lines: half, Targets: 4})
	files, _, err := openTargets(c.Access.Complete(), c.Targets)
	require.NoError(t, err)
	assert.Len(t, files, 4)
	assert.Len(t, slices.Compact(slices.Clone(files)), 1)
	require.NoError(t, closeTargets(files))
	_, err = unix.FcntlInt(uintptr(files[0]), unix.F_GETFD, 0)
	assert.ErrorIs(t, err, unix.EBADF)
}

func TestDisksThatCannot(t *testing.T) {
	access := spec.Access{Engine: spec.EngineOwn, Lines: []spec.Line{{SizeBytes: 4096, AlignBytes: 512, ReadPercent: 100}}}
	target := spec.Target{Device: "/dev/sdb", SizeBytes: 1 << 20}
	sound := disk{sizeBytes: 1 << 20, sectorBytes: 512, readOnly: true}
	assert.NoError(t, sound.check(access, target), "it only reads")
	assert.EqualError(t, disk{1 << 20, 4096, false}.check(access, target), "lines[0].align_bytes 512: want a multiple of its sector, 4096 bytes")
	access.Lines[0].ReplyBytes = 512
	assert.EqualError(t, sound.check(access, target), "it is read-only, and the load has writes")
	access.Lines[0].AlignBytes = 4096
	assert.EqualError(t, disk{1 << 20, 4096, false}.check(access, target), "lines[0].reply_bytes 512: want a multiple of its sector, 4096 bytes")
}

// TestLogIsNotOverwritten: a second load in the same folder is an error.
func TestLogIsNotOverwritten(t *testing.T) {
	c, _ := image(t, 1<<20, spec.Access{Lines: half})
	dir := t.TempDir()
	path := filepath.Join(dir, LogFile)
	require.NoError(t, os.WriteFile(path, []byte("kept"), 0o600))
	require.ErrorContains(t, run(t.Context(), c, dir, &memoryStore{}), "exists")
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, "kept", string(text))
}

// TestProgress reads the file while the load runs.
func TestProgress(t *testing.T) {
	c, _ := image(t, 1<<20, spec.Access{Lines: half})
	ctx, stop := context.WithCancel(t.Context())
	dir, seen := t.TempDir(), int64(0)
	store := &memoryStore{after: func(int) {
		text, err := os.ReadFile(filepath.Join(dir, ProgressFile))
		if err != nil {
			return // it is not there yet
		}
		fields := strings.Fields(string(text))
		if assert.Len(t, fields, 2) {
			seen, err = strconv.ParseInt(fields[0], 10, 64)
			assert.NoError(t, err)
		}
		if seen > 0 {
			stop()
		}
	}}
	require.NoError(t, run(ctx, c, dir, store))
	stop()
	assert.Positive(t, seen)
}

// TestProgressGoesOn: a progress file that cannot be written at first is written later.
func TestProgressGoesOn(t *testing.T) {
	c, _ := image(t, 1<<20, spec.Access{Lines: half})
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	dir := t.TempDir()
	inTheWay := filepath.Join(dir, ProgressFile+".new")
	require.NoError(t, os.Mkdir(inTheWay, 0o755))
	store := &memoryStore{after: func(events int) {
		if events == 100 {
			assert.NoError(t, os.Remove(inTheWay))
		}
		if _, err := os.Stat(filepath.Join(dir, ProgressFile)); err == nil {
			stop()
		}
	}}
	require.NoError(t, run(ctx, c, dir, store))
}

// TestNear follows what the witness says.
func TestNear(t *testing.T) {
	page, err := inflight.Create(filepath.Join(t.TempDir(), "page"), 1, 1)
	require.NoError(t, err)
	a, b := netip.MustParseAddrPort("192.0.2.1:17192"), netip.MustParseAddrPort("192.0.2.2:17192")
	l := life{page: page, config: Config{SiteA: a, SiteB: b}}
	assert.False(t, l.near().IsValid())
	var now unix.Timespec
	require.NoError(t, unix.ClockGettime(unix.CLOCK_MONOTONIC, &now))
	const hour = 3600e9
	page.SetNear('a', now.Nano()+hour)
	assert.Equal(t, a, l.near())
	page.SetNear('b', now.Nano()+hour)
	assert.Equal(t, b, l.near())
	page.SetNear(0, now.Nano()+hour)
	assert.False(t, l.near().IsValid())
	page.SetNear('a', now.Nano()-2e9)
	assert.False(t, l.near().IsValid(), "that was too long ago")
	require.NoError(t, page.Close())
}

// TestFillOfLargeSectors: its last block may be as short as a sector.
func TestFillOfLargeSectors(t *testing.T) {
	assert.NoError(t, disk{1 << 20, 4096, false}.check(fillAccess, spec.Target{SizeBytes: 1 << 20}))
	assert.NoError(t, disk{1 << 20, 512, false}.check(fillAccess, spec.Target{SizeBytes: 1<<20 - 512}))
}

// TestWritesBeginAtSectors: before Linux 6.0 direct I/O wants that of memory.
func TestWritesBeginAtSectors(t *testing.T) {
	access := spec.Access{Lines: []spec.Line{{SizeBytes: 8192}}}.Complete()
	for _, sector := range []int64{512, 4096} {
		b, err := newBuffers(access, 0, 1, sector)
		require.NoError(t, err)
		places := map[int64]bool{}
		for range 2000 {
			buffer := b.begin(spec.IO{Write: true, SizeBytes: 8192})
			at := int64(uintptr(unsafe.Pointer(&buffer[0])))
			assert.Zero(t, at%sector)
			assert.Len(t, buffer, 8192)
			places[at] = true
		}
		assert.Greater(t, len(places), 100, "at random")
		require.NoError(t, b.close())
	}
}
