package activities

import (
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/load"
	"heliotrope/internal/trial"
	"heliotrope/internal/witness"
)

// unreadableError is raw data that cannot be understood.
type unreadableError struct {
	path string
	err  error
}

func (e *unreadableError) Error() string { return e.path + ": " + e.err.Error() }
func (e *unreadableError) Unwrap() error { return e.err }

func (a *account) has(machine string) bool {
	return slices.Contains(a.input.Known.Collected.Machines, machine)
}

// raw opens a machine's raw file and has it read.
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

// guestClock finds the silence of the migration in the load's log.
func (a *account) guestClock() (guestClock, error) {
	known := a.input.Known
	c := guestClock{before: known.Attested.Clocks[trial.Guest], after: known.Collected.Clocks[trial.Guest]}
	if !a.has(trial.Guest) || known.Migrated.Finished.IsZero() {
		c.stepNs = math.MaxInt64
		return c, nil
	}
	lastAtA, err := a.lastAtA()
	if err != nil {
		return c, err
	}
	found := newSilence(known.Migrated, lastAtA, c.before)
	err = a.raw(trial.Guest, load.LogFile, func(file *os.File) error {
		return load.ReadLog(file, func(entry load.Entry) error {
			found.add(entry)
			return nil
		})
	})
	c.stepNs = found.ends
	return c, err
}

// lastAtA is when site A's host last saw the guest's disk busy, less a sampling
// interval; zero when it has no counters.
func (a *account) lastAtA() (time.Time, error) {
	known := a.input.Known
	i := slices.IndexFunc(known.Collected.Machines, func(name string) bool { return name != trial.Guest })
	if i < 0 {
		return time.Time{}, nil
	}
	host := known.Collected.Machines[i] // of site A: hosts are collected from in their order
	var last, sample time.Time
	var ios, most int64
	err := a.raw(host, witness.CountersFile, func(file *os.File) error {
		return witness.ReadCounters(file, func(reading witness.Reading) error {
			if !reading.At.Equal(sample) {
				if ios > most {
					last, most = sample, ios
				}
				sample, ios = reading.At, 0
			}
			if reading.Device == witness.GuestDisk && (reading.Name == "reads" || reading.Name == "writes") {
				ios += reading.Value
			}
			return nil
		})
	})
	if err != nil || last.IsZero() {
		return time.Time{}, err
	}
	clocks := hostClock{before: known.Attested.Clocks[host], after: known.Collected.Clocks[host]}
	return time.Unix(0, clocks.oursNs(last)).Add(-witness.Interval), nil
}

// batchRows is how many rows go to the dataset at once.
const batchRows = 32 * 1024

// io gives the load's log as rows, in batches.
func (a *account) io(clocks guestClock) dataset.Batches[dataset.IO] {
	return func(yield func([]dataset.IO, error) bool) {
		b := batcher[dataset.IO]{yield: yield}
		err := a.raw(trial.Guest, load.LogFile, func(file *os.File) error {
			return load.ReadLog(file, func(entry load.Entry) error {
				return b.add(dataset.IO{TsNs: clocks.oursNs(entry.GuestTimeNs), GuestTsNs: entry.GuestTimeNs,
					LatencyNs: clocks.latencyNs(entry.GuestTimeNs, entry.LatencyNs), Op: entry.Op, SizeBytes: entry.SizeBytes, OffsetBytes: entry.OffsetBytes})
			})
		})
		b.end(err)
	}
}

// counters gives the hosts' counters as rows, in batches.
func (a *account) counters() dataset.Batches[dataset.Counter] {
	known := a.input.Known
	return func(yield func([]dataset.Counter, error) bool) {
		b := batcher[dataset.Counter]{yield: yield}
		var err error
		for _, name := range known.Collected.Machines {
			if name == trial.Guest || err != nil {
				continue
			}
			clocks := hostClock{before: known.Attested.Clocks[name], after: known.Collected.Clocks[name]}
			err = a.raw(name, witness.CountersFile, func(file *os.File) error {
				return witness.ReadCounters(file, func(reading witness.Reading) error {
					return b.add(dataset.Counter{TsNs: clocks.oursNs(reading.At), Host: name,
						Device: reading.Device, Name: reading.Name, Value: reading.Value})
				})
			})
		}
		b.end(err)
	}
}

// batcher makes batches of rows.
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
