// Package summary puts a campaign's trials together into a summary.
//
// It promises that every number comes from rows of the dataset: a median over migrations
// (never over I/Os, and no percentile of percentiles), over the trials of one group
// (package group) and never of two, and nothing where nothing is known. A failed trial is
// part of the order statistics of metrics in which a failure never ends, as ∞. Causes are
// counted over every attempt, including those that were tried again. A simulated testbed is
// named first, before any number.
//
// Dangerous: package judge finds what a single trial measured. Package summary believes
// that, except for trials that are marked valid and show no work.
package summary

import (
	"cmp"
	"fmt"
	"iter"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/renameio/v2"

	"heliotrope/analysis/controls"
	"heliotrope/analysis/dataset"
	"heliotrope/analysis/group"
	"heliotrope/internal/cause"
	"heliotrope/internal/inventory"
	"heliotrope/internal/trial"
)

// Kinds of testbeds that need an explanation: a model, emulated hosts behind a simulator of
// vCenter, and no testbed at all but somebody else's logs.
const (
	simulated        = string(inventory.Simulated)
	vcenterSimulator = string(inventory.VCenterSimulator)
	ingested         = string(inventory.Ingested)
)

// Load is what the valid trials of a cell did in one phase.
type Load struct {
	IOPS, MBPerS, MeanMs, P99Ms, MaxMs Spread
}

// Cell is a group: one combination of the factors, in one direction, and its trials that
// count.
type Cell struct {
	ID        string
	Direction string
	Example   dataset.Trial // one of its trials, which has the factors
	Verdicts  map[trial.Verdict]int
	Ran       Ran

	// Over the results: the valid trials, and the failed ones as ∞.
	MigrationS Spread
	BlackoutMs Spread
	RecoveryMs Spread // ∞ also where the load did not come back
	IOLostS    Spread
	// Longest response times: ∞ also where an I/O was still in flight at the end.
	MaxResponseMs, ReadResponseMs, WriteResponseMs Spread

	// Over the valid trials.
	ToldMs                Spread // the downtime that the hypervisor itself reports
	UncertaintyMs         Spread // of the blackouts
	ResponseUncertaintyMs Spread // of the longest response times
	LongestGapMs          Spread // without a completed I/O
	Handover              Handover
	WANMB                 Spread // 10^6 bytes
	Phases                map[string]Load
	// What the witnesses say, by their names, and together.
	Witnesses      map[string]Stall
	DisagreementMs Spread
	// The load around the stall.
	Steady      int // trials whose load was steady when their warm-up ended
	SteadyKnown int // trials of which that is known
	// The clocks.
	ClockMs     Spread // uncertainty of the most uncertain clock
	DriftPPM    Spread
	GuestStepMs Spread
	// Bytes on the WAN during phase migrate, by class.
	Traffic []Traffic
	// Over all its trials, by copy.
	Ledgers []Ledger
	// Of a control: one for each of its trials, in order.
	Controls []Control
}

// Handover is how a cell's disks moved from one site to the other: before, during and after
// the migration.
type Handover struct {
	PrepareMs, FinishMs Spread // the storage prepared the disk, and released the source's side
	CopyMs, ConvergeMs  Spread // a private disk was copied, and its copy kept up to date while the memory was sent
	SentMB              Spread // 10^6 bytes of it, sent by the hypervisor
	OutOfSyncBytes      Spread // by which the replicas differed after the trial
}

// Control is the verdict on one trial of a control.
type Control struct {
	Trial string
	controls.Verdict
}

// Ran counts the attempts of a cell that ran, including those that were tried again.
type Ran struct {
	Attempts int
	// Late is how many of them are invalid because they took longer than a limit after
	// their migration had begun. Trying them again may replace slow migrations by fast ones.
	Late int
}

// add counts an attempt.
func (r *Ran) add(row *dataset.Trial) {
	verdict := trial.Verdict(row.Verdict)
	if verdict == trial.Skipped {
		return
	}
	r.Attempts++
	if _, migrated := row.Timeline().Start(trial.Migrate); migrated && verdict == trial.Invalid && row.Cause == string(cause.TimeOut) {
		r.Late++
	}
}

// results is the number of the cell's trials that are results.
func (c Cell) results() int { return c.Verdicts[trial.Valid] + c.Verdicts[trial.TargetFailed] }

// Stall is what one witness says of a cell's stalls.
type Stall struct {
	Ms            Spread
	UncertaintyMs Spread
}

// Failure is a trial that is not valid.
type Failure struct {
	Trial   string // key of the attempt
	Verdict trial.Verdict
	Cause   string // a code of package cause; "" in campaigns that are older than these codes
	Reason  string
}

// Tables are the tables of a campaign. All except the first two may be empty.
type Tables struct {
	Trials       []dataset.Trial
	Phases       []dataset.Phase
	Witnesses    []dataset.Witness
	Certificates []dataset.Certificate
	Traffic      []dataset.Traffic
	Ledger       []dataset.Ledger
}

// Summary is the summary of a campaign.
type Summary struct {
	Campaign    string
	TestbedKind string
	Specs       []string // SHA-256 of the campaign files; more than one is a problem
	Binaries    []string // versions of the program
	Attempts    int
	Trials      int // trials with an attempt that counts
	Skipped     int // how many of them were skipped; these belong to no group
	Ran         Ran // over the attempts of all cells, without the sentinel's
	Cells       []Cell
	Causes      []Cause   // of every attempt that is not valid
	Failures    []Failure // trials that count
	Paths       []Path    // by WAN profile and direction, of the groups' trials
	Lost        Lost      // over every attempt
	Sentinel    []Watched // in the order of the plan
	// State is what a reader must know of the campaign first, such as that it still runs;
	// "" for nothing.
	State string
	// Problems are rows that contradict themselves.
	Problems []string
}

// Read reads the tables of a campaign's folder attempt by attempt and summarises them.
// Memory holds only what Summary needs: for each metric, one number of each trial.
func Read(folder string) (Summary, error) {
	manifest, err := dataset.ReadManifest(folder)
	if err != nil {
		return Summary{}, fmt.Errorf("summarise a campaign: %w", err)
	}
	summary, err := summarise(manifest.Campaign, manifest.TestbedKind, dataset.EachAttempt(folder))
	if err != nil {
		return Summary{}, err
	}
	state, err := dataset.ReadState(folder)
	summary.State = state.Text()
	return summary, err
}

// ReadTables reads the tables of a campaign's folder.
func ReadTables(folder string) (tables Tables, err error) {
	for _, read := range []func() error{
		func() (err error) { tables.Trials, err = dataset.ReadAttempts(folder); return err },
		func() (err error) { tables.Phases, err = dataset.ReadPhases(folder); return err },
		func() (err error) { tables.Witnesses, err = dataset.ReadWitnesses(folder); return err },
		func() (err error) { tables.Certificates, err = dataset.ReadCertificates(folder); return err },
		func() (err error) { tables.Traffic, err = dataset.ReadTraffic(folder); return err },
		func() (err error) { tables.Ledger, err = dataset.ReadLedger(folder); return err },
	} {
		if err := read(); err != nil {
			return tables, err
		}
	}
	return tables, nil
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

// attempts are the tables' rows, attempt by attempt.
func (t Tables) attempts() iter.Seq2[dataset.Attempt, error] {
	return func(yield func(dataset.Attempt, error) bool) {
		phases := byTrial(t.Phases, func(r *dataset.Phase) string { return r.Trial })
		witnesses := byTrial(t.Witnesses, func(r *dataset.Witness) string { return r.Trial })
		certificates := byTrial(t.Certificates, func(r *dataset.Certificate) string { return r.Trial })
		traffic := byTrial(t.Traffic, func(r *dataset.Traffic) string { return r.Trial })
		ledger := byTrial(t.Ledger, func(r *dataset.Ledger) string { return r.Trial })
		for _, row := range t.Trials {
			if !yield(dataset.Attempt{Trial: row, Phases: phases[row.Key], Witnesses: witnesses[row.Key],
				Certificates: certificates[row.Key], Traffic: traffic[row.Key], Ledger: ledger[row.Key]}, nil) {
				return
			}
		}
	}
}

// Summarise puts the attempts that count together. A trial on another kind of testbed is an
// error: kinds are never mixed.
func Summarise(name, testbedKind string, tables Tables) (Summary, error) {
	return summarise(name, testbedKind, tables.attempts())
}

// summarise does the same with attempts that it reads once.
func summarise(name, testbedKind string, attempts iter.Seq2[dataset.Attempt, error]) (Summary, error) {
	summary := Summary{Campaign: name, TestbedKind: testbedKind}
	specs, binaries := map[string]bool{}, map[string]bool{}
	proof := newProof()
	causes := causes{}
	cells, ran := map[group.Key]*samples{}, map[group.Key]*Ran{}
	var order []*samples
	for attempt, err := range attempts {
		if err != nil {
			return Summary{}, fmt.Errorf("summarise campaign %s: %w", name, err)
		}
		row := &attempt.Trial // a copy: a row that is marked valid may contradict itself, and its verdict is changed here
		if row.TestbedKind != testbedKind {
			return Summary{}, fmt.Errorf("summarise campaign %s: trial %s ran on a testbed that is %s, the campaign's are %s",
				name, row.Key, row.TestbedKind, testbedKind)
		}
		summary.Attempts++
		specs[row.SpecSHA256], binaries[row.BinaryVersion] = true, true
		if trial.Verdict(row.Verdict) == trial.Valid {
			if problem := group.Contradiction(row, attempt.Phases); problem != "" {
				row.Verdict, row.Cause, row.Reason = string(trial.Invalid), "", problem
				summary.Problems = append(summary.Problems, fmt.Sprintf("trial %s calls itself valid, and is not counted as that: %s", row.Key, problem))
			}
		}
		causes.add(row)
		if !row.Sentinel {
			entry(ran, group.Any(row)).add(row)
			summary.Ran.add(row)
		}
		if row.Counted {
			summary.count(row)
		}
		proof.add(&attempt)
		key, in := group.Of(row)
		if !in {
			continue
		}
		if cells[key] == nil {
			cells[key] = newSamples(key, *row)
			order = append(order, cells[key])
		}
		cells[key].add(&attempt)
		if verdict, judged := controls.Of(row, attempt.Witnesses, attempt.Certificates); judged {
			cells[key].cell.Controls = append(cells[key].cell.Controls, Control{row.Key, verdict})
		}
	}
	slices.SortStableFunc(order, compareFactors)
	for _, cell := range order {
		of := cell.finish()
		of.Ran = *ran[group.Key{CellID: of.ID, Direction: of.Direction}]
		summary.Cells = append(summary.Cells, of)
	}
	summary.Causes = causes.sorted(summary.Cells)
	summary.Paths, summary.Lost, summary.Sentinel = proof.paths(), proof.lost, proof.sentinel
	summary.Specs, summary.Binaries = slices.Sorted(maps.Keys(specs)), slices.Sorted(maps.Keys(binaries))
	return summary, nil
}

// FailedControls has one line for each control that did not show what it must.
func (s Summary) FailedControls() []string {
	var failed []string
	names := Names(s.Cells)
	for i, cell := range s.Cells {
		for _, control := range cell.Controls {
			if problem := control.Problem(); problem != "" {
				failed = append(failed, fmt.Sprintf("%s, trial %s: %s", names[i], control.Trial, problem))
			}
		}
	}
	return failed
}

// count counts a trial that counts.
func (s *Summary) count(row *dataset.Trial) {
	s.Trials++
	switch verdict := trial.Verdict(row.Verdict); verdict {
	case trial.Valid:
	case trial.Skipped:
		s.Skipped++
		fallthrough
	default:
		s.Failures = append(s.Failures, Failure{row.Key, verdict, row.Cause, row.Reason})
	}
}

func compareFactors(a, b *samples) int {
	x, y := &a.cell.Example, &b.cell.Example
	return cmp.Or(group.FactorsOf(x).Compare(group.FactorsOf(y)), group.Any(x).Compare(group.Any(y)))
}

// byTrial groups rows by their trials' keys.
func byTrial[R any](rows []R, key func(*R) string) map[string][]R {
	of := map[string][]R{}
	for i := range rows {
		of[key(&rows[i])] = append(of[key(&rows[i])], rows[i])
	}
	return of
}

// controlName names a control in words; "" for a cell of the matrix.
func controlName(row *dataset.Trial) string {
	if name := group.Control(row); name != "" {
		return "control " + name
	}
	return ""
}

// Names name the cells by the factors in which they differ, including direction, and always
// by their storage and, for controls, by the control.
func Names(cells []Cell) []string {
	factors := []func(row *dataset.Trial) string{
		func(row *dataset.Trial) string { return row.Hypervisor },
		group.Storage,
		func(row *dataset.Trial) string { return row.WAN },
		func(row *dataset.Trial) string { return row.Access },
		func(row *dataset.Trial) string { return group.FactorsOf(row).MemoryText() },
		func(row *dataset.Trial) string { return group.FactorsOf(row).VCPUsText() },
		group.Migration,
		controlName,
		func(row *dataset.Trial) string { return group.Any(row).Direction },
	}
	const storage, control = 1, 7
	parts := make([][]string, len(cells))
	for i, factor := range factors {
		differs := slices.ContainsFunc(cells, func(c Cell) bool { return factor(&c.Example) != factor(&cells[0].Example) })
		for j := range cells {
			if text := factor(&cells[j].Example); text != "" && (differs || i == storage || i == control) {
				parts[j] = append(parts[j], text)
			}
		}
	}
	names := make([]string, len(cells))
	of := map[string]int{} // number of cells by name
	for i := range parts {
		names[i] = strings.Join(parts[i], ", ")
		of[names[i]]++
	}
	for i, name := range names {
		if of[name] > 1 { // they differ in something that rows do not have
			names[i] = cells[i].ID + ", " + name
		}
	}
	return names
}
