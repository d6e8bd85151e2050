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
)

type key struct{}

// With returns a context in which Tell calls tell, which may be called from several
// goroutines at once.
func With(ctx context.Context, tell func()) context.Context {
	return context.WithValue(ctx, key{}, tell)
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
