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

// TestClockOf: a model's time passes at once, and everybody's does not.
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

// TestBeside: who looks at a model now and then waits until he is not wanted any more,
// and lives.
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
