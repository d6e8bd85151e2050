package alive_test

import (
	"context"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"heliotrope/internal/alive"
)

func TestTell(t *testing.T) {
	alive.Tell(t.Context()) // nobody wants to know
	told := 0
	ctx, cancel := context.WithCancel(alive.With(t.Context(), func() { told++ }))
	cancel() // what tidies up is told of too
	alive.Tell(ctx)
	if told != 1 {
		t.Errorf("told %d times", told)
	}
	text, err := io.ReadAll(alive.Reader(ctx, iotest.OneByteReader(strings.NewReader("abc"))))
	if err != nil || string(text) != "abc" || told != 4 {
		t.Errorf("%q, %v, told %d times; want one for each piece, and none for the end", text, err, told)
	}
}

// TestListener: a caller that waits for long work is told the progress, and says how long a
// silence it tolerates.
func TestListener(t *testing.T) {
	alive.Reached(t.Context(), 1, 2) // nobody wants to know
	if patience := alive.Patience(t.Context()); patience != 0 {
		t.Errorf("nobody waits for %s", patience)
	}
	told, reached := 0, []int64{}
	ctx := alive.WithListener(t.Context(), alive.Listener{Patience: time.Minute, Tell: func() { told++ },
		Reached: func(done, total int64) { reached = append(reached, done, total) }})
	alive.Tell(ctx)
	alive.Reached(ctx, 3, 4)
	if alive.Patience(ctx) != time.Minute || told != 2 || !slices.Equal(reached, []int64{3, 4}) {
		t.Errorf("patience %s, told %d times, reached %v", alive.Patience(ctx), told, reached)
	}
}
