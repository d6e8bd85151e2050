// Package judge finds what an attempt of a trial measured from its rows in the
// dataset, and whether that can be trusted.
//
// It promises that it uses nothing but the tables and the limits it is given:
// the same rows and limits give the same numbers, when the attempt ends and
// years later. A witness that is not there, or that has a hole where it matters,
// has a problem and no number. One that the testbed does not have is declared
// absent in the row: it has no number either, takes nothing back, and what is
// found by it is not known. An uncertainty is a bound, not a deviation, and is the
// sum of those of the clocks and of the time between looks.
//
// Dangerous: all times are those of the rows, on the controller's time base. A
// row that was put there wrongly is believed, within the uncertainty that table
// clocks gives.
package judge

import (
	"encoding/json"
	"fmt"
	"slices"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/campaign"
	"heliotrope/internal/cause"
	"heliotrope/internal/inventory"
	"heliotrope/internal/trial"
)

// Raw is an attempt's rows, as they are in the dataset. Each table may be nil:
// there is none. Without IO nothing of the load is known.
type Raw struct {
	IO         dataset.Batches[dataset.IO]
	Histograms dataset.Batches[dataset.Histogram]
	Counters   dataset.Batches[dataset.Counter]
	Heartbeats dataset.Batches[dataset.Heartbeat]
	Clocks     dataset.Batches[dataset.Clock]
	Domains    dataset.Batches[dataset.Domain]
	// The attempt's rows of the campaign's tables.
	Certificates []dataset.Certificate
	Ledger       []dataset.Ledger
}

// Judged is what was found.
type Judged struct {
	Phases    []dataset.Phase
	Witnesses []dataset.Witness
	Traffic   []dataset.Traffic
	// Certificates are those of Raw, their problems found again.
	Certificates []dataset.Certificate
	// Verdict is "" when there is nothing against the attempt; else it is
	// invalid or target-failed, with the code and the reason. See Apply.
	Verdict trial.Verdict
	Cause   cause.Code
	Reason  string
	// Notes are for people: what is odd but takes nothing back.
	Notes []string
}

// Judge finds what an attempt measured. Of the row it uses the key, the
// timeline, the plan (control, direction), the hosts, the absent witnesses, the
// migration's start, the clocks that were set, the load's engine and what it left
// in flight; it fills in all that is found from rows. Nothing is held against an
// attempt that did not get through its phases, but lost writes.
func Judge(row *dataset.Trial, raw Raw, limits Limits) (Judged, error) {
	s, err := newScene(row, raw, limits)
	if err != nil {
		return Judged{}, fmt.Errorf("judge trial %s: %w", row.Key, err)
	}
	var judged Judged
	if err := s.witness(raw, &judged); err != nil {
		return Judged{}, fmt.Errorf("judge trial %s: %w", row.Key, err)
	}
	judged.Notes = append(judged.Notes, s.judgeLoad()...)
	judged.Certificates = s.certify(raw.Certificates)
	s.readLedger(raw.Ledger)
	s.clockLimit()
	s.conclude(raw.Ledger, &judged)
	return judged, nil
}

// scene is an attempt while it is judged.
type scene struct {
	row            *dataset.Trial
	limits         Limits
	certificates   []dataset.Certificate
	timeline       trial.Timeline
	hosts          []host
	source, target string // where the guest is before, and where it goes: the same without a migration
	receiver       string // where the heartbeats arrive
	clocks         clocks
	load           *load // what the one pass over its I/Os found
	stall          *span // the hypervisor's
	ofGuest        Guest // the guest's clock
	problems       []problem
	outcome        problem // what did not come back; no code: nothing
}

// problem is something that makes a measurement invalid.
type problem struct {
	code cause.Code
	text string
}

func (s *scene) problem(code cause.Code, format string, values ...any) {
	s.problems = append(s.problems, problem{code, fmt.Sprintf(format, values...)})
}

func newScene(row *dataset.Trial, raw Raw, limits Limits) (*scene, error) {
	s := &scene{row: row, limits: limits, timeline: row.Timeline(), certificates: raw.Certificates}
	if err := s.readHosts(); err != nil {
		return nil, fmt.Errorf("its hosts: %w", err)
	}
	clocks, err := dataset.All(orNone(raw.Clocks))
	if err != nil {
		return nil, fmt.Errorf("its clocks: %w", err)
	}
	steered, err := steering(raw.Counters)
	if err != nil {
		return nil, fmt.Errorf("its counters: %w", err)
	}
	s.clocks = newClocks(clocks, steered)
	return s, nil
}

// host is what is known of a machine of the testbed.
type host struct {
	Name  string   `json:"name"`
	Site  string   `json:"site"` // of the one that runs the guest there
	End   string   `json:"end"`  // of the one that is that end of the WAN
	Lacks []string `json:"lacks"`
}

// lacks says whether a host has not a capability of the inventory.
func (s *scene) lacks(name string, capability inventory.Capability) bool {
	i := slices.IndexFunc(s.hosts, func(h host) bool { return h.Name == name })
	return i >= 0 && slices.Contains(s.hosts[i].Lacks, string(capability))
}

// readHosts finds who is where. In attempts from before hosts said it, the first
// two are the sites'.
func (s *scene) readHosts() error {
	if s.row.HostsJSON == "" {
		return nil
	}
	if err := json.Unmarshal([]byte(s.row.HostsJSON), &s.hosts); err != nil {
		return err
	}
	if !slices.ContainsFunc(s.hosts, func(h host) bool { return h.Site != "" }) && len(s.hosts) >= 2 {
		s.hosts[0].Site, s.hosts[0].End, s.hosts[1].Site, s.hosts[1].End = siteA, siteA, siteB, siteB
	}
	at := map[string]string{}
	for _, h := range s.hosts {
		at[h.Site] = h.Name
		if h.End == siteA {
			s.receiver = h.Name
		}
	}
	s.source, s.target = at[siteA], at[siteB]
	if s.source == "" || s.target == "" {
		s.source, s.target = "", ""
		return nil
	}
	if s.row.Direction == campaign.Return {
		s.source, s.target = s.target, s.source
	}
	if !s.migrates() {
		s.target = s.source
	}
	return nil
}

// The sites, as the hosts name them.
const (
	siteA = "a"
	siteB = "b"
)

// migrates says whether the attempt's guest was to move.
func (s *scene) migrates() bool {
	return campaign.Cell{Control: s.row.Control}.Migrates()
}

// orNone is a table without rows in the place of none.
func orNone[R any](batches dataset.Batches[R]) dataset.Batches[R] {
	if batches == nil {
		return dataset.Rows[R](nil)
	}
	return batches
}

// span is a part of a trial: from its first moment to the one after its last,
// in ns since 1970 UTC.
type span struct{ from, to int64 }

func (s span) contains(ts int64) bool { return s.from <= ts && ts < s.to }

func (s span) overlaps(other span) bool { return s.from < other.to && other.from < s.to }

func (s span) milliseconds() float64 { return float64(s.to-s.from) / 1e6 }

func (s span) seconds() float64 { return float64(s.to-s.from) / 1e9 }

func milliseconds(ns float64) *float64 { return pointer(ns / 1e6) }

func pointer[T any](value T) *T { return &value }

// phase is a phase that there was.
func (s *scene) phase(phase trial.Phase) span {
	part, _ := phaseSpan(s.timeline, phase)
	return part
}

// phaseSpan is from a phase's beginning to that of whichever came next; false
// when it did not begin, or nothing followed it.
func phaseSpan(timeline trial.Timeline, phase trial.Phase) (span, bool) {
	for i, mark := range timeline[:max(0, len(timeline)-1)] {
		if mark.Phase == phase {
			return span{mark.At.UnixNano(), timeline[i+1].At.UnixNano()}, true
		}
	}
	return span{}, false
}

// complete says whether the attempt got through all measuring phases.
func (s *scene) complete() bool {
	return !slices.ContainsFunc(measuringPhases, func(p trial.Phase) bool { _, ok := phaseSpan(s.timeline, p); return !ok })
}

// measuringPhases are those through which the load runs.
var measuringPhases = []trial.Phase{trial.WarmUp, trial.Before, trial.Migrate, trial.After}

// measuring is all measuring phases, of an attempt that got through them.
func (s *scene) measuring() span {
	return span{s.phase(trial.WarmUp).from, s.phase(trial.After).to}
}

// window is where a stall is looked for: from the moment that the storage began to
// make the disk ready for the migration (or from the migration's start, or that of
// its phase) to the end of phase after, or of the migration when there was no after:
// so what the storage does to move the disk is in it. Without a migration and a pause it is the phase alone. False when
// there was no such phase.
func (s *scene) window() (span, bool) {
	window, ok := phaseSpan(s.timeline, trial.Migrate)
	if !ok {
		return span{}, false
	}
	if s.row.Control == campaign.ControlNone {
		return window, window.from < window.to
	}
	switch {
	case s.row.StoragePrepareTsNs != nil:
		window.from = *s.row.StoragePrepareTsNs
	case s.row.MigrationStartedTsNs != nil:
		window.from = *s.row.MigrationStartedTsNs
	}
	if after, ok := phaseSpan(s.timeline, trial.After); ok {
		window.to = after.to
	}
	return window, window.from < window.to
}
