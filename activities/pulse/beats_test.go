package pulse_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"heliotrope/activities/pulse"
	"heliotrope/activities/pulse/pulsetest"
)

// lasting is how long the activities in these tests last.
const lasting = 500 * time.Second

// beatsOf counts the heartbeats of activities that run at the same time.
func beatsOf(t *testing.T, all ...doing) int {
	t.Helper()
	var beats atomic.Int64
	pulse.CountBeats(t.Cleanup, func() { beats.Add(1) })
	synctest.Test(t, func(t *testing.T) {
		var running sync.WaitGroup
		for _, one := range all {
			running.Go(func() {
				_, err := pulsetest.Run(t.Context(), one.work)
				if err != nil {
					t.Error(err)
				}
			})
		}
		running.Wait()
	})
	return int(beats.Load())
}

// doing reports progress every so often; with still the report stays the same.
type doing struct {
	quiet, still bool
	every        time.Duration
}

func (w doing) work(ctx context.Context) error {
	_, p, stop := pulse.Start(ctx, time.Hour)
	defer stop()
	if w.quiet {
		p.Quiet()
	}
	for i, began := 0, time.Now(); time.Since(began) < lasting; i++ {
		if w.still {
			i = 0
		}
		p.Done(i)
		time.Sleep(w.every)
	}
	return nil
}

// TestBeatsWhereProgressIsShown: every heartbeat is a write on the server, so there are
// many only where people see something new.
func TestBeatsWhereProgressIsShown(t *testing.T) {
	for name, test := range map[string]struct {
		doing doing
		beats int // in 500 s
	}{
		"a migration that tells of bytes each second":      {doing{every: 700 * time.Millisecond}, 500},
		"the load, looked at each 5 s":                     {doing{every: 5 * time.Second}, 100},
		"a step that tells nothing new":                    {doing{every: time.Second, still: true}, 50},
		"a step that tells nothing":                        {doing{every: lasting}, 50},
		"one that follows":                                 {doing{every: time.Second, quiet: true}, 4},
		"one that follows, and does something seldom":      {doing{every: time.Minute, quiet: true}, 4},
		"one that follows, and tells the same each second": {doing{every: time.Second, quiet: true, still: true}, 4},
	} {
		if beats := beatsOf(t, test.doing); beats < test.beats-1 || beats > test.beats+1 {
			t.Errorf("%s: %d heartbeats in 500 s, want about %d", name, beats, test.beats)
		}
	}
}

// TestBeatsOfALane counts what an emulated lane with three hosts and a guest sends
// while a trial is measured: docs/temporal.md has the figure.
func TestBeatsOfALane(t *testing.T) {
	var follow []doing
	for range 4 { // links and witnesses
		follow = append(follow, doing{quiet: true, every: time.Second}, doing{quiet: true, every: 5 * time.Second})
	}
	follow = append(follow, doing{quiet: true, every: 10 * time.Second}, doing{quiet: true, every: time.Minute}) // clocks, the WAN
	quiet := beatsOf(t, follow...)
	shown := beatsOf(t, doing{every: 5 * time.Second})
	inTenSeconds := func(beats int) float64 { return float64(beats) * 10 / lasting.Seconds() }
	t.Logf("heartbeats of a lane in 10 s: %.1f of those ten that follow, %.1f of the load", inTenSeconds(quiet-len(follow)), inTenSeconds(shown))
	if inTenSeconds(quiet-len(follow)) > 1 || inTenSeconds(shown) > 2.1 { // each has one more, at its start
		t.Errorf("%d and %d heartbeats in %s", quiet, shown, lasting)
	}
}

// TestHurry: the pulses of one workflow beat at once, and tell whoever relays that.
func TestHurry(t *testing.T) {
	var beats atomic.Int64
	pulse.CountBeats(t.Cleanup, func() { beats.Add(1) })
	const workflowID = "default-test-workflow-id" // of the test environment
	synctest.Test(t, func(t *testing.T) {
		_, err := pulsetest.Run(t.Context(), func(ctx context.Context) error {
			_, p, stop := pulse.Start(ctx, time.Hour)
			p.Quiet()
			began := time.Now()
			pulse.Hurry("another")
			synctest.Wait()
			if beats.Load() != 0 {
				t.Error("it beats for another workflow")
			}
			pulse.Hurry(workflowID)
			<-p.Hurried()
			pulse.HurryAll()
			<-p.Hurried()
			if beats.Load() != 2 || !time.Now().Equal(began) {
				t.Errorf("%d heartbeats after %s, want 2 at once", beats.Load(), time.Since(began))
			}
			stop()
			pulse.Hurry(workflowID) // nobody is there
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
}

// TestAnotherRun: nothing tells the activities of a terminated run that it was ended. They
// learn of it when the workflow's next run begins an activity.
func TestAnotherRun(t *testing.T) {
	var all pulse.Pulses
	first, second, other := pulse.New(), pulse.New(), pulse.New()
	all.Join("trial/night/00001", "first", first)
	all.Join("trial/night/00002", "first", other)
	all.Join("trial/night/00001", "first", pulse.New())
	if first.Pending() {
		t.Error("it beats for another of its own run")
	}
	all.Join("trial/night/00001", "second", second)
	if !first.Pending() || second.Pending() || other.Pending() {
		t.Errorf("pending are %t, %t and %t, want that of the run before alone", first.Pending(), second.Pending(), other.Pending())
	}
}
