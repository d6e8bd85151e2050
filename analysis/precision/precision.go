// Package precision tells when a campaign's results are precise enough to stop
// it, and how many repetitions are still needed.
//
// It promises an interval of each group's median that does not depend on how the
// values are distributed: that of the order statistics, with the exact binomial
// probability (Conover, Practical Nonparametric Statistics, 3.2; also David and
// Nagaraja, Order Statistics, 7.1). A trial that failed is a value above all
// others (see package group), so that an end of an interval may be infinite.
//
// A campaign that stops by precision is looked at several times, and stops the
// sooner the luckier it is. The looks are therefore fixed beforehand
// (campaign.Stop.Looks), and each of the J of them has an interval that misses the
// median with at most 0.05/J: with 95 % or more none of them misses it, and so
// neither does the one at which the campaign stops (the inequality of Boole and
// Bonferroni). That holds for each group, not for all of them at once. A campaign
// that looks at its end only has J = 1.
//
// It is not interpolated between order statistics (Hettmansperger and Sheather,
// Statistics & Probability Letters 4, 1986), which comes nearer to 95 % at few
// values, but only about so, and has no answer where the next value is
// infinite. So at few values intervals cover more than they say: up to 99.2 % for
// 95 %, of eight values.
//
// Dangerous: of too few values no interval of order statistics is sure enough (of
// five, the least and the greatest enclose the median with 93.75 %; with J looks
// it takes 1 + log2(20·J) values), so that a group with fewer is never precise,
// whatever its Stop's Min says. What holds is for values whose number does not
// depend on them: who looks before all trials of the blocks are done leaves out
// those that take longest.
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

// Result of looking at a campaign.
type Result struct {
	// Enough says that this is a look, and every group is precise. It is false
	// without groups.
	Enough bool   `json:"enough"`
	Looks  []int  `json:"looks"` // after how many repetitions it is looked
	Cells  []Cell `json:"cells"` // by their IDs and directions
	// MoreRepetitions is a forecast of how many are still run, each a trial of
	// every cell: up to a look.
	MoreRepetitions int `json:"more_repetitions"`
}

// Cell is what is known of one group: of a cell of the matrix, in one direction.
// Median, Low, High and HalfWidthPercent are nil when they cannot be told, or are
// infinite; the first three have the unit of the metric.
type Cell struct {
	CellID    string `json:"cell_id"`
	Direction string `json:"direction"`
	N         int    `json:"n"`      // repetitions that are results: valid or target-failed
	Values    int    `json:"values"` // of them, those that have the metric: what the median is of
	// Infinite is how many of the values are: failures, and loads that did not
	// come back. The median is infinite when they are more than half.
	Infinite int      `json:"infinite"`
	Median   *float64 `json:"median,omitempty"`
	Low      *float64 `json:"low,omitempty"`
	High     *float64 `json:"high,omitempty"`
	// HalfWidthPercent is half of High less Low, in percent of the median.
	HalfWidthPercent *float64 `json:"half_width_percent,omitempty"`
	Precise          bool     `json:"precise"`
	WantN            int      `json:"want_n"` // N that is forecast to be enough
}

// Cells judges the groups of the matrix after whole blocks, whose number is given:
// by the trials of these blocks that count. Controls are left out, and what is of
// no group. A cell without a row is not known here. Invalid and skipped trials are
// no repetitions, so the plan has to end by itself when there are too many. The
// only error is a metric that there is not.
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
		// A repetition goes one way only.
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

// nextLook is the first look after the blocks there are, and not before as many
// as are wanted; at the latest the last.
func nextLook(looks []int, blocks, want int) int {
	for _, look := range looks {
		if look > blocks && look >= want {
			return look
		}
	}
	return max(blocks, looks[len(looks)-1])
}

// judge is one group by its values, whose interval may miss the median with alpha.
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

// known is a number that is finite.
func known(value float64) *float64 {
	if math.IsInf(value, 0) {
		return nil
	}
	return &value
}

// interval leaves out as many of the sorted values, at either end, as it may to
// miss the median with alpha or less: the median is below the interval exactly
// when no more values than are left out are below the median, and each of them is
// with a probability of one half. False when even all of them may miss it more often.
func interval(sorted []float64, alpha float64) (low, high float64, ok bool) {
	n := len(sorted)
	left := -1
	// The probabilities by their logarithms, for any number of trials there can be.
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

// forecast is how many repetitions the group wants: by stats.WantN, one more
// than there are at least. Repetitions that fail are taken to go on as they did,
// and where an end of the interval is infinite nothing is enough.
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
