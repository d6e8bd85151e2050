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

// counted is what a hypervisor has counted of its host: the readings are in
// witness.CountersFile beside it, where there are any, as they were told.
type counted struct {
	Readings int          `json:"readings"`
	Source   string       `json:"source"` // whose clock their times are by
	Clock    clock.Offset `json:"clock"`  // of that clock
}

// countsOf asks what a hypervisor has counted of the guest and its host.
func countsOf(ctx context.Context, bed testbed.Bed, ref trial.Ref, site storage.Site, meter hypervisor.Meter, from, to time.Time) (hypervisor.Counts, error) {
	of := hypervisor.Counted{Domain: bed.GuestAt(site, testbed.Guest{}).Name, Storage: ref.Trial.Cell.Storage}
	return meter.Counters(ctx, of, from, to)
}

// count brings what a hypervisor has counted to the machine's folder, with what was
// read of it before.
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

// countsFile has what the hypervisor of the guest's first host had counted before the
// guest left.
const countsFile = "counters-before.txt"

// keepCounts reads what a hypervisor has counted of a guest that is about to leave
// its host: afterwards nobody may have it.
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

// readCounts reads what writeCounts wrote; none where there is no file.
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

// merge joins readings of the same counters, in the order of their times: what both
// have is the later ones'.
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

// countedRows gives what a host's hypervisor has counted, on the controller's time
// base by the one reading of the clock that its times are by.
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
