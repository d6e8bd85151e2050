package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"time"
)

// defaultFileLimit is how long a host may take to answer one request on a file.
// A busy disk answers within seconds, a dead one never.
const defaultFileLimit = time.Minute

// do is operate for an operation without a result.
func (f files) do(operation, name string, do func(*watched) error) error {
	_, err := operate(f, operation, name, func(system *watched) (struct{}, error) { return struct{}{}, do(system) })
	return err
}

// operate runs one operation and makes its error name the host and the path.
//
// The operation ends when its context ends, or when the host has not answered
// one of its requests within the limit. A request that is still in flight then
// is given up after the grace; do, which nobody waits for any longer, starts no
// other.
func operate[T any](f files, operation, name string, do func(*watched) (T, error)) (T, error) {
	result, err := attempt(f, name, do)
	if err == nil {
		return result, nil
	}
	// The innermost error's path is kept only when it differs from name.
	var inner *fs.PathError
	if errors.As(err, &inner) && (inner.Path == name || inner.Path == "") {
		err = inner.Err
	}
	var nothing T
	return nothing, fmt.Errorf("%s: %w", f.host, &fs.PathError{Op: operation, Path: name, Err: err})
}

func attempt[T any](f files, name string, do func(*watched) (T, error)) (result T, err error) {
	if !path.IsAbs(name) {
		return result, errors.New("path is not absolute")
	}
	w := watch(f.ctx, f.limit)
	defer w.end()
	if err := w.next(); err != nil {
		return result, err
	}
	system, giveUp, err := f.connect(w.ctx)
	if err != nil {
		return result, err
	}
	type outcome struct {
		result T
		err    error
	}
	ended := make(chan outcome, 1)
	w.fileSystem = system
	go func() {
		result, err := do(w)
		ended <- outcome{result, err}
	}()
	select {
	case o := <-ended:
		return o.result, o.err
	case <-w.ctx.Done():
	}
	grace := time.NewTimer(f.grace)
	defer grace.Stop()
	select {
	case o := <-ended:
		return o.result, o.err
	case <-grace.C:
		giveUp()
		return result, context.Cause(w.ctx)
	}
}

// watched is a file system that must answer each request within a limit. When
// it does not, its context ends, and it takes no further request.
type watched struct {
	fileSystem
	ctx   context.Context
	end   func() // ends ctx
	limit time.Duration
	timer *time.Timer // ends ctx
}

// watch starts watching; the first request is to connect.
func watch(ctx context.Context, limit time.Duration) *watched {
	ctx, cancel := context.WithCancelCause(ctx)
	w := &watched{ctx: ctx, limit: limit}
	w.timer = time.AfterFunc(limit, func() {
		cancel(&interruption{
			text:  fmt.Sprintf("no answer within %s: look there for a disk or a file server that is gone, and for processes in state D", limit),
			cause: context.DeadlineExceeded,
		})
	})
	w.end = func() { w.timer.Stop(); cancel(context.Canceled) }
	return w
}

// next starts the time limit of another request, unless the operation is over.
func (w *watched) next() error {
	if w.ctx.Err() != nil {
		return context.Cause(w.ctx)
	}
	w.timer.Reset(w.limit)
	return nil
}

func next[T any](w *watched, request func() (T, error)) (result T, err error) {
	if err := w.next(); err != nil {
		return result, err
	}
	return request()
}

func (w *watched) change(request func() error) error {
	if err := w.next(); err != nil {
		return err
	}
	return request()
}

func (w *watched) open(path string, flags int) (openFile, error) {
	file, err := next(w, func() (openFile, error) { return w.fileSystem.open(path, flags) })
	if err != nil {
		return nil, err
	}
	return &watchedFile{file, w}, nil
}

func (w *watched) readDir(path string) ([]fs.FileInfo, error) {
	return next(w, func() ([]fs.FileInfo, error) { return w.fileSystem.readDir(path) })
}

func (w *watched) stat(path string) (fs.FileInfo, error) {
	return next(w, func() (fs.FileInfo, error) { return w.fileSystem.stat(path) })
}

func (w *watched) lstat(path string) (fs.FileInfo, error) {
	return next(w, func() (fs.FileInfo, error) { return w.fileSystem.lstat(path) })
}

func (w *watched) readLink(link string) (string, error) {
	return next(w, func() (string, error) { return w.fileSystem.readLink(link) })
}

func (w *watched) mkdir(path string) error {
	return w.change(func() error { return w.fileSystem.mkdir(path) })
}

func (w *watched) symlink(target, link string) error {
	return w.change(func() error { return w.fileSystem.symlink(target, link) })
}

func (w *watched) remove(path string) error {
	return w.change(func() error { return w.fileSystem.remove(path) })
}

func (w *watched) rename(oldPath, newPath string) error {
	return w.change(func() error { return w.fileSystem.rename(oldPath, newPath) })
}

// watchedFile is an open file of a watched file system. A caller of its
// ReadFrom and WriteTo must call next for each part.
type watchedFile struct {
	openFile
	system *watched
}

func (f *watchedFile) Read(p []byte) (int, error) {
	return next(f.system, func() (int, error) { return f.openFile.Read(p) })
}

func (f *watchedFile) Write(p []byte) (int, error) {
	return next(f.system, func() (int, error) { return f.openFile.Write(p) })
}

func (f *watchedFile) ReadFrom(r io.Reader) (int64, error) {
	return next(f.system, func() (int64, error) { return f.openFile.ReadFrom(r) })
}

func (f *watchedFile) WriteTo(w io.Writer) (int64, error) {
	return next(f.system, func() (int64, error) { return f.openFile.WriteTo(w) })
}

func (f *watchedFile) Stat() (os.FileInfo, error) {
	return next(f.system, f.openFile.Stat)
}

func (f *watchedFile) Chmod(mode fs.FileMode) error {
	return f.system.change(func() error { return f.openFile.Chmod(mode) })
}

func (f *watchedFile) Truncate(sizeBytes int64) error {
	return f.system.change(func() error { return f.openFile.Truncate(sizeBytes) })
}

func (f *watchedFile) Sync() error { return f.system.change(f.openFile.Sync) }
