package remote

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"heliotrope/internal/poll"
	"heliotrope/internal/procs"
)

var _ Host = (*LocalHost)(nil)

// LocalHost is the machine this program runs on.
type LocalHost struct {
	name string
	// Grace is how long a command may take to end after a TERM signal before it
	// is killed. It is also how long processes that a command has left behind
	// may still send output after the command has ended.
	Grace time.Duration
	// FileLimit is how long one request on a file may take.
	FileLimit time.Duration
}

// Local returns the machine this program runs on, under the given name.
func Local(name string) *LocalHost {
	return &LocalHost{name: name, Grace: defaultGrace, FileLimit: defaultFileLimit}
}

// Name is the host's name.
func (h *LocalHost) Name() string { return h.name }

// Run runs the command in a process group of its own.
func (h *LocalHost) Run(ctx context.Context, command Command) (Result, error) {
	e := begin(ctx, h.name, command)
	defer e.release()
	if err := e.refused(); err != nil {
		return e.finish(ending{exitCode: -1, err: err})
	}
	cmd := exec.CommandContext(e.ctx, command.Args[0], command.Args[1:]...)
	cmd.Env = append(cmd.Environ(), command.Env...)
	cmd.Stdout, cmd.Stderr = &e.stdout, &e.stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = h.Grace
	var stopped atomic.Pointer[time.Time]
	cmd.Cancel = func() error {
		stopped.Store(new(time.Now()))
		return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
	}
	// The input goes through our own pipe, because os/exec would wait for a
	// reader that blocks.
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return e.finish(ending{exitCode: -1, err: err})
	}
	if err := cmd.Start(); err != nil {
		return e.finish(ending{exitCode: startFailure(err), err: err})
	}
	go e.feed(stdin)
	err = cmd.Wait()
	if since := stopped.Load(); since != nil {
		killGroup(cmd.Process.Pid, since.Add(h.Grace))
	}
	end := localEnding(cmd)
	var exit *exec.ExitError
	switch {
	case stopped.Load() != nil:
		end.err = e.interrupted()
	case err == nil, errors.As(err, &exit), errors.Is(err, exec.ErrWaitDelay):
		// A process that keeps the output open is not part of the command.
	case e.ctx.Err() == nil:
		end.err = err
	}
	return e.finish(end)
}

// killGroup kills the processes that are left in a process group once its grace
// is over.
func killGroup(group int, graceEnd time.Time) {
	grace, cancel := context.WithDeadline(context.Background(), graceEnd)
	defer cancel()
	_ = poll.Until(grace, 20*time.Millisecond, func(context.Context) (bool, error) { return !procs.GroupRuns(group), nil })
	_ = syscall.Kill(-group, syscall.SIGKILL) // most often no process is left
}

// startFailure is the exit code a shell gives for a program it cannot start.
func startFailure(err error) int {
	switch {
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		return 127
	case errors.Is(err, fs.ErrPermission):
		return 126
	}
	return -1
}

// localEnding reads how the process ended.
func localEnding(cmd *exec.Cmd) ending {
	end := ending{exitCode: cmd.ProcessState.ExitCode()}
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		end.signal = strings.TrimPrefix(unix.SignalName(status.Signal()), "SIG")
		if end.signal == "" {
			end.signal = fmt.Sprint(int(status.Signal()))
		}
	}
	return end
}

// Files reaches the files of this machine.
func (h *LocalHost) Files(ctx context.Context) (Files, error) { return h.files(ctx), nil }

func (h *LocalHost) files(ctx context.Context) files {
	return files{
		ctx: ctx, host: h.name, limit: h.FileLimit, grace: h.Grace,
		// A call that hangs in the kernel keeps its thread.
		connect: func(context.Context) (fileSystem, func(), error) { return localFiles{}, func() {}, nil },
	}
}

// Upload copies a file on this machine.
func (h *LocalHost) Upload(ctx context.Context, localPath, hostPath string, mode fs.FileMode, progress func(doneBytes, totalBytes int64)) error {
	return upload(h.files(ctx), localPath, hostPath, mode, progress)
}

// Download copies a file on this machine.
func (h *LocalHost) Download(ctx context.Context, hostPath, localPath string, progress func(doneBytes, totalBytes int64)) error {
	return download(h.files(ctx), hostPath, localPath, progress)
}

// DialContext opens a connection from this machine.
func (h *LocalHost) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", h.name, err)
	}
	return conn, nil
}

// Listen listens on this machine.
func (h *LocalHost) Listen(network, address string) (net.Listener, error) {
	listener, err := net.Listen(network, address)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", h.name, err)
	}
	return listener, nil
}

// Close does nothing: there is nothing to close.
func (h *LocalHost) Close() error { return nil }
