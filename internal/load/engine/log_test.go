package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"heliotrope/internal/freeport"
	"heliotrope/internal/load/inflight"
	"heliotrope/internal/load/iolog"
	"heliotrope/internal/load/spec"
	"heliotrope/internal/poll"
)

// TestLogOfRealLoad runs loads as a guest does, and reads their logs.
func TestLogOfRealLoad(t *testing.T) {
	for name, access := range map[string]spec.Access{
		"closed":   {Lines: mixed, Outstanding: 4, Workers: 2, Targets: 2},
		"open":     {Lines: half, Outstanding: 4, RateIOPS: 5000},
		"verified": {Lines: half, Outstanding: 4, Workers: 2, Verify: spec.VerifyContent},
	} {
		for _, method := range methods {
			t.Run(name+" "+method, func(t *testing.T) {
				c, _ := image(t, 8<<20, access)
				c.Method = method
				dir := t.TempDir()
				entries, account, result := realLoad(t, c, dir, 500)
				assert.Empty(t, account.Missing)
				assert.Equal(t, iolog.DetailAll, account.Detail)
				assert.Equal(t, result.IOs, account.IOs)
				assert.Zero(t, account.Errors+account.Violations)
				assert.Empty(t, account.Pending)
				assert.GreaterOrEqual(t, len(entries), 500)
				for _, entry := range entries {
					require.LessOrEqual(t, entry.SubmittedNs, entry.CompletedNs)
				}
				left, err := os.ReadDir(dir)
				require.NoError(t, err)
				assert.Len(t, left, 3)
			})
		}
	}
}

// realLoad runs a load until it reports that so many I/Os have completed.
func realLoad(t *testing.T, c Config, dir string, ios int64) (entries []iolog.Entry, account iolog.Account, result Result) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	store := &watched{logStore: logStore{iolog.NewStore(c.Budget)}, left: ios, stop: stop}
	require.NoError(t, run(ctx, c, dir, store))
	log, err := os.Open(filepath.Join(dir, LogFile))
	require.NoError(t, err)
	defer func() { assert.NoError(t, log.Close()) }()
	replay := iolog.Replay{Access: c.Access, Targets: c.Targets, Seed: c.Seed, Token: c.Token}
	account, err = iolog.Read([]io.Reader{log}, replay, func(e iolog.Entry) error {
		entries = append(entries, e)
		return nil
	})
	require.NoError(t, err)
	text, err := os.ReadFile(filepath.Join(dir, ResultFile))
	require.NoError(t, err)
	require.NoError(t, json.NewDecoder(strings.NewReader(string(text))).Decode(&result))
	return entries, account, result
}

// watched is a store that ends the load once the load's first worker has done so many I/Os.
type watched struct {
	logStore
	left  int64
	stop  func()
	taken bool
}

func (w *watched) writer(h iolog.Header, s *spec.Sequence, began iolog.Stamp) writer {
	log := w.logStore.writer(h, s, began)
	if w.taken {
		return log
	}
	w.taken = true
	return &watchedLog{log, w}
}

type watchedLog struct {
	writer
	store *watched
}

func (w *watchedLog) Completed(slot, errno int, at iolog.Stamp) {
	w.writer.Completed(slot, errno, at)
	if w.store.left--; w.store.left == 0 {
		w.store.stop()
	}
}

// TestLogThatIsTaken has a near host that takes each block until it is no longer near: the host's
// file and the load's file together are the log.
func TestLogThatIsTaken(t *testing.T) {
	c, _ := image(t, 8<<20, spec.Access{Lines: half, Outstanding: 8})
	c.Page, c.Budget.StreamFromBytes = filepath.Join(t.TempDir(), "inflight"), 0
	local := netip.MustParseAddr("127.0.0.1")
	c.SiteB = netip.AddrPortFrom(local, freeport.Loopback(t).Port())
	dir := t.TempDir()
	taken := &collected{}
	ctx, stop := context.WithCancel(t.Context())
	var receiving sync.WaitGroup
	receiving.Go(func() { assert.NoError(t, iolog.Receive(ctx, c.SiteB, local, c.Token, taken)) })
	load, end := context.WithCancel(t.Context())
	var loading sync.WaitGroup
	loading.Go(func() { assert.NoError(t, Run(load, c, dir)) })
	require.NoError(t, poll.Until(t.Context(), 10*time.Millisecond, func(context.Context) (bool, error) {
		page, err := inflight.Open(c.Page, c.Token)
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		if err == nil {
			page.SetNear('b', monotonic(t)) // as the witness says it
			err = page.Close()
		}
		return taken.bytes() > 0, err
	}))
	end()
	loading.Wait()
	stop()
	receiving.Wait()
	rest, err := os.ReadFile(filepath.Join(dir, LogFile))
	require.NoError(t, err)
	replay := iolog.Replay{Access: c.Access, Targets: c.Targets, Seed: c.Seed, Token: c.Token}
	account, err := iolog.Read([]io.Reader{bytes.NewReader(rest), bytes.NewReader(taken.content)}, replay, func(iolog.Entry) error { return nil })
	require.NoError(t, err)
	assert.Empty(t, account.Missing)
	text, err := os.ReadFile(filepath.Join(dir, ResultFile))
	require.NoError(t, err)
	var result Result
	require.NoError(t, json.Unmarshal(text, &result))
	assert.Equal(t, result.IOs, account.IOs)
	assert.Empty(t, result.Sending)
}

func monotonic(t *testing.T) int64 {
	t.Helper()
	var now unix.Timespec
	require.NoError(t, unix.ClockGettime(unix.CLOCK_MONOTONIC, &now))
	return now.Nano()
}

// collected is a host's file.
type collected struct {
	mu      sync.Mutex
	content []byte
}

func (c *collected) Write(block []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.content = append(c.content, block...)
	return len(block), nil
}

func (c *collected) bytes() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.content)
}

// TestLogOfDiskThatHangs: the log has what was in flight, and does not have an I/O that is
// waiting for its delay.
func TestLogOfDiskThatHangs(t *testing.T) {
	lines := []spec.Line{{SizeBytes: 4096, SharePercent: 100, ReadPercent: 50, RandomPercent: 100, Burst: 4, DelayMs: 300_000}}
	w, _, device, _ := model(t, spec.Access{Outstanding: 5, Lines: lines}, func(spec.IO) time.Duration { return -1 })
	store := iolog.NewStore(iolog.DefaultBudget())
	hash, err := iolog.ConfigHash(w.access, w.targets, 1)
	require.NoError(t, err)
	w.log = iolog.NewWriter(iolog.Header{Token: 5, Config: hash, Workers: 1}, w.sequence, w.began, store)
	pending, err := w.run(endsAfter(t, w, device, 400*time.Second))
	require.NoError(t, err)
	assert.Equal(t, 4, pending)
	var log strings.Builder
	_, err = store.WriteTo(&log)
	require.NoError(t, err)
	account, err := iolog.Read([]io.Reader{strings.NewReader(log.String())}, iolog.Replay{Access: w.access, Targets: w.targets, Seed: 1, Token: 5},
		func(e iolog.Entry) error { return assert.AnError })
	require.NoError(t, err)
	assert.Empty(t, account.Missing)
	require.Len(t, account.Pending, 4)
	for slot, entry := range account.Pending {
		io, ok := w.sequence.Flying(slot)
		assert.True(t, ok)
		assert.Equal(t, io.OffsetBytes, entry.OffsetBytes)
		assert.InDelta(t, w.submitted[slot].WallNs, entry.SubmittedNs, 16)
	}
}
