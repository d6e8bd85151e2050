// Package report puts a campaign's trials together into a summary.
//
// It promises that every number comes from rows of the dataset: medians over
// migrations (never over I/Os, and no percentiles of percentiles), of the trials of
// one group (package group) and never of two, and nothing where nothing is known.
// A trial that failed is in the order statistics of what it has no end of, as ∞.
// The causes are those of every attempt, of those too that were tried again. A
// simulated testbed is named first, before any number.
//
// Dangerous: what a single trial measured is found by package judge; here it is
// believed, but for trials that call themselves valid and show no work.
package report

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
	"heliotrope/internal/inventory"
	"heliotrope/internal/trial"
)

// Kinds of testbeds of which more is to be said than their name: a model,
// emulated hosts behind a simulator of vCenter, and none: somebody else's logs.
const (
	simulated        = string(inventory.Simulated)
	vcenterSimulator = string(inventory.VCenterSimulator)
	ingested         = string(inventory.Ingested)
)

// Load is what the valid trials of a cell did in one phase.
type Load struct {
	IOPS, MBPerS, MeanMs, P99Ms, MaxMs Spread
}

// Cell is a group: one combination of the factors, in one direction, and its
// trials that count.
type Cell struct {
	ID        string
	Direction string
	Example   dataset.Trial // one of its trials: for the factors
	Verdicts  map[trial.Verdict]int

	// Of the results: the valid trials, and those that failed, as ∞.
	MigrationS Spread
	BlackoutMs Spread
	RecoveryMs Spread // ∞ also where the load did not come back
	IOLostS    Spread
	// Longest response times: ∞ also where an I/O was still in flight at the end.
	MaxResponseMs, ReadResponseMs, WriteResponseMs Spread

	// Of the valid trials.
	ToldMs                Spread // the downtime that the hypervisor itself tells
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
	SteadyKnown int // trials that know
	// The clocks.
	ClockMs     Spread // uncertainty of the worst
	DriftPPM    Spread
	GuestStepMs Spread
	// Bytes on the WAN during the migration, or what stands for it, by class.
	Traffic []Traffic
	// Of all its trials, by copy.
	Ledgers []Ledger
	// Of a control, in the order of its trials.
	Controls []Control
}

// Handover is how a cell's disks changed hands: before the migration, beside it, and
// after it.
type Handover struct {
	PrepareMs, FinishMs Spread // the storage made the disk ready, and let the source's side go
	CopyMs, ConvergeMs  Spread // a private disk was copied, and the copy kept up with it
	SentMB              Spread // 10^6 bytes of it, sent by the hypervisor
	OutOfSyncBytes      Spread // by which the replicas differed after the trial
}

// Control is what one trial of a control is found to be.
type Control struct {
	Trial string
	controls.Verdict
}

// results is how many of its trials are.
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
	Skipped     int // of them: in no group
	Cells       []Cell
	Causes      []Cause   // of every attempt that is not valid
	Failures    []Failure // trials that count
	Paths       []Path    // by WAN profile and direction, of the groups' trials
	Lost        Lost      // of every attempt
	Sentinel    []Watched // in the order of the plan
	// State is what is to be known of the campaign first, as that it still runs; "" for
	// nothing.
	State string
	// Problems are rows that contradict themselves.
	Problems []string
}

// Read reads the tables of a campaign's folder, attempt by attempt, and summarises them. In
// memory is what Summary needs: for each metric a number of each trial.
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

// Summarise puts the attempts that count together. Trials of another kind of
// testbed are an error: they are never mixed.
func Summarise(name, testbedKind string, tables Tables) (Summary, error) {
	return summarise(name, testbedKind, tables.attempts())
}

// summarise is Summarise, of attempts that it reads once.
func summarise(name, testbedKind string, attempts iter.Seq2[dataset.Attempt, error]) (Summary, error) {
	summary := Summary{Campaign: name, TestbedKind: testbedKind}
	specs, binaries := map[string]bool{}, map[string]bool{}
	proof := newProof()
	causes := causes{}
	cells := map[group.Key]*samples{}
	var order []*samples
	for attempt, err := range attempts {
		if err != nil {
			return Summary{}, fmt.Errorf("summarise campaign %s: %w", name, err)
		}
		row := &attempt.Trial // a copy: what calls itself valid may not be
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
		summary.Cells = append(summary.Cells, cell.finish())
	}
	summary.Causes = causes.sorted(summary.Cells)
	summary.Paths, summary.Lost, summary.Sentinel = proof.paths(), proof.lost, proof.sentinel
	summary.Specs, summary.Binaries = slices.Sorted(maps.Keys(specs)), slices.Sorted(maps.Keys(binaries))
	return summary, nil
}

// FailedControls are the controls that did not show what they must, a line each.
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

// count notes a trial that counts.
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

// byTrial sorts rows out by their trials' keys.
func byTrial[R any](rows []R, key func(*R) string) map[string][]R {
	of := map[string][]R{}
	for i := range rows {
		of[key(&rows[i])] = append(of[key(&rows[i])], rows[i])
	}
	return of
}

// controlName is a control in words; "" for a cell of the matrix.
func controlName(row *dataset.Trial) string {
	if name := group.Control(row); name != "" {
		return "control " + name
	}
	return ""
}

// Names name the cells by the factors in which they differ, direction among
// them, and always by their storage and as what control they are.
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
	of := map[string]int{} // cells by their names
	for i := range parts {
		names[i] = strings.Join(parts[i], ", ")
		of[names[i]]++
	}
	for i, name := range names {
		if of[name] > 1 { // they differ in what a row does not tell
			names[i] = cells[i].ID + ", " + name
		}
	}
	return names
}
