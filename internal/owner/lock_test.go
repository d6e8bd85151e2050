package owner

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// holds has another process lock a file or folder by flock(1), as another user when user is not 0,
// until the test ends. It returns once the lock is held.
func holds(t *testing.T, path string, user uint32) {
	t.Helper()
	holder := exec.CommandContext(t.Context(), "/bin/sh", "-c", `exec 9< "$1" && flock 9 && echo held && exec sleep 600`, "sh", path)
	if user != 0 {
		holder.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}}
	}
	output, err := holder.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, holder.Start())
	t.Cleanup(func() { _ = holder.Wait() }) // the context has killed it
	line, err := bufio.NewReader(output).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "held\n", line)
}

// TestOthersCannotHoldTheLock: what every user of a host may lock does not keep us from taking it,
// and the lock itself can be opened by nobody else.
func TestOthersCannotHoldTheLock(t *testing.T) {
	const nobody = 65534
	host := newMachine(t, "host-a")
	run := filepath.Dir(host.root())
	for _, folder := range []string{filepath.Dir(run), run} {
		require.NoError(t, os.Chmod(folder, 0o755))
	}
	user := uint32(0) // a test without root's rights cannot be somebody else
	if os.Geteuid() == 0 {
		user = nobody
	}
	holds(t, run, user)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, os.Mkdir(host.root(), 0o755), "as an earlier build made it")
	require.NoError(t, Hosts{host}.Take(ctx, ours, Lease))
	require.NoError(t, Hosts{host}.Renew(ctx, ours, Lease))
	states, err := Hosts{host}.State(ctx)
	require.NoError(t, err)
	require.Len(t, states, 1)
	info, err := os.Stat(filepath.Join(host.root(), "lock"))
	require.NoError(t, err)
	assert.EqualValues(t, 0o600, info.Mode().Perm())
	if user != 0 {
		try := exec.CommandContext(ctx, "flock", "--nonblock", filepath.Join(host.root(), "lock"), "true")
		try.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}}
		output, err := try.CombinedOutput()
		require.Error(t, err)
		assert.Contains(t, string(output), "Permission denied")
	}
	require.NoError(t, Hosts{host}.Release(ctx, ours))
	assert.NoDirExists(t, host.root())
}

// TestLockIsWaitedForSoLong: a script that finds the lock held for too long says so, and leaves it
// to who holds it.
func TestLockIsWaitedForSoLong(t *testing.T) {
	for _, shell := range [][]string{{"dash"}, {"busybox", "sh"}, {"bash", "--posix"}} {
		t.Run(shell[0], func(t *testing.T) {
			place := filepath.Join(t.TempDir(), "heliotrope")
			require.NoError(t, os.Mkdir(place, 0o755))
			require.NoError(t, os.WriteFile(filepath.Join(place, "lock"), nil, 0o600))
			holds(t, filepath.Join(place, "lock"), 0)
			script := func(text string) (string, error) {
				command := exec.CommandContext(t.Context(), shell[0], append(shell[1:], "-c", SharedScript+"folder="+place+"/owner\n"+text)...)
				output, err := command.CombinedOutput()
				return string(output), err
			}
			output, err := script("lock 1\necho worked")
			require.Error(t, err)
			assert.Contains(t, output, "another script of Heliotrope's has been at work here for 1 s: it holds "+place+"/lock")
			assert.NotContains(t, output, "worked")
			assert.FileExists(t, filepath.Join(place, "lock"))
			// Whoever held it has removed it: the next one makes another.
			require.NoError(t, os.Remove(filepath.Join(place, "lock")))
			output, err = script("lock 10\necho worked\nexit 7")
			require.ErrorContains(t, err, "exit status 7")
			assert.Equal(t, "worked\n", output)
			assert.NoDirExists(t, place)
			output, err = script("lock_to_look 10\n[ -e " + place + " ] || echo nothing")
			require.NoError(t, err)
			assert.Equal(t, "nothing\n", output)
		})
	}
}

// TestOneAtATime: scripts that come and go together, and remove the lock behind them, are never at
// work at the same time: each setting is given back, and nothing is left.
func TestOneAtATime(t *testing.T) {
	host, counter := newMachine(t, "host-a"), newSetting(t, "0")
	const add = `read -r count < "$1"; echo $((count + 1)) > "$1"`
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			for range 4 {
				text := SharedScript + "folder=" + filepath.Join(host.root(), "owner") + "\nlock 50\n" + add
				output, err := exec.CommandContext(t.Context(), "/bin/sh", "-c", text, "sh", string(counter)).CombinedOutput()
				assert.NoError(t, err, string(output))
			}
		})
	}
	wait.Wait()
	assert.Equal(t, strconv.Itoa(8*4), counter.is(t))
	assert.NoDirExists(t, host.root())
}
