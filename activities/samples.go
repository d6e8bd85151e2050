package activities

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/cause"
	"heliotrope/internal/load"
	"heliotrope/internal/load/iolog"
	"heliotrope/internal/load/spec"
	"heliotrope/internal/trial"
	"heliotrope/internal/witness"
)

// unreadableError says that raw data cannot be understood.
type unreadableError struct {
	path string
	err  error
}

func (e *unreadableError) Error() string { return e.path + ": " + e.err.Error() }
func (e *unreadableError) Unwrap() error { return e.err }

// unlessUnreadable makes raw data that cannot be understood a problem of the attempt, and
// returns all other errors.
func (a *account) unlessUnreadable(err error) error {
	var unreadable *unreadableError
	if errors.As(err, &unreadable) {
		a.distrust(cause.DataDamaged, unreadable)
		return nil
	}
	return err
}

func (a *account) has(machine string) bool {
	return slices.Contains(a.input.Known.Collected.Machines, machine)
}

// raw opens a machine's raw file and calls read.
func (a *account) raw(machine, name string, read func(*os.File) error) error {
	path := filepath.Join(a.input.WorkFolder(), machine, name)
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &unreadableError{path, err}
	}
	if err != nil {
		return err
	}
	defer file.Close()
	if err := read(file); err != nil && !errors.Is(err, errStopped) {
		return &unreadableError{path, err}
	}
	return nil
}

// errStopped ends reading early.
var errStopped = errors.New("nobody wants more")

// batchRows is the number of rows that are given to the dataset at once.
const batchRows = 32 * 1024

// io gives the load's log as rows, in batches; nil when the guest's clock is not known.
func (a *account) io() dataset.Batches[dataset.IO] {
	clock := a.clocks.guest
	if clock == nil || !a.has(trial.Guest) {
		return nil
	}
	access := a.input.Ref.Trial.Cell.Access.Complete()
	return batches(func(b *batcher[dataset.IO]) (err error) {
		a.logged, err = a.readLoad(func(entry iolog.Entry) error {
			completed := time.Unix(0, entry.CompletedNs)
			row := dataset.IO{TsNs: clock.Ours(completed).UnixNano(), GuestTsNs: entry.CompletedNs,
				LatencyNs: clock.LatencyOurs(completed, time.Duration(entry.CompletedNs-entry.SubmittedNs+entry.LateNs)).Nanoseconds(),
				Op:        operation(entry.Write), SizeBytes: entry.SizeBytes, OffsetBytes: entry.OffsetBytes,
				Error: entry.Error, Reply: entry.Reply}
			if entry.Line != load.NoLine {
				row.Line = dataset.Known(int32(entry.Line))
			}
			if access.Engine == spec.EngineOwn {
				row.Worker, row.Target = dataset.Known(int32(entry.Worker)), dataset.Known(int32(entry.Target))
			}
			if access.RateIOPS > 0 {
				row.LateNs = dataset.Known(entry.LateNs)
			}
			if row.Error != 0 {
				a.lastFailureNs = max(a.lastFailureNs, row.TsNs)
			}
			return b.add(row)
		})
		return err
	})
}

// readLoad gives the I/Os in the load's log.
func (a *account) readLoad(give func(iolog.Entry) error) (iolog.Account, error) {
	folder := func(machine string) string { return filepath.Join(a.input.WorkFolder(), machine) }
	config := a.input.Known.Provisioned.Load.Load
	if config == nil {
		return iolog.Account{}, &unreadableError{folder(trial.Guest), errors.New("it is not known what the load was to be")}
	}
	var near []string
	for _, name := range a.input.Known.Collected.Machines {
		if name != trial.Guest {
			near = append(near, filepath.Join(folder(name), witness.LogFile))
		}
	}
	began, _ := a.input.Ref.Timeline.Start(trial.WarmUp)
	account, err := load.Read(folder(trial.Guest), near, config.Replay(), began, give)
	var failed *fs.PathError
	if err == nil || errors.Is(err, errStopped) || errors.As(err, &failed) && !errors.Is(err, fs.ErrNotExist) {
		return account, err
	}
	return account, &unreadableError{folder(trial.Guest), err}
}

// hosts are the hosts whose samples can be put on the controller's time base.
func (a *account) hosts() []string {
	var names []string
	for _, name := range a.input.Known.Collected.Machines {
		if a.clocks.hosts[name] != nil {
			names = append(names, name)
		}
	}
	return names
}

// counters gives the hosts' counters as rows, in batches.
func (a *account) counters() dataset.Batches[dataset.Counter] {
	return batches(func(b *batcher[dataset.Counter]) error {
		for _, name := range a.hosts() {
			if a.recorded(name) {
				if err := a.countedRows(name, b.add); err != nil {
					return err
				}
				continue
			}
			clock := a.clocks.hosts[name]
			err := a.raw(name, witness.CountersFile, func(file *os.File) error {
				return witness.ReadCounters(file, func(reading witness.Reading) error {
					return b.add(dataset.Counter{TsNs: clock.Ours(reading.At).UnixNano(), Host: name,
						Device: reading.Device, Name: reading.Name, Value: reading.Value})
				})
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// domains gives the domain states that the hypervisors' hosts saw, or have in their own
// records.
func (a *account) domains() dataset.Batches[dataset.Domain] {
	return batches(func(b *batcher[dataset.Domain]) error {
		for _, name := range a.siteHosts() {
			clock := a.clocks.hosts[name]
			if a.recorded(name) {
				if err := a.recordRows(name, clock, b.add); err != nil {
					return err
				}
				continue
			}
			err := a.raw(name, witness.DomainsFile, func(file *os.File) error {
				return witness.ReadDomains(file, func(reading witness.DomainReading) error {
					return b.add(dataset.Domain{TsNs: clock.Ours(reading.At).UnixNano(), Host: name,
						ID: int32(reading.ID), State: reading.State, SpacingNs: reading.Spacing.Nanoseconds()}) //nolint:gosec // Xen's are 15 bits
				})
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// heartbeats gives the heartbeats that arrived at the WAN's end at site A.
func (a *account) heartbeats() dataset.Batches[dataset.Heartbeat] {
	name, ok := a.receiver()
	if !ok || a.clocks.guest == nil {
		return nil
	}
	clock := a.clocks.hosts[name]
	return batches(func(b *batcher[dataset.Heartbeat]) error {
		return a.raw(name, witness.HeartbeatsFile, func(file *os.File) error {
			return witness.ReadHeartbeats(file, func(beat witness.Heartbeat) error {
				row := dataset.Heartbeat{TsNs: clock.Ours(beat.Arrived).UnixNano(),
					Sequence: int64(beat.Sequence), Acked: int64(beat.Acked), //nolint:gosec // counts from 1
					SentGuestNs: beat.Sent.UnixNano(), SentTsNs: a.clocks.guest.Ours(beat.Sent).UnixNano()}
				if beat.OldestNs != witness.NotTold {
					row.CompletedIOs = dataset.Known(int64(beat.Completed)) //nolint:gosec // a count
				}
				if beat.OldestNs > 0 {
					row.OldestSubmittedTsNs = dataset.Known(a.clocks.guest.Ours(time.Unix(0, beat.OldestNs)).UnixNano())
				}
				return b.add(row)
			})
		})
	})
}

// batches makes batches from the rows that read adds.
func batches[R any](read func(*batcher[R]) error) dataset.Batches[R] {
	return func(yield func([]R, error) bool) {
		b := batcher[R]{yield: yield}
		b.end(read(&b))
	}
}

// batcher collects rows into batches.
type batcher[R any] struct {
	yield func([]R, error) bool
	rows  []R
	done  bool // the consumer wants no more
}

func (b *batcher[R]) add(row R) error {
	b.rows = append(b.rows, row)
	if len(b.rows) == batchRows {
		return b.flush()
	}
	return nil
}

func (b *batcher[R]) flush() error {
	if !b.done && len(b.rows) > 0 {
		b.done = !b.yield(b.rows, nil)
		b.rows = b.rows[:0]
	}
	if b.done {
		return errStopped
	}
	return nil
}

func (b *batcher[R]) end(err error) {
	if err == nil {
		err = b.flush()
	}
	if err != nil && !b.done {
		b.yield(nil, err)
	}
}
