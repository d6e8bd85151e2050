package judge

import (
	"errors"
	"fmt"
	"time"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/cause"
	"heliotrope/internal/timebase"
	"heliotrope/internal/trial"
)

// Guest is what is known of the guest's clock in an attempt.
type Guest struct {
	// Clock is nil when nothing is known of the clock: then Err says why.
	Clock *timebase.GuestClock
	Err   error
	// Cause is the code for Err, or for what OneSided leaves unknown. It is that of the
	// hypervisor's witness when that witness says nothing either.
	Cause cause.Code
	// Stall is when the guest stood still, as the hypervisors saw it; the clock is
	// corrected by it. It is zero when they saw no stall.
	Stall timebase.Interval
	// OneSided says that the clock is only known before the stall: the guest did not come
	// back.
	OneSided bool
}

// GuestClock makes the clock of an attempt's guest. It uses the attempt's rows of clocks,
// domains, counters (how clocks were steered) and heartbeats (not their SentTsNs), and the
// steps that the guest saw itself, which no table has: without them the place of the clock's
// step in the stall is less certain. All code that needs this clock calls GuestClock, when an
// attempt is concluded as well as when it is judged. Of the row it uses what Judge uses.
func GuestClock(row *dataset.Trial, raw Raw, steps []timebase.Step, limits Limits) (Guest, error) {
	s, err := newScene(row, raw, limits)
	if err != nil {
		return Guest{}, fmt.Errorf("the guest's clock in trial %s: %w", row.Key, err)
	}
	domains, err := domainsOf(raw)
	if err != nil {
		return Guest{}, fmt.Errorf("the guest's clock in trial %s: %w", row.Key, err)
	}
	heartbeats, err := dataset.All(orNone(raw.Heartbeats))
	if err != nil {
		return Guest{}, fmt.Errorf("the guest's clock in trial %s: its heartbeats: %w", row.Key, err)
	}
	hypervisor := dataset.Witness{}
	window, ok := s.window()
	if ok {
		hypervisor = s.unlessAbsent(dataset.WitnessHypervisor, func() dataset.Witness { return s.hypervisor(domains, window) })
	}
	return s.guestClock(hypervisor, s.stood(domains, window), heartbeats, steps), nil
}

// guestClock makes the guest's clock. When the clock steps while nobody knows whether the
// hypervisor stopped the guest, the step does not count as a clock that was set: the clock
// is not known.
func (s *scene) guestClock(hypervisor dataset.Witness, stall timebase.Interval, heartbeats []dataset.Heartbeat, steps []timebase.Step) Guest {
	guest := Guest{Stall: stall}
	readings, beats := s.clocks.readings[trial.Guest], s.beats(heartbeats)
	guest.Clock, guest.Err = timebase.NewGuest(readings, beats, stall, steps)
	if errors.Is(guest.Err, timebase.ErrNoReadings) && !stall.IsZero() {
		// The guest did not come back: there is nothing to correct after the stall.
		if before, err := timebase.NewGuest(readings, beats, timebase.Interval{}, nil); err == nil {
			guest.Clock, guest.Err, guest.OneSided = before, nil, true
		}
	}
	if guest.OneSided && isBlind(hypervisor) {
		guest.Cause = cause.WitnessDied
	}
	if guest.Err == nil {
		return guest
	}
	guest.Clock = nil
	var jump *timebase.JumpError
	switch {
	case errors.As(guest.Err, &jump) && isBlind(hypervisor):
		guest.Cause = cause.WitnessDied
		guest.Err = fmt.Errorf("where the guest's clock stood still is not known, for the hypervisor says nothing of the stall: %s", hypervisor.Problem)
	case errors.As(guest.Err, &jump):
		guest.Cause = cause.ClockJumped
	default:
		guest.Cause = cause.ClockUncertain
	}
	return guest
}

// isBlind says whether the hypervisor's witness should know whether the guest was stopped,
// and does not.
func isBlind(hypervisor dataset.Witness) bool {
	return hypervisor.Problem != "" && hypervisor.Problem != absent
}

// stood is when the guest stood still, as the hypervisors saw it. Its uncertainty comes
// from the time between looks and from the hosts' clocks. A hole in the watch does not make
// it wrong: a look after a hole is as uncertain as the hole is long.
func (s *scene) stood(domains []dataset.Domain, window span) timebase.Interval {
	if s.isAbsent(dataset.WitnessHypervisor) || s.source == "" {
		return timebase.Interval{}
	}
	stopped, resumed := s.suspension(domains, window)
	if stopped == nil || resumed == nil {
		return timebase.Interval{}
	}
	from, knownFrom := s.clocks.at(stopped.Host, stopped.TsNs)
	to, knownTo := s.clocks.at(resumed.Host, resumed.TsNs)
	if !knownFrom || !knownTo {
		return timebase.Interval{}
	}
	return timebase.Interval{From: time.Unix(0, stopped.TsNs), To: time.Unix(0, resumed.TsNs),
		Uncertainty: time.Duration(max(stopped.SpacingNs, resumed.SpacingNs) + from + to)}
}

// beats are the heartbeats with the times of both clocks; none where the receiver's clock
// is not known.
func (s *scene) beats(heartbeats []dataset.Heartbeat) []timebase.Beat {
	beats := make([]timebase.Beat, 0, len(heartbeats))
	for _, row := range heartbeats {
		if uncertainty, known := s.clocks.at(s.receiver, row.TsNs); known {
			beats = append(beats, timebase.Beat{Sent: time.Unix(0, row.SentGuestNs), Arrived: time.Unix(0, row.TsNs),
				Uncertainty: time.Duration(uncertainty)})
		}
	}
	return beats
}
