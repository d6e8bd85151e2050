package load

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/internal/load/engine"
	"heliotrope/internal/load/iolog"
	"heliotrope/internal/load/spec"
	"heliotrope/internal/record"
	"heliotrope/internal/remote"
)

// playWitness runs the engine, as the witness's program does.
func playWitness() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	var config engine.Config
	err := json.Unmarshal([]byte(os.Args[2]), &config)
	if err == nil {
		err = config.Check()
	}
	if err == nil && os.Args[1] == "load" {
		err = engine.Run(ctx, config, ".")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// ownConfig is a load of our own engine on a file.
func ownConfig(t *testing.T) engine.Config {
	t.Helper()
	disk := filepath.Join(t.TempDir(), "disk")
	require.NoError(t, os.WriteFile(disk, make([]byte, 1<<20), 0o600))
	access := tested(2, line(4096, 60, 50, 50), line(8192, 40, 100, 0))
	access.Engine = spec.EngineOwn
	return engine.Config{
		Access: access, Targets: []spec.Target{{Device: disk, SizeBytes: 1 << 20}}, Seed: 1, Token: 7,
		Budget: iolog.DefaultBudget(), Method: engine.MethodThreads,
	}
}

// newOwnLoad is that load on this machine, with this program as the witness.
func newOwnLoad(t *testing.T, c engine.Config) record.Recording {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	program := filepath.Join(t.TempDir(), "heliotrope-witness")
	require.NoError(t, os.Symlink(self, program))
	made, err := New(remote.Local("here"), program, filepath.Join(t.TempDir(), "above", "load"), c)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, made.Remove(context.Background())) })
	return made
}

func TestOwnEngine(t *testing.T) {
	c := ownConfig(t)
	r := newOwnLoad(t, c)
	began := time.Now()
	require.NoError(t, r.Start(t.Context()))
	require.NoError(t, r.Start(t.Context()), "twice is once")
	first, err := r.Progress(t.Context())
	require.NoError(t, err)
	assert.True(t, first.Running && first.Steps > 0, "progress %+v", first)
	second, err := r.Progress(t.Context())
	for ; err == nil && second.Steps == first.Steps; second, err = r.Progress(t.Context()) {
	}
	require.NoError(t, err)
	assert.True(t, second.IOPS > 0 && second.MeanLatencyMs > 0, "progress %+v", second)
	again := Started(remote.Local("here"), r.(*own).process.Dir)
	third, err := again.Progress(t.Context())
	require.NoError(t, err)
	assert.True(t, third.Running && third.Steps >= second.Steps, "progress by its folder alone %+v", third)
	require.ErrorContains(t, again.Start(t.Context()), "nobody said what that is")
	require.NoError(t, r.Stop(t.Context()))
	stopped, err := r.Progress(t.Context())
	require.NoError(t, err)
	assert.True(t, !stopped.Running && stopped.Problem == "", "after Stop: %+v", stopped)

	folder := t.TempDir()
	paths, err := r.Fetch(t.Context(), folder, nil)
	require.NoError(t, err)
	assert.Equal(t, []string{filepath.Join(folder, engine.LogFile), filepath.Join(folder, engine.ResultFile)}, paths)
	result, err := ResultOf(folder, c.Access)
	require.NoError(t, err)
	last, given := int64(0), int64(0)
	account, err := Read(folder, []string{filepath.Join(folder, "nothing was sent there")}, c.Replay(), began, func(entry iolog.Entry) error {
		assert.GreaterOrEqual(t, entry.CompletedNs, last)
		last = entry.CompletedNs
		given++
		return nil
	})
	require.NoError(t, err)
	assert.Empty(t, account.Missing)
	assert.Equal(t, result.IOs, account.IOs)
	assert.Equal(t, given, account.IOs)
	assert.Positive(t, given)
}

// TestOwnEngineThatFails says why: the guest's disk is smaller than was said.
func TestOwnEngineThatFails(t *testing.T) {
	c := ownConfig(t)
	c.Targets[0].SizeBytes = 2 << 20
	r := newOwnLoad(t, c)
	assert.ErrorContains(t, r.Start(t.Context()), c.Targets[0].Device)
	progress, err := r.Progress(t.Context())
	require.NoError(t, err)
	assert.False(t, progress.Running)
	assert.Contains(t, progress.Problem, c.Targets[0].Device)
}

func TestOwnEngineRefuses(t *testing.T) {
	c := ownConfig(t)
	c.Access.Lines[0].SharePercent = 10
	_, err := New(remote.Local("here"), "/run/x/heliotrope-witness", "/run/x/load", c)
	require.ErrorIs(t, err, ErrSpec)
	assert.ErrorContains(t, err, "the shares sum to 50%")
}

// TestReadInOrder: fio's lines are nearly in the order of their completion, and are returned in
// exactly that order.
func TestReadInOrder(t *testing.T) {
	c := config("/dev/vda").Replay()
	began := time.UnixMilli(1795374199532)
	read := func(lines ...string) (completed []int64, err error) {
		folder := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(folder, LogFile), []byte(strings.Join(lines, "\n")+"\n"), 0o600))
		_, err = Read(folder, nil, c, began, func(entry iolog.Entry) error {
			completed = append(completed, entry.CompletedNs/1e6-began.UnixMilli())
			return nil
		})
		return completed, err
	}
	line := func(ms int64) string {
		return fmt.Sprintf("%d, 1000, 1, 4096, 0, 0", began.UnixMilli()+ms)
	}
	got, err := read(line(3), line(5), line(4), line(4), line(9))
	require.NoError(t, err)
	assert.Equal(t, []int64{3, 4, 4, 5, 9}, got)

	_, err = read(append(slices.Repeat([]string{line(3)}, heldLines+1), line(1))...)
	require.ErrorIs(t, err, iolog.ErrDamaged)
	assert.ErrorContains(t, err, "line 65538")
	_, err = read("2577614203, 901122, 0, 4096, 0, 0") // cut to 32 bits
	assert.ErrorContains(t, err, "32-bit one before 3.36")
}

// TestReadWhatFioKnows: the line of an I/O is known only when the specification has a single
// line.
func TestReadWhatFioKnows(t *testing.T) {
	folder := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(folder, LogFile), []byte("1795374199532, 29963682, 1, 4096, 4046848, 0\n"), 0o600))
	c := config("/dev/vda").Replay()
	var got iolog.Entry
	keep := func(entry iolog.Entry) error { got = entry; return nil }
	account, err := Read(folder, nil, c, time.UnixMilli(1795374199532), keep)
	require.NoError(t, err)
	want := iolog.Entry{SubmittedNs: 1795374199532e6 - 29963682, CompletedNs: 1795374199532e6, OffsetBytes: 4046848, SizeBytes: 4096, Write: true}
	assert.Equal(t, want, got)
	assert.Equal(t, iolog.Account{IOs: 1, Detail: iolog.DetailAll}, account)
	c.Access.Lines = append(c.Access.Lines, c.Access.Lines[0])
	_, err = Read(folder, nil, c, time.UnixMilli(1795374199532), keep)
	require.NoError(t, err)
	assert.EqualValues(t, NoLine, got.Line)
}
