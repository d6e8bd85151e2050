package pace_test

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"heliotrope/internal/pace"
)

// multiple returns the last multiple of an interval on the monotonic clock.
func multiple(t *testing.T, interval time.Duration) time.Duration {
	t.Helper()
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		t.Fatal(err)
	}
	return time.Duration(now.Nano()).Truncate(interval)
}

// TestFirstTick: it comes after the next multiple of the interval, and not before.
func TestFirstTick(t *testing.T) {
	const interval = 7 * time.Millisecond
	for range 10 {
		before := multiple(t, interval)
		ticker, err := pace.New(interval)
		if err != nil {
			t.Fatal(err)
		}
		<-ticker.C
		if after := multiple(t, interval); after <= before {
			t.Errorf("a tick, and no multiple of %s since %s", interval, before)
		}
		ticker.Stop()
	}
}

// TestMissedTicks: after five intervals in which nobody waits, one tick comes at once, and the
// next one after a further multiple.
func TestMissedTicks(t *testing.T) {
	const interval = 10 * time.Millisecond
	ticker, err := pace.New(interval)
	if err != nil {
		t.Fatal(err)
	}
	defer ticker.Stop()
	other, err := pace.New(5 * interval)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Stop()
	<-other.C
	<-other.C
	from := multiple(t, interval)
	const ticks = 4
	for range ticks {
		<-ticker.C
	}
	// One tick was waiting, and one may have come since.
	if passed := (multiple(t, interval) - from) / interval; passed < ticks-2 {
		t.Errorf("%d ticks in %d intervals", ticks, passed)
	}
}

func TestStop(t *testing.T) {
	ticker, err := pace.New(time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	<-ticker.C
	ticker.Stop()
	ticker.Stop()
	if _, err := pace.New(-time.Second); err == nil {
		t.Error("an interval of -1 s was taken")
	}
}
