package judge

import (
	"errors"
	"fmt"
	"time"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/cause"
	"heliotrope/internal/inventory"
	"heliotrope/internal/timebase"
	"heliotrope/internal/trial"
	"heliotrope/internal/witness"
)

// bound is the uncertainty of a clock, as package timebase computes it: readings are
// bounds, and between them a clock drifts no faster than clocks do.
type bound interface {
	UncertaintyAt(ours time.Time) time.Duration
	Worst(from, to time.Time) time.Duration
}

// clocks are the machines' clocks, from table clocks.
type clocks struct {
	readings map[string][]timebase.Reading
	bounds   map[string]bound
	broken   map[string]error // why a machine's clock is not among the bounds
}

// newClocks makes the hosts' clocks; the guest's can only be made once the stall is known.
// steered says how much faster each clock was made to run.
func newClocks(rows []dataset.Clock, steered map[string][]float64) clocks {
	c := clocks{readings: map[string][]timebase.Reading{}, bounds: map[string]bound{}, broken: map[string]error{}}
	for _, row := range rows {
		c.readings[row.Machine] = append(c.readings[row.Machine], timebase.Reading{At: time.Unix(0, row.TsNs),
			Ahead: time.Duration(row.AheadNs), Uncertainty: time.Duration(row.UncertaintyNs)})
	}
	for machine, readings := range c.readings {
		if machine == trial.Guest {
			continue
		}
		if clock, err := timebase.New(readings, timebase.Options{Machine: machine, SteeredPPM: steered[machine]}); err != nil {
			c.broken[machine] = err
		} else {
			c.bounds[machine] = clock
		}
	}
	return c
}

// steering is by how much each host's kernel had its clock run faster than its oscillator,
// in ppm, as it was sampled.
func steering(counters dataset.Batches[dataset.Counter]) (map[string][]float64, error) {
	steered := map[string][]float64{}
	for rows, err := range orNone(counters) {
		if err != nil {
			return nil, err
		}
		for _, c := range rows {
			if ppm, is := witness.Steering(c.Device, c.Name, c.Value); is {
				steered[c.Host] = append(steered[c.Host], ppm)
			}
		}
	}
	return steered, nil
}

// setGuest adds the guest's clock. A clock that is only known before the stall says nothing
// about phase after.
func (c clocks) setGuest(guest Guest) {
	switch {
	case guest.OneSided:
		c.broken[trial.Guest] = fmt.Errorf("after the stall: %w", timebase.ErrNoReadings)
	case guest.Err != nil:
		c.broken[trial.Guest] = guest.Err
	default:
		c.bounds[trial.Guest] = guest.Clock
	}
}

// at is the uncertainty of a machine's clock at a moment, in ns; false when nothing is
// known of the clock.
func (c clocks) at(machine string, ts int64) (int64, bool) {
	clock, ok := c.bounds[machine]
	if !ok {
		return 0, false
	}
	return clock.UncertaintyAt(time.Unix(0, ts)).Nanoseconds(), true
}

// clockLimit finds the most uncertain clock of the measuring phases, and checks it against
// the limit.
func (s *scene) clockLimit() {
	s.row.ClockUncertaintyMs = nil
	if !s.complete() {
		return
	}
	part := s.measuring()
	name, worst := "", time.Duration(0)
	for _, machine := range s.clockOwners() {
		clock, ok := s.clocks.bounds[machine]
		if !ok {
			s.brokenClock(machine)
			return
		}
		if uncertainty := clock.Worst(time.Unix(0, part.from), time.Unix(0, part.to)); uncertainty >= worst {
			name, worst = machine, uncertainty
		}
	}
	s.row.ClockUncertaintyMs = milliseconds(float64(worst.Nanoseconds()))
	if ms := *s.row.ClockUncertaintyMs; ms > s.limits.ClockUncertaintyMs {
		s.problem(cause.ClockUncertain, "the clock of %s is uncertain by ± %.3g ms, the limit is %.3g ms", name, ms, s.limits.ClockUncertaintyMs)
	}
}

// clockOwners are the machines whose clocks count: all that have one, and the guest, unless
// the guest did not come back.
func (s *scene) clockOwners() []string {
	var names []string
	for _, h := range s.hosts {
		if !s.lacks(h.Name, inventory.Clock) {
			names = append(names, h.Name)
		}
	}
	if s.outcome.code == cause.GuestHung {
		return names // nobody could read its clock: that is part of the outcome
	}
	return append(names, trial.Guest)
}

// brokenClock notes why nothing is known of a machine's clock. When the guest's clock steps
// and nobody knows whether the guest was stopped, the clock may be a good one: then the
// problem of the hypervisor's witness is reported instead.
func (s *scene) brokenClock(machine string) {
	err := s.clocks.broken[machine]
	var jump *timebase.JumpError
	switch {
	case machine == trial.Guest && s.ofGuest.Cause == cause.WitnessDied:
	case errors.As(err, &jump):
		s.problem(cause.ClockJumped, "%v", err)
	case err == nil || errors.Is(err, timebase.ErrNoReadings):
		s.problem(cause.ClockUncertain, "the clock of %s was never read", machine)
	default:
		s.problem(cause.ClockUncertain, "the clock of %s: %v", machine, err)
	}
}
