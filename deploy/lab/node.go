package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"heliotrope/internal/poll"
	"heliotrope/internal/procs"
)

// node is one process of a testbed, which may or may not be running: QEMU, or the vCenter.
type node struct {
	lab  *Lab
	name string
}

func (n node) dir() string { return filepath.Join(n.lab.Dir, n.name) }

// console returns the path of the node's console output; for the vCenter it is the log.
func (n node) console() string {
	if n.name == VCenter {
		return n.log()
	}
	return filepath.Join(n.dir(), "console.log")
}

// log returns the path of the process's own output.
func (n node) log() string {
	if n.name == VCenter {
		return filepath.Join(n.dir(), "vcenter.log")
	}
	return filepath.Join(n.dir(), "qemu.log")
}

// title is the name under which the process runs, and by which it is found again.
func (n node) title() string { return "heliotrope-" + n.lab.Options.Name + "-" + n.name }

// find returns the process ids of this node from the process table: those of processes that have
// its title and run in its folder. It relies on nothing that was stored, so a node is found after
// any crash, and no other process with a reused id is taken for it.
func (n node) find() ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	dir, err := filepath.EvalSymlinks(n.dir())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var found []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		cmdline, err := os.ReadFile(filepath.Join("/proc", entry.Name(), "cmdline"))
		if err != nil || !bytes.Contains(cmdline, []byte("\x00-name\x00"+n.title()+"\x00")) {
			continue
		}
		if cwd, err := os.Readlink(filepath.Join("/proc", entry.Name(), "cwd")); err == nil && cwd == dir {
			found = append(found, pid)
		}
	}
	return found, nil
}

func (n node) running() bool {
	pids, err := n.find()
	return err == nil && len(pids) > 0
}

// newConsole begins a new console log, and keeps the previous one, which may say why a node died.
func (n node) newConsole() error {
	if err := os.Rename(n.console(), n.console()+".before"); err != nil && !errors.Is(err, fs.ErrNotExist) { //nolint:forbidigo // kept, not written
		return err
	}
	return os.WriteFile(n.console(), nil, 0o600)
}

// start starts the node's process in a session, and therefore a process group, of its own. The
// returned channel receives an error when the process ends.
func (n node) start(args []string) (<-chan error, error) {
	log, err := os.Create(n.log())
	if err != nil {
		return nil, err
	}
	defer log.Close() //nolint:errcheck // the child has its own
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = n.dir()
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", n.name, err)
	}
	ended := make(chan error, 1)
	go func() {
		err := cmd.Wait()
		text, _ := os.ReadFile(log.Name())
		if detail := strings.TrimSpace(string(text)); detail != "" {
			err = fmt.Errorf("%s (%w)", detail, errors.Join(err, ErrNotRunning))
		} else if err == nil {
			err = ErrNotRunning
		}
		ended <- err
	}()
	return ended, nil
}

// over returns why a process has ended, from the channel of start; nil while it runs.
func over(ended <-chan error) error {
	select {
	case err := <-ended:
		return fmt.Errorf("QEMU ended: %w", err)
	default:
		return nil
	}
}

// stopGrace is how long a process may take to end after SIGTERM.
const stopGrace = 5 * time.Second

// stop ends exactly this node's process group and waits until it is gone.
func (n node) stop(ctx context.Context) error {
	pids, err := n.find()
	if err != nil {
		return fmt.Errorf("look for %s: %w", n.title(), err)
	}
	for _, pid := range pids {
		if err := stopGroup(ctx, pid); err != nil {
			return fmt.Errorf("stop %s (process %d): %w", n.title(), pid, err)
		}
	}
	return nil
}

func stopGroup(ctx context.Context, pid int) error {
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		if err := syscall.Kill(-pid, signal); errors.Is(err, syscall.ESRCH) {
			return nil
		} else if err != nil {
			return err
		}
		if gone(ctx, pid, stopGrace) {
			return nil
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return errors.New("it does not end")
}

// gone waits until the process has ended, for at most limit.
func gone(ctx context.Context, pid int, limit time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return poll.Until(ctx, 20*time.Millisecond, func(context.Context) (bool, error) { return !procs.Runs(pid), nil }) == nil
}

// consoleTail returns the last lines of the node's console, for error messages.
func (n node) consoleTail(lines int) string {
	text, err := os.ReadFile(n.console())
	if err != nil {
		return "(no console output)"
	}
	all := strings.Split(strings.TrimRight(strings.ReplaceAll(string(text), "\r", ""), "\n"), "\n")
	if len(all) > lines {
		all = all[len(all)-lines:]
	}
	return strings.Join(all, "\n")
}
