package gather_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"

	"heliotrope/internal/gather"
)

// meeting returns a function at which a number of goroutines wait for each other, which proves
// that they run at the same time.
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

// TestValues: results are in the order of the inputs, and all calls run at the same time.
func TestValues(t *testing.T) {
	meet := meeting(3)
	assert.Equal(t, []int{1, 4, 9}, gather.Values([]int{1, 2, 3}, func(n int) int {
		meet()
		return n * n
	}))
	assert.Equal(t, []int{}, gather.Values(nil, func(n int) int { return n }))
}

// TestResults joins the errors in the order of the inputs, and keeps the values.
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

// TestEach waits for all calls, also after a failure.
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

// TestTogether runs the tasks at the same time.
func TestTogether(t *testing.T) {
	meet, broken := meeting(2), errors.New("broken")
	err := gather.Together(func() error { meet(); return nil }, func() error { meet(); return broken })
	assert.ErrorIs(t, err, broken)
	assert.NoError(t, gather.Together())
}
