package activities

import (
	"math"
	"testing"
	"time"

	"heliotrope/internal/clock"
	"heliotrope/internal/load"
)

const ms = int64(time.Millisecond)

func TestGuestClock(t *testing.T) {
	// The guest's clock is 10 ms ahead, and loses 300 ms for which it stands still.
	c := guestClock{before: clock.Offset{Ahead: 10 * time.Millisecond}, after: clock.Offset{Ahead: -290 * time.Millisecond}, stepNs: 5000 * ms}
	for _, test := range []struct {
		name               string
		guestMs, latencyMs int64
		oursMs, tookMs     int64
	}{
		{"long before", 1000, 4, 990, 4},
		{"just before the step", 4999, 4, 4989, 4},
		{"in flight over the step", 5000, 4, 5290, 304},
		{"in flight for long before it", 5010, 2000, 5300, 2300},
		{"after", 6000, 4, 6290, 4},
	} {
		if got := c.oursNs(test.guestMs * ms); got != test.oursMs*ms {
			t.Errorf("%s: completed at %d ms, want %d", test.name, got/ms, test.oursMs)
		}
		if got := c.latencyNs(test.guestMs*ms, test.latencyMs*ms); got != test.tookMs*ms {
			t.Errorf("%s: took %d ms, want %d", test.name, got/ms, test.tookMs)
		}
	}
	back := guestClock{after: clock.Offset{Ahead: time.Second}, stepNs: 5000 * ms}
	if got := back.latencyNs(5000*ms, 4*ms); got != 0 {
		t.Errorf("a clock that was put forward makes a latency of %d ns", got)
	}
}

func TestHostClock(t *testing.T) {
	start := time.Unix(1_800_000_000, 0)
	c := hostClock{before: clock.Offset{Ahead: 10 * time.Millisecond, At: start}, after: clock.Offset{Ahead: 30 * time.Millisecond, At: start.Add(100 * time.Second)}}
	for _, test := range []struct {
		after time.Duration // on our clock
		ahead time.Duration
	}{
		{-time.Minute, 10 * time.Millisecond},
		{0, 10 * time.Millisecond},
		{50 * time.Second, 20 * time.Millisecond},
		{100 * time.Second, 30 * time.Millisecond},
		{time.Hour, 30 * time.Millisecond},
	} {
		want := start.Add(test.after)
		got := time.Unix(0, c.oursNs(want.Add(test.ahead)))
		// The share is taken at the host's reading, so it is off by the drift within the offset.
		if off := got.Sub(want).Abs(); off > 10*time.Microsecond {
			t.Errorf("after %s: %s off", test.after, off)
		}
	}
	constant := hostClock{before: clock.Offset{Ahead: time.Second, At: start}}
	if got := constant.oursNs(start.Add(time.Second)); got != start.UnixNano() {
		t.Errorf("a clock that was measured once: %d, want %d", got, start.UnixNano())
	}
}

func TestSilence(t *testing.T) {
	start := time.Unix(1_800_000_000, 0)
	at := func(s float64) int64 { return start.Add(time.Duration(s * float64(time.Second))).UnixNano() }
	migrated := Migrated{Started: start.Add(10 * time.Second), Finished: start.Add(20 * time.Second)}
	for _, test := range []struct {
		name        string
		completions []float64 // s on the guest's clock, which is 1 s ahead
		lastAtA     time.Time
		ends        float64 // 0: none
	}{
		{name: "nothing"},
		{name: "one I/O", completions: []float64{15}},
		{name: "the longest one counts", completions: []float64{10, 11, 12, 15, 16, 20, 21}, ends: 20},
		{name: "longer ones before and after do not", completions: []float64{1, 9, 11, 12, 14, 15, 25.9, 26.1, 60, 90}, ends: 25.9},
		{name: "one that begins before the migration does", completions: []float64{5, 12, 13}, ends: 12},
		{name: "one that ends after it has settled does", completions: []float64{11, 12, 25, 40}, ends: 40},
		{name: "late lines are no silence", completions: []float64{11, 14, 12, 13, 14.5}, ends: 14},
		{name: "a longer one at site A does not", completions: []float64{11, 15, 16, 18, 19}, lastAtA: start.Add(15 * time.Second), ends: 18},
		{name: "what site A saw after the migration says nothing", completions: []float64{11, 15, 16, 18, 19}, lastAtA: start.Add(21 * time.Second), ends: 15},
	} {
		s := newSilence(migrated, test.lastAtA, clock.Offset{Ahead: time.Second})
		for _, completion := range test.completions {
			s.add(load.Entry{GuestTimeNs: at(completion)})
		}
		want := int64(math.MaxInt64)
		if test.ends != 0 {
			want = at(test.ends)
		}
		if s.ends != want {
			t.Errorf("%s: ends at %s, want %s", test.name, time.Unix(0, s.ends), time.Unix(0, want))
		}
	}
}
