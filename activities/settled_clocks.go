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

// When a host was just started, its time daemon sets the clock as soon as it hears from its
// servers: by 10 ms in an observed case. A trial in which that happens is invalid.
const (
	// settleWithin is how long after a host's start its clock may be set.
	settleWithin = 10 * time.Minute
	// settledFor is how long a clock must have kept time to count as settled, and
	// settleEvery is how often it is read in that time.
	settledFor  = 30 * time.Second
	settleEvery = 5 * time.Second
)

// settling is a host that was started recently.
type settling struct {
	name     string
	started  time.Time
	readings []timebase.Reading // since its clock was last set
	jump     error              // how it was last set
}

// settle waits until the clocks of recently started hosts keep time, and reports which
// host it waits for, and when that was started. It fails when a clock has not settled within settleWithin of its host's
// start. Hosts that have been up for longer are not waited for.
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

// settled says that the clock has kept time for long enough.
func (s *settling) settled() bool {
	return s.readings[len(s.readings)-1].At.Sub(s.readings[0].At) >= settledFor
}
