package answers

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"heliotrope/analysis/dataset"
	"heliotrope/analysis/group"
	"heliotrope/analysis/stats"
	"heliotrope/internal/trial"
)

// Rows are the tables that answers are computed from, as package dataset reads them. All
// except Trials may be empty: figures that need them are not known then.
type Rows struct {
	Trials  []dataset.Trial // table attempts
	Phases  []dataset.Phase
	Traffic []dataset.Traffic
}

// alpha is the probability with which a family of comparisons may decide anything wrongly.
const alpha = 0.05

// wantedPercent is the half width, in percent of the median, at which MoreTrials aims.
const wantedPercent = 5

// ReadCampaign reads a campaign's folder for a comparison with another campaign.
func ReadCampaign(folder string) (Campaign, error) {
	manifest, rows, err := readRows(folder)
	if err != nil {
		return Campaign{}, err
	}
	campaign, err := Sorted(manifest.Campaign, manifest.TestbedKind, rows)
	if err != nil {
		return Campaign{}, err
	}
	state, err := dataset.ReadState(folder)
	campaign.State = state.Text()
	return campaign, err
}

func readRows(folder string) (manifest dataset.Manifest, rows Rows, err error) {
	if manifest, err = dataset.ReadManifest(folder); err != nil {
		return manifest, rows, fmt.Errorf("read a campaign: %w", err)
	}
	tables := manifest
	tables.Files = slices.DeleteFunc(slices.Clone(manifest.Files), func(file dataset.File) bool { return strings.Contains(file.Path, "/") })
	for _, read := range []func() error{
		func() error { return dataset.Verify(folder, tables) },
		func() (err error) { rows.Trials, err = dataset.ReadAttempts(folder); return err },
		func() (err error) { rows.Phases, err = dataset.ReadPhases(folder); return err },
		func() (err error) { rows.Traffic, err = dataset.ReadTraffic(folder); return err },
	} {
		if err := read(); err != nil {
			return manifest, rows, fmt.Errorf("read campaign %s: %w", manifest.Campaign, err)
		}
	}
	return manifest, rows, nil
}

// Of answers a campaign's questions from its rows, which it does not change. A trial on
// another kind of testbed is an error: kinds are never mixed.
func Of(campaign, testbedKind string, rows Rows) (Answers, error) {
	all, err := sorted(campaign, testbedKind, rows)
	if err != nil {
		return Answers{}, err
	}
	of := Answers{Campaign: campaign, TestbedKind: testbedKind, Confidence: stats.Default.Confidence, Seed: stats.Default.Seed, Resamples: stats.Default.Resamples,
		Metrics: []About{}, Cells: []Cell{}, Comparisons: []Comparison{}, Crossovers: []Crossover{}, Sentinel: []Trend{}, Claims: []Claim{}}
	told := all.told()
	for _, metric := range told {
		of.Metrics = append(of.Metrics, metric.About)
	}
	for _, group := range all.groups {
		of.Cells = append(of.Cells, group.cell(told))
	}
	of.Comparisons = all.comparisons(told)
	of.Crossovers = all.crossovers(told, of.Comparisons)
	of.Sentinel = all.trends()
	of.Claims = all.claims()
	of.Notes = append(all.notes, all.apartNotes(of.Comparisons)...)
	return of, nil
}

// sample is a group's trials, in the order of the plan.
type sample struct {
	key     group.Key
	factors group.Factors
	trials  []*one
}

// material is a campaign's trials in their groups.
type material struct {
	groups   []*sample
	sentinel []*one
	// balanced says that cells run in both directions, in turn: two blocks have each cell
	// once in each direction.
	balanced bool
	// See fixedUpTo and breaksOf.
	fixedUpTo int32
	breaksNs  []int64
	notes     []string
}

// sorted puts the trials into their groups.
func sorted(campaign, testbedKind string, rows Rows) (*material, error) {
	phases := map[string]map[string]*dataset.Phase{}
	list := map[string][]dataset.Phase{}
	for i := range rows.Phases {
		phase := &rows.Phases[i]
		if phases[phase.Trial] == nil {
			phases[phase.Trial] = map[string]*dataset.Phase{}
		}
		phases[phase.Trial][phase.Phase] = phase
		list[phase.Trial] = append(list[phase.Trial], *phase)
	}
	traffic := trafficOf(rows.Traffic)
	all := &material{notes: []string{}, fixedUpTo: fixedUpTo(rows.Trials), breaksNs: breaksOf(rows.Trials)}
	groups, directions := map[group.Key]*sample{}, map[string]bool{}
	for i := range rows.Trials {
		row := rows.Trials[i] // a copy: a row that says valid may contradict itself, and its verdict is changed here
		if row.TestbedKind != testbedKind {
			return nil, fmt.Errorf("answer for campaign %s: trial %s ran on a testbed that is %s, the campaign's are %s",
				campaign, row.Key, row.TestbedKind, testbedKind)
		}
		if valid(&row) {
			if problem := group.Contradiction(&row, list[row.Key]); problem != "" {
				row.Verdict = string(trial.Invalid)
				all.notes = append(all.notes, fmt.Sprintf("trial %s calls itself valid, and is left out: %s", row.Key, problem))
			}
		}
		of := &one{row: &row, phases: phases[row.Key], wanBytes: traffic[row.Key]}
		if row.Counted && row.Sentinel {
			all.sentinel = append(all.sentinel, of)
		}
		key, in := group.Of(&row)
		if !in {
			continue
		}
		if groups[key] == nil {
			groups[key] = &sample{key: key, factors: group.FactorsOf(&row)}
			all.groups = append(all.groups, groups[key])
		}
		groups[key].trials = append(groups[key].trials, of)
		if row.Control == "" {
			directions[key.Direction] = true
		}
	}
	all.balanced = len(directions) > 1
	slices.SortStableFunc(all.sentinel, func(a, b *one) int { return cmp.Compare(a.row.StartedTsNs, b.row.StartedTsNs) })
	slices.SortStableFunc(all.groups, func(a, b *sample) int {
		return cmp.Or(a.factors.Compare(b.factors), a.key.Compare(b.key))
	})
	return all, nil
}

// told are the metrics that any trial has a value of.
func (m *material) told() []*metric {
	var told []*metric
	for i := range metrics {
		if slices.ContainsFunc(m.groups, func(of *sample) bool { return len(of.values(&metrics[i])) > 0 }) {
			told = append(told, &metrics[i])
		}
	}
	return told
}

func valid(row *dataset.Trial) bool { return trial.Verdict(row.Verdict) == trial.Valid }

// values are the group's values of a metric, one for each trial that has a value.
func (s *sample) values(of *metric) []float64 {
	var values []float64
	for _, trial := range s.trials {
		if value, known := of.of(trial); known {
			values = append(values, value)
		}
	}
	return values
}

// cell is the figures of one group.
func (s *sample) cell(told []*metric) Cell {
	counts := map[trial.Verdict]int{}
	for _, of := range s.trials {
		counts[trial.Verdict(of.row.Verdict)]++
	}
	cell := Cell{ID: s.key.CellID, Direction: s.key.Direction, Factors: s.factors, Results: counts[trial.Valid] + counts[trial.TargetFailed], Estimates: []Estimate{}}
	cell.Failures = rate(counts[trial.TargetFailed], cell.Results)
	cell.Invalid = rate(counts[trial.Invalid], cell.Results+counts[trial.Invalid])
	for _, metric := range told {
		cell.Estimates = append(cell.Estimates, estimate(metric.Name, s.values(metric)))
	}
	return cell
}

func rate(count, of int) Rate {
	interval := stats.Rate(count, of, stats.Default.Confidence)
	return Rate{Count: count, Of: of, Share: Number(float64(count) / float64(of)), Low: Number(interval.Low), High: Number(interval.High)}
}

// estimate is the median of some values, with its interval.
func estimate(metric string, values []float64) Estimate {
	median, interval := stats.Median(values), stats.Default.Median(values)
	percent := stats.HalfWidthPercent(median, interval)
	of := Estimate{Metric: metric, N: len(values), Median: Number(median), Low: Number(interval.Low), High: Number(interval.High), HalfWidthPercent: Number(percent)}
	for _, value := range values {
		if math.IsInf(value, 0) {
			of.Infinite++
		}
	}
	if !math.IsNaN(percent) {
		more := max(0, int(min(stats.WantN(len(values), percent, wantedPercent), math.MaxInt32))-len(values))
		of.MoreTrials = &more
	}
	return of
}
