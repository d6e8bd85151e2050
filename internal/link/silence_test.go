package link

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
)

// TestSilence: when nothing was heard of a worker for a long time, its activities are
// reported as lost, once for each such time.
func TestSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lost atomic.Int64
		l := &line{Options: Options{Log: zerolog.Nop(), Lost: func(context.Context, string) error {
			lost.Add(1)
			return nil
		}}}
		heard, stop := l.listenFor(t.Context(), func() {})
		defer stop()
		after := func(length time.Duration) int64 {
			time.Sleep(length)
			synctest.Wait()
			return lost.Load()
		}
		for range 10 {
			heard()
			assert.EqualValues(t, 0, after(lostAfter-time.Second), "it was heard of")
		}
		assert.EqualValues(t, 1, after(2*time.Second), "it was not heard of for long enough")
		assert.EqualValues(t, 1, after(5*lostAfter), "and there is nothing new to be lost")
		heard()
		assert.EqualValues(t, 2, after(lostAfter+time.Second), "it came back, and went")
	})
}
