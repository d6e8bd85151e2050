package activities

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"heliotrope/analysis/dataset"
	"heliotrope/analysis/report"
	"heliotrope/internal/clock"
	"heliotrope/internal/trial"
)

// maxLogBytes is how much of the toolstack's log the dataset keeps: its end.
const maxLogBytes = 64 << 10

// migrationLog is what the toolstack printed; "" when it was not asked to move
// anything.
func (a *account) migrationLog() (string, error) {
	text, err := os.ReadFile(filepath.Join(a.input.WorkFolder(), migrationLog))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return strings.ToValidUTF8(string(text[max(0, len(text)-maxLogBytes):]), "?"), err
}

// events are the attempt's, in the order of their times: those that were
// journaled, and what is known. log is the toolstack's.
func (a *account) events(journaled []dataset.Event, log string) []dataset.Event {
	known, ref := a.input.Known, a.input.Ref
	events := slices.Clone(journaled)
	add := func(at time.Time, source, name, detail string) {
		if !at.IsZero() {
			events = append(events, dataset.Event{TsNs: at.UnixNano(), Source: source, Name: name, Detail: detail})
		}
	}
	for _, mark := range ref.Timeline {
		add(mark.At, "controller", "phase", string(mark.Phase))
	}
	migrated := known.Migrated
	add(migrated.Prepared, "controller", "disk-open-at-both-sites", "")
	add(migrated.Started, "controller", "migration-started", "")
	add(migrated.Finished, "controller", "migration-finished", strconv.FormatInt(migrated.StreamBytes, 10)+" bytes")
	add(migrated.Settled, "controller", "disk-open-at-site-b-only", "")
	for _, when := range []map[string]clock.Offset{known.Attested.Clocks, known.Collected.Clocks} {
		for machine, offset := range when {
			add(offset.At, machine, "clock-offset", fmt.Sprintf("%d ns ahead, ± %d ns", offset.Ahead.Nanoseconds(), offset.Uncertainty.Nanoseconds()))
		}
	}
	for _, problem := range known.Collected.Problems {
		add(known.Collected.Now, "controller", "problem", problem)
	}
	for _, leftover := range known.TornDown.Leftovers {
		add(known.TornDown.Now, "controller", "leftover", leftover)
	}
	if log != "" {
		at := migrated.Finished
		if at.IsZero() { // it failed
			at = a.input.Ended
		}
		add(at, "controller", "migration-log", log)
	}
	add(a.input.Ended, "controller", "verdict", string(known.Verdict))
	slices.SortFunc(events, func(x, y dataset.Event) int {
		return cmp.Or(cmp.Compare(x.TsNs, y.TsNs), cmp.Compare(x.Source, y.Source), cmp.Compare(x.Name, y.Name), cmp.Compare(x.Detail, y.Detail))
	})
	return events
}

// provenance is what every file says of itself.
func (a *account) provenance() dataset.Provenance {
	known, ref := a.input.Known, a.input.Ref
	return dataset.Provenance{
		dataset.KeyCampaign: ref.Campaign, dataset.KeyTestbedKind: string(a.input.Lane.Kind),
		"binary_version": a.version, "spec_sha256": known.SpecSHA256, "trial": ref.Key(),
		"cell": ref.Trial.CellID, "seed": strconv.FormatUint(ref.Trial.Seed, 10),
		"hosts": jsonText(known.Swept.Facts.Hosts), "versions": jsonText(known.Swept.Facts.Versions),
	}
}

func jsonText(value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		return "" // plain structs of text and numbers
	}
	return string(text)
}

// fill writes what is known into the attempt's row.
func (a *account) fill() {
	known, ref := a.input.Known, a.input.Ref
	cell := ref.Trial.Cell
	a.row = dataset.Trial{
		Key: ref.Key(), Sequence: int32(ref.Trial.Sequence), Block: int32(ref.Trial.Block), Attempt: int32(ref.Attempt), //nolint:gosec // small by the spec's limits
		CellID: ref.Trial.CellID, TestbedKind: string(a.input.Lane.Kind), Lane: a.input.Lane.Name,
		Hypervisor: cell.Hypervisor, Storage: cell.Storage, WAN: cell.WAN, RTTMs: cell.RTTMs, Access: cell.Access.Name,
		Seed: ref.Trial.Seed, EndedTsNs: a.input.Ended.UnixNano(),
		BinaryVersion: a.version, SpecSHA256: known.SpecSHA256,
		HostsJSON: jsonText(known.Swept.Facts.Hosts), VersionsJSON: jsonText(known.Swept.Facts.Versions),
		IORows: a.written.IO.Rows, CounterRows: a.written.Counters.Rows, EventRows: a.written.Events.Rows, Folder: a.files,
	}
	a.row.SetTimeline(ref.Timeline)
	if len(ref.Timeline) > 0 {
		a.row.StartedTsNs = ref.Timeline[0].At.UnixNano()
	}
	if cell.DRBDProtocol != "" {
		a.row.DRBDProtocol = &cell.DRBDProtocol
	}
	if memory := cmp.Or(cell.GuestMemoryMiB, known.Swept.Facts.GuestMemoryMiB); memory > 0 {
		a.row.GuestMemoryMiB = pointer(int32(memory)) //nolint:gosec // MiB of a guest
	}
	if known.Attested.RTTMinMs > 0 {
		a.row.MeasuredMinMs, a.row.MeasuredMeanMs = pointer(known.Attested.RTTMinMs), pointer(known.Attested.RTTMeanMs)
	}
	if !known.TornDown.Now.IsZero() {
		a.row.Leftovers = pointer(int32(len(known.TornDown.Leftovers))) //nolint:gosec // at most maxLeftovers
	}
	a.row.DRBDOutOfSyncBytes = known.Verified.OutOfSyncBytes
	a.fillMigration()
}

func (a *account) fillMigration() {
	migrated := a.input.Known.Migrated
	if migrated.Finished.IsZero() {
		return
	}
	a.row.MigrationStartedTsNs = pointer(migrated.Started.UnixNano())
	a.row.MigrationFinishedTsNs = pointer(migrated.Finished.UnixNano())
	a.row.TotalMigrationMs = pointer(milliseconds(migrated.Finished.Sub(migrated.Started)))
	a.row.MigrationStreamBytes = pointer(migrated.StreamBytes)
	offset := func(clocks map[string]clock.Offset) *clock.Offset {
		if known, ok := clocks[trial.Guest]; ok {
			return &known
		}
		return nil
	}
	report.SetGuestClocks(&a.row, offset(a.input.Known.Attested.Clocks), offset(a.input.Known.Collected.Clocks))
}

func pointer[T any](value T) *T { return &value }
