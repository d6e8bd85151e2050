package procs

import (
	"io/fs"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// zombie is a child that has ended and that nobody has waited for, in a process
// group of its own.
func zombie(t *testing.T) int {
	t.Helper()
	child := exec.Command("sleep", "1000")
	child.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	require.NoError(t, child.Start())
	t.Cleanup(func() { _ = child.Wait() })
	require.NoError(t, child.Process.Kill())
	// Wait for its end, and leave it in the process table.
	require.NoError(t, unix.Waitid(unix.P_PID, child.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil))
	return child.Process.Pid
}

func TestAZombieDoesNotRun(t *testing.T) {
	pid := zombie(t)
	require.NoError(t, syscall.Kill(pid, 0), "signal 0 reaches what is left of it")
	_, err := Look(pid)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.False(t, Runs(pid))
	require.False(t, GroupRuns(pid))
}

func TestAProcessThatRuns(t *testing.T) {
	own, err := Look(os.Getpid())
	require.NoError(t, err)
	require.Equal(t, os.Getpid(), own.PID)
	require.Equal(t, syscall.Getpgrp(), own.Group)
	require.True(t, own.Same())
	require.True(t, Runs(os.Getpid()))
	require.True(t, GroupRuns(syscall.Getpgrp()))
	earlier := own
	earlier.StartTicks--
	require.False(t, earlier.Same(), "another process with the same ID")
}

func TestNoProcess(t *testing.T) {
	const beyond = 1 << 22 // the kernel's largest pid_max, see proc_sys_kernel(5)
	_, err := Look(beyond)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.False(t, GroupRuns(beyond))
}

// The texts have the form of proc_pid_stat(5).
func TestParse(t *testing.T) {
	const fields = " 1 7 7 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0 4711 0 0"
	for name, test := range map[string]struct {
		text  string
		ended bool
		bad   bool
	}{
		"sleeps":                      {text: "7 (a) S" + fields},
		"a name with brackets":        {text: "7 (a) Z) (b) S" + fields},
		"a zombie":                    {text: "7 (a) Z" + fields, ended: true},
		"a zombie that says it lives": {text: "7 () S 1 7) Z" + fields, ended: true},
		"dead":                        {text: "7 (a) X" + fields, ended: true},
		"empty":                       {text: "", bad: true},
		"cut off":                     {text: "7 (a) S 1 7", bad: true},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := parse(7, test.text)
			switch {
			case test.ended:
				require.ErrorIs(t, err, fs.ErrNotExist)
			case test.bad:
				require.Error(t, err)
				require.NotErrorIs(t, err, fs.ErrNotExist)
			default:
				require.NoError(t, err)
				require.Equal(t, Process{PID: 7, Group: 7, StartTicks: 4711}, p)
			}
		})
	}
}

func TestPlace(t *testing.T) {
	here, err := Place()
	require.NoError(t, err)
	require.Regexp(t, `^[0-9a-f-]{36}\.[0-9]+$`, here)
}
