package poll

import (
	"context"
	"time"

	"heliotrope/internal/alive"
)

// Clock is a time that passes. A model of a testbed, and each part of it, has one of its
// own: it passes in calls of the model, and in Wait without waiting.
type Clock interface {
	Now() time.Time
	// Wait lets time pass. The context's end is the only error.
	Wait(ctx context.Context, length time.Duration) error
}

// ClockOf is the clock that a thing has of its own, or everybody's.
func ClockOf(thing any) Clock {
	if own, has := thing.(Clock); has {
		return own
	}
	return everybodys{}
}

type everybodys struct{}

func (everybodys) Now() time.Time { return time.Now() }

func (everybodys) Wait(ctx context.Context, length time.Duration) error { return Pause(ctx, length) }

// goesOn is how often somebody who only looks says that he is still there.
const goesOn = time.Minute

// Beside lets time pass for whoever looks now and then at what others do to a thing.
// Where that has a clock of its own, there is nothing more to see: it passes in the calls
// of the others. Then only the context's end ends the wait. The error is the context's cause.
func Beside(ctx context.Context, thing any, length time.Duration) error {
	if _, has := thing.(Clock); !has {
		return Pause(ctx, length)
	}
	for Pause(ctx, goesOn) == nil {
		alive.Tell(ctx)
	}
	return context.Cause(ctx)
}
