package record

import (
	"bytes"
	"context"
	_ "embed" // the script
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"heliotrope/internal/remote"
)

//go:embed process.sh
var processScript string

// Process is one detached process on a host, identified by its folder alone. It has a session and a process group
// of its own, its working directory is that folder, and its standard output and error are the files `output` and
// `errors` there. The folder is marked as ours when it is made, as package folder does it: one that holds something
// and has no mark is neither used nor removed.
type Process struct {
	Host remote.Runner
	Dir  string // an absolute path that no other process uses; Remove deletes the folder
}

// State of a process.
type State string

// The states of a process.
const (
	None    State = "none"    // it was never started, or was removed
	Running State = "running" // it runs
	Stopped State = "stopped" // it ran, and somebody stopped it
	Ended   State = "ended"   // it ran, and ended by itself
)

// Status of a process.
type Status struct {
	State State
	// Lines are the first lines of the files that were asked for; "" for a file that is not there.
	Lines []string
	// Said is the end of what a process that has Ended wrote to its standard error.
	Said string
}

// Problem is a sentence that says that the process ended by itself, or "" when it did not.
func (s Status) Problem() string {
	if s.State != Ended {
		return ""
	}
	return "it ended by itself and said " + strconv.Quote(s.Said)
}

// ErrEnded says that the folder is that of a process that has ended, just now or long ago. Its files are still
// there, and it is not started again before Remove.
var ErrEnded = errors.New("it has ended; fetch or remove its files before it is started again")

const (
	// operationTimeout limits one operation, without the time for which it waits for the process itself. An
	// emulated host is slow.
	operationTimeout = time.Minute
	// removeGrace is how long a process whose files are not wanted may take to end before it is killed.
	removeGrace = 2 * time.Second
)

// Start runs a program, found by the host's PATH, with its arguments. When the process already runs, Start changes
// nothing; when it has ended, the error is ErrEnded.
func (p Process) Start(ctx context.Context, args ...string) error {
	if len(args) == 0 {
		return fmt.Errorf("%s: start what runs in %s: nobody said what that is", p.Host.Name(), p.Dir)
	}
	output, err := p.run(ctx, "start", 0, args...)
	if err != nil {
		return err
	}
	status, err := parseStatus(output, 0)
	switch {
	case err != nil:
	case status.State == None:
		err = errors.New("it does not start")
	case status.State == Ended:
		err = fmt.Errorf("%w; it said %q", ErrEnded, status.Said)
	case status.State == Stopped:
		err = ErrEnded
	}
	if err != nil {
		return fmt.Errorf("%s: start %s in %s: %w", p.Host.Name(), args[0], p.Dir, err)
	}
	return nil
}

// Status asks for the state of the process and for the first line of each file. Paths are absolute, or relative to
// the process's folder.
func (p Process) Status(ctx context.Context, files ...string) (Status, error) {
	output, err := p.run(ctx, "status", 0, files...)
	if err != nil {
		return Status{}, err
	}
	status, err := parseStatus(output, len(files))
	if err != nil {
		return Status{}, fmt.Errorf("%s: status of %s: %w", p.Host.Name(), p.Dir, err)
	}
	return status, nil
}

func parseStatus(output []byte, files int) (Status, error) {
	lines := strings.SplitN(string(output), "\n", files+2)
	if len(lines) != files+2 {
		return Status{}, fmt.Errorf("unreadable: %d lines, the first %.20q", len(lines), lines[0]) // a file may hold a secret
	}
	status := Status{State: State(lines[0]), Lines: lines[1 : files+1], Said: strings.TrimSpace(lines[files+1])}
	switch status.State {
	case None, Running, Stopped, Ended:
		return status, nil
	}
	return Status{}, fmt.Errorf("unknown state %.200q", lines[0])
}

// Alive says whether the process runs.
func (p Process) Alive(ctx context.Context) (bool, error) {
	status, err := p.Status(ctx)
	return status.State == Running, err
}

// Usage is what a running process takes of its host.
type Usage struct {
	PID           int
	Running       time.Duration // since it was started, in whole seconds
	ResidentBytes int64
	CPU           time.Duration // processor time, user and system, in steps of 10 ms
}

// Usage asks what the process takes of its host. When it does not run, runs is false and usage empty.
func (p Process) Usage(ctx context.Context) (usage Usage, runs bool, err error) {
	output, err := p.run(ctx, "usage", 0)
	if err != nil || len(output) == 0 {
		return Usage{}, false, err
	}
	usage, err = parseUsage(output)
	if err != nil {
		return Usage{}, false, fmt.Errorf("%s: usage of the process in %s: %w", p.Host.Name(), p.Dir, err)
	}
	return usage, true, nil
}

func parseUsage(output []byte) (Usage, error) {
	var pid, seconds, residentKB, ticks int64
	if _, err := fmt.Sscanf(string(output), "%d %d %d %d\n", &pid, &seconds, &residentKB, &ticks); err != nil {
		return Usage{}, fmt.Errorf("unreadable: %.200q", output)
	}
	const most = math.MaxInt32 // of each: 68 years, and 2 TiB
	for _, one := range []int64{pid, seconds, residentKB, ticks} {
		if one < 0 || one > most {
			return Usage{}, fmt.Errorf("%d in %.200q cannot be", one, output)
		}
	}
	return Usage{PID: int(pid), Running: time.Duration(seconds) * time.Second, ResidentBytes: residentKB << 10, CPU: time.Duration(ticks) * 10 * time.Millisecond}, nil
}

// Stop sends the signal, named without SIG, to the whole process group and waits until the process has ended. When
// it has not ended after the grace, it is killed, and killed is true: what it had not written yet is lost. A
// process that does not run is no error. A shell script that was started in the background ignores INT.
func (p Process) Stop(ctx context.Context, signal string, grace time.Duration) (killed bool, err error) {
	output, err := p.run(ctx, "stop", grace, signal, tenths(grace))
	return bytes.Contains(output, []byte("killed")), err
}

// Signal sends the signal, named without SIG, to the process alone. A process that does not run is no error.
func (p Process) Signal(ctx context.Context, signal string) error {
	_, err := p.run(ctx, "signal", 0, signal)
	return err
}

// Keep writes a file into the process's folder before the process is started. Only the file's owner can read it.
func (p Process) Keep(ctx context.Context, name, text string) error {
	_, err := p.runWith(ctx, strings.NewReader(text), "keep", 0, name)
	return err
}

// Remove ends the process and removes its folder with everything in it.
func (p Process) Remove(ctx context.Context) error {
	_, err := p.run(ctx, "remove", removeGrace, "TERM", tenths(removeGrace))
	return err
}

// Sweep removes every Process whose folder lies directly in dir, and then dir itself. When something else is in dir, dir
// stays, and that is an error.
func Sweep(ctx context.Context, host remote.Runner, dir string) error {
	_, err := Process{Host: host, Dir: dir}.run(ctx, "sweep", removeGrace, "TERM", tenths(removeGrace))
	return err
}

// Sweeping is a constant text for sh(1) that does what Sweep does, for a host on which no controller or worker runs
// it. Its argument is the folder.
var Sweeping = `set -- sweep "$1" TERM ` + tenths(removeGrace) + "\n" + processScript

// Tail is the end of a file in the process's folder, at most so many bytes. A file that is not there is an error.
func (p Process) Tail(ctx context.Context, name string, bytes int64) ([]byte, error) {
	return p.run(ctx, "tail_of", 0, name, strconv.FormatInt(bytes, 10))
}

// Fetch copies files from the process's folder into a local one and returns their local paths. A file appears there
// only once it is complete. Fetch needs no file server on the host. A file that is not there is an error.
func (p Process) Fetch(ctx context.Context, names []string, folder string, progress func(doneBytes, totalBytes int64)) ([]string, error) {
	output, err := p.run(ctx, "sizes", 0, names...)
	if err != nil {
		return nil, err
	}
	fields := strings.Fields(string(output))
	if len(fields) != len(names) {
		return nil, fmt.Errorf("%s: sizes of %d files in %s: unreadable: %.200q", p.Host.Name(), len(names), p.Dir, output)
	}
	sizes := make([]int64, len(names))
	meter := &meter{progress: progress}
	for i, name := range names {
		if sizes[i], err = strconv.ParseInt(fields[i], 10, 64); err == nil && sizes[i] < 0 {
			err = fmt.Errorf("%d is none", sizes[i])
		}
		if err != nil {
			return nil, fmt.Errorf("%s: size of %s: %w", p.Host.Name(), path.Join(p.Dir, name), err)
		}
		meter.total += sizes[i]
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return nil, err
	}
	local := make([]string, len(names))
	for i, name := range names {
		local[i] = filepath.Join(folder, name)
		if err := p.fetch(ctx, name, sizes[i], local[i], meter); err != nil {
			return nil, fmt.Errorf("fetch %s: %w", name, err)
		}
	}
	return local, nil
}

// fetch copies one file, which appears only once it is complete and on the disk.
func (p Process) fetch(ctx context.Context, name string, size int64, local string, meter *meter) (err error) {
	file, err := renameio.NewPendingFile(local, renameio.WithTempDir(filepath.Dir(local)), renameio.WithStaticPermissions(0o644))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Cleanup()) }()
	count := &counter{most: size}
	if _, err := p.Host.Run(ctx, remote.Command{
		Args: []string{"cat", path.Join(p.Dir, name)}, Stdout: io.MultiWriter(count, file, meter),
	}); err != nil {
		return err
	}
	if count.bytes != size {
		return fmt.Errorf("%s: %d bytes came, but the file has %d", p.Host.Name(), count.bytes, size)
	}
	return file.CloseAtomicallyReplace()
}

// counter counts the bytes that are written, and refuses more than expected: the host that sends them may
// misbehave.
type counter struct{ bytes, most int64 }

func (c *counter) Write(data []byte) (int, error) {
	if int64(len(data)) > c.most-c.bytes {
		return 0, fmt.Errorf("more than the file's %d bytes came", c.most)
	}
	c.bytes += int64(len(data))
	return len(data), nil
}

// meter reports the progress over several files.
type meter struct {
	progress    func(doneBytes, totalBytes int64)
	done, total int64
}

func (m *meter) Write(data []byte) (int, error) {
	m.done += int64(len(data))
	if m.progress != nil {
		m.progress(m.done, m.total)
	}
	return len(data), nil
}

// run runs one operation of the script. wait is how long it may take in addition to the time limit of an operation.
func (p Process) run(ctx context.Context, operation string, wait time.Duration, args ...string) ([]byte, error) {
	return p.runWith(ctx, nil, operation, wait, args...)
}

// runWith is run with something on the standard input.
func (p Process) runWith(ctx context.Context, input io.Reader, operation string, wait time.Duration, args ...string) ([]byte, error) {
	if !path.IsAbs(p.Dir) || path.Clean(p.Dir) != p.Dir || path.Dir(p.Dir) == "/" {
		return nil, fmt.Errorf("%s: the folder %q of a process is not absolute, or too high", p.Host.Name(), p.Dir)
	}
	result, err := p.Host.Run(ctx, remote.Command{
		Args:    append([]string{"sh", "-c", processScript, "process", operation, p.Dir}, args...),
		Env:     []string{"LC_ALL=C"},
		Stdin:   input,
		Timeout: operationTimeout + wait,
	})
	if err != nil {
		return nil, fmt.Errorf("%s the process in %s: %w", operation, p.Dir, short(err))
	}
	return result.Stdout, nil
}

// short replaces the script in the command of an error.
func short(err error) error {
	var failed *remote.Error
	if errors.As(err, &failed) {
		brief := *failed
		brief.Args = append([]string{"sh", "-c", "(record/process.sh)"}, failed.Args[min(4, len(failed.Args)):]...)
		return &brief
	}
	return err
}

func tenths(d time.Duration) string { return strconv.FormatInt(int64(d/(100*time.Millisecond)), 10) }
