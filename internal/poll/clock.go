package poll

import (
	"context"
	"fmt"
	"time"

	"heliotrope/internal/alive"
)

// Clock is a source of time. A model of a testbed, and each part of it, has a clock of its own:
// its time passes during calls of the model, and in Wait without waiting.
type Clock interface {
	Now() time.Time
	// Wait lets time pass. It returns an error only when the context ends.
	Wait(ctx context.Context, length time.Duration) error
}

// ClockOf returns the clock that thing has of its own, or the real clock.
func ClockOf(thing any) Clock {
	if own, has := thing.(Clock); has {
		return own
	}
	return everybodys{}
}

type everybodys struct{}

func (everybodys) Now() time.Time { return time.Now() }

func (everybodys) Wait(ctx context.Context, length time.Duration) error { return Pause(ctx, length) }

// deadline is when a context ends, by the clock of a model.
type deadline struct {
	at    time.Time
	end   context.CancelCauseFunc
	cause error
	outer *deadline
}

type deadlineKey struct{}

// WithTimeout does what context.WithTimeout does, by the clock that thing has of its own, or by
// the real clock. When the limit is over, the context's cause is a context.DeadlineExceeded.
func WithTimeout(ctx context.Context, thing any, limit time.Duration) (context.Context, context.CancelFunc) {
	own, has := thing.(Clock)
	if !has {
		return context.WithTimeout(ctx, limit)
	}
	cause := fmt.Errorf("%s of the model's time are over: %w", limit, context.DeadlineExceeded)
	limited, end := context.WithCancelCause(ctx)
	outer, _ := ctx.Value(deadlineKey{}).(*deadline)
	return context.WithValue(limited, deadlineKey{}, &deadline{own.Now().Add(limit), end, cause, outer}), func() { end(nil) }
}

// Passed must be called by a model's clock when its time passes. It ends all contexts of
// WithTimeout that are due at now or before, and returns the moment up to which the time may
// pass: now, or the earliest of those deadlines.
func Passed(ctx context.Context, now time.Time) time.Time {
	until := now
	due, _ := ctx.Value(deadlineKey{}).(*deadline)
	for ; due != nil; due = due.outer {
		if due.at.After(now) {
			continue
		}
		due.end(due.cause)
		if due.at.Before(until) {
			until = due.at
		}
	}
	return until
}

// goesOn is how often a caller that only watches reports that it is still there.
const goesOn = time.Minute

// Beside lets time pass for a caller that only looks from time to time at what others do to a
// thing. If the thing has a clock of its own, there is nothing more to see, because that clock
// advances in the calls of the others; Beside then returns only when the context ends. The error
// is the context's cause.
func Beside(ctx context.Context, thing any, length time.Duration) error {
	if _, has := thing.(Clock); !has {
		return Pause(ctx, length)
	}
	for Pause(ctx, goesOn) == nil {
		alive.Tell(ctx)
	}
	return context.Cause(ctx)
}
