package temporal

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"heliotrope/internal/fault"
	"heliotrope/internal/poll"
)

const (
	binaryName   = "heliotrope-server"
	databaseFile = "temporal.db"
	logFile      = "server.log"

	// startWithin is how long the server may take to report that it is ready.
	startWithin = 90 * time.Second
	// stopWithin is how long the server may take to end in order before it is killed.
	stopWithin = 20 * time.Second
	// exitBadInput is the server's exit code for a wrong request of the caller.
	exitBadInput = 2
)

// Database returns the path of the embedded server's database in its folder.
func Database(dir string) string { return filepath.Join(dir, databaseFile) }

// FindBinary finds the embedded server's program: $HELIOTROPE_SERVER, or heliotrope-server in
// this program's folder, or on the PATH.
func FindBinary() (string, error) {
	if path := os.Getenv("HELIOTROPE_SERVER"); path != "" {
		if _, err := exec.LookPath(path); err != nil {
			return "", fault.New(fault.BadInput, "HELIOTROPE_SERVER: %w", err)
		}
		return path, nil
	}
	if self, err := os.Executable(); err == nil {
		if path, err := exec.LookPath(filepath.Join(filepath.Dir(self), binaryName)); err == nil {
			return path, nil
		}
	}
	path, err := exec.LookPath(binaryName)
	if err != nil {
		return "", fmt.Errorf("the embedded Temporal server (%s) is neither beside this program nor on the PATH: "+
			"build it with `make server`, or set HELIOTROPE_SERVER or TEMPORAL_ADDRESS (%w)", binaryName, err)
	}
	return path, nil
}

// start runs the embedded server in a folder. The caller must hold the folder's start lock.
func start(ctx context.Context, o ServerOptions, dir string) (*Server, error) {
	if pid := servedBy(dir); pid != 0 {
		known, _ := readState(dir)
		return nil, fault.New(fault.BadInput, "the database in %s is served already, by process %d at %s: set TEMPORAL_ADDRESS to that, or use another folder",
			dir, pid, known.Address)
	}
	binary := o.Binary
	if binary == "" {
		var err error
		if binary, err = FindBinary(); err != nil {
			return nil, err
		}
	}
	o.progress("starting Temporal at %s", o.Settings.Address)
	server := &Server{Settings: o.Settings, Started: true, dir: dir}
	for try := 1; ; try++ {
		err := server.run(ctx, exec.Command(binary,
			"--address", o.Settings.Address, "--ui-address", o.uiAddress(), "--namespace", o.Settings.Namespace,
			"--database", Database(dir), "--retention", DefaultRetention.String(), "--synchronous", o.synchronous()))
		if err == nil {
			break
		}
		if !errors.Is(err, errPortTaken) || try == portTries {
			return nil, err
		}
		o.progress("somebody took a port that Temporal had chosen: start it again")
	}
	if err := writeState(dir, state{PID: server.PID, Address: server.Settings.Address, UI: server.UIURL, Started: time.Now().UTC()}); err != nil {
		return nil, errors.Join(err, server.Stop(context.WithoutCancel(ctx)))
	}
	o.progress("Temporal is ready at %s; its Web UI is at %s", server.Settings.Address, server.UIURL)
	return server, nil
}

func (o ServerOptions) uiAddress() string {
	if o.UIAddress == "" {
		return DefaultUIAddress
	}
	return o.UIAddress
}

func (o ServerOptions) synchronous() string {
	if o.Synchronous == "" {
		return "FULL"
	}
	return o.Synchronous
}

// run starts the process and returns when it is ready. If the process does not become ready,
// nothing of it is left.
func (s *Server) run(ctx context.Context, cmd *exec.Cmd) error {
	path := filepath.Join(s.dir, logFile)
	if err := os.Rename(path, path+".old"); err != nil && !errors.Is(err, fs.ErrNotExist) { //nolint:forbidigo // kept, not written
		return fmt.Errorf("keep the log of Temporal's last run: %w", err)
	}
	log, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open Temporal's log: %w", err)
	}
	defer log.Close()
	out, in, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = in, log
	// A session of its own: neither Ctrl-C nor closing the terminal reaches it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = errors.Join(cmd.Start(), in.Close())
	if err != nil {
		return fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	exited := make(chan struct{})
	s.PID, s.exited = cmd.Process.Pid, exited
	go func() {
		_ = cmd.Wait() // its log says how it ended
		close(exited)
	}()
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	told := make(chan readyLine, 1)
	go func() { told <- readReady(out) }()
	select {
	case line := <-told:
		if line.Ready {
			s.Settings.Address, s.UIURL = line.Address, "http://"+line.UI
			return nil
		}
		err = errors.New("it ended before it was ready")
	case <-ctx.Done():
		err = fmt.Errorf("it was not ready: %w", ctx.Err())
	}
	stopErr := s.Stop(context.WithoutCancel(ctx))
	said := tail(path)
	err = errors.Join(fmt.Errorf("start %s: %w; the end of %s:\n%s", cmd.Path, err, path, said), stopErr)
	switch {
	case stopErr != nil:
	case cmd.ProcessState.ExitCode() == exitBadInput:
		return fault.New(fault.BadInput, "the Temporal server does not start with the folder %s: %s", s.dir, refusal(said))
	case strings.Contains(said, syscall.EADDRINUSE.Error()):
		return fmt.Errorf("%w: %w", errPortTaken, err)
	}
	return err
}

// refusal returns the sentence with which the server refused the request.
func refusal(said string) string {
	last := said[strings.LastIndex(said, "\n")+1:]
	return strings.TrimPrefix(last, binaryName+": ")
}

// errPortTaken says that the server ended because a port that it had chosen itself was taken by
// another process. A port that the user asked for would be bad input.
var errPortTaken = errors.New("a port was taken meanwhile")

// portTries is how often the server is started when its ports are taken.
const portTries = 5

// readyLine is the line that the server prints when it is ready.
type readyLine struct {
	Ready   bool   `json:"ready"`
	Address string `json:"address"` // host:port of the frontend
	UI      string `json:"ui"`      // host:port of the Web UI
}

// readReady reads the ready line; for any other line Ready is false.
func readReady(out *os.File) (line readyLine) {
	text, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil || json.Unmarshal(text, &line) != nil {
		return readyLine{}
	}
	return line
}

// tail returns the last lines of a file, for an error.
func tail(path string) string {
	const lines = 10
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	all := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	return string(bytes.Join(all[max(0, len(all)-lines):], []byte("\n")))
}

// Exited returns a channel that is closed when the server that this process started has ended.
// For a server that was found it is nil, and so blocks for ever.
func (s *Server) Exited() <-chan struct{} { return s.exited }

// Stop ends the server in order, if this process started it. It kills the server's process group
// when that takes too long or ctx ends; so do not pass the cancelled context that made you stop.
// It does nothing for a server that was found, and nothing when it is called again.
func (s *Server) Stop(ctx context.Context) error {
	if !s.Started {
		return nil
	}
	select {
	case <-s.exited:
		return nil
	default:
	}
	return terminate(ctx, s.PID, s.exited)
}

// StopEmbedded ends the embedded server of a folder, whoever started it. It returns false when
// none is running. stateDir may be empty.
func StopEmbedded(ctx context.Context, stateDir string) (bool, error) {
	dir, err := orDefault(stateDir)
	if err != nil {
		return false, err
	}
	pid := servedBy(dir)
	if pid == 0 {
		return false, nil
	}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_ = poll.Until(context.WithoutCancel(ctx), 20*time.Millisecond, func(context.Context) (bool, error) { // without a limit, and without errors
			return servedBy(dir) != pid, nil
		})
	}()
	return true, terminate(ctx, pid, gone)
}

// terminate signals the process and waits until it is gone.
func terminate(ctx context.Context, pid int, gone <-chan struct{}) error {
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("stop Temporal (process %d): %w", pid, err)
	}
	timer := time.NewTimer(stopWithin)
	defer timer.Stop()
	select {
	case <-gone:
		return nil
	case <-timer.C:
	case <-ctx.Done():
	}
	if err := syscall.Kill(-pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("kill Temporal (process group %d): %w", pid, err)
	}
	<-gone
	return nil
}

// servedBy returns the process that serves the folder's database, or zero. The server holds a
// POSIX lock while it lives, and the kernel says whose lock it is: a process that got the same id
// later is never taken for the server.
func servedBy(dir string) int {
	file, err := os.Open(filepath.Join(dir, databaseFile+".lock"))
	if err != nil {
		return 0
	}
	defer file.Close()
	query := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(file.Fd(), unix.F_GETLK, &query); err != nil || query.Type == unix.F_UNLCK {
		return 0
	}
	return int(query.Pid)
}
