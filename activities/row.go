package activities

import (
	"cmp"
	"encoding/json"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"heliotrope/analysis/dataset"
	"heliotrope/analysis/judge"
	"heliotrope/internal/campaign"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/ledger"
	"heliotrope/internal/wan"
)

// maxLogBytes is how much of the toolstack's log the dataset keeps: the end of it.
const maxLogBytes = 64 << 10

// migrationLog is what the toolstack printed; "" when it was not asked to migrate.
func (a *account) migrationLog() (string, error) {
	text, err := os.ReadFile(filepath.Join(a.input.WorkFolder(), migrationLog))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return strings.ToValidUTF8(string(text[max(0, len(text)-maxLogBytes):]), "?"), err
}

// Names of the events for the times in the account of a migration, and of a pause.
var (
	migrationEvents = [...]string{"disk-open-at-both-sites", "migration-started", "migration-finished", "disk-open-at-one-site"}
	pauseEvents     = [...]string{"paused", "pause-asked-for", "unpaused", "unpause-asked-for"}
)

// events are the attempt's events in the order of their times: those from the journals, and
// those from what is known. log is the toolstack's log.
func (a *account) events(journaled []dataset.Event, log string) []dataset.Event {
	known, ref := a.input.Known, a.input.Ref
	events := slices.Clone(journaled)
	add := func(at time.Time, source, name, detail string) {
		if !at.IsZero() {
			events = append(events, dataset.Event{TsNs: at.UnixNano(), Source: source, Name: name, Detail: detail})
		}
	}
	for _, mark := range ref.Timeline {
		add(mark.At, controllerName, "phase", string(mark.Phase))
	}
	migrated, names := known.Migrated, migrationEvents
	if ref.Trial.Cell.Control == campaign.ControlPause {
		names = pauseEvents
	}
	for i, at := range []time.Time{migrated.Prepared, migrated.Started, migrated.Finished, migrated.Settled} {
		add(at, controllerName, names[i], "")
	}
	for _, phase := range migrated.Phases {
		add(phase.At, controllerName, "migration-phase", string(phase.Name))
	}
	for _, note := range a.notes {
		add(note.At, note.Source, "told", note.Text)
	}
	for _, problem := range known.Collected.Problems {
		add(known.Collected.Now, controllerName, "problem", problem)
	}
	if problem := known.Verified.Problem; problem != "" {
		add(known.Verified.Now, controllerName, "problem", "verify: "+problem)
	}
	if looked := known.Looked; looked.Verdict == "" && looked.Reason != "" {
		add(looked.Now, controllerName, "problem", "whether the guest came back is not known: "+looked.Reason)
	}
	if log != "" {
		at := migrated.Finished
		if at.IsZero() { // it failed, or nobody knows when it ended
			at = a.input.Ended
		}
		add(at, controllerName, "migration-log", log)
	}
	add(a.input.Ended, controllerName, "verdict", string(known.Verdict))
	slices.SortFunc(events, func(x, y dataset.Event) int {
		return cmp.Or(cmp.Compare(x.TsNs, y.TsNs), cmp.Compare(x.Source, y.Source), cmp.Compare(x.Name, y.Name), cmp.Compare(x.Detail, y.Detail))
	})
	return events
}

// provenance is the metadata of each of the attempt's files.
func (a *account) provenance() dataset.Provenance {
	known, ref := a.input.Known, a.input.Ref
	return dataset.Provenance{
		dataset.KeyCampaign: ref.Campaign, dataset.KeyTestbedKind: string(a.input.Lane.Kind),
		"binary_version": a.version, "spec_sha256": known.SpecSHA256, "trial": ref.Key(),
		"cell": ref.Trial.CellID, "seed": strconv.FormatUint(ref.Trial.Seed, 10),
		"hosts": jsonText(a.left.facts.Hosts), "versions": jsonText(a.left.facts.Versions),
		judge.KeyLimits: a.settings.judged().String(),
	}
}

func jsonText(value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		return "" // cannot happen: plain structs of text and numbers
	}
	return string(text)
}

// fill sets in the attempt's row what is known.
func (a *account) fill() {
	known, ref := a.input.Known, a.input.Ref
	cell := ref.Trial.Cell
	a.row = dataset.Planned(ref, string(a.input.Lane.Kind))
	a.row.Lane, a.row.EndedTsNs = a.input.Lane.Name, a.input.Ended.UnixNano()
	a.row.AbsentWitnesses = strings.Join(known.Provisioned.Absent, " ")
	a.row.BinaryVersion, a.row.SpecSHA256 = a.version, known.SpecSHA256
	a.row.HostsJSON, a.row.VersionsJSON = jsonText(a.left.facts.Hosts), jsonText(a.left.facts.Versions)
	a.row.Folder = a.files
	a.row.SetTimeline(ref.Timeline)
	if len(ref.Timeline) > 0 {
		a.row.StartedTsNs = ref.Timeline[0].At.UnixNano()
	}
	a.fillPrecondition()
	if memory := cmp.Or(cell.GuestMemoryMiB, a.left.facts.GuestMemoryMiB); memory > 0 {
		a.row.GuestMemoryMiB = pointer(int32(memory)) //nolint:gosec // MiB of a guest
	}
	if ping := a.left.certificates[BeforeTrial].AToB.Ping; ping.Received > 0 {
		a.row.MeasuredMinMs, a.row.MeasuredMeanMs = pointer(milliseconds(ping.Min)), pointer(milliseconds(ping.Mean))
	}
	if known.Found.Now.IsZero() {
		a.row.Evidence = ""
	} else {
		a.row.Evidence = a.files + "/" + evidenceName
	}
	a.row.OutOfSyncBytes = known.Verified.OutOfSyncBytes
	a.fillMigration()
}

func (a *account) fillMigration() {
	migrated := a.input.Known.Migrated
	if !migrated.PrepareBegan.IsZero() && !migrated.Prepared.IsZero() {
		a.row.StoragePrepareTsNs = pointer(migrated.PrepareBegan.UnixNano())
		a.row.StoragePrepareMs = pointer(milliseconds(migrated.Prepared.Sub(migrated.PrepareBegan)))
	}
	if !migrated.FinishBegan.IsZero() && !migrated.Settled.IsZero() {
		a.row.StorageFinishMs = pointer(milliseconds(migrated.Settled.Sub(migrated.FinishBegan)))
	}
	if !migrated.Started.IsZero() {
		a.row.MigrationStartedTsNs = pointer(migrated.Started.UnixNano())
	}
	if migrated.Finished.IsZero() {
		return
	}
	a.row.MigrationFinishedTsNs = pointer(migrated.Finished.UnixNano())
	a.row.TotalMigrationMs = pointer(milliseconds(migrated.Finished.Sub(migrated.Started)))
	if migrated.StreamBytes > 0 { // otherwise the hypervisor reports none
		a.row.MigrationStreamBytes = pointer(migrated.StreamBytes)
	}
	a.row.DowntimeMs, a.row.Rounds, a.row.DiskBytes = migrated.DowntimeMs, migrated.Rounds, migrated.DiskBytes
	account := hypervisor.Migration{Finished: migrated.Finished, Phases: migrated.Phases}
	for name, column := range map[hypervisor.PhaseName]**float64{hypervisor.Preparing: &a.row.PrepareMs, hypervisor.Copying: &a.row.DiskCopyMs,
		hypervisor.Converging: &a.row.DiskConvergeMs, hypervisor.Switching: &a.row.SwitchMs} {
		if took := account.Took(name); took != nil {
			*column = pointer(milliseconds(*took))
		}
	}
}

// fillWritten sets in the row what is known once the samples are written.
func (a *account) fillWritten() {
	a.row.SetFiles(a.written)
	for _, host := range a.clocks.hosts {
		if drift := host.DriftPPM(); a.row.ClockDriftPPM == nil || math.Abs(drift) > math.Abs(*a.row.ClockDriftPPM) {
			a.row.ClockDriftPPM = pointer(drift)
		}
	}
	guest := a.clocks.guest
	if guest == nil || a.clocks.oneSided {
		return
	}
	a.row.GuestClockStepMs = pointer(milliseconds(guest.Step()))
	migrated := a.input.Known.Migrated
	if migrated.Finished.IsZero() {
		return
	}
	at := func(ours time.Time) (ahead, uncertainty *int64) {
		return pointer(guest.Ahead(ours).Nanoseconds()), pointer(guest.UncertaintyAt(ours).Nanoseconds())
	}
	a.row.GuestClockBeforeNs, a.row.GuestClockBeforeUncertNs = at(migrated.Started)
	a.row.GuestClockAfterNs, a.row.GuestClockAfterUncertNs = at(migrated.Finished)
}

// certificates are the rows of the attempt's certificates: two for each, one for each
// direction.
func (a *account) certificates() []dataset.Certificate {
	profile, err := wan.ParseProfile(a.input.Ref.Trial.Cell.WAN)
	if err != nil {
		return nil // the path was never measured then
	}
	var rows []dataset.Certificate
	for _, moment := range []string{BeforeTrial, AfterTrial} {
		if certificate, made := a.left.certificates[moment]; made {
			rows = append(rows, judge.CertificateRows(a.row.Key, moment, certificate, profile, a.settings.Tolerance())...)
		}
	}
	return rows
}

// ledgers are the rows of what was read back of the ledger.
func ledgers(key string, reports []ledger.Report) []dataset.Ledger {
	var rows []dataset.Ledger
	for _, report := range reports {
		var lost []string
		for _, number := range report.Lost {
			lost = append(lost, strconv.FormatUint(number, 10))
		}
		rows = append(rows, dataset.Ledger{Trial: key, Copy: report.Copy, Host: report.Host, Checked: report.Checked, Found: report.Found,
			Acked: int64(report.Acked), Newest: int64(report.Newest), LostCount: report.LostCount, Lost: strings.Join(lost, " ")}) //nolint:gosec // counts from 1
	}
	return rows
}

func pointer[T any](value T) *T { return &value }
