package activities

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"heliotrope/activities/pulse"
	"heliotrope/internal/clock"
	"heliotrope/internal/fault"
	"heliotrope/internal/poll"
	"heliotrope/internal/testbed"
	"heliotrope/internal/timebase"
	"heliotrope/internal/trial"
)

// A host that was just started has its clock set, by 10 ms as it was seen, when its time
// daemon first hears from others. A trial in which that happens is invalid.
const (
	// settleWithin is how long after its start a host's clock may do so.
	settleWithin = 10 * time.Minute
	// settledFor is how long a clock must have kept time to count as settled, and
	// settleEvery how often it is read meanwhile.
	settledFor  = 30 * time.Second
	settleEvery = 5 * time.Second
)

// settling is a host that was started lately.
type settling struct {
	name     string
	started  time.Time
	readings []timebase.Reading // since its clock was set
	jump     error              // how it was set last
}

// settle waits until the clocks of hosts that were started lately keep time, and says
// for which host, and since when. It fails when one has not within settleWithin of the
// host's start; after that nobody waits for it any more.
func settle(ctx context.Context, bed testbed.Bed, p *pulse.Pulse) error {
	young, err := startedLately(ctx, bed)
	for err == nil && len(young) > 0 {
		for _, host := range young {
			if err := host.read(ctx, bed); err != nil {
				return err
			}
		}
		young = slices.DeleteFunc(young, (*settling).settled)
		if len(young) == 0 {
			break
		}
		first := young[0]
		since := first.started.Format(time.TimeOnly)
		if first.jump != nil && time.Since(first.started) > settleWithin {
			return fault.New(fault.Infrastructure, "%s was started at %s, and its clock has not settled since: %w", first.name, since, first.jump)
		}
		p.Done(pulse.Step{Step: fmt.Sprintf("wait until the clock of %s has settled: it was started at %s", first.name, since)})
		err = poll.Pause(ctx, settleEvery)
	}
	return err
}

// startedLately are the hosts whose clocks may still be set.
func startedLately(ctx context.Context, bed testbed.Bed) ([]*settling, error) {
	machines, is := bed.(Machines)
	if !is {
		return nil, nil
	}
	var young []*settling
	for _, name := range named(bed, func(m trial.Machine) bool { return m.Clock && m.Shell && m.Name != trial.Guest }) {
		uptime, err := clock.Uptime(ctx, machines.Machine(name))
		if err != nil {
			return nil, err
		}
		if uptime < settleWithin {
			young = append(young, &settling{name: name, started: time.Now().Add(-uptime)})
		}
	}
	return young, nil
}

// read reads the host's clock once more.
func (s *settling) read(ctx context.Context, bed testbed.Bed) error {
	offset, err := bed.Clock(ctx, s.name)
	if err != nil {
		return fmt.Errorf("clock of %s: %w", s.name, err)
	}
	s.readings = append(s.readings, timebase.Reading{At: offset.At, Ahead: offset.Ahead, Uncertainty: offset.Uncertainty})
	_, err = timebase.New(s.readings, timebase.Options{Machine: s.name})
	var jump *timebase.JumpError
	if errors.As(err, &jump) {
		s.readings, s.jump = s.readings[len(s.readings)-1:], err
		return nil
	}
	return err
}

// settled says that its clock has kept time for long enough.
func (s *settling) settled() bool {
	return s.readings[len(s.readings)-1].At.Sub(s.readings[0].At) >= settledFor
}
