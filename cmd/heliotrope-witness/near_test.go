package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestNearby: the domain is near only where it runs, and what was written is passed on
// unchanged.
func TestNearby(t *testing.T) {
	var out bytes.Buffer
	n := nearby{out: &out}
	assert.False(t, n.runs.Load(), "nothing was seen")
	text := ""
	for _, step := range []struct {
		line string
		runs bool
	}{
		{"1 0 watch 0\n", false},
		{"2 7 paused 5\n", false}, // waits for its migration
		{"3 7 running 5\n", true},
		{"4 0 watch 5\n", true},
		{"5 7 suspended 5\n", false},
		{"6 7 running 5\n", true},
		{"7 7 gone 5\n", false},
	} {
		text += step.line
		written, err := n.Write([]byte(step.line))
		require.NoError(t, err)
		assert.Equal(t, len(step.line), written)
		assert.Equal(t, step.runs, n.runs.Load(), step.line)
	}
	assert.Equal(t, text, out.String())
	_, err := n.Write([]byte("8 7 asleep 5\n"))
	assert.Error(t, err)
}
