// Package precision says when a campaign's results are precise enough to stop it, and how
// many repetitions are still needed.
//
// It promises an interval for each group's median that does not depend on how the values
// are distributed: the interval of order statistics, with the exact binomial probability
// (Conover, Practical Nonparametric Statistics, 3.2; also David and Nagaraja, Order
// Statistics, 7.1). A failed trial is a value above all others (see package group), so an
// end of an interval may be infinite.
//
// A campaign that stops by precision is looked at several times, and a lucky one stops
// sooner. Therefore the looks are fixed beforehand (campaign.Stop.Looks), and each of the J
// looks has an interval that misses the median with a probability of at most 0.05/J. With
// at least 95 % probability none of them misses it, and so neither does the one at which
// the campaign stops (the inequality of Boole and Bonferroni). That holds for each group,
// not for all of them at once. A campaign that is looked at only at its end has J = 1.
//
// The interval is not interpolated between order statistics (Hettmansperger and Sheather,
// Statistics & Probability Letters 4, 1986). Interpolation comes nearer to 95 % with few
// values, but only approximately, and gives nothing where the next value is infinite.
// Without it, intervals of few values cover more than they state: up to 99.2 % instead of
// 95 %, with eight values.
//
// Dangerous: with too few values no interval of order statistics is certain enough (of five
// values, the least and the greatest enclose the median with 93.75 %; with J looks 1 +
// log2(20·J) values are needed). A group with fewer is never precise, whatever Min of its
// Stop says. The probabilities hold when the number of values does not depend on the
// values: looking before all trials of the blocks are done would leave out the trials that
// take longest.
package precision

import (
	"fmt"
	"math"
	"slices"

	"heliotrope/analysis/dataset"
	"heliotrope/analysis/group"
	"heliotrope/analysis/stats"
	"heliotrope/internal/campaign"
	"heliotrope/internal/trial"
)

// Result is what a look at a campaign finds.
type Result struct {
	// Enough says that this is one of the looks, and that every group is precise. It is
	// false when there are no groups.
	Enough bool   `json:"enough"`
	Looks  []int  `json:"looks"` // after how many repetitions the looks are
	Cells  []Cell `json:"cells"` // by their IDs and directions
	// MoreRepetitions forecasts how many more repetitions will be run, each a trial of
	// every cell, until the look at which the campaign stops.
	MoreRepetitions int `json:"more_repetitions"`
}

// Cell is what is known of one group: a cell of the matrix in one direction. Median, Low,
// High and HalfWidthPercent are nil when they are not known or infinite; the first three
// have the unit of the metric.
type Cell struct {
	CellID    string `json:"cell_id"`
	Direction string `json:"direction"`
	N         int    `json:"n"`      // repetitions that are results: valid or target-failed
	Values    int    `json:"values"` // how many of them have the metric: the values of the median
	// Infinite is how many of the values are infinite: failures, and loads that did not
	// come back. The median is infinite when they are more than half.
	Infinite int      `json:"infinite"`
	Median   *float64 `json:"median,omitempty"`
	Low      *float64 `json:"low,omitempty"`
	High     *float64 `json:"high,omitempty"`
	// HalfWidthPercent is half of High minus Low, in percent of the median.
	HalfWidthPercent *float64 `json:"half_width_percent,omitempty"`
	Precise          bool     `json:"precise"`
	WantN            int      `json:"want_n"` // the N that is forecast to suffice
}

// Cells judges the groups of the matrix after a number of whole blocks, by the trials of
// these blocks that count. It leaves out controls, and trials that belong to no group. It
// does not know a cell without a row. Invalid and skipped trials are no repetitions, so the
// plan must end by itself when there are too many of them. The only error is a metric that
// does not exist.
func Cells(rows []dataset.Trial, stop campaign.Stop, blocks int) (Result, error) {
	if !group.IsMetric(stop.Metric) {
		return Result{}, fmt.Errorf("stop by the precision of %q: there is no such metric", stop.Metric)
	}
	type sample struct {
		n      int
		values []float64
	}
	samples := map[group.Key]*sample{}
	directions := map[string]int{} // groups of each cell
	for i := range rows {
		row := &rows[i]
		key, in := group.Of(row)
		if !in || row.Control != "" || int(row.Block) > blocks {
			continue
		}
		of := samples[key]
		if of == nil {
			of = &sample{}
			samples[key] = of
			directions[key.CellID]++
		}
		if verdict := trial.Verdict(row.Verdict); verdict == trial.Valid || verdict == trial.TargetFailed {
			of.n++
		}
		if value, known := group.Value(row, stop.Metric); known {
			of.values = append(of.values, value)
		}
	}
	result := Result{Enough: len(samples) > 0, Looks: stop.Looks()}
	looked := slices.Contains(result.Looks, blocks)
	more := 0
	for key, of := range samples {
		cell := judge(of.n, of.values, stop, stop.Error())
		cell.CellID, cell.Direction = key.CellID, key.Direction
		result.Cells = append(result.Cells, cell)
		result.Enough = result.Enough && looked && cell.Precise
		// A repetition has only one direction.
		more = max(more, (cell.WantN-cell.N)*directions[key.CellID])
	}
	slices.SortFunc(result.Cells, func(a, b Cell) int {
		return group.Key{CellID: a.CellID, Direction: a.Direction}.Compare(group.Key{CellID: b.CellID, Direction: b.Direction})
	})
	if !result.Enough {
		result.MoreRepetitions = nextLook(result.Looks, blocks, blocks+more) - blocks
	}
	return result, nil
}

// nextLook is the first look after the blocks that are done and not before want
// repetitions; otherwise the last look.
func nextLook(looks []int, blocks, want int) int {
	for _, look := range looks {
		if look > blocks && look >= want {
			return look
		}
	}
	return max(blocks, looks[len(looks)-1])
}

// judge judges one group by its values; the interval may miss the median with probability
// alpha.
func judge(n int, values []float64, stop campaign.Stop, alpha float64) Cell {
	cell := Cell{N: n, Values: len(values)}
	slices.Sort(values)
	count := len(values)
	finite, _ := slices.BinarySearch(values, math.Inf(1))
	cell.Infinite = count - finite
	if count > 0 {
		cell.Median = known(stats.Median(values))
	}
	if low, high, ok := interval(values, alpha); ok {
		cell.Low, cell.High = known(low), known(high)
	}
	if cell.Low != nil && cell.High != nil {
		percent := 0.0
		if width := *cell.High - *cell.Low; width > 0 {
			percent = 100 * width / 2 / math.Abs(*cell.Median)
		}
		cell.HalfWidthPercent = known(percent)
	}
	cell.Precise = cell.HalfWidthPercent != nil && *cell.HalfWidthPercent <= stop.RelativeCIPercent
	cell.WantN = forecast(cell, stop)
	return cell
}

// known is a pointer to a finite number; nil for an infinite one.
func known(value float64) *float64 {
	if math.IsInf(value, 0) {
		return nil
	}
	return &value
}

// interval leaves out as many of the sorted values at either end as it can while it misses
// the median with a probability of at most alpha. The median is below the interval exactly
// when no more values than were left out are below the median, and each value is below it
// with a probability of one half. False when even the interval of all values misses it more
// often.
func interval(sorted []float64, alpha float64) (low, high float64, ok bool) {
	n := len(sorted)
	left := -1
	// Probabilities are computed by their logarithms, so that they work for any possible
	// number of trials.
	exactly := -float64(n) * math.Ln2 // of left+1 values
	for below := math.Exp(exactly); below <= alpha/2; below += math.Exp(exactly) {
		left++
		exactly += math.Log(float64(n-left) / float64(left+1))
	}
	if left < 0 {
		return 0, 0, false
	}
	return sorted[left], sorted[n-1-left], true //nolint:gosec // fewer than half are left out
}

// forecast is how many repetitions the group will need: by stats.WantN, and at least one
// more than there are. It assumes that repetitions keep failing at the same rate. Where an
// end of the interval is infinite, no number suffices.
func forecast(cell Cell, stop campaign.Stop) int {
	want := cell.N
	switch {
	case cell.Precise:
	case cell.HalfWidthPercent == nil && cell.Values < stop.Fewest():
		want = cell.N + stop.Fewest() - cell.Values
	case cell.HalfWidthPercent == nil: // infinite, or the median is 0 and the interval is not
		want = stop.Max
	default:
		want = max(cell.N+1, int(min(float64(stop.Max), stats.WantN(cell.N, *cell.HalfWidthPercent, stop.RelativeCIPercent))))
	}
	return max(cell.N, min(want, stop.Max))
}
