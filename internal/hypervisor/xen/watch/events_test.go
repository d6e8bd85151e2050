package watch

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"heliotrope/internal/witness"
)

func TestWatchRequest(t *testing.T) {
	want := "\x04\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x1e\x00\x00\x00@releaseDomain\x00@releaseDomain\x00"
	if got := watchRequest("@releaseDomain", 1); string(got) != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestFollow: several messages cause one look, and their end, even in the
// middle of a message or after a damaged one, ends it.
func TestFollow(t *testing.T) {
	message := watchRequest("@releaseDomain", 0)
	damaged := slices.Clone(message)
	damaged[messagePayloadsAt+3] = 0x7f
	for name, c := range map[string]struct {
		stream []byte
		wakes  int
	}{
		"none":    {nil, 0},
		"two":     {slices.Concat(message, message), 1},
		"cut off": {message[:20], 0},
		"damaged": {slices.Concat(damaged, message), 0},
	} {
		woken := make(chan struct{}, 1)
		follow(bytes.NewReader(c.stream), woken)
		wakes := 0
		for range woken {
			wakes++
		}
		if wakes != c.wakes {
			t.Errorf("%s: %d wakes, want %d", name, wakes, c.wakes)
		}
	}
}

// TestStopped: a domain that does not run is looked at more often; one that is
// gone is not.
func TestStopped(t *testing.T) {
	for states, want := range map[string]bool{
		"":                    false,
		witness.DomainRunning: false,
		witness.DomainGone:    false,
		witness.DomainCrashed: false,
		witness.DomainRunning + " " + witness.DomainPaused: true,
		witness.DomainSuspended:                            true,
	} {
		w := &watch{states: map[int]string{}}
		for i, state := range strings.Fields(states) {
			w.states[i] = state
		}
		if got := w.stopped(); got != want {
			t.Errorf("%q: %t, want %t", states, got, want)
		}
	}
}
