package poll_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"heliotrope/internal/alive"
	"heliotrope/internal/poll"
)

// model is a thing with a clock of its own.
type model struct{ at time.Time }

func (m *model) Now() time.Time { return m.at }

func (m *model) Wait(ctx context.Context, length time.Duration) error {
	m.at = m.at.Add(length)
	return ctx.Err()
}

// TestClockOf: a model's time passes without waiting, and real time does not.
func TestClockOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, test := range map[string]struct {
			thing  any
			waited time.Duration
		}{"of its own": {&model{at: time.Unix(0, 0)}, 0}, "everybody's": {struct{}{}, time.Hour}} {
			clock, began := poll.ClockOf(test.thing), time.Now()
			before := clock.Now()
			assert.NoError(t, clock.Wait(t.Context(), time.Hour), name)
			assert.Equal(t, time.Hour, clock.Now().Sub(before), name)
			assert.Equal(t, test.waited, time.Since(began), name)
		}
	})
}

// TestBeside: a caller that watches a model waits until its context ends, and reports that it is
// alive.
func TestBeside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began, told := time.Now(), 0
		assert.NoError(t, poll.Beside(t.Context(), struct{}{}, time.Second))
		assert.Equal(t, time.Second, time.Since(began))
		ctx, cancel := context.WithTimeout(alive.With(t.Context(), func() { told++ }), time.Hour)
		defer cancel()
		assert.ErrorIs(t, poll.Beside(ctx, &model{}, time.Second), context.DeadlineExceeded)
		assert.Equal(t, time.Hour+time.Second, time.Since(began))
		assert.Greater(t, told, 50)
	})
}

// anyKey is that of a value in a context.
type anyKey struct{}

// TestWithTimeout: a time-out by a model's clock ends when the model's time has passed, any other
// when real time has.
func TestWithTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := poll.WithTimeout(t.Context(), struct{}{}, time.Hour)
		defer cancel()
		began := time.Now()
		<-ctx.Done()
		assert.Equal(t, time.Hour, time.Since(began))

		m := &model{at: time.Unix(0, 0)}
		outer, cancel := poll.WithTimeout(t.Context(), m, time.Hour)
		defer cancel()
		inner, cancel := poll.WithTimeout(context.WithValue(outer, anyKey{}, 1), m, time.Minute)
		defer cancel()
		later, cancel := poll.WithTimeout(inner, m, 2*time.Hour)
		defer cancel()
		assert.Equal(t, time.Unix(59, 0), poll.Passed(later, time.Unix(59, 0)))
		assert.NoError(t, later.Err())
		assert.Equal(t, time.Unix(60, 0), poll.Passed(later, time.Unix(90, 0)), "time stands still at the first of them")
		assert.ErrorIs(t, context.Cause(inner), context.DeadlineExceeded)
		assert.ErrorContains(t, context.Cause(later), "1m0s of the model's time are over")
		assert.NoError(t, outer.Err())
		poll.Passed(outer, time.Unix(3600, 0))
		assert.ErrorContains(t, context.Cause(outer), "1h0m0s of the model's time are over")
		assert.Equal(t, time.Unix(5, 0), poll.Passed(t.Context(), time.Unix(5, 0)), "nobody has a limit")

		ended, cancel := poll.WithTimeout(t.Context(), m, time.Hour)
		cancel()
		assert.ErrorIs(t, context.Cause(ended), context.Canceled)
	})
}
