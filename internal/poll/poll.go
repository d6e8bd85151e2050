// Package poll asks again and again, with pauses between, until a condition holds that is not
// reported by itself. It sets no limit of its own: the context does.
package poll

import (
	"context"
	"time"
)

// Until calls done at once, and again after each pause, until done returns true or an error. It
// returns that error unchanged. When the context ends during a pause, the error is the context's
// cause.
func Until(ctx context.Context, pause time.Duration, done func(context.Context) (bool, error)) error {
	for {
		if over, err := done(ctx); over || err != nil {
			return err
		}
		if err := Pause(ctx, pause); err != nil {
			return err
		}
	}
}

// Pause waits for a length of time. When the context ends first, the error is its cause.
func Pause(ctx context.Context, length time.Duration) error {
	timer := time.NewTimer(length)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
