package timebase

import (
	"errors"
	"fmt"
	"time"

	"heliotrope/internal/trial"
)

// Beat is a heartbeat of the guest that arrived at a host.
type Beat struct {
	Sent        time.Time     // on the guest's clock
	Arrived     time.Time     // on our clock
	Uncertainty time.Duration // of Arrived
}

// GuestClock is the clock of a guest that is stopped once, for its migration or
// a pause, and may step then: Xen's guest takes over the target host's clock
// when that is ahead of its own, and its clock stands still for the suspension
// when it is behind. Before and after, it is a Clock each.
type GuestClock struct {
	before, after *Clock // the same without a stall
	stall         Interval
	stepAt        time.Time     // on the guest's clock: later stamps are of after
	margin        time.Duration // of stepAt
}

// Step is where a guest's wall clock was seen to step against its monotonic one: Last
// is what it stamped last before, and First what it stamped first afterwards.
type Step struct{ Last, First time.Time }

// NewGuest makes the guest's clock of readings on our time base (see Compose)
// through the hosts of both sites, wherever it ran, and of the heartbeats, in
// any order. The stall is when the guest did not run, as the hypervisor saw it;
// readings that touch it are left out. Without a stall it is one Clock over all
// readings. Of the steps that the guest saw itself only one in the stall is used:
// its place is then known. A guest whose two clocks stood still together saw none.
//
// A step outside of the stall is a *JumpError, and so is a clock that is
// earlier at the stall's end than it was at its beginning, and a heartbeat that
// arrived before it was sent. A side of the stall without a reading is
// ErrNoReadings: a guest that did not come back.
func NewGuest(readings []Reading, beats []Beat, stall Interval, steps []Step) (*GuestClock, error) {
	c, err := newGuest(readings, beats, stall, steps)
	var jump *JumpError
	if stall.IsZero() || !errors.As(err, &jump) {
		return c, err
	}
	// A clock that stood still for longer than the stall: what the hypervisor
	// tells lies within what it did.
	stall.Uncertainty += stopTakes
	if wider, widerErr := newGuest(readings, beats, stall, steps); widerErr == nil {
		return wider, nil
	}
	return nil, err
}

// stopTakes is how much longer a guest's clock may stand still than the
// hypervisor tells, at each end. QEMU stops the processors and saves the clock
// before it tells STOP, and tells RESUME before it sets the clock and starts them
// (do_vm_stop and vm_prepare_start in its softmmu/cpus.c): 13 ms in all were seen
// on an emulated host.
const stopTakes = 50 * time.Millisecond

func newGuest(readings []Reading, beats []Beat, stall Interval, steps []Step) (*GuestClock, error) {
	options := Options{Machine: trial.Guest}
	before, after, err := split(readings, stall)
	if err != nil {
		return nil, err
	}
	c := &GuestClock{stall: stall}
	if c.before, err = New(before, options); err != nil {
		return nil, fmt.Errorf("before the stall: %w", err)
	}
	if stall.IsZero() {
		c.after = c.before
		return c, c.check(beats)
	}
	if c.after, err = New(after, options); err != nil {
		return nil, fmt.Errorf("after the stall: %w", err)
	}
	if err := c.place(beats, steps); err != nil {
		return nil, err
	}
	return c, c.check(beats)
}

// split sorts the readings by the side of the stall on which they are.
func split(readings []Reading, stall Interval) (before, after []Reading, err error) {
	if stall.To.Before(stall.From) || stall.From.IsZero() != stall.To.IsZero() || stall.Uncertainty < 0 {
		return nil, nil, fmt.Errorf("a stall of the guest from %s to %s, give or take %s: want a beginning and a later end",
			stall.From, stall.To, stall.Uncertainty)
	}
	for _, r := range readings {
		by := r.Uncertainty + stall.Uncertainty
		switch {
		case stall.IsZero() || !r.At.Add(by).After(stall.From):
			before = append(before, r)
		case !r.At.Add(-by).Before(stall.To):
			after = append(after, r)
		}
	}
	return before, after, nil
}

// place finds where on the guest's clock it stepped: in the middle of what that
// shows at the stall's two ends, for the guest stamped nothing between them,
// and not before the stamp of a heartbeat that had arrived by the stall's
// middle. When the guest's clock stood still in the stall, its two ends are one
// moment of it, which is known as well as the two offsets and the stall are.
func (c *GuestClock) place(beats []Beat, steps []Step) error {
	from, to := c.stall.From.Add(c.before.Ahead(c.stall.From)), c.stall.To.Add(c.after.Ahead(c.stall.To))
	// No stamp of before is above last, and none of after below first.
	last := from.Add(c.before.UncertaintyAt(c.stall.From) + c.stall.Uncertainty)
	first := to.Add(-c.after.UncertaintyAt(c.stall.To) - c.stall.Uncertainty)
	if to.Sub(from) < first.Sub(to)-last.Sub(from) {
		return &JumpError{Machine: trial.Guest, Since: c.stall.From, At: c.stall.To, By: c.Step()}
	}
	c.stepAt = from.Add(to.Sub(from) / 2)
	for _, beat := range beats {
		if beat.Arrived.Add(beat.Uncertainty).After(c.middle()) || beat.Sent.After(last) {
			continue
		}
		if beat.Sent.After(c.stepAt) {
			c.stepAt = beat.Sent
		}
		if beat.Sent.After(first) {
			first = beat.Sent
		}
	}
	if step, found := between(steps, last, first); found {
		first, last = latest(first, step.Last), earliest(last, step.First)
		c.stepAt = latest(step.Last, earliest(c.stepAt, step.First.Add(-1)))
	}
	if last.After(first) {
		c.margin = max(last.Sub(c.stepAt), c.stepAt.Sub(first))
	}
	return nil
}

// between is the step that is in the stall, as closely as all that saw it know: no
// stamp of before is above last, and none of after below first.
func between(steps []Step, last, first time.Time) (place Step, found bool) {
	for _, step := range steps {
		if step.Last.After(last) || step.First.Before(first) {
			continue
		}
		if !found {
			place, found = step, true
		}
		place = Step{latest(place.Last, step.Last), earliest(place.First, step.First)}
	}
	// What contradicts itself is two steps, of which nobody knows which is meant.
	return place, found && place.Last.Before(place.First)
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earliest(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// check looks for heartbeats that arrived before they were sent.
func (c *GuestClock) check(beats []Beat) error {
	for _, beat := range beats {
		sent := c.Ours(beat.Sent)
		if early := sent.Sub(beat.Arrived); early > c.UncertaintyAt(sent)+beat.Uncertainty && !c.near(beat.Sent) {
			return &JumpError{Machine: trial.Guest, Since: beat.Arrived, At: beat.Arrived, By: early}
		}
	}
	return nil
}

// near says whether a stamp may be of either side of the step.
func (c *GuestClock) near(guest time.Time) bool {
	return !c.stall.IsZero() && guest.Sub(c.stepAt).Abs() <= c.margin
}

// middle of the stall, when the guest surely did not run.
func (c *GuestClock) middle() time.Time {
	return c.stall.From.Add(c.stall.To.Sub(c.stall.From) / 2)
}

// of gives the clock that holds at a moment of ours.
func (c *GuestClock) of(ours time.Time) *Clock {
	if c.stall.IsZero() || ours.Before(c.middle()) {
		return c.before
	}
	return c.after
}

// Ours turns a time of the guest's clock into ours. It grows with it: stamps up
// to the step are never put after the stall's middle, later ones never before.
func (c *GuestClock) Ours(guest time.Time) time.Time {
	if c.stall.IsZero() {
		return c.before.Ours(guest)
	}
	middle := c.middle()
	if guest.After(c.stepAt) {
		if ours := c.after.Ours(guest); ours.After(middle) {
			return ours
		}
		return middle
	}
	if ours := c.before.Ours(guest); ours.Before(middle) {
		return ours
	}
	return middle
}

// LatencyOurs turns a latency on the guest's clock into one on ours: an I/O
// that was in flight over the clock's step, as the stalled one is, has the step
// in its latency.
func (c *GuestClock) LatencyOurs(completedGuest time.Time, latency time.Duration) time.Duration {
	return max(0, c.Ours(completedGuest).Sub(c.Ours(completedGuest.Add(-latency))))
}

// Ahead is how far the guest's clock is ahead of ours at a moment of ours; in
// the stall, at whichever of its ends is nearer.
func (c *GuestClock) Ahead(ours time.Time) time.Duration { return c.of(ours).Ahead(ours) }

// UncertaintyAt bounds the error at a moment of ours, as that of a Clock. It
// does not hold for stamps within StepMargin of the step.
func (c *GuestClock) UncertaintyAt(ours time.Time) time.Duration {
	return c.of(ours).UncertaintyAt(ours)
}

// Worst is the largest uncertainty from one moment of ours to another.
func (c *GuestClock) Worst(from, to time.Time) time.Duration {
	middle := c.middle()
	if c.of(from) == c.of(to) {
		return c.of(from).Worst(from, to)
	}
	return max(c.before.Worst(from, middle), c.after.Worst(middle, to))
}

// Step is what the guest's clock gained in the stall beyond the stall's length:
// below 0 is what it lost. It is as uncertain as the clock is at both ends of
// the stall together; 0 without a stall.
func (c *GuestClock) Step() time.Duration {
	if c.stall.IsZero() {
		return 0
	}
	return c.after.Ahead(c.stall.To) - c.before.Ahead(c.stall.From)
}

// StepAt is where on its own clock the guest stepped, the last stamp of before;
// the zero time without a stall.
func (c *GuestClock) StepAt() time.Time { return c.stepAt }

// StepMargin is how far from StepAt a stamp may be of the other side, and then
// off by the whole step. It is 0 unless the guest's clock stood (nearly) still
// in the stall. A stall that is found in the guest's stamps is the same length
// wherever the step is put within it, and its ends are off by it at most.
func (c *GuestClock) StepMargin() time.Duration { return c.margin }
