package activities

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/renameio/v2"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/clock"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/storage"
	"heliotrope/internal/testbed"
	"heliotrope/internal/trial"
	"heliotrope/internal/witness"
)

// counted is what a hypervisor has counted on its host. The readings themselves, if there
// are any, are beside it in witness.CountersFile, as the hypervisor gave them.
type counted struct {
	Readings int          `json:"readings"`
	Source   string       `json:"source"` // the machine whose clock their times are from
	Clock    clock.Offset `json:"clock"`  // of that clock
}

// countsOf asks a hypervisor for its counts of the guest and its host.
func countsOf(ctx context.Context, bed testbed.Bed, ref trial.Ref, site storage.Site, meter hypervisor.Meter, from, to time.Time) (hypervisor.Counts, error) {
	of := hypervisor.Counted{Domain: bed.GuestAt(site, testbed.Guest{}).Name, Storage: ref.Trial.Cell.Storage}
	return meter.Counters(ctx, of, from, to)
}

// count writes a hypervisor's counts to the machine's folder, together with those that were
// read before.
func (g *gathering) count(ctx context.Context, meter hypervisor.Meter, m trial.Machine, from, to time.Time) (*counted, error) {
	counts, err := countsOf(ctx, g.bed, g.input.Ref, storage.Site(m.Site), meter, from, to)
	if err != nil {
		return nil, err
	}
	readings := counts.Readings
	if from, _ := route(g.input.Ref); storage.Site(m.Site) == from {
		before, err := readCounts(filepath.Join(g.input.WorkFolder(), countsFile))
		if err != nil {
			return nil, err
		}
		readings = merge(before, readings)
	}
	return &counted{Readings: len(readings), Source: counts.Source, Clock: counts.Clock},
		writeCounts(filepath.Join(g.input.WorkFolder(), m.Name, witness.CountersFile), readings)
}

// countsFile has the counts of the hypervisor on the guest's first host from before the
// guest left.
const countsFile = "counters-before.txt"

// keepCounts reads a hypervisor's counts of a guest that is about to leave its host:
// afterwards nobody may have them.
func keepCounts(ctx context.Context, bed testbed.Bed, target Target, at storage.Site) error {
	for _, m := range bed.Machines() {
		meter, is := recorderAt(bed, m).(hypervisor.Meter)
		if !is || m.Site != string(at) {
			continue
		}
		counts, err := countsOf(ctx, bed, target.Ref, at, meter, loadedSince(bed, target.Ref), bed.Now())
		if err != nil {
			return err
		}
		return writeCounts(filepath.Join(target.WorkFolder(), countsFile), counts.Readings)
	}
	return nil
}

func writeCounts(path string, readings []witness.Reading) error {
	var text bytes.Buffer
	if err := witness.WriteCounters(&text, slices.Values(readings)); err != nil {
		return err
	}
	return renameio.WriteFile(path, text.Bytes(), 0o644)
}

// readCounts reads what writeCounts wrote; no readings when there is no file.
func readCounts(path string) (readings []witness.Reading, err error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	err = witness.ReadCounters(file, func(reading witness.Reading) error {
		readings = append(readings, reading)
		return nil
	})
	if err != nil && !errors.Is(err, witness.ErrNoReadings) {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return readings, nil
}

// merge joins readings of the same counters in the order of their times. Where both have a
// reading, it takes the later list's.
func merge(earlier, later []witness.Reading) []witness.Reading {
	all := slices.Clone(later)
	for _, reading := range earlier {
		same := func(other witness.Reading) bool {
			return other.At.Equal(reading.At) && other.Device == reading.Device && other.Name == reading.Name
		}
		if !slices.ContainsFunc(later, same) {
			all = append(all, reading)
		}
	}
	slices.SortStableFunc(all, func(a, b witness.Reading) int { return a.At.Compare(b.At) })
	return all
}

// countedRows gives the counts of a host's hypervisor. It puts their times on the
// controller's time base by the one reading of the clock that the times are from.
func (a *account) countedRows(host string, give func(dataset.Counter) error) error {
	told, err := a.readRecord(host)
	if err != nil || told.Counted == nil || told.Counted.Readings == 0 {
		return err
	}
	return a.raw(host, witness.CountersFile, func(file *os.File) error {
		return witness.ReadCounters(file, func(reading witness.Reading) error {
			return give(dataset.Counter{TsNs: told.Counted.Clock.Ours(reading.At).UnixNano(), Host: host,
				Device: reading.Device, Name: reading.Name, Value: reading.Value})
		})
	})
}
