// Package judge finds out, from an attempt's rows in the dataset, what the attempt measured
// and whether that can be trusted.
//
// It promises that it uses only the tables and the limits that it is given: the same rows
// and limits give the same numbers, when the attempt ends and years later. A witness that
// is missing, or has a hole where it matters, gets a problem and no number. A witness that
// the testbed does not have is declared absent in the row: it has no number either, but
// does not make the attempt invalid, and what only that witness could find is not known. An
// uncertainty is a bound, not a deviation: it is the sum of the clocks' uncertainties and
// of the time between looks.
//
// Dangerous: all times are those of the rows, on the controller's time base. The judge
// believes a row with a wrong time, within the uncertainty that table clocks gives.
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

// Raw is an attempt's rows, as they are in the dataset. A table that does not exist is nil.
// Without IO nothing is known of the load.
type Raw struct {
	IO         dataset.Batches[dataset.IO]
	Histograms dataset.Batches[dataset.Histogram]
	Counters   dataset.Batches[dataset.Counter]
	Heartbeats dataset.Batches[dataset.Heartbeat]
	Clocks     dataset.Batches[dataset.Clock]
	Domains    dataset.Batches[dataset.Domain]
	// The attempt's rows in tables of the campaign.
	Certificates []dataset.Certificate
	Ledger       []dataset.Ledger
}

// Judged is what Judge found.
type Judged struct {
	Phases    []dataset.Phase
	Witnesses []dataset.Witness
	Traffic   []dataset.Traffic
	// Certificates are the rows of Raw, with their problems judged again.
	Certificates []dataset.Certificate
	// Verdict is "" when nothing speaks against the attempt; otherwise it is invalid or
	// target-failed, with the code in Cause and the text in Reason. See Apply.
	Verdict trial.Verdict
	Cause   cause.Code
	Reason  string
	// Notes tell people of oddities that do not change the verdict.
	Notes []string
}

// Judge finds what an attempt measured. Of the row it uses the key, the timeline, the plan
// (control, direction), the hosts, the absent witnesses, the migration's start, the clocks
// that were set, and what the load's engine is and left in flight. It fills in everything
// that is computed from rows. It holds nothing against an attempt that did not get through
// its phases, except lost writes.
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
	source, target string // site of the guest before the migration, and after it: the same without a migration
	receiver       string // where the heartbeats arrive
	clocks         clocks
	load           *load // found in the one pass over the load's I/Os
	stall          *span // as the hypervisor's witness saw it
	ofGuest        Guest // the guest's clock
	problems       []problem
	outcome        problem // the guest or disk that did not come back; without a code: both came back
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
	Site  string   `json:"site"` // of a host that runs the guest: its site
	End   string   `json:"end"`  // of a host at an end of the WAN: which end
	Lacks []string `json:"lacks"`
}

// lacks says whether a host lacks a capability of the inventory.
func (s *scene) lacks(name string, capability inventory.Capability) bool {
	i := slices.IndexFunc(s.hosts, func(h host) bool { return h.Name == name })
	return i >= 0 && slices.Contains(s.hosts[i].Lacks, string(capability))
}

// readHosts finds out which host has which part. In older attempts, whose hosts do not say
// it, the first two hosts are those of the sites.
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

// Names of the sites in the hosts.
const (
	siteA = "a"
	siteB = "b"
)

// migrates says whether the attempt's guest was meant to move.
func (s *scene) migrates() bool {
	return campaign.Cell{Control: s.row.Control}.Migrates()
}

// orNone gives a table without rows in place of nil.
func orNone[R any](batches dataset.Batches[R]) dataset.Batches[R] {
	if batches == nil {
		return dataset.Rows[R](nil)
	}
	return batches
}

// span is a part of a trial, in ns since 1970 UTC: from its first moment to the moment
// after its last.
type span struct{ from, to int64 }

func (s span) contains(ts int64) bool { return s.from <= ts && ts < s.to }

func (s span) overlaps(other span) bool { return s.from < other.to && other.from < s.to }

func (s span) milliseconds() float64 { return float64(s.to-s.from) / 1e6 }

func (s span) seconds() float64 { return float64(s.to-s.from) / 1e9 }

func milliseconds(ns float64) *float64 { return pointer(ns / 1e6) }

func pointer[T any](value T) *T { return &value }

// phase is the span of a phase; the zero span when the phase did not happen.
func (s *scene) phase(phase trial.Phase) span {
	part, _ := phaseSpan(s.timeline, phase)
	return part
}

// phaseSpan is from a phase's beginning to the beginning of the next one; false when the
// phase did not begin, or when nothing followed it.
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

// measuringPhases are the phases during which the load runs.
var measuringPhases = []trial.Phase{trial.WarmUp, trial.Before, trial.Migrate, trial.After}

// measuring is the span of all measuring phases of an attempt that completed them.
func (s *scene) measuring() span {
	return span{s.phase(trial.WarmUp).from, s.phase(trial.After).to}
}

// window is the span in which a stall is looked for. It begins when the storage began to prepare the disk for the
// migration, so that it includes what the storage does to move the disk; when that is not known, it begins with the
// migration, or else with the migration's phase. It ends with phase after, or with phase migrate when there was no
// after. Without a migration or pause it is phase migrate alone. False when there was no such phase.
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
