package answers

import (
	"fmt"
	"math"

	"heliotrope/analysis/group"
	"heliotrope/analysis/stats"
)

// Versus compares a campaign with a later one, for instance before and after an upgrade.
// The two were run at different times, so a difference may come from anything that has
// changed since; nothing is paired.
type Versus struct {
	A       Side         `json:"a"` // before
	B       Side         `json:"b"` // after
	Metrics []About      `json:"metrics"`
	Cells   []CellVersus `json:"cells"` // cells of the matrix that both have, in the order of A's
	// OnlyA and OnlyB are the cells that only one of them has.
	OnlyA      []CellName `json:"only_a"`
	OnlyB      []CellName `json:"only_b"`
	Thresholds []Exceeded `json:"thresholds"` // in the order in which they are given
	Notes      []string   `json:"notes"`
}

// Side is one of the campaigns.
type Side struct {
	TestbedKind string `json:"testbed_kind"`
	Campaign    string `json:"campaign"`
	// State says for people that the campaign still runs, or that some of its trials never
	// ran (dataset.State's Text); "" when there is nothing to say.
	State string `json:"state,omitempty"`
}

// CellName names a group.
type CellName struct {
	ID        string `json:"cell_id"`
	Direction string `json:"direction"`
}

// CellVersus is a cell in both campaigns.
type CellVersus struct {
	CellName
	Factors   group.Factors  `json:"factors"`
	FailuresA Rate           `json:"failures_a"`
	FailuresB Rate           `json:"failures_b"`
	Metrics   []MetricVersus `json:"metrics"` // those that both have values of
}

// MetricVersus is a metric of a cell in both campaigns.
type MetricVersus struct {
	Metric string   `json:"metric"`
	A      Estimate `json:"a"`
	B      Estimate `json:"b"`
	// Ratio is B's median divided by A's, and Difference B's minus A's, with their
	// intervals (BCa); not known where one of them has too few values.
	Ratio          Number `json:"ratio"`
	RatioLow       Number `json:"ratio_low"`
	RatioHigh      Number `json:"ratio_high"`
	Difference     Number `json:"difference"`
	DifferenceLow  Number `json:"difference_low"`
	DifferenceHigh Number `json:"difference_high"`
	// P is of the two-sided rank-sum test; AdjustedP is Holm's, over all cells of the
	// metric.
	P         Number  `json:"p"`
	AdjustedP Number  `json:"adjusted_p"`
	Verdict   Verdict `json:"verdict"` // of B against A
}

// Compare compares two campaigns cell by cell, and checks every threshold in every cell. It
// is an error when they have no cell in common, or when none of the common cells has the
// metric of a threshold: the comparison would show nothing.
func Compare(a, b Campaign, thresholds []Threshold) (Versus, error) {
	of := Versus{A: a.Side, B: b.Side, Metrics: []About{}, Cells: []CellVersus{}, OnlyA: []CellName{}, OnlyB: []CellName{}, Thresholds: []Exceeded{}, Notes: []string{}}
	for _, note := range a.all.notes {
		of.Notes = append(of.Notes, "A: "+note)
	}
	for _, note := range b.all.notes {
		of.Notes = append(of.Notes, "B: "+note)
	}
	var both [][2]*sample
	both, of.OnlyA = inBoth(a.all, b.all)
	_, of.OnlyB = inBoth(b.all, a.all)
	if len(both) == 0 {
		return of, fmt.Errorf("campaigns %s and %s have no cell in common", a.Campaign, b.Campaign)
	}
	for _, cell := range both {
		bare := [2]Cell{cell[0].cell(nil), cell[1].cell(nil)}
		of.Cells = append(of.Cells, CellVersus{CellName: nameOf(cell[0]), Factors: cell[0].factors, FailuresA: bare[0].Failures, FailuresB: bare[1].Failures, Metrics: []MetricVersus{}})
	}
	for i := range metrics {
		if of.compare(&metrics[i], both) {
			of.Metrics = append(of.Metrics, metrics[i].About)
		}
	}
	for _, threshold := range thresholds {
		exceeded, err := threshold.ask(both, of.OnlyA)
		if err != nil {
			return of, err
		}
		of.Thresholds = append(of.Thresholds, exceeded)
	}
	return of, nil
}

func nameOf(of *sample) CellName { return CellName{of.key.CellID, of.key.Direction} }

// inBoth are the cells of the matrix that both campaigns have, and those that only the
// first has.
func inBoth(a, b *material) (both [][2]*sample, only []CellName) {
	only = []CellName{}
	others := map[group.Key]*sample{}
	for _, of := range b.groups {
		others[of.key] = of
	}
	for _, of := range a.groups {
		switch other := others[of.key]; {
		case of.factors.Control != "":
		case other == nil:
			only = append(only, nameOf(of))
		default:
			both = append(both, [2]*sample{of, other})
		}
	}
	return both, only
}

// compare compares a metric in all cells that have it; false when none has.
func (v *Versus) compare(metric *metric, both [][2]*sample) bool {
	var p []float64
	var found []*MetricVersus
	for i, cell := range both {
		a, b := cell[0].values(metric), cell[1].values(metric)
		if len(a) == 0 || len(b) == 0 {
			continue
		}
		test := stats.MannWhitney(b, a)
		of := MetricVersus{Metric: metric.Name, A: estimate(metric.Name, a), B: estimate(metric.Name, b), P: Number(test.TwoSided), Verdict: side(test)}
		ratio, difference := stats.Default.Medians(b, a, stats.Ratio), stats.Default.Medians(b, a, stats.Difference)
		of.Ratio, of.RatioLow, of.RatioHigh = Number(stats.Ratio(stats.Median(b), stats.Median(a))), Number(ratio.Low), Number(ratio.High)
		of.Difference = Number(stats.Difference(stats.Median(b), stats.Median(a)))
		of.DifferenceLow, of.DifferenceHigh = Number(difference.Low), Number(difference.High)
		v.Cells[i].Metrics = append(v.Cells[i].Metrics, of)
		found, p = append(found, &v.Cells[i].Metrics[len(v.Cells[i].Metrics)-1]), append(p, test.TwoSided)
	}
	for i, adjusted := range stats.Holm(p) {
		found[i].AdjustedP = Number(adjusted)
		if !(adjusted <= alpha) {
			found[i].Verdict = Undecided
		}
	}
	return len(found) > 0
}

// Campaign is a campaign that was read for a comparison.
type Campaign struct {
	Side
	all *material
}

// Sorted makes a Campaign from its rows. Its errors are those of Of.
func Sorted(campaign, testbedKind string, rows Rows) (Campaign, error) {
	all, err := sorted(campaign, testbedKind, rows)
	return Campaign{Side{TestbedKind: testbedKind, Campaign: campaign}, all}, err
}

// exceededVerdict is a threshold's verdict in one cell.
type exceededVerdict string

// Verdicts of thresholds. Exceeded and kept must be shown by the interval; anything else is
// undecided.
const (
	ThresholdExceeded  exceededVerdict = "exceeded"
	ThresholdKept      exceededVerdict = "kept"
	ThresholdUndecided exceededVerdict = "undecided"
)

// Exceeded is the result of a threshold.
type Exceeded struct {
	Threshold string         `json:"threshold"`
	Fails     bool           `json:"fails"` // it is exceeded in a cell
	Cells     []CellExceeded `json:"cells"` // all cells of the earlier campaign, A
}

// CellExceeded is the result of a threshold in one cell.
type CellExceeded struct {
	CellName
	Value     Number          `json:"value"` // the ratio or the difference, as the threshold states its change
	Low       Number          `json:"low"`
	High      Number          `json:"high"`
	AdjustedP Number          `json:"adjusted_p"` // of being beyond the threshold, one-sided; Holm's over the cells. Not known for failure rates
	Verdict   exceededVerdict `json:"verdict"`
	// Missing says why nothing could be computed: no value in B, not in B. The verdict is then
	// undecided, and the numbers are not known. "" otherwise.
	Missing string `json:"missing,omitempty"`
}

// nothing is the result in a cell where a threshold cannot be checked.
func nothing(name CellName, missing string) CellExceeded {
	return CellExceeded{CellName: name, Value: Unknown, Low: Unknown, High: Unknown, AdjustedP: Unknown, Verdict: ThresholdUndecided, Missing: missing}
}

// missingIn says in which campaign a cell has nothing, as "no value in B"; "" when both have
// something.
func missingIn(what string, a, b int) string {
	switch {
	case a == 0 && b == 0:
		return "no " + what + " in A or B"
	case a == 0:
		return "no " + what + " in A"
	case b == 0:
		return "no " + what + " in B"
	}
	return ""
}

// ask checks a threshold in each cell of both campaigns. The cells that only A has are
// undecided.
func (t Threshold) ask(both [][2]*sample, onlyA []CellName) (Exceeded, error) {
	of := Exceeded{Threshold: t.String(), Cells: []CellExceeded{}}
	var err error
	if t.Metric == FailureRate {
		t.askFailures(both, &of)
	} else {
		err = t.askMetric(both, &of)
	}
	for _, name := range onlyA {
		of.Cells = append(of.Cells, nothing(name, "not in B"))
	}
	return of, err
}

// askMetric checks a threshold of a metric in each cell. It is an error when no cell has
// values in both campaigns.
func (t Threshold) askMetric(both [][2]*sample, of *Exceeded) error {
	var p []float64
	var tested []int // their cells, by number
	metric := metricOf(t.Metric)
	limit, how := 1+t.Value/100, stats.Ratio
	moved := func(v float64) float64 { return v * limit }
	if !t.Percent {
		limit, how = t.Value, stats.Difference
		moved = func(v float64) float64 { return v + limit }
	}
	for _, cell := range both {
		a, b := cell[0].values(metric), cell[1].values(metric)
		if missing := missingIn("value", len(a), len(b)); missing != "" {
			of.Cells = append(of.Cells, nothing(nameOf(cell[0]), missing))
			continue
		}
		interval := stats.Default.Medians(b, a, how)
		for i := range a {
			a[i] = moved(a[i])
		}
		test := stats.MannWhitney(b, a)
		c := CellExceeded{CellName: nameOf(cell[0]), Low: Number(interval.Low), High: Number(interval.High)}
		c.Value = Number(how(stats.Median(cell[1].values(metric)), stats.Median(cell[0].values(metric))))
		c.Verdict = t.verdict(interval, limit)
		chance := test.Greater
		if t.Below {
			chance = test.Less
		}
		of.Cells, p, tested = append(of.Cells, c), append(p, chance), append(tested, len(of.Cells))
	}
	if len(tested) == 0 {
		return fmt.Errorf("--fail-if %q: no cell of both campaigns knows %s", of.Threshold, t.Metric)
	}
	for i, adjusted := range stats.Holm(p) {
		c := &of.Cells[tested[i]]
		if c.AdjustedP = Number(adjusted); c.Verdict == ThresholdExceeded && !(adjusted <= alpha) {
			c.Verdict = ThresholdUndecided
		}
		of.Fails = of.Fails || c.Verdict == ThresholdExceeded
	}
	return nil
}

// verdict compares the interval of a change with the threshold's limit.
func (t Threshold) verdict(interval stats.Interval, limit float64) exceededVerdict {
	beyond, within := interval.Low > limit, interval.High <= limit
	if t.Below {
		beyond, within = interval.High < limit, interval.Low >= limit
	}
	switch {
	case beyond:
		return ThresholdExceeded
	case within:
		return ThresholdKept
	}
	return ThresholdUndecided
}

// askFailures checks a threshold of the failure rates in each cell, in percentage points.
// The intervals are wide enough to hold in all cells together (Bonferroni).
func (t Threshold) askFailures(both [][2]*sample, of *Exceeded) {
	for _, cell := range both {
		a, b := cell[0].cell(nil).Failures, cell[1].cell(nil).Failures
		if missing := missingIn("result", a.Of, b.Of); missing != "" {
			of.Cells = append(of.Cells, nothing(nameOf(cell[0]), missing))
			continue
		}
		interval := stats.RateDifference(b.Count, b.Of, a.Count, a.Of, 1-alpha/float64(len(both)))
		c := CellExceeded{CellName: nameOf(cell[0]), Value: 100 * (b.Share - a.Share), Low: Number(100 * interval.Low), High: Number(100 * interval.High), AdjustedP: Unknown}
		c.Verdict = t.verdict(stats.Interval{Low: float64(c.Low), High: float64(c.High)}, t.Value)
		of.Cells, of.Fails = append(of.Cells, c), of.Fails || c.Verdict == ThresholdExceeded
	}
}

// finite says whether a number can be a threshold.
func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }
