package poll

import (
	"context"
	"fmt"
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

// deadline is when a context ends, by the clock of a model.
type deadline struct {
	at    time.Time
	end   context.CancelCauseFunc
	cause error
	outer *deadline
}

type deadlineKey struct{}

// WithTimeout is context.WithTimeout by the clock that a thing has of its own, or by everybody's.
// The context's cause is a context.DeadlineExceeded when the limit is over.
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

// Passed is for a clock that is not everybody's: it ends what has its time-out at a moment or before,
// and says up to when the time passes. Then that is earlier than the moment.
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
