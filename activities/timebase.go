package activities

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"heliotrope/analysis/dataset"
	"heliotrope/analysis/judge"
	"heliotrope/internal/cause"
	"heliotrope/internal/load/iolog"
	"heliotrope/internal/load/spec"
	"heliotrope/internal/timebase"
	"heliotrope/internal/trial"
	"heliotrope/internal/witness"
)

// clocks are the clocks of an attempt's machines, relative to the controller's.
type clocks struct {
	readings []dataset.Clock   // of all machines
	steered  []dataset.Counter // how much faster the hosts' clocks were made to run
	hosts    map[string]*timebase.Clock
	guest    *timebase.GuestClock // nil when the guest's load left nothing
	// oneSided says that the guest's clock is only known before its stall.
	oneSided bool
}

// readClocks makes the machines' clocks from their readings. When a clock cannot be made,
// that is a problem of the attempt: the samples of that machine are not written, and their
// raw files stay.
func (a *account) readClocks() error {
	a.clocks = clocks{hosts: map[string]*timebase.Clock{}}
	paths, err := dataset.SegmentPaths(a.input.WorkFolder(), dataset.Clocks)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	rows, err := a.journaledClocks(paths)
	if err != nil {
		return err
	}
	a.clocks.readings = rows
	byHost := map[string][]timebase.Reading{}
	for _, row := range rows {
		byHost[row.Machine] = append(byHost[row.Machine], timebase.Reading{At: time.Unix(0, row.TsNs),
			Ahead: time.Duration(row.AheadNs), Uncertainty: time.Duration(row.UncertaintyNs)})
	}
	for _, name := range a.input.Known.Collected.Machines {
		if name == trial.Guest {
			continue
		}
		steered, err := a.steering(name)
		if err != nil {
			return err
		}
		clock, err := timebase.New(byHost[name], timebase.Options{Machine: name, SteeredPPM: steered})
		if err != nil {
			a.distrust(clockCause(err), fmt.Errorf("the clock of %s: %w", name, err))
			continue
		}
		a.clocks.hosts[name] = clock
	}
	// The heartbeats are needed even of a guest that has nothing else to give.
	if a.has(trial.Guest) || a.input.Known.Looked.Verdict == trial.TargetFailed {
		return a.readGuestClock()
	}
	return nil
}

// steering is by how much a host's kernel had its clock run faster than its oscillator, in
// ppm. There are no values for a host without counters, or whose counters cannot be read,
// which is reported when they are written.
func (a *account) steering(name string) ([]float64, error) {
	if a.recorded(name) {
		return nil, nil
	}
	var steered []float64
	err := a.raw(name, witness.CountersFile, func(file *os.File) error {
		return witness.ReadCounters(file, func(reading witness.Reading) error {
			if ppm, is := witness.Steering(reading.Device, reading.Name, reading.Value); is {
				steered = append(steered, ppm)
				a.clocks.steered = append(a.clocks.steered, dataset.Counter{Host: name,
					Device: reading.Device, Name: reading.Name, Value: reading.Value})
			}
			return nil
		})
	})
	var unreadable *unreadableError
	if errors.As(err, &unreadable) {
		return nil, nil
	}
	return steered, err
}

// clockCause is the cause when a clock cannot be made.
func clockCause(err error) cause.Code {
	var jump *timebase.JumpError
	if errors.As(err, &jump) {
		return cause.ClockJumped
	}
	return cause.ClockUncertain
}

// readGuestClock makes the guest's clock from the readings by the witnesses at the WAN's
// ends, the guest's heartbeats, and the time at which it stood still according to the
// hypervisors.
func (a *account) readGuestClock() error {
	for _, name := range a.heard(a.left.facts.Ends()) {
		host := a.clocks.hosts[name]
		var exchanges []timebase.Reading
		err := a.raw(name, witness.ExchangesFile, func(file *os.File) error {
			return witness.ReadExchanges(file, func(exchange witness.Exchange) error {
				exchanges = append(exchanges, timebase.Reading(exchange))
				return nil
			})
		})
		if err := a.unlessUnreadable(err); err != nil {
			return err
		}
		for _, reading := range timebase.Compose(exchanges, host) {
			a.clocks.readings = append(a.clocks.readings, dataset.Clock{TsNs: reading.At.UnixNano(), Machine: trial.Guest, Reference: name,
				AheadNs: reading.Ahead.Nanoseconds(), UncertaintyNs: reading.Uncertainty.Nanoseconds()})
		}
	}
	domains, err := dataset.All(a.domains())
	if err := a.unlessUnreadable(err); err != nil {
		return err
	}
	arrived, err := a.arrivals()
	if err != nil {
		return err
	}
	raw := judge.Raw{Clocks: dataset.Rows(a.clocks.readings), Domains: dataset.Rows(domains),
		Heartbeats: dataset.Rows(arrived), Counters: dataset.Rows(a.clocks.steered)}
	guest, err := judge.GuestClock(&a.row, raw, nil, a.settings.judged())
	if err == nil && guest.Clock != nil && guest.Clock.StepMargin() > 0 {
		var steps []timebase.Step
		if steps, err = a.steps(); len(steps) > 0 && err == nil {
			guest, err = judge.GuestClock(&a.row, raw, steps, a.settings.judged())
		}
	}
	if err != nil {
		return err
	}
	if guest.Err != nil {
		a.distrust(guest.Cause, fmt.Errorf("the guest's clock: %w", guest.Err))
	}
	a.clocks.guest, a.clocks.oneSided = guest.Clock, guest.OneSided
	return nil
}

// steps are the steps of its clock that the guest saw itself, from the load's log. There
// are none in fio's log, nor in a log that cannot be understood, which is reported when it
// is written.
func (a *account) steps() ([]timebase.Step, error) {
	if !a.has(trial.Guest) || a.input.Ref.Trial.Cell.Access.Complete().Engine != spec.EngineOwn {
		return nil, nil
	}
	logged, err := a.readLoad(func(iolog.Entry) error { return nil })
	var unreadable *unreadableError
	if errors.As(err, &unreadable) {
		return nil, nil
	}
	var steps []timebase.Step
	for _, step := range logged.Steps {
		if step.BeforeNs > 0 {
			steps = append(steps, timebase.Step{Last: time.Unix(0, step.BeforeNs), First: time.Unix(0, step.AtNs)})
		}
	}
	return steps, err
}

// siteHosts are the hosts that run the guest at site A and site B, when data was collected
// from them and their clocks are known.
func (a *account) siteHosts() []string { return a.heard(a.left.facts.Sites()) }

// heard are those of some hosts that data was collected from and whose clocks are known.
func (a *account) heard(names []string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !a.has(name) || a.clocks.hosts[name] == nil })
}

// receiver is the host at which the heartbeats arrive, the WAN's end at site A; false when
// nothing was collected from it.
func (a *account) receiver() (string, bool) {
	ends := a.left.facts.Ends()
	if len(ends) == 0 || len(a.heard(ends[:1])) == 0 {
		return "", false
	}
	return ends[0], true
}

// arrivals are the guest's heartbeats, without the columns that need the guest's clock.
func (a *account) arrivals() ([]dataset.Heartbeat, error) {
	name, ok := a.receiver()
	if !ok {
		return nil, nil
	}
	var rows []dataset.Heartbeat
	clock := a.clocks.hosts[name]
	err := a.raw(name, witness.HeartbeatsFile, func(file *os.File) error {
		return witness.ReadHeartbeats(file, func(beat witness.Heartbeat) error {
			rows = append(rows, dataset.Heartbeat{TsNs: clock.Ours(beat.Arrived).UnixNano(), SentGuestNs: beat.Sent.UnixNano(),
				Sequence: int64(beat.Sequence), Acked: int64(beat.Acked)}) //nolint:gosec // counts from 1
			return nil
		})
	})
	return rows, a.unlessUnreadable(err)
}

// journaledClocks are the readings that the controller took. A segment that a crash
// interrupted has the rows that were on the disk.
func (a *account) journaledClocks(paths []string) ([]dataset.Clock, error) {
	var rows []dataset.Clock
	for _, path := range paths {
		read, err := dataset.All(dataset.ReadSegments(dataset.Clocks, path))
		var damaged *dataset.DamagedError
		if errors.As(err, &damaged) {
			a.distrust(cause.DataDamaged, err)
			continue
		}
		if err != nil {
			return nil, err
		}
		rows = append(rows, read...)
	}
	return rows, nil
}
