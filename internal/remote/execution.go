package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// defaultGrace is how long a command may take to end after a TERM signal
// before it is killed.
const defaultGrace = 2 * time.Second

// execution is one run of one command. It has what all kinds of hosts share.
type execution struct {
	host    string
	command Command
	parent  context.Context // the caller's
	ctx     context.Context // ends with parent, with the time-out, or by fail
	cancel  context.CancelCauseFunc
	release func() // frees ctx
	started time.Time

	output         sync.Mutex // locked for each write, because both streams may share one writer
	stdout, stderr capture
}

func begin(ctx context.Context, host string, command Command) *execution {
	e := &execution{host: host, command: command, parent: ctx, started: time.Now()}
	e.ctx, e.cancel = context.WithCancelCause(ctx)
	e.release = func() { e.cancel(nil) }
	if command.Timeout > 0 {
		var stop context.CancelFunc
		e.ctx, stop = context.WithTimeoutCause(e.ctx, command.Timeout, &interruption{
			text: fmt.Sprintf("timed out after %s", command.Timeout), cause: context.DeadlineExceeded,
		})
		e.release = func() { stop(); e.cancel(nil) }
	}
	e.stdout = capture{mu: &e.output, forward: command.Stdout, fail: e.fail}
	e.stderr = capture{mu: &e.output, forward: command.Stderr, fail: e.fail}
	return e
}

// refused says why the command must not be started.
func (e *execution) refused() error {
	if err := e.command.validate(); err != nil {
		return err
	}
	if e.ctx.Err() != nil {
		return e.interrupted()
	}
	return nil
}

// ending is how a command ended.
type ending struct {
	exitCode int
	signal   string
	err      error
}

// finish makes the result and the error of the run. Nothing is written to the
// caller's writers afterwards.
func (e *execution) finish(end ending) (Result, error) {
	e.output.Lock()
	defer e.output.Unlock()
	e.stdout.sealed, e.stderr.sealed = true, true
	result := Result{
		Stdout: e.stdout.bytes(), Stderr: e.stderr.bytes(),
		ExitCode: end.exitCode, Elapsed: time.Since(e.started),
	}
	var broken *streamError
	if end.err == nil && errors.As(context.Cause(e.ctx), &broken) {
		end.err = broken
	}
	if end == (ending{}) {
		return result, nil
	}
	stderr := result.Stderr
	return result, &Error{
		Host: e.host, Args: e.command.Args, ExitCode: end.exitCode, Signal: end.signal, Err: end.err,
		Stderr: string(stderr[max(0, len(stderr)-maxStderrKept):]),
	}
}

// fail ends the run because one of the caller's streams has failed.
func (e *execution) fail(err error) { e.cancel(&streamError{err}) }

// interrupted says why the run's context ended, and when.
func (e *execution) interrupted() error {
	cause := context.Cause(e.ctx)
	var known *interruption
	var broken *streamError
	if errors.As(cause, &known) || errors.As(cause, &broken) {
		return cause
	}
	verb, elapsed := "cancelled", time.Since(e.started).Round(time.Millisecond)
	if errors.Is(e.ctx.Err(), context.DeadlineExceeded) {
		verb = "timed out"
	}
	text := fmt.Sprintf("%s after %s", verb, elapsed)
	if !errors.Is(cause, e.parent.Err()) {
		text += ": " + cause.Error()
	}
	return &interruption{text: text, cause: errors.Join(e.parent.Err(), cause)}
}

// feed writes the command's input to its standard input. Nobody waits for the
// goroutine that runs it, because a caller's reader may block for good.
func (e *execution) feed(stdin io.WriteCloser) {
	if e.command.Stdin != nil {
		source := &watchedReader{Reader: e.command.Stdin}
		_, _ = io.Copy(stdin, source) // a command need not read all its input
		if source.err != nil {
			e.fail(fmt.Errorf("reading its input: %w", source.err))
		}
	}
	_ = stdin.Close()
}

// interruption is a reason for ending, with a text of its own.
type interruption struct {
	text  string
	cause error
}

func (i *interruption) Error() string { return i.text }
func (i *interruption) Unwrap() error { return i.cause }

// streamError is the failure of a reader or writer that the caller gave.
type streamError struct{ error }

func (s *streamError) Unwrap() error { return s.error }

// watchedReader remembers the error of its reader.
type watchedReader struct {
	io.Reader
	err error
}

func (w *watchedReader) Read(p []byte) (int, error) {
	n, err := w.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		w.err = err
	}
	return n, err
}

// capture keeps the end of an output stream and passes all of it on.
type capture struct {
	mu      *sync.Mutex
	kept    []byte
	forward io.Writer
	fail    func(error)
	sealed  bool
	// steps counts the beginnings and ends of writes: it is odd during one.
	steps atomic.Int64
}

// Write always accepts all of data, so that the command can go on, unless the
// run is over.
func (c *capture) Write(data []byte) (int, error) {
	c.steps.Add(1)
	defer c.steps.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sealed {
		return 0, io.ErrClosedPipe
	}
	c.kept = append(c.kept, data...)
	if len(c.kept) > 2*MaxCapture {
		c.kept = append(c.kept[:0], c.kept[len(c.kept)-MaxCapture:]...)
	}
	if c.forward != nil {
		if _, err := c.forward.Write(data); err != nil {
			c.forward = nil
			c.fail(fmt.Errorf("passing its output on: %w", err))
		}
	}
	return len(data), nil
}

func (c *capture) bytes() []byte {
	return slices.Clone(c.kept[max(0, len(c.kept)-MaxCapture):])
}
