// Package alive lets work that takes long say that it goes on, where nothing that
// could be told of it has changed: a vCenter answers that a task runs, and tells whole
// percents of it. Who waits, and would give up on work from which nothing comes, puts
// what is to be called into the context.
//
// Dangerous: Tell belongs where an answer came from what does the work. Called from a
// timer, it would keep alive what hangs.
package alive

import (
	"context"
	"io"
	"time"
)

type key struct{}

// With returns a context in which Tell calls tell, which may be called from several
// goroutines at once.
func With(ctx context.Context, tell func()) context.Context {
	return context.WithValue(ctx, key{}, tell)
}

// Listener is who waits for work, and gives up when he hears nothing for a while.
type Listener struct {
	Patience time.Duration // after how much silence he gives up
	Tell     func()        // the work goes on
	// Reached is how far a part of the work is, in any unit; Tell is called too.
	Reached func(done, total int64)
}

type listenerKey struct{}

// WithListener is With of somebody who wants to know more.
func WithListener(ctx context.Context, l Listener) context.Context {
	return context.WithValue(With(ctx, l.Tell), listenerKey{}, l)
}

// Patience is after how much silence work is given up: 0 when nobody says so. It is for a model, whose
// time passes at once.
func Patience(ctx context.Context) time.Duration {
	l, _ := ctx.Value(listenerKey{}).(Listener)
	return l.Patience
}

// Reached is Tell of work that knows how far it is.
func Reached(ctx context.Context, done, total int64) {
	if l, wanted := ctx.Value(listenerKey{}).(Listener); wanted {
		l.Reached(done, total)
	}
	Tell(ctx)
}

// Tell says that the work goes on, to whoever wants to know.
func Tell(ctx context.Context) {
	if tell, wanted := ctx.Value(key{}).(func()); wanted {
		tell()
	}
}

// Reader tells at each piece that it reads.
func Reader(ctx context.Context, from io.Reader) io.Reader { return reader{ctx, from} }

type reader struct {
	ctx  context.Context //nolint:containedctx // a reader takes none
	from io.Reader
}

func (r reader) Read(p []byte) (int, error) {
	n, err := r.from.Read(p)
	if n > 0 {
		Tell(r.ctx)
	}
	return n, err
}
