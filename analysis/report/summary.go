package report

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/trial"
)

// simulated is the kind of testbed that is a model.
const simulated = "simulated"

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
	UncertaintyMs Spread // of the blackouts
	WANMB         Spread // 10^6 bytes
	Phases        map[string]Load
}

// Failure is a trial that is not valid.
type Failure struct {
	Trial   string // key of the attempt
	Verdict trial.Verdict
	Reason  string
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
	// Problems are rows that contradict themselves.
	Problems []string
}

// Read reads the tables of a campaign's folder and summarises them.
func Read(folder string) (Summary, error) {
	manifest, err := dataset.ReadManifest(folder)
	if err != nil {
		return Summary{}, fmt.Errorf("summarise a campaign: %w", err)
	}
	trials, err := dataset.ReadTrials(folder)
	if err != nil {
		return Summary{}, fmt.Errorf("summarise campaign %s: %w", manifest.Campaign, err)
	}
	phases, err := dataset.ReadPhases(folder)
	if err != nil {
		return Summary{}, fmt.Errorf("summarise campaign %s: %w", manifest.Campaign, err)
	}
	return Summarise(manifest.Campaign, manifest.TestbedKind, trials, phases)
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
	path := filepath.Join(folder, dataset.SummaryFile)
	if err := os.WriteFile(path+".tmp", []byte(text.String()), 0o644); err != nil {
		return Summary{}, err
	}
	return summary, os.Rename(path+".tmp", path)
}

// Summarise puts the attempts that count together. Trials of another kind of
// testbed are an error: they are never mixed.
func Summarise(campaign, testbedKind string, trials []dataset.Trial, phases []dataset.Phase) (Summary, error) {
	summary := Summary{Campaign: campaign, TestbedKind: testbedKind, Attempts: len(trials)}
	phasesOf := map[string][]dataset.Phase{}
	for _, phase := range phases {
		phasesOf[phase.Trial] = append(phasesOf[phase.Trial], phase)
	}
	cells := map[string]*samples{}
	var order []*samples
	for _, row := range trials {
		if row.TestbedKind != testbedKind {
			return Summary{}, fmt.Errorf("summarise campaign %s: trial %s ran on a testbed that is %s, the campaign's are %s",
				campaign, row.Key, row.TestbedKind, testbedKind)
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
		verdict, reason := trial.Verdict(row.Verdict), row.Reason
		if verdict == trial.Valid {
			if problem := contradiction(&row, phasesOf[row.Key]); problem != "" {
				verdict, reason = trial.Invalid, problem
				summary.Problems = append(summary.Problems, fmt.Sprintf("trial %s calls itself valid, and is not counted as that: %s", row.Key, problem))
			}
		}
		cells[row.CellID].cell.Verdicts[verdict]++
		if verdict == trial.Valid {
			cells[row.CellID].add(&row, phasesOf[row.Key])
		} else {
			summary.Failures = append(summary.Failures, Failure{row.Key, verdict, reason})
		}
	}
	slices.SortStableFunc(order, compareFactors)
	for _, cell := range order {
		summary.Cells = append(summary.Cells, cell.finish())
	}
	summary.Specs = unique(summary.Specs)
	summary.Binaries = unique(summary.Binaries)
	return summary, nil
}

func unique(texts []string) []string { return slices.Compact(slices.Sorted(slices.Values(texts))) }

// contradiction says why a trial cannot be valid: proof that it did any work.
func contradiction(row *dataset.Trial, phases []dataset.Phase) string {
	if row.IORows == 0 {
		return "it has no I/O"
	}
	done := map[string]bool{}
	for _, phase := range phases {
		done[phase.Phase] = phase.IOs > 0 || phase.Phase == dataset.During // a migration may stop all of it
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
		cmp.Compare(x.Storage, y.Storage), cmp.Compare(protocol(x), protocol(y)))
}

func memory(row *dataset.Trial) int32 {
	if row.GuestMemoryMiB == nil {
		return 0
	}
	return *row.GuestMemoryMiB
}

func protocol(row *dataset.Trial) string {
	if row.DRBDProtocol == nil {
		return ""
	}
	return *row.DRBDProtocol
}

// samples is a cell and the values of its valid trials.
type samples struct {
	cell                                         Cell
	migrationS, blackoutMs, uncertaintyMs, wanMB []float64
	phases                                       map[string]*loadSamples
}

type loadSamples struct {
	iops, mbPerS, meanMs, p99Ms, maxMs []float64
}

func (s *samples) add(row *dataset.Trial, phases []dataset.Phase) {
	s.migrationS = appendKnown(s.migrationS, row.TotalMigrationMs, 1e-3)
	s.blackoutMs = appendKnown(s.blackoutMs, row.LongestGapMs, 1)
	s.uncertaintyMs = appendKnown(s.uncertaintyMs, row.LongestGapUncertaintyMs, 1)
	if row.WANBytes != nil {
		s.wanMB = append(s.wanMB, float64(*row.WANBytes)/1e6)
	}
	for _, phase := range phases {
		if s.phases == nil {
			s.phases = map[string]*loadSamples{}
		}
		load := s.phases[phase.Phase]
		if load == nil {
			load = &loadSamples{}
			s.phases[phase.Phase] = load
		}
		load.iops = append(load.iops, phase.IOPS)
		load.mbPerS = append(load.mbPerS, phase.MBPerS)
		load.meanMs = appendKnown(load.meanMs, phase.MeanMs, 1)
		load.p99Ms = appendKnown(load.p99Ms, phase.P99Ms, 1)
		load.maxMs = appendKnown(load.maxMs, phase.MaxMs, 1)
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
	cell.UncertaintyMs, cell.WANMB = spread(s.uncertaintyMs), spread(s.wanMB)
	cell.Phases = map[string]Load{}
	for name, load := range s.phases {
		cell.Phases[name] = Load{IOPS: spread(load.iops), MBPerS: spread(load.mbPerS),
			MeanMs: spread(load.meanMs), P99Ms: spread(load.p99Ms), MaxMs: spread(load.maxMs)}
	}
	return cell
}

// labels name the cells by the factors in which they differ, and always by
// their storage.
func labels(cells []Cell) []string {
	factors := []func(row *dataset.Trial) string{
		func(row *dataset.Trial) string { return row.Hypervisor },
		func(row *dataset.Trial) string { return strings.TrimSpace(row.Storage + " " + protocol(row)) },
		func(row *dataset.Trial) string { return row.WAN },
		func(row *dataset.Trial) string { return row.Access },
		func(row *dataset.Trial) string {
			if memory(row) == 0 {
				return ""
			}
			return strconv.Itoa(int(memory(row))) + " MiB"
		},
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
