package answers

import (
	"fmt"
	"math"

	"heliotrope/analysis/group"
	"heliotrope/analysis/stats"
)

// Versus is one campaign after another one: before and after an upgrade. The two were
// run at different times, so that what differs may be anything that has changed
// meanwhile; nothing is paired.
type Versus struct {
	A       Side         `json:"a"` // before
	B       Side         `json:"b"` // after
	Metrics []About      `json:"metrics"`
	Cells   []CellVersus `json:"cells"` // of the matrix, that both have; in the order of A's
	// OnlyA and OnlyB are those that one of them has.
	OnlyA      []CellName `json:"only_a"`
	OnlyB      []CellName `json:"only_b"`
	Thresholds []Exceeded `json:"thresholds"` // in the order in which they are given
	Notes      []string   `json:"notes"`
}

// Side is one of the campaigns.
type Side struct {
	TestbedKind string `json:"testbed_kind"`
	Campaign    string `json:"campaign"`
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
	Metrics   []MetricVersus `json:"metrics"` // that both know
}

// MetricVersus is a metric of a cell in both campaigns.
type MetricVersus struct {
	Metric string   `json:"metric"`
	A      Estimate `json:"a"`
	B      Estimate `json:"b"`
	// Ratio is B's median by A's, and Difference B's less A's, with their intervals
	// (BCa); not known where one of them has too few values.
	Ratio          Number `json:"ratio"`
	RatioLow       Number `json:"ratio_low"`
	RatioHigh      Number `json:"ratio_high"`
	Difference     Number `json:"difference"`
	DifferenceLow  Number `json:"difference_low"`
	DifferenceHigh Number `json:"difference_high"`
	// P is of the rank-sum test, two-sided, AdjustedP Holm's over all cells of the metric.
	P         Number  `json:"p"`
	AdjustedP Number  `json:"adjusted_p"`
	Verdict   Verdict `json:"verdict"` // of B against A
}

// Compare compares two campaigns, cell by cell, and asks each threshold of every cell.
// It is an error when they have no cell in common, or none of these knows the metric
// of a threshold: nothing would be shown by that.
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
		exceeded, err := threshold.ask(both)
		if err != nil {
			return of, err
		}
		of.Thresholds = append(of.Thresholds, exceeded)
	}
	return of, nil
}

func nameOf(of *sample) CellName { return CellName{of.key.CellID, of.key.Direction} }

// inBoth are the cells of the matrix that two campaigns have, and those of the first
// that the other has not.
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

// compare compares a metric in all cells that know it; false where none does.
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

// Campaign is one that can be compared.
type Campaign struct {
	Side
	all *material
}

// Sorted makes a campaign of its rows. The errors are those of Of.
func Sorted(campaign, testbedKind string, rows Rows) (Campaign, error) {
	all, err := sorted(campaign, testbedKind, rows)
	return Campaign{Side{testbedKind, campaign}, all}, err
}

// exceededVerdict is what a threshold finds of one cell.
type exceededVerdict string

// Verdicts of thresholds: that it is exceeded or kept is shown by the interval;
// anything else is undecided.
const (
	ThresholdExceeded  exceededVerdict = "exceeded"
	ThresholdKept      exceededVerdict = "kept"
	ThresholdUndecided exceededVerdict = "undecided"
)

// Exceeded is what a threshold finds.
type Exceeded struct {
	Threshold string         `json:"threshold"`
	Fails     bool           `json:"fails"` // exceeded in a cell
	Cells     []CellExceeded `json:"cells"` // that know the metric in both campaigns
}

// CellExceeded is what a threshold finds of one cell.
type CellExceeded struct {
	CellName
	Value     Number          `json:"value"` // ratio, or difference, as the threshold wants it
	Low       Number          `json:"low"`
	High      Number          `json:"high"`
	AdjustedP Number          `json:"adjusted_p"` // of being beyond, one-sided; Holm's over the cells. Not of failure rates
	Verdict   exceededVerdict `json:"verdict"`
}

// ask asks a threshold of each cell.
func (t Threshold) ask(both [][2]*sample) (Exceeded, error) {
	of := Exceeded{Threshold: t.String(), Cells: []CellExceeded{}}
	var p []float64
	if t.Metric == FailureRate {
		return t.askFailures(both, of), nil
	}
	metric := metricOf(t.Metric)
	limit, how := 1+t.Value/100, stats.Ratio
	moved := func(v float64) float64 { return v * limit }
	if !t.Percent {
		limit, how = t.Value, stats.Difference
		moved = func(v float64) float64 { return v + limit }
	}
	for _, cell := range both {
		a, b := cell[0].values(metric), cell[1].values(metric)
		if len(a) == 0 || len(b) == 0 {
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
		of.Cells, p = append(of.Cells, c), append(p, chance)
	}
	if len(of.Cells) == 0 {
		return of, fmt.Errorf("--fail-if %q: no cell of both campaigns knows %s", of.Threshold, t.Metric)
	}
	for i, adjusted := range stats.Holm(p) {
		c := &of.Cells[i]
		if c.AdjustedP = Number(adjusted); c.Verdict == ThresholdExceeded && !(adjusted <= alpha) {
			c.Verdict = ThresholdUndecided
		}
		of.Fails = of.Fails || c.Verdict == ThresholdExceeded
	}
	return of, nil
}

// verdict is what the interval of a change shows of its limit.
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

// askFailures asks a threshold of the failure rates of each cell, in percentage points. The
// intervals are wide enough for all cells together (Bonferroni).
func (t Threshold) askFailures(both [][2]*sample, of Exceeded) Exceeded {
	for _, cell := range both {
		a, b := cell[0].cell(nil).Failures, cell[1].cell(nil).Failures
		interval := stats.RateDifference(b.Count, b.Of, a.Count, a.Of, 1-alpha/float64(len(both)))
		c := CellExceeded{CellName: nameOf(cell[0]), Value: 100 * (b.Share - a.Share), Low: Number(100 * interval.Low), High: Number(100 * interval.High), AdjustedP: Unknown}
		c.Verdict = t.verdict(stats.Interval{Low: float64(c.Low), High: float64(c.High)}, t.Value)
		of.Cells, of.Fails = append(of.Cells, c), of.Fails || c.Verdict == ThresholdExceeded
	}
	return of
}

// finite says whether a number can be a threshold.
func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }
