package link

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// dialTimeout limits connecting to Temporal.
const dialTimeout = 10 * time.Second

// silence is how long a worker may say nothing on an open connection and still
// be taken for well: the SDK has gRPC ask for an answer after 30 s.
const silence = time.Minute

// forward passes connections that come in on a host to Temporal.
type forward struct {
	listener net.Listener
	dial     func(context.Context) (net.Conn, error)

	open  atomic.Int64 // connections that are passed on now
	heard atomic.Int64 // when anything last came from the worker: Unix nanoseconds
	err   atomic.Pointer[error]
	ended chan struct{} // closed when the listener has ended
	users sync.WaitGroup
}

// newForward begins to pass connections on.
func newForward(ctx context.Context, listener net.Listener, dial func(context.Context) (net.Conn, error)) *forward {
	f := &forward{listener: listener, dial: dial, ended: make(chan struct{})}
	f.users.Go(func() { f.accept(ctx) })
	return f
}

func (f *forward) accept(ctx context.Context) {
	defer close(f.ended)
	for {
		conn, err := f.listener.Accept()
		if err != nil {
			f.note(fmt.Errorf("the forward ended: %w", err))
			return
		}
		f.users.Go(func() {
			if err := f.pass(ctx, conn); err != nil {
				f.note(err)
			}
		})
	}
}

// pass passes one connection on until either side ends it.
func (f *forward) pass(ctx context.Context, conn net.Conn) error {
	defer conn.Close() //nolint:errcheck // either side may have
	limited, cancel := context.WithTimeout(ctx, dialTimeout)
	target, err := f.dial(limited)
	cancel()
	if err != nil {
		return fmt.Errorf("connecting a worker to Temporal: %w", err)
	}
	closeBoth := func() { _, _ = conn.Close(), target.Close() }
	defer closeBoth()
	defer context.AfterFunc(ctx, closeBoth)()
	f.open.Add(1)
	defer f.open.Add(-1)
	var both sync.WaitGroup
	both.Go(func() {
		defer closeBoth()
		_, _ = io.Copy(target, io.TeeReader(conn, f))
	})
	both.Go(func() {
		defer closeBoth()
		_, _ = io.Copy(conn, target)
	})
	both.Wait()
	return nil
}

// Write hears what the worker sends.
func (f *forward) Write(data []byte) (int, error) {
	f.heard.Store(time.Now().UnixNano())
	return len(data), nil
}

// inUse says whether the worker is there: it holds a connection, and says
// something now and then.
func (f *forward) inUse() bool {
	return f.open.Load() > 0 && time.Since(time.Unix(0, f.heard.Load())) < silence
}

// note remembers the latest thing that went wrong.
func (f *forward) note(err error) { f.err.Store(&err) }

// problem returns that once.
func (f *forward) problem() error {
	if err := f.err.Swap(nil); err != nil {
		return *err
	}
	return nil
}

// close ends the forward and every connection through it; ctx of newForward
// must have ended.
func (f *forward) close() error {
	err := f.listener.Close()
	f.users.Wait()
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
		return nil // the connection it was on is gone
	}
	return err
}
