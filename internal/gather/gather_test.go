package gather_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"

	"heliotrope/internal/gather"
)

// meeting is where a number of goroutines wait until all of them are there, which
// proves that they run at once.
func meeting(number int) (meet func()) {
	arrived, all := make(chan struct{}, number), make(chan struct{})
	go func() {
		defer close(all)
		for range number {
			<-arrived
		}
	}()
	return func() {
		arrived <- struct{}{}
		<-all
	}
}

// TestValues stand in the order of what was asked for, and are asked for at once.
func TestValues(t *testing.T) {
	meet := meeting(3)
	assert.Equal(t, []int{1, 4, 9}, gather.Values([]int{1, 2, 3}, func(n int) int {
		meet()
		return n * n
	}))
	assert.Equal(t, []int{}, gather.Values(nil, func(n int) int { return n }))
}

// TestResults joins the errors in their order, and keeps what was found.
func TestResults(t *testing.T) {
	meet := meeting(3)
	found, err := gather.Results([]int{1, 2, 3}, func(n int) (string, error) {
		meet()
		if n != 2 {
			return "", fmt.Errorf("%d is bad", n)
		}
		return "two", nil
	})
	assert.Equal(t, []string{"", "two", ""}, found)
	assert.EqualError(t, err, "1 is bad\n3 is bad")
}

// TestEach waits for all of them, also after a failure.
func TestEach(t *testing.T) {
	broken, failed := errors.New("broken"), make(chan struct{})
	last := false
	err := gather.Each([]bool{true, false}, func(first bool) error {
		if first {
			close(failed)
			return broken
		}
		<-failed
		last = true
		return nil
	})
	assert.ErrorIs(t, err, broken)
	assert.True(t, last)
}

// TestTogether runs the tasks at once.
func TestTogether(t *testing.T) {
	meet, broken := meeting(2), errors.New("broken")
	err := gather.Together(func() error { meet(); return nil }, func() error { meet(); return broken })
	assert.ErrorIs(t, err, broken)
	assert.NoError(t, gather.Together())
}
