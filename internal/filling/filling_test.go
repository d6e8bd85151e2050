package filling

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"heliotrope/internal/alive"
	"heliotrope/internal/record"
	"heliotrope/internal/remote"
)

// TestMain fails when a goroutine outlives the tests.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// disk returns a disk on this machine, with a script as the witness's program.
func disk(t *testing.T, script string) Disk {
	t.Helper()
	dir := t.TempDir()
	d := Disk{Process: record.Process{Host: remote.Local("here"), Dir: filepath.Join(dir, "run", "fill")},
		Program: filepath.Join(dir, "witness"), Path: filepath.Join(dir, "image")}
	require.NoError(t, os.WriteFile(d.Program, []byte("#!/bin/sh\n"+script), 0o755))
	t.Cleanup(func() { require.NoError(t, d.Process.Remove(context.WithoutCancel(t.Context()))) })
	return d
}

func ignored(int64) error { return nil }

// whole is a script that records how it was called, reports its progress, and ends successfully
// once it may.
const whole = `
echo "$@" >> "${2%image}calls"
echo 16777216 > progress
until [ -e "${2%image}go-on" ]; do sleep 0.02; done
echo "$4" > progress
echo "$4 1234"
`

func TestFill(t *testing.T) {
	d := disk(t, whole)
	told, reached := 0, []int64{}
	ctx := alive.With(t.Context(), func() { told++ })
	goOn := filepath.Join(filepath.Dir(d.Path), "go-on")
	took, err := d.Fill(ctx, 4096, 33554432, 7, func(at int64) error {
		reached = append(reached, at)
		return os.WriteFile(goOn, nil, 0o600)
	})
	require.NoError(t, err)
	assert.Equal(t, int64(1234), took.Milliseconds())
	assert.Equal(t, []int64{16777216, 33554432}, reached)
	assert.Equal(t, 2, told, "it is told of each step that was reached, and of no look beside")
	// When it is called again, it does nothing.
	took, err = d.Fill(t.Context(), 4096, 33554432, 7, ignored)
	require.NoError(t, err)
	assert.Equal(t, int64(1234), took.Milliseconds())
	calls, err := os.ReadFile(filepath.Join(filepath.Dir(d.Path), "calls"))
	require.NoError(t, err)
	assert.Equal(t, "fill "+d.Path+" 4096 33554432 7\n", string(calls))
}

// TestFillIsFoundAgain: the process that asked for it may be gone.
func TestFillIsFoundAgain(t *testing.T) {
	d := disk(t, whole)
	gone := errors.New("gone")
	_, err := d.Fill(t.Context(), 0, 33554432, 7, func(int64) error { return gone })
	require.ErrorIs(t, err, gone)
	running, err := d.Process.Alive(t.Context())
	require.NoError(t, err)
	require.True(t, running)
	require.NoError(t, os.WriteFile(filepath.Join(filepath.Dir(d.Path), "go-on"), nil, 0o600))
	_, err = d.Fill(t.Context(), 16777216, 33554432, 7, ignored)
	require.NoError(t, err)
	calls, err := os.ReadFile(filepath.Join(filepath.Dir(d.Path), "calls"))
	require.NoError(t, err)
	assert.Equal(t, "fill "+d.Path+" 0 33554432 7\n", string(calls))
}

func TestFillThatFails(t *testing.T) {
	for script, says := range map[string]string{
		"echo heliotrope-witness: fill: write 262144 bytes at 8: no space left on device >&2; exit 1": "write 262144 bytes at 8: no space left on device",
		"exit 1":        "it ended without a word",
		"echo 4096 3":   "it ended without a word", // of another fill
		"kill -KILL $$": "it ended without a word",
		": > stopped":   "somebody has stopped it",
	} {
		d := disk(t, script)
		_, err := d.Fill(t.Context(), 0, 8192, 7, ignored)
		require.ErrorContains(t, err, says)
		require.ErrorContains(t, err, "here: fill "+d.Path)
		status, err := d.Process.Status(t.Context())
		require.NoError(t, err)
		assert.Equal(t, record.None, status.State, "it is tried anew the next time")
	}
}

func TestZero(t *testing.T) {
	d := disk(t, "")
	const mebibyte = 1 << 20
	content := bytes.Repeat([]byte{7}, 38*mebibyte)
	require.NoError(t, os.WriteFile(d.Path, content, 0o600))
	told := 0
	require.NoError(t, d.Zero(alive.With(t.Context(), func() { told++ }), 2*mebibyte, 36*mebibyte))
	assert.Equal(t, 3, told, "two pieces of 16 MiB, and one of 2")
	clear(content[2*mebibyte : 36*mebibyte])
	left, err := os.ReadFile(d.Path)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(content, left))
	d.Path += "/not/there"
	require.ErrorContains(t, d.Zero(t.Context(), 0, mebibyte), "write zeros to")
}
