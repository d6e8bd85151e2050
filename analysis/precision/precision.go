// Package precision tells when a campaign's results are precise enough to stop
// it, and how many repetitions are still needed.
//
// It promises an interval of each cell's median that does not depend on how the
// values are distributed: that of the order statistics, with the exact binomial
// probability (Conover, Practical Nonparametric Statistics, 3.2; also David and
// Nagaraja, Order Statistics, 7.1). It holds the median of what is measured
// with at least 95 %, at any number of values, and the same rows give the same
// interval. A bootstrap of a median does neither: it can only draw the same few
// values again, and covers less than it says when they are few.
//
// Dangerous: below six values no interval of order statistics reaches 95 % (of
// five, the least and the greatest enclose the median with 93.75 %), so that a
// cell with fewer is never precise, whatever its Stop's Min says. Trials that
// failed have no value: the median is that of those which did not, and recovery
// of those that came back. And looking after every block, to stop at the first
// that is precise, makes the last interval's 95 % a little less.
package precision

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/campaign"
	"heliotrope/internal/trial"
)

// Confidence of the intervals.
const Confidence = 0.95

// fewest is the least number of values that have an interval: 1 - 2 · 2^-6.
const fewest = 6

// Result of looking at a campaign.
type Result struct {
	// Enough says that every cell is precise, or has had its last repetition.
	// It is false without cells.
	Enough bool   `json:"enough"`
	Cells  []Cell `json:"cells"` // by their IDs
	// MoreRepetitions is how many the cell that wants most still wants; each
	// is a trial of every cell.
	MoreRepetitions int `json:"more_repetitions"`
}

// Cell is what is known of one cell of the matrix. Median, Low, High and
// HalfWidthPercent are nil when they cannot be told; the first three have the
// unit of the metric.
type Cell struct {
	CellID string   `json:"cell_id"`
	N      int      `json:"n"`      // repetitions that are results: valid or target-failed
	Values int      `json:"values"` // of them, those that have the metric: what the median is of
	Median *float64 `json:"median,omitempty"`
	Low    *float64 `json:"low,omitempty"`
	High   *float64 `json:"high,omitempty"`
	// HalfWidthPercent is half of High less Low, in percent of the median.
	HalfWidthPercent *float64 `json:"half_width_percent,omitempty"`
	Precise          bool     `json:"precise"`
	WantN            int      `json:"want_n"` // N that is forecast to be enough
}

// metrics by their columns of table trials.
var metrics = map[string]func(dataset.Trial) *float64{
	"blackout_ms":        func(row dataset.Trial) *float64 { return row.BlackoutMs },
	"total_migration_ms": func(row dataset.Trial) *float64 { return row.TotalMigrationMs },
	"recovery_ms":        func(row dataset.Trial) *float64 { return row.RecoveryMs },
	"io_lost_s":          func(row dataset.Trial) *float64 { return row.IOLostS },
}

// Cells judges the cells of the matrix by the attempts that count (those that
// CompactCampaign marks); controls and sentinels are left out. A cell without a
// row is not known here: call it after whole blocks. Invalid and skipped
// trials are no repetitions, so the plan has to end by itself when there are
// too many. The only error is a metric that there is not.
func Cells(rows []dataset.Trial, stop campaign.Stop) (Result, error) {
	metric, ok := metrics[stop.Metric]
	if !ok {
		return Result{}, fmt.Errorf("stop by the precision of %q: there is no such metric", stop.Metric)
	}
	type sample struct {
		n      int
		values []float64
	}
	samples := map[string]*sample{}
	for _, row := range rows {
		if !row.Counted || row.Control != "" || row.Sentinel {
			continue
		}
		of := samples[row.CellID]
		if of == nil {
			of = &sample{}
			samples[row.CellID] = of
		}
		verdict := trial.Verdict(row.Verdict)
		if verdict == trial.Valid || verdict == trial.TargetFailed {
			of.n++
		}
		if value := metric(row); verdict == trial.Valid && value != nil && !math.IsNaN(*value) && !math.IsInf(*value, 0) {
			of.values = append(of.values, *value)
		}
	}
	result := Result{Enough: len(samples) > 0}
	for id, of := range samples {
		cell := judge(id, of.n, of.values, stop)
		result.Cells = append(result.Cells, cell)
		result.MoreRepetitions = max(result.MoreRepetitions, cell.WantN-cell.N)
	}
	slices.SortFunc(result.Cells, func(a, b Cell) int { return cmp.Compare(a.CellID, b.CellID) })
	result.Enough = result.Enough && result.MoreRepetitions == 0
	return result, nil
}

// judge is one cell by its values.
func judge(id string, n int, values []float64, stop campaign.Stop) Cell {
	cell := Cell{CellID: id, N: n, Values: len(values)}
	slices.Sort(values)
	if count := len(values); count > 0 {
		median := (values[(count-1)/2] + values[count/2]) / 2
		cell.Median = &median
	}
	if low, high, ok := interval(values); ok {
		cell.Low, cell.High = &low, &high
		if percent := 100 * (high - low) / 2 / math.Abs(*cell.Median); low == high {
			cell.HalfWidthPercent = new(float64)
		} else if !math.IsInf(percent, 0) {
			cell.HalfWidthPercent = &percent
		}
	}
	cell.Precise = cell.HalfWidthPercent != nil && *cell.HalfWidthPercent <= stop.RelativeCIPercent
	cell.WantN = forecast(cell, stop)
	return cell
}

// interval leaves out as many of the sorted values, at either end, as it may to
// enclose the median with Confidence or more: the median is below the interval
// exactly when no more values than are left out are below the median, and each
// of them is with a probability of one half.
func interval(sorted []float64) (low, high float64, ok bool) {
	n := len(sorted)
	if n < fewest {
		return 0, 0, false
	}
	left := 0
	below := exactly(n, 0) + exactly(n, 1) // of left+1 values or fewer
	for below <= (1-Confidence)/2 {
		left++
		below += exactly(n, left+1)
	}
	return sorted[left], sorted[n-1-left], true
}

// exactly is the probability of k in n with one half each. By logarithms, it is
// good to ten digits for any number of trials there can be.
func exactly(n, k int) float64 {
	all, _ := math.Lgamma(float64(n + 1))
	some, _ := math.Lgamma(float64(k + 1))
	rest, _ := math.Lgamma(float64(n - k + 1))
	return math.Exp(all - some - rest - float64(n)*math.Ln2)
}

// forecast is how many repetitions the cell wants: as the interval's width goes
// with one over the root of their number, n · (half width / wanted)^2, one more
// than there are at least. Repetitions that fail are taken to go on as they did.
func forecast(cell Cell, stop campaign.Stop) int {
	want := cell.N
	switch {
	case cell.Precise:
	case cell.Values < fewest:
		want = cell.N + fewest - cell.Values
	case cell.HalfWidthPercent == nil: // the median is 0, and the interval is not
		want = stop.Max
	default:
		ratio := *cell.HalfWidthPercent / stop.RelativeCIPercent
		want = max(cell.N+1, int(min(float64(stop.Max), math.Ceil(float64(cell.N)*ratio*ratio))))
	}
	return max(cell.N, min(max(want, stop.Min), stop.Max))
}
