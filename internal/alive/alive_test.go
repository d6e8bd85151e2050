package alive_test

import (
	"context"
	"io"
	"strings"
	"testing"
	"testing/iotest"

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
