package stats

import (
	"math"
	"slices"
)

// Crossover is the point at which two curves change places.
type Crossover struct {
	Crosses  bool
	At       float64  // x; the least when they cross several times; NaN when they do not
	Interval Interval // of At, over the resamples that cross; not known when too few do
	None     float64  // share of resamples that do not cross: no probability that the curves do not; NaN with too few values
	Several  float64  // share of resamples that cross more than once
	// Below is the sign of the logarithm of the ratio at the least x: -1 where the first
	// curve is lower there, 1 where the second one is, 0 where neither is.
	Below int
}

// fewestCrossings is the share of resamples that must cross for the crossing to have an
// interval.
const fewestCrossings = 0.05

// CrossoverOf finds where the ratio of two curves passes through 1, from logarithms:
// logs[i] has those of the pairs at x[i], and x ascends. The curve is the median at each x,
// with straight lines between; a line to an infinite value crosses at its finite end. The
// bootstrap draws from the pairs at each x. The interval is the percentile interval (Efron
// and Tibshirani, 13) over the resamples that cross, because BCa cannot handle those that
// do not. Curves that only touch do not cross. With fewer than FewestForInterval pairs at
// any x, only Crosses, At and Below are set.
func (b Bootstrap) CrossoverOf(x []float64, logs [][]float64) Crossover {
	medians := make([]float64, len(x))
	enough := len(x) > 1
	sorted := make([][]float64, len(x))
	for i, values := range logs {
		medians[i] = Median(values)
		enough = enough && len(values) >= FewestForInterval
		sorted[i] = slices.Sorted(slices.Values(values))
	}
	at, times := crossings(x, medians)
	result := Crossover{Crosses: times > 0, At: at, Interval: unknown, None: math.NaN(), Several: math.NaN()}
	for _, median := range medians {
		if result.Below == 0 {
			result.Below = sign(median)
		}
	}
	if !enough {
		return result
	}
	random := b.source()
	drawings := make([]drawing, len(x))
	for i := range drawings {
		drawings[i] = drawingOf(sorted[i])
	}
	var where []float64
	several := 0
	for range b.Resamples {
		for i := range medians {
			medians[i] = drawings[i].median(random)
		}
		at, times := crossings(x, medians)
		if times > 0 {
			where = append(where, at)
		}
		if times > 1 {
			several++
		}
	}
	count := float64(b.Resamples)
	result.None, result.Several = 1-float64(len(where))/count, float64(several)/count
	if float64(len(where)) >= fewestCrossings*count {
		result.Interval = Interval{Quantile(where, (1-b.Confidence)/2), Quantile(where, (1+b.Confidence)/2)}
	}
	return result
}

// crossings counts how often the lines between points pass from one side of 0 to the other,
// and returns where they do so first. Points on 0 are on neither side: between two sides,
// the lines pass at the first of them; otherwise they only touch.
func crossings(x, y []float64) (first float64, times int) {
	first = math.NaN()
	last := -1 // the last point that is not 0
	for i := range x {
		if sign(y[i]) == 0 {
			continue
		}
		if last >= 0 && sign(y[i]) != sign(y[last]) {
			if times++; times == 1 {
				first = x[last+1]
				if last+1 == i {
					first = zero(x[last], y[last], x[i], y[i])
				}
			}
		}
		last = i
	}
	return first, times
}

// zero is the zero of the line through two points on different sides of 0.
func zero(x0, y0, x1, y1 float64) float64 {
	switch from, to := math.IsInf(y0, 0), math.IsInf(y1, 0); {
	case from && to:
		return (x0 + x1) / 2
	case from:
		return x1
	case to:
		return x0
	}
	return x0 + (x1-x0)*y0/(y0-y1)
}

func sign(v float64) int {
	switch {
	case v > 0:
		return 1
	case v < 0:
		return -1
	}
	return 0
}
