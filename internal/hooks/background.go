package hooks

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// Patience is how long what happens to a campaign waits for its hooks.
const Patience = 5 * time.Second

// ErrClosed says that the controller ended while a hook was told.
var ErrClosed = errors.New("the controller ends")

// Background tells hooks, and waits for them no longer than its patience. One that takes
// longer is told all the same, by its own limits: only nobody waits for it.
type Background struct {
	hooks    Hooks
	patience time.Duration
	log      zerolog.Logger

	open    context.Context // until Close
	end     context.CancelCauseFunc
	telling sync.WaitGroup
}

// InBackground is a Background with that patience. That a hook was not told, or told when
// nobody waited any more, is a line in the log. Whoever makes one closes it.
func InBackground(hooks Hooks, patience time.Duration, log zerolog.Logger) *Background {
	open, end := context.WithCancelCause(context.Background())
	return &Background{hooks: hooks, patience: patience, log: log, open: open, end: end}
}

// Tell tells every hook that wants to know of the event. It returns when all are told, or
// cannot be, or when the patience is over. An error, ErrClosed or the context's, says that
// it may not have been told, and should be again. A nil Background tells nobody.
func (b *Background) Tell(ctx context.Context, event Event) error {
	if b == nil {
		return nil
	}
	log := b.log.With().Str("event", string(event.Kind)).Str("campaign", event.Campaign).Logger()
	told, late := make(chan struct{}), make(chan struct{})
	b.telling.Go(func() {
		defer close(told)
		if err := b.hooks.Tell(b.open, event); err != nil {
			log.Warn().Err(err).Msg("a hook was not told")
			return
		}
		select {
		case <-late:
			log.Info().Msg("the hook that takes long was told")
		default:
		}
	})
	waiting, done := context.WithTimeout(ctx, b.patience)
	defer done()
	select {
	case <-told:
		return context.Cause(b.open)
	case <-waiting.Done():
		close(late)
	}
	if ctx.Err() == nil {
		log.Warn().Stringer("patience", b.patience).Msg("a hook takes long, and is not waited for any more")
	}
	return ctx.Err()
}

// Close ends what is being told, with its processes, and waits for that.
func (b *Background) Close() {
	if b == nil {
		return
	}
	b.end(ErrClosed)
	b.telling.Wait()
}
