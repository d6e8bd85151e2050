// Package poll asks again and again, with pauses between, until something is so
// that nothing tells of by itself. It sets no limit: the context does.
package poll

import (
	"context"
	"time"
)

// Until asks at once, and again after each pause, until done says true or
// returns an error, which is returned as it is. When the context ends in a
// pause, the error is its cause.
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

// Pause lets time pass. When the context ends before, the error is its cause.
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
