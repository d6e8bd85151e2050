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

// GuestClock is the clock of a guest that is stopped once, for its migration or a pause, and may
// step then: a Xen guest takes over the target host's clock when that is ahead of its own; when
// it is behind, the guest's clock stands still during the suspension. Before and after the stop
// it is a separate Clock each.
type GuestClock struct {
	before, after *Clock // the same clock when there is no stall
	stall         Interval
	stepAt        time.Time     // on the guest's clock: later stamps belong to after
	margin        time.Duration // of stepAt
}

// Step is a step of a guest's wall clock relative to its monotonic clock, as the guest observed
// it: Last is the guest's last stamp before the step, and First its first stamp after it.
type Step struct{ Last, First time.Time }

// NewGuest makes the guest's clock from readings on our time base (see Compose), taken through
// the hosts of both sites wherever the guest ran, and from heartbeats, in any order. stall is the
// time during which the guest did not run, as the hypervisor saw it; readings that overlap it are
// left out. Without a stall the result is one Clock over all readings. steps are what the guest
// itself observed: a step in the stall gives the place of the clock's step. A guest whose two
// clocks stood still together observed none.
//
// The error is a *JumpError for a step outside the stall, for a clock that is earlier at the
// stall's end than at its beginning, and for a heartbeat that arrived before it was sent. It is
// ErrNoReadings when one side of the stall has no reading: the guest did not come back.
func NewGuest(readings []Reading, beats []Beat, stall Interval, steps []Step) (*GuestClock, error) {
	c, err := newGuest(readings, beats, stall, steps)
	var jump *JumpError
	if stall.IsZero() || !errors.As(err, &jump) {
		return c, err
	}
	// The clock may have stood still for longer than the stall: the time that the hypervisor
	// reports is within the time during which it actually stopped the guest.
	stall.Uncertainty += stopTakes
	if wider, widerErr := newGuest(readings, beats, stall, steps); widerErr == nil {
		return wider, nil
	}
	return nil, err
}

// stopTakes is how much longer than the reported stall a guest's clock may stand still, at each
// end. QEMU stops the processors and saves the clock before it reports STOP, and reports RESUME
// before it sets the clock and starts the processors (do_vm_stop and vm_prepare_start in its
// softmmu/cpus.c): 13 ms in all were observed on an emulated host.
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

// split separates the readings before the stall from those after it.
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

// place finds where on the guest's clock the step is: in the middle between what the clock shows
// at the stall's two ends, because the guest stamped nothing between them, but not before the
// stamp of a heartbeat that had arrived by the stall's middle. When the guest's clock stood still
// during the stall, the two ends are the same moment of that clock; it is known as precisely as
// the two offsets and the stall are.
func (c *GuestClock) place(beats []Beat, steps []Step) error {
	from, to := c.stall.From.Add(c.before.Ahead(c.stall.From)), c.stall.To.Add(c.after.Ahead(c.stall.To))
	// No stamp before the stall is later than last, and none after it earlier than first.
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

// between returns the step that is in the stall, narrowed by all observations of it. No stamp
// before the stall is later than last, and none after it earlier than first.
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
	// Observations that contradict each other are of two steps, and it is not known which one is
	// meant.
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

// check returns an error for a heartbeat that arrived before it was sent.
func (c *GuestClock) check(beats []Beat) error {
	for _, beat := range beats {
		sent := c.Ours(beat.Sent)
		if early := sent.Sub(beat.Arrived); early > c.UncertaintyAt(sent)+beat.Uncertainty && !c.near(beat.Sent) {
			return &JumpError{Machine: trial.Guest, Since: beat.Arrived, At: beat.Arrived, By: early}
		}
	}
	return nil
}

// near reports whether a stamp may be from either side of the step.
func (c *GuestClock) near(guest time.Time) bool {
	return !c.stall.IsZero() && guest.Sub(c.stepAt).Abs() <= c.margin
}

// middle returns the middle of the stall, when the guest certainly did not run.
func (c *GuestClock) middle() time.Time {
	return c.stall.From.Add(c.stall.To.Sub(c.stall.From) / 2)
}

// of returns the clock that applies at a moment of our clock.
func (c *GuestClock) of(ours time.Time) *Clock {
	if c.stall.IsZero() || ours.Before(c.middle()) {
		return c.before
	}
	return c.after
}

// Ours converts a time of the guest's clock to ours. It is strictly increasing: it never puts a
// stamp up to the step after the stall's middle, nor a later stamp before it.
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

// LatencyOurs converts a latency on the guest's clock to one on ours. The latency of an I/O that
// was in flight when the clock stepped, as the stalled one is, includes the step.
func (c *GuestClock) LatencyOurs(completedGuest time.Time, latency time.Duration) time.Duration {
	return max(0, c.Ours(completedGuest).Sub(c.Ours(completedGuest.Add(-latency))))
}

// Ahead returns how far the guest's clock is ahead of ours at a moment of our clock. In the stall
// it uses the clock of the nearer end.
func (c *GuestClock) Ahead(ours time.Time) time.Duration { return c.of(ours).Ahead(ours) }

// UncertaintyAt bounds the error at a moment of our clock, as Clock.UncertaintyAt does. It does
// not hold for stamps within StepMargin of the step.
func (c *GuestClock) UncertaintyAt(ours time.Time) time.Duration {
	return c.of(ours).UncertaintyAt(ours)
}

// Worst returns the largest uncertainty between two moments of our clock.
func (c *GuestClock) Worst(from, to time.Time) time.Duration {
	middle := c.middle()
	if c.of(from) == c.of(to) {
		return c.of(from).Worst(from, to)
	}
	return max(c.before.Worst(from, middle), c.after.Worst(middle, to))
}

// Step returns what the guest's clock gained during the stall beyond the stall's length; a
// negative value is a loss. Its uncertainty is the sum of the clock's uncertainties at both ends
// of the stall. It is 0 without a stall.
func (c *GuestClock) Step() time.Duration {
	if c.stall.IsZero() {
		return 0
	}
	return c.after.Ahead(c.stall.To) - c.before.Ahead(c.stall.From)
}

// StepAt returns where the guest's clock stepped, on that clock: the last stamp before the step.
// It is the zero time without a stall.
func (c *GuestClock) StepAt() time.Time { return c.stepAt }

// StepMargin returns how close to StepAt a stamp may belong to the other side, and then be wrong
// by the whole step. It is 0 unless the guest's clock stood (nearly) still during the stall. The
// length of a stall that is found in the guest's stamps does not depend on where within it the
// step is placed; its ends are wrong by the margin at most.
func (c *GuestClock) StepMargin() time.Duration { return c.margin }
