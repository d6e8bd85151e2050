package fio

import (
	"bufio"
	"compress/gzip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// shells are the shells that guests have.
var shells = [][]string{{"dash"}, {"busybox", "sh"}, {"bash", "--posix"}}

// start runs a script in the place of fio with a compressed log, as a process group of its own.
func start(t *testing.T, shell []string, dir, script string) *exec.Cmd {
	t.Helper()
	args := append(shell, Packed([]string{"sh", "-c", script}, dir)[1:]...)
	command := exec.CommandContext(t.Context(), args[0], args[1:]...)
	command.Dir, command.SysProcAttr = dir, &syscall.SysProcAttr{Setpgid: true}
	return command
}

func unpacked(t *testing.T, dir string) string {
	t.Helper()
	file, err := os.Open(filepath.Join(dir, PackedFile))
	require.NoError(t, err)
	defer file.Close()
	reader, err := gzip.NewReader(file)
	require.NoError(t, err)
	var text strings.Builder
	_, err = bufio.NewReader(reader).WriteTo(&text)
	require.NoError(t, err)
	return text.String()
}

// manyLines prints some MiB of a log, much more than a pipe holds.
const manyLines = `awk 'BEGIN { for (i = 0; i < 100000; i++) printf "%d, %d, 1, 4096, %d, 0\n", 1795374199532 + i, i * 7919 % 99991, i * 7907 % 65521 * 512 }'`

// TestPackedAsItIsWritten: a program can write the whole log while the guest has only the
// compressed log, and the log's own name is a pipe.
func TestPackedAsItIsWritten(t *testing.T) {
	for _, shell := range shells {
		dir := t.TempDir()
		// The script reports when all is written, and then waits.
		command := start(t, shell, dir, manyLines+` > io_lat.log; echo written; read -r _; true`)
		input, err := command.StdinPipe()
		require.NoError(t, err)
		output, err := command.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, command.Start())
		said, err := bufio.NewReader(output).ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, "written\n", said)
		info, err := os.Stat(filepath.Join(dir, LogFile))
		require.NoError(t, err)
		assert.Equal(t, os.ModeNamedPipe, info.Mode().Type(), shell)
		require.NoError(t, input.Close())
		require.NoError(t, command.Wait())
		want, err := exec.CommandContext(t.Context(), "sh", "-c", manyLines).Output()
		require.NoError(t, err)
		require.Equal(t, string(want), unpacked(t, dir))
		packedInfo, err := os.Stat(filepath.Join(dir, PackedFile))
		require.NoError(t, err)
		assert.Less(t, packedInfo.Size(), int64(len(want)/2))
	}
}

// TestPackedIsInterrupted: SIGINT to the process group ends fio alone, which then writes its log.
// The others end after it, with its exit code.
func TestPackedIsInterrupted(t *testing.T) {
	for _, shell := range shells {
		dir := t.TempDir()
		// A shell cannot trap a signal that was ignored when it started; fio can.
		command := start(t, shell, dir, `exec perl -e '$SIG{INT} = sub { open(L, ">>", "io_lat.log"); print L "one\n"; close(L); exit 3 }; $| = 1; print "ready\n"; sleep 1 while 1'`)
		output, err := command.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, command.Start())
		_, err = bufio.NewReader(output).ReadString('\n')
		require.NoError(t, err)
		require.NoError(t, syscall.Kill(-command.Process.Pid, syscall.SIGINT))
		var ended *exec.ExitError
		require.ErrorAs(t, command.Wait(), &ended)
		require.Equal(t, 3, ended.ExitCode(), shell)
		require.Equal(t, "one\n", unpacked(t, dir))
	}
}

// TestPackedWithoutALog: a fio that opens no log leaves an empty one.
func TestPackedWithoutALog(t *testing.T) {
	for _, shell := range shells {
		dir := t.TempDir()
		var ended *exec.ExitError
		require.ErrorAs(t, start(t, shell, dir, `exit 5`).Run(), &ended)
		require.Equal(t, 5, ended.ExitCode(), shell)
		require.Empty(t, unpacked(t, dir))
	}
}
