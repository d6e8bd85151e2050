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

// recordFile is the raw file of what a host's hypervisor has written down itself.
const recordFile = "record.json"

// recorded is its content.
type recorded struct {
	// From and To are the time that was asked for, on the controller's clock.
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
	hypervisor.Record
}

// record asks the hypervisor of a host on which nothing of ours runs when the
// guest stood still, from the beginning of the warm-up to now.
func (g *gathering) record(ctx context.Context, m trial.Machine, recorder hypervisor.Recorder) error {
	g.pulse.Done(pulse.Step{Step: "read what the hypervisor of " + m.Name + " has written down"})
	from, began := g.input.Ref.Timeline.Start(trial.WarmUp)
	if !began {
		from = g.bed.Now()
	}
	told := recorded{From: from, To: g.bed.Now()}
	var err error
	domain := g.bed.GuestAt(storage.Site(m.Site), testbed.Guest{}).Name
	if told.Record, err = recorder.Record(ctx, domain, told.From, told.To); err != nil {
		return fmt.Errorf("collect from %s: %w", m.Name, err)
	}
	if err := writeJSON(filepath.Join(g.input.WorkFolder(), m.Name, recordFile), told); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.collected.Machines = append(g.collected.Machines, m.Name)
	g.collected.Records = append(g.collected.Records, m.Name)
	return nil
}

// recorded says whether what is known of a host's domains is its hypervisor's own
// record.
func (a *account) recorded(host string) bool {
	return slices.Contains(a.input.Known.Collected.Records, host)
}

// readRecord reads the raw file of a host.
func (a *account) readRecord(host string) (recorded, error) {
	var told recorded
	err := a.raw(host, recordFile, func(file *os.File) error { return json.NewDecoder(file).Decode(&told) })
	return told, err
}

// recordRows gives a record as rows of table domains: that there is one, and each
// stop, on the controller's time base by the host's clock.
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

// readNotes reads what the hypervisors' records tell beside: two hosts of one
// vCenter have it from the same source, and it is wanted once.
func (a *account) readNotes() error {
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
	}
	return nil
}
