package activities

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"heliotrope/activities/pulse"
	"heliotrope/analysis/dataset"
	"heliotrope/analysis/judge"
	"heliotrope/internal/cause"
	"heliotrope/internal/clock"
	"heliotrope/internal/fault"
	"heliotrope/internal/poll"
	"heliotrope/internal/testbed"
	"heliotrope/internal/trial"
	"heliotrope/internal/wan"
)

// Certifier measures what a trial depends on: the path between the sites, and the clocks.
type Certifier struct {
	Open    Opener
	Records *Records
}

// Moments of a certificate.
const (
	BeforeTrial = judge.MomentBefore
	AfterTrial  = judge.MomentAfter
)

// CertifyInput says what the path must be like.
type CertifyInput struct {
	Target
	Moment    string        `json:"moment"` // BeforeTrial or AfterTrial
	Tolerance wan.Tolerance `json:"tolerance"`
}

// Certified says that the path and the clocks were measured. The measured values are left
// for the attempt's row: see certificateFile.
type Certified struct {
	Now time.Time `json:"now"`
}

// Certify measures the path between the sites while nothing else uses it, and the clocks.
// When the path does not match its profile before the trial, the measurement is invalid at
// once; after the trial, that is found when the attempt is judged.
func (c *Certifier) Certify(ctx context.Context, input CertifyInput) (Certified, error) {
	var certified Certified
	err := withBed(ctx, c.Open, input.Target, silenceOf(input.Target)+input.Ref.Job().Certificate, c.Records.before(input.Target, func(ctx context.Context, bed testbed.Bed, p *pulse.Pulse) error {
		profile, err := wan.ParseProfile(input.Ref.Trial.Cell.WAN)
		if err != nil {
			return fault.As(fault.BadInput, err)
		}
		p.Done(pulse.Step{Step: "measure the path " + input.Moment + " the trial"})
		certificate, err := bed.Certify(ctx, input.Ref)
		if err != nil {
			return err
		}
		rows, err := readClocks(ctx, bed, p)
		if err == nil {
			err = journalRows(input.Target, dataset.Clocks, rows)
		}
		if err == nil {
			err = writeJSON(filepath.Join(input.WorkFolder(), certificateFile(input.Moment)), certificate)
		}
		if err != nil {
			return err
		}
		certified.Now = bed.Now()
		if err := certificate.Check(profile, input.Tolerance); err != nil && input.Moment == BeforeTrial {
			return fault.Because(fault.Invalid, cause.WANOutOfTolerance, fmt.Errorf("the path is not what it should be: %w", err))
		}
		return nil
	}))
	return certified, err
}

// clocksEvery is how often the hosts' clocks are read during a trial.
const clocksEvery = 10 * time.Second

// ReadClocks is the heartbeat of FollowClocks.
type ReadClocks struct {
	Readings int `json:"readings"`
}

// FollowClocks reads the hosts' clocks again and again until it is cancelled, and renews
// the hosts' leases. When a host does not answer once, it is asked again later: the time
// between readings is part of the clock's uncertainty.
func (c *Certifier) FollowClocks(ctx context.Context, target Target) error {
	return withBed(ctx, c.Open, target, silenceOf(target), c.Records.before(target, func(ctx context.Context, bed testbed.Bed, p *pulse.Pulse) (err error) {
		readings, err := openRows(target, dataset.Clocks)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, readings.Close()) }()
		p.Quiet()
		renew := renewing(ctx, bed, target)
		for count := 1; ; count++ {
			rows, err := readClocks(ctx, bed, nil)
			if err == nil {
				err = readings.Append(rows)
			}
			if err == nil {
				p.Done(ReadClocks{count})
			} else if ctx.Err() == nil && !cutOff(err) {
				return err
			}
			if err := renew(); err != nil {
				return err
			}
			if err := poll.Beside(ctx, bed, clocksEvery); err != nil {
				return err
			}
		}
	}))
}

// readClocks reads the clock of every host once. The hosts' witnesses read the guest's
// clock.
func readClocks(ctx context.Context, bed testbed.Bed, p *pulse.Pulse) ([]dataset.Clock, error) {
	var rows []dataset.Clock
	for _, name := range named(bed, func(m trial.Machine) bool { return m.Clock }) {
		if p != nil {
			p.Done(pulse.Step{Step: "read the clock of " + name})
		}
		offset, err := bed.Clock(ctx, name)
		if err != nil {
			return nil, fmt.Errorf("clock of %s: %w", name, err)
		}
		rows = append(rows, clockRow(name, offset))
	}
	return rows, nil
}

// clockRow is the row for a reading of a clock by the controller.
func clockRow(name string, offset clock.Offset) dataset.Clock {
	return dataset.Clock{TsNs: offset.At.UnixNano(), Machine: name, Reference: controllerName,
		AheadNs: offset.Ahead.Nanoseconds(), UncertaintyNs: offset.Uncertainty.Nanoseconds()}
}

// controllerName is the controller's name in tables.
const controllerName = "controller"

// openRows begins a segment in the attempt's work folder. Others may do the same at the
// same time.
func openRows[R any](target Target, table *dataset.Table[R]) (*dataset.Segment[R], error) {
	if err := makeFolder(target, target.WorkFolder()); err != nil {
		return nil, err
	}
	for {
		path, err := dataset.NextSegment(target.WorkFolder(), table)
		if err != nil {
			return nil, err
		}
		segment, err := dataset.OpenSegment(path, table)
		if !errors.Is(err, fs.ErrExist) {
			return segment, err
		}
	}
}

// journalRows writes rows to a segment of their own in the attempt's work folder. They are
// on the disk when it returns.
func journalRows[R any](target Target, table *dataset.Table[R], rows []R) error {
	segment, err := openRows(target, table)
	if err != nil {
		return err
	}
	return errors.Join(segment.Append(rows), segment.Close())
}
