// Package procs tells whether a process of this machine runs.
//
// It promises that it never takes a process that has ended for a running one. An
// ended process can stay in the process table until its parent asks for its exit
// status, which in a container without an init may never happen: until then
// /proc/PID and its start time exist, and signal 0 succeeds.
//
// Dangerous: the answer may be out of date at once. Process IDs are reused; only
// together with StartTicks does one identify a process.
package procs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// Process is a running process.
type Process struct {
	PID int
	// Group is the ID of its process group.
	Group int
	// StartTicks is when it started, in clock ticks since the machine's boot.
	StartTicks uint64
}

// Look finds a running process. The error is fs.ErrNotExist when there is none,
// also when the process has ended and only its entry in the process table is left.
func Look(pid int) (Process, error) {
	path := fmt.Sprintf("/proc/%d/stat", pid)
	text, err := os.ReadFile(path)
	if errors.Is(err, syscall.ESRCH) { // it ended between opening and reading
		err = fmt.Errorf("read %s: %w", path, fs.ErrNotExist)
	}
	if err != nil {
		return Process{}, err
	}
	p, err := parse(pid, string(text))
	if err != nil {
		return Process{}, fmt.Errorf("%s: %w", path, err)
	}
	return p, nil
}

// parse reads /proc/PID/stat, whose fields proc_pid_stat(5) numbers from 1.
func parse(pid int, text string) (Process, error) {
	// The second field, the program's name, is in parentheses and may contain
	// anything.
	_, rest, found := strings.Cut(text[max(0, strings.LastIndexByte(text, ')')):], ") ")
	fields := strings.Fields(rest)
	const state, group, startTime = 0, 2, 19 // fields 3, 5 and 22: the rest begins with field 3
	if !found || len(fields) <= startTime {
		return Process{}, errors.New("not understood")
	}
	switch fields[state] {
	case "Z", "X", "x":
		return Process{}, fmt.Errorf("it has ended (state %s): %w", fields[state], fs.ErrNotExist)
	}
	p := Process{PID: pid}
	var groupErr, startErr error
	p.Group, groupErr = strconv.Atoi(fields[group])
	p.StartTicks, startErr = strconv.ParseUint(fields[startTime], 10, 64)
	return p, errors.Join(groupErr, startErr)
}

// Runs says whether the process runs.
func Runs(pid int) bool {
	_, err := Look(pid)
	return err == nil
}

// Same says whether the same process still runs.
func (p Process) Same() bool {
	now, err := Look(p.PID)
	return err == nil && now.StartTicks == p.StartTicks
}

// GroupRuns says whether any process of a process group runs.
func GroupRuns(group int) bool {
	if syscall.Kill(-group, 0) != nil {
		return false // the usual case, without looking at every process
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return true // some process is there, and nothing says which
	}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if p, err := Look(pid); err == nil && p.Group == group {
			return true
		}
	}
	return false
}

// Place identifies where the process IDs seen here are valid: this boot of the
// machine and its process-ID namespace, of which each container has its own.
func Place() (string, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("ask for this machine's boot: %w", err)
	}
	namespace, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return "", fmt.Errorf("ask for this process's namespace: %w", err)
	}
	return strings.TrimSpace(string(boot)) + "." + strings.Trim(namespace, "pid:[]"), nil
}
