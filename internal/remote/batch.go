package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"strings"
)

// Batch runs commands where neither a connection nor a stream is possible: all of the
// input is sent before the command, and all of the output comes after it.
type Batch interface {
	// Do has a POSIX shell run a command line, made by Words, to its end. When ctx
	// ends, the process and its group are killed. An error that kept the command from
	// starting is an ErrUnreachable or ErrAuthentication.
	Do(ctx context.Context, words string, stdin io.Reader, stdout, stderr io.Writer) (exitCode int, err error)
	Close() error
}

// NewBatch makes a host from a Batch. It runs commands: Command's Stdout and Stderr
// get the output when the command has ended. Files and connections are
// errors.ErrUnsupported.
func NewBatch(name string, batch Batch) Host { return &batchHost{name: name, batch: batch} }

type batchHost struct {
	name  string
	batch Batch
}

func (h *batchHost) Name() string { return h.name }

func (h *batchHost) Close() error { return h.batch.Close() }

func (h *batchHost) Run(ctx context.Context, command Command) (Result, error) {
	e := begin(ctx, h.name, command)
	defer e.release()
	if err := e.refused(); err != nil {
		return e.finish(ending{exitCode: -1, err: err})
	}
	stdin := command.Stdin
	if stdin == nil {
		stdin = strings.NewReader("")
	}
	code, err := h.batch.Do(e.ctx, words(command), stdin, &e.stdout, &e.stderr)
	switch {
	case err == nil:
		return e.finish(ending{exitCode: code})
	case e.ctx.Err() != nil:
		err = e.interrupted()
	}
	return e.finish(ending{exitCode: -1, err: err})
}

func (h *batchHost) unsupported(what string) error {
	return fmt.Errorf("%s: %s: %w: it runs commands only", h.name, what, errors.ErrUnsupported)
}

func (h *batchHost) Files(context.Context) (Files, error) {
	return nil, h.unsupported("reach its files")
}

func (h *batchHost) Upload(_ context.Context, _, hostPath string, _ fs.FileMode, _ func(doneBytes, totalBytes int64)) error {
	return h.unsupported("upload " + hostPath)
}

func (h *batchHost) Download(_ context.Context, hostPath, _ string, _ func(doneBytes, totalBytes int64)) error {
	return h.unsupported("download " + hostPath)
}

func (h *batchHost) DialContext(_ context.Context, _, address string) (net.Conn, error) {
	return nil, h.unsupported("dial " + address)
}

func (h *batchHost) Listen(_, address string) (net.Listener, error) {
	return nil, h.unsupported("listen on " + address)
}
