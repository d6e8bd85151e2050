package activities

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"heliotrope/activities/pulse"
	"heliotrope/analysis/dataset"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/storage"
	"heliotrope/internal/testbed"
	"heliotrope/internal/timebase"
	"heliotrope/internal/trial"
	"heliotrope/internal/witness"
)

// recordFile is the raw file with the own record of a host's hypervisor.
const recordFile = "record.json"

// recorded is the content of recordFile.
type recorded struct {
	// From and To are the time that the record was asked for, on the controller's clock.
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
	hypervisor.Record
	// Counted is what the hypervisor has counted besides; nil when it counts nothing.
	Counted *counted `json:"counted,omitempty"`
}

// record asks the hypervisor of a host on which our witness does not run when the guest
// stood still, from the beginning of the warm-up to now, and what it has counted in that
// time.
func (g *gathering) record(ctx context.Context, m trial.Machine, recorder hypervisor.Recorder) error {
	g.pulse.Done(pulse.Step{Step: "read what the hypervisor of " + m.Name + " has written down"})
	told := recorded{From: loadedSince(g.bed, g.input.Ref), To: g.bed.Now()}
	var err error
	domain := g.bed.GuestAt(storage.Site(m.Site), testbed.Guest{}).Name
	if told.Record, err = recorder.Record(ctx, domain, told.From, told.To); err != nil {
		return fmt.Errorf("collect from %s: %w", m.Name, err)
	}
	folder := filepath.Join(g.input.WorkFolder(), m.Name)
	if err := makeFolder(g.input.Target, folder); err != nil {
		return err
	}
	if meter, is := recorder.(hypervisor.Meter); is {
		g.pulse.Done(pulse.Step{Step: "read what the hypervisor of " + m.Name + " has counted"})
		if told.Counted, err = g.count(ctx, meter, m, told.From, told.To); err != nil {
			return fmt.Errorf("collect from %s: %w", m.Name, err)
		}
	}
	if err := writeJSON(filepath.Join(folder, recordFile), told); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.collected.Machines = append(g.collected.Machines, m.Name)
	g.collected.Records = append(g.collected.Records, m.Name)
	return nil
}

// loadedSince is when an attempt's load began, or now when it did not begin.
func loadedSince(bed testbed.Bed, ref trial.Ref) time.Time {
	if from, began := ref.Timeline.Start(trial.WarmUp); began {
		return from
	}
	return bed.Now()
}

// recorded says whether a host's domain states come from its hypervisor's own record.
func (a *account) recorded(host string) bool {
	return slices.Contains(a.input.Known.Collected.Records, host)
}

// readRecord reads the record of a host.
func (a *account) readRecord(host string) (recorded, error) {
	var told recorded
	err := a.raw(host, recordFile, func(file *os.File) error { return json.NewDecoder(file).Decode(&told) })
	return told, err
}

// recordRows gives a record as rows of table domains: one row that the record exists, and
// rows for each stop, on the controller's time base by the host's clock.
func (a *account) recordRows(host string, clock *timebase.Clock, give func(dataset.Domain) error) error {
	told, err := a.readRecord(host)
	if err != nil {
		return err
	}
	rows := []dataset.Domain{{TsNs: told.To.UnixNano(), Host: host, State: witness.DomainRecord, SpacingNs: told.To.Sub(told.From).Nanoseconds()}}
	for _, stop := range told.Stops {
		resolution := stop.Resolution.Nanoseconds()
		rows = append(rows,
			dataset.Domain{TsNs: clock.Ours(stop.From).UnixNano(), Host: host, State: witness.DomainSuspended, SpacingNs: resolution},
			dataset.Domain{TsNs: clock.Ours(stop.To).UnixNano(), Host: host, State: witness.DomainRunning, SpacingNs: resolution})
	}
	for _, row := range rows {
		if err := give(row); err != nil {
			return err
		}
	}
	return nil
}

// readRecords reads what else is in the hypervisors' records: notes, and readings of the
// clocks that their counters' times are from. Two hosts of one vCenter have the same notes,
// which are kept once.
func (a *account) readRecords() error {
	for _, host := range a.input.Known.Collected.Records {
		told, err := a.readRecord(host)
		if err := a.unlessUnreadable(err); err != nil {
			return err
		}
		for _, note := range told.Notes {
			same := func(other hypervisor.Note) bool { return other.Source == note.Source && other.Text == note.Text }
			if !slices.ContainsFunc(a.notes, same) {
				a.notes = append(a.notes, note)
			}
		}
		if told.Counted != nil {
			a.clocks.readings = append(a.clocks.readings, clockRow(told.Counted.Source, told.Counted.Clock))
		}
	}
	return nil
}
