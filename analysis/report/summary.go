// Package report puts a campaign's trials together into a summary.
//
// It promises that every number comes from rows of the dataset: exact
// percentiles over the response times (never percentiles of percentiles),
// medians over migrations (never over I/Os), and nothing where nothing is
// known. A simulated testbed is named first, before any number.
//
// Dangerous: what a single trial measured is found by package judge; here it is
// believed, but for trials that call themselves valid and show no work.
package report

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/google/renameio/v2"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/campaign"
	"heliotrope/internal/trial"
)

// Kinds of testbeds of which more is to be said than their name: a model, and
// emulated hosts behind a simulator of vCenter.
const (
	simulated        = "simulated"
	vcenterSimulator = "vcenter-simulator"
)

// Spread is the trials' values of something: one of each trial that knows it.
type Spread struct {
	N                int
	Median, Min, Max float64 // meaningless when N is 0
}

// spread of some values. The median of an even number is the mean of the two
// in the middle.
func spread(values []float64) Spread {
	if len(values) == 0 {
		return Spread{}
	}
	slices.Sort(values)
	n := len(values)
	return Spread{N: n, Median: (values[(n-1)/2] + values[n/2]) / 2, Min: values[0], Max: values[n-1]}
}

// Load is what the valid trials of a cell did in one phase.
type Load struct {
	IOPS, MBPerS, MeanMs, P99Ms, MaxMs Spread
}

// Cell is one combination of the factors, and its trials that count.
type Cell struct {
	ID       string
	Example  dataset.Trial // one of its trials: for the factors
	Verdicts map[trial.Verdict]int

	// Of the valid trials.
	MigrationS    Spread
	BlackoutMs    Spread
	ToldMs        Spread // the downtime that the hypervisor itself tells
	UncertaintyMs Spread // of the blackouts
	LongestGapMs  Spread // without a completed I/O
	WANMB         Spread // 10^6 bytes
	Phases        map[string]Load
	// What the witnesses say, by their names, and together.
	Witnesses      map[string]Stall
	DisagreementMs Spread
	// The load around the stall.
	Steady      int // trials whose load was steady when their warm-up ended
	SteadyKnown int // trials that know
	RecoveryMs  Spread
	IOLostS     Spread
	// The clocks.
	ClockMs     Spread // uncertainty of the worst
	DriftPPM    Spread
	GuestStepMs Spread
}

// Stall is what one witness says of a cell's stalls.
type Stall struct {
	Ms            Spread
	UncertaintyMs Spread
}

// Failure is a trial that is not valid.
type Failure struct {
	Trial   string // key of the attempt
	Verdict trial.Verdict
	Cause   string // a code of package cause; "" in campaigns from before there were any
	Reason  string
}

// Tables are the tables of a campaign. All but the first two may be empty.
type Tables struct {
	Trials       []dataset.Trial
	Phases       []dataset.Phase
	Witnesses    []dataset.Witness
	Certificates []dataset.Certificate
	Traffic      []dataset.Traffic
	Ledger       []dataset.Ledger
}

// Summary of a campaign.
type Summary struct {
	Campaign    string
	TestbedKind string
	Specs       []string // SHA-256 of the campaign files; more than one is a problem
	Binaries    []string // versions of the program
	Attempts    int
	Trials      int // that count: one attempt of each
	Cells       []Cell
	Failures    []Failure
	// Of the trials that count.
	Paths    []Path    // by WAN profile and direction
	Ledgers  []Ledger  // by storage and copy
	Traffic  []Traffic // by storage and class, of valid trials
	Sentinel []Watched // in the order of the plan
	// Problems are rows that contradict themselves.
	Problems []string
}

// Read reads the tables of a campaign's folder and summarises them.
func Read(folder string) (Summary, error) {
	manifest, err := dataset.ReadManifest(folder)
	if err != nil {
		return Summary{}, fmt.Errorf("summarise a campaign: %w", err)
	}
	var tables Tables
	for _, read := range []func() error{
		func() (err error) { tables.Trials, err = dataset.ReadAttempts(folder); return err },
		func() (err error) { tables.Phases, err = dataset.ReadPhases(folder); return err },
		func() (err error) { tables.Witnesses, err = dataset.ReadWitnesses(folder); return err },
		func() (err error) { tables.Certificates, err = dataset.ReadCertificates(folder); return err },
		func() (err error) { tables.Traffic, err = dataset.ReadTraffic(folder); return err },
		func() (err error) { tables.Ledger, err = dataset.ReadLedger(folder); return err },
	} {
		if err := read(); err != nil {
			return Summary{}, fmt.Errorf("summarise campaign %s: %w", manifest.Campaign, err)
		}
	}
	return Summarise(manifest.Campaign, manifest.TestbedKind, tables)
}

// WriteSummary writes the summary.md of a campaign's folder.
func WriteSummary(folder string) (Summary, error) {
	summary, err := Read(folder)
	if err != nil {
		return Summary{}, err
	}
	var text strings.Builder
	if err := WriteMarkdown(&text, summary); err != nil {
		return Summary{}, err
	}
	return summary, renameio.WriteFile(filepath.Join(folder, dataset.SummaryFile), []byte(text.String()), 0o644)
}

// Summarise puts the attempts that count together. Trials of another kind of
// testbed are an error: they are never mixed.
func Summarise(name, testbedKind string, tables Tables) (Summary, error) {
	summary := Summary{Campaign: name, TestbedKind: testbedKind, Attempts: len(tables.Trials)}
	phasesOf := byTrial(tables.Phases, func(r *dataset.Phase) string { return r.Trial })
	witnessesOf := byTrial(tables.Witnesses, func(r *dataset.Witness) string { return r.Trial })
	proof := newProof(tables)
	cells := map[string]*samples{}
	var order []*samples
	for _, row := range tables.Trials {
		if row.TestbedKind != testbedKind {
			return Summary{}, fmt.Errorf("summarise campaign %s: trial %s ran on a testbed that is %s, the campaign's are %s",
				name, row.Key, row.TestbedKind, testbedKind)
		}
		summary.Specs = append(summary.Specs, row.SpecSHA256)
		summary.Binaries = append(summary.Binaries, row.BinaryVersion)
		if !row.Counted {
			continue
		}
		summary.Trials++
		if cells[row.CellID] == nil {
			cells[row.CellID] = &samples{cell: Cell{ID: row.CellID, Example: row, Verdicts: map[trial.Verdict]int{}}}
			order = append(order, cells[row.CellID])
		}
		verdict, cause, reason := trial.Verdict(row.Verdict), row.Cause, row.Reason
		if verdict == trial.Valid {
			if problem := contradiction(&row, phasesOf[row.Key]); problem != "" {
				verdict, cause, reason = trial.Invalid, "", problem
				summary.Problems = append(summary.Problems, fmt.Sprintf("trial %s calls itself valid, and is not counted as that: %s", row.Key, problem))
			}
		}
		cells[row.CellID].cell.Verdicts[verdict]++
		if verdict == trial.Valid {
			cells[row.CellID].add(&row, phasesOf[row.Key], witnessesOf[row.Key])
		} else {
			summary.Failures = append(summary.Failures, Failure{row.Key, verdict, cause, reason})
		}
		proof.add(&row, verdict, phasesOf[row.Key])
	}
	slices.SortStableFunc(order, compareFactors)
	for _, cell := range order {
		summary.Cells = append(summary.Cells, cell.finish())
	}
	summary.Paths, summary.Ledgers, summary.Traffic, summary.Sentinel = proof.finish()
	summary.Specs = unique(summary.Specs)
	summary.Binaries = unique(summary.Binaries)
	return summary, nil
}

func unique(texts []string) []string { return slices.Compact(slices.Sorted(slices.Values(texts))) }

// contradiction says why a trial cannot be valid: proof that it did any work.
func contradiction(row *dataset.Trial, phases []dataset.Phase) string {
	if !row.HasIO() {
		return "it has no I/O"
	}
	done := map[string]bool{}
	for _, phase := range phases {
		done[phase.Phase] = phase.IOs != nil && *phase.IOs > 0 || phase.Phase == dataset.During // a migration may stop all of it
	}
	for _, phase := range []string{dataset.Before, dataset.During, dataset.After} {
		if !done[phase] {
			return "it has no I/O in phase " + phase
		}
	}
	return ""
}

func compareFactors(a, b *samples) int {
	x, y := &a.cell.Example, &b.cell.Example
	return cmp.Or(cmp.Compare(x.Hypervisor, y.Hypervisor), cmp.Compare(x.Access, y.Access),
		cmp.Compare(x.RTTMs, y.RTTMs), cmp.Compare(x.WAN, y.WAN), cmp.Compare(memory(x), memory(y)),
		cmp.Compare(x.Storage, y.Storage), cmp.Compare(storageName(x), storageName(y)),
		cmp.Compare(migrationName(x), migrationName(y)), cmp.Compare(x.Control, y.Control))
}

// byTrial sorts rows out by their trials' keys.
func byTrial[R any](rows []R, key func(*R) string) map[string][]R {
	of := map[string][]R{}
	for i := range rows {
		of[key(&rows[i])] = append(of[key(&rows[i])], rows[i])
	}
	return of
}

func memory(row *dataset.Trial) int32 {
	if row.GuestMemoryMiB == nil {
		return 0
	}
	return *row.GuestMemoryMiB
}

// storageName is a storage system with its factor: drbd C, mirror full.
func storageName(row *dataset.Trial) string {
	for _, factor := range []*string{row.DRBDProtocol, row.MirrorCopy} {
		if factor != nil {
			return row.Storage + " " + *factor
		}
	}
	return row.Storage
}

// migrationName is what the hypervisor was told of the migration, beyond what
// every hypervisor does: postcopy, ≤ 100 MiB/s. "" is pre-copy without limits.
func migrationName(row *dataset.Trial) string {
	var parts []string
	if row.Migration != nil && *row.Migration != campaign.PreCopy {
		parts = append(parts, *row.Migration)
	}
	if row.AutoConverge != nil && *row.AutoConverge {
		parts = append(parts, "auto-converge")
	}
	if row.BandwidthMiBPerS != nil {
		parts = append(parts, fmt.Sprintf("≤ %d MiB/s", *row.BandwidthMiBPerS))
	}
	if row.MaxDowntimeMs != nil {
		parts = append(parts, fmt.Sprintf("stop ≤ %d ms", *row.MaxDowntimeMs))
	}
	return strings.Join(parts, ", ")
}

// samples is a cell and the values of its valid trials.
type samples struct {
	cell                                                       Cell
	migrationS, blackoutMs, uncertaintyMs, longestGapMs, wanMB []float64
	disagreementMs, recoveryMs, ioLostS, toldMs                []float64
	clockMs, driftPPM, guestStepMs                             []float64
	phases                                                     map[string]*loadSamples
	stalls                                                     map[string]*stallSamples
}

type loadSamples struct {
	iops, mbPerS, meanMs, p99Ms, maxMs []float64
}

type stallSamples struct{ ms, uncertaintyMs []float64 }

func (s *samples) add(row *dataset.Trial, phases []dataset.Phase, witnesses []dataset.Witness) {
	s.migrationS = appendKnown(s.migrationS, row.TotalMigrationMs, 1e-3)
	s.blackoutMs = appendKnown(s.blackoutMs, row.BlackoutMs, 1)
	s.uncertaintyMs = appendKnown(s.uncertaintyMs, row.BlackoutUncertaintyMs, 1)
	s.longestGapMs = appendKnown(s.longestGapMs, row.LongestGapMs, 1)
	s.toldMs = appendKnown(s.toldMs, row.DowntimeMs, 1)
	s.disagreementMs = appendKnown(s.disagreementMs, row.DisagreementMs, 1)
	s.recoveryMs = appendKnown(s.recoveryMs, row.RecoveryMs, 1)
	s.ioLostS = appendKnown(s.ioLostS, row.IOLostS, 1)
	s.clockMs = appendKnown(s.clockMs, row.ClockUncertaintyMs, 1)
	s.driftPPM = appendKnown(s.driftPPM, row.ClockDriftPPM, 1)
	s.guestStepMs = appendKnown(s.guestStepMs, row.GuestClockStepMs, 1)
	if row.Steady != nil {
		s.cell.SteadyKnown++
		if *row.Steady {
			s.cell.Steady++
		}
	}
	if row.WANBytes != nil {
		s.wanMB = append(s.wanMB, float64(*row.WANBytes)/1e6)
	}
	if s.phases == nil {
		s.phases, s.stalls = map[string]*loadSamples{}, map[string]*stallSamples{}
	}
	for _, phase := range phases {
		load := s.phases[phase.Phase]
		if load == nil {
			load = &loadSamples{}
			s.phases[phase.Phase] = load
		}
		load.iops = appendKnown(load.iops, phase.IOPS, 1)
		load.mbPerS = appendKnown(load.mbPerS, phase.MBPerS, 1)
		load.meanMs = appendKnown(load.meanMs, phase.MeanMs, 1)
		load.p99Ms = appendKnown(load.p99Ms, phase.P99Ms, 1)
		load.maxMs = appendKnown(load.maxMs, phase.MaxMs, 1)
	}
	for _, witness := range witnesses {
		stall := s.stalls[witness.Witness]
		if stall == nil {
			stall = &stallSamples{}
			s.stalls[witness.Witness] = stall
		}
		stall.ms = appendKnown(stall.ms, witness.StallMs, 1)
		stall.uncertaintyMs = appendKnown(stall.uncertaintyMs, witness.UncertaintyMs, 1)
	}
}

func appendKnown(values []float64, value *float64, factor float64) []float64 {
	if value == nil {
		return values
	}
	return append(values, *value*factor)
}

func (s *samples) finish() Cell {
	cell := s.cell
	cell.MigrationS, cell.BlackoutMs = spread(s.migrationS), spread(s.blackoutMs)
	cell.UncertaintyMs, cell.LongestGapMs, cell.WANMB = spread(s.uncertaintyMs), spread(s.longestGapMs), spread(s.wanMB)
	cell.ToldMs = spread(s.toldMs)
	cell.DisagreementMs, cell.RecoveryMs, cell.IOLostS = spread(s.disagreementMs), spread(s.recoveryMs), spread(s.ioLostS)
	cell.ClockMs, cell.DriftPPM, cell.GuestStepMs = spread(s.clockMs), spread(s.driftPPM), spread(s.guestStepMs)
	cell.Witnesses = map[string]Stall{}
	for name, stall := range s.stalls {
		cell.Witnesses[name] = Stall{Ms: spread(stall.ms), UncertaintyMs: spread(stall.uncertaintyMs)}
	}
	cell.Phases = map[string]Load{}
	for name, load := range s.phases {
		cell.Phases[name] = Load{IOPS: spread(load.iops), MBPerS: spread(load.mbPerS),
			MeanMs: spread(load.meanMs), P99Ms: spread(load.p99Ms), MaxMs: spread(load.maxMs)}
	}
	return cell
}

// controlName is a control in words; "" for a cell of the matrix.
func controlName(row *dataset.Trial) string {
	switch {
	case row.Control == "":
		return ""
	case row.HoldMs != nil:
		return fmt.Sprintf("control %s %s s", row.Control, strconv.FormatFloat(*row.HoldMs/1000, 'f', -1, 64))
	}
	return "control " + row.Control
}

// labels name the cells by the factors in which they differ, and always by
// their storage.
func labels(cells []Cell) []string {
	factors := []func(row *dataset.Trial) string{
		func(row *dataset.Trial) string { return row.Hypervisor },
		storageName,
		func(row *dataset.Trial) string { return row.WAN },
		func(row *dataset.Trial) string { return row.Access },
		func(row *dataset.Trial) string {
			if memory(row) == 0 {
				return ""
			}
			return strconv.Itoa(int(memory(row))) + " MiB"
		},
		migrationName,
		controlName,
	}
	const storage = 1
	parts := make([][]string, len(cells))
	for i, factor := range factors {
		differs := slices.ContainsFunc(cells, func(c Cell) bool { return factor(&c.Example) != factor(&cells[0].Example) })
		for j := range cells {
			if text := factor(&cells[j].Example); text != "" && (differs || i == storage) {
				parts[j] = append(parts[j], text)
			}
		}
	}
	names := make([]string, len(cells))
	for i := range parts {
		names[i] = strings.Join(parts[i], ", ")
	}
	return names
}
