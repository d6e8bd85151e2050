package poll_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"heliotrope/internal/poll"
)

// TestUntil asks at once, and then after each pause.
func TestUntil(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began, asked := time.Now(), []time.Duration(nil)
		err := poll.Until(t.Context(), time.Second, func(context.Context) (bool, error) {
			asked = append(asked, time.Since(began))
			return len(asked) == 3, nil
		})
		assert.NoError(t, err)
		assert.Equal(t, []time.Duration{0, time.Second, 2 * time.Second}, asked)
	})
}

// TestUntilFails ends with the first error, which is returned unchanged.
func TestUntilFails(t *testing.T) {
	broken, asked := errors.New("broken"), 0
	err := poll.Until(t.Context(), time.Hour, func(context.Context) (bool, error) {
		asked++
		return false, broken
	})
	assert.Equal(t, broken, err)
	assert.Equal(t, 1, asked)
}

// TestUntilCancelled asks once nevertheless, and returns why it did not continue.
func TestUntilCancelled(t *testing.T) {
	enough, asked := errors.New("enough"), 0
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(enough)
	err := poll.Until(ctx, time.Hour, func(context.Context) (bool, error) {
		asked++
		return false, nil
	})
	assert.Equal(t, enough, err)
	assert.Equal(t, 1, asked)
	assert.NoError(t, poll.Until(ctx, time.Hour, func(context.Context) (bool, error) { return true, nil }))
}
