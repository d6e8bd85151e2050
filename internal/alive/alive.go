// Package alive lets long work report that it is still going on when it has no progress to
// report: a vCenter answers that a task is running, but reports its progress in whole percents
// only. A caller that waits, and would give up on work that is silent, puts a function to be
// called into the context.
//
// Dangerous: call Tell only when an answer has come from whatever does the work. Called from a
// timer, it would keep hanging work alive.
package alive

import (
	"context"
	"io"
	"time"
)

type key struct{}

// With returns a context in which Tell calls tell. tell may be called from several goroutines at
// once.
func With(ctx context.Context, tell func()) context.Context {
	return context.WithValue(ctx, key{}, tell)
}

// Listener waits for work, and gives up after a time of silence.
type Listener struct {
	Patience time.Duration // how long a silence it tolerates
	Tell     func()        // called when the work is still going on
	// Reached is called with how much of the work is done, in any unit. Tell is called as well.
	Reached func(done, total int64)
}

type listenerKey struct{}

// WithListener does what With does, for a caller that also wants progress and has a patience.
func WithListener(ctx context.Context, l Listener) context.Context {
	return context.WithValue(With(ctx, l.Tell), listenerKey{}, l)
}

// Patience returns how long a silence the caller tolerates; 0 when it has not said so. It is for
// a model, whose time passes without waiting.
func Patience(ctx context.Context) time.Duration {
	l, _ := ctx.Value(listenerKey{}).(Listener)
	return l.Patience
}

// Reached does what Tell does, for work that knows how much of it is done.
func Reached(ctx context.Context, done, total int64) {
	if l, wanted := ctx.Value(listenerKey{}).(Listener); wanted {
		l.Reached(done, total)
	}
	Tell(ctx)
}

// Tell reports that the work is still going on, to the function in the context, if any.
func Tell(ctx context.Context) {
	if tell, wanted := ctx.Value(key{}).(func()); wanted {
		tell()
	}
}

// Reader returns a reader that calls Tell for each piece that it reads.
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
