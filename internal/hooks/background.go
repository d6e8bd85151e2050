package hooks

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// Patience is how long a campaign's progress waits for its hooks.
const Patience = 5 * time.Second

// ErrClosed says that the controller ended while hooks were being told.
var ErrClosed = errors.New("the controller ends")

// Background tells hooks of events, and waits for them no longer than its patience. A hook
// that takes longer goes on in the background within its own limits; nobody waits for it
// any more.
type Background struct {
	hooks    Hooks
	patience time.Duration
	log      zerolog.Logger

	open    context.Context // until Close
	end     context.CancelCauseFunc
	telling sync.WaitGroup
}

// InBackground makes a Background with that patience. The log says when a hook was not
// told, or was told only after the patience was over. The caller must Close the
// Background.
func InBackground(hooks Hooks, patience time.Duration, log zerolog.Logger) *Background {
	open, end := context.WithCancelCause(context.Background())
	return &Background{hooks: hooks, patience: patience, log: log, open: open, end: end}
}

// Tell tells every hook that wants to know of the event. It returns when every hook was
// told or has failed, or when the patience is over. An error (ErrClosed or the context's)
// says that hooks may not have been told, and that Tell should be called again. A nil
// Background tells nobody.
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

// Close ends the hooks that are running, with their processes, and waits until they have
// ended.
func (b *Background) Close() {
	if b == nil {
		return
	}
	b.end(ErrClosed)
	b.telling.Wait()
}
