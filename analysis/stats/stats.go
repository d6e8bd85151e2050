// Package stats is the statistics behind the answers: numbers in, numbers out. It knows
// nothing of trials and datasets.
//
// It promises that each method is a published one, which its comment names; that +∞ is a
// value like any other wherever only the order of values matters (a failed trial is above
// all others); and that random numbers depend only on a seed.
//
// Package precision has intervals of a median, too, and both are needed. A campaign that
// stops by precision is looked at several times and must not stop by luck: it needs
// intervals of order statistics, which are exact and rather cover too much than too little.
// The intervals here describe what a finished campaign has found, for anything that can be
// computed from its values, and are as narrow as the bootstrap makes them: with few values
// they cover less than they state (docs/statistics.md says how much less). Exact tests
// decide whether two things differ. Two decisions rest on a bootstrap interval, because no
// test shows that something is small: that a published claim is not reproduced since the
// ratio is within ±5 %, and that compare keeps a threshold.
//
// NaN in results stands for what is not known; values must not contain NaN.
package stats

import (
	"math"
	"slices"

	"gonum.org/v1/gonum/stat/distuv"
)

// FewestForInterval is the smallest number of values for an interval of their median. The
// interval from the least to the greatest value misses the median with a probability of
// 2·2^-n: 6.25 % for five values, so no interval within them can be one of 95 %.
const FewestForInterval = 6

// Interval is a confidence interval. Its ends are NaN when it is not known, and may be
// infinite.
type Interval struct{ Low, High float64 }

// Known says whether the interval is known.
func (i Interval) Known() bool { return !math.IsNaN(i.Low) && !math.IsNaN(i.High) }

// Map is the interval of an increasing function of the value.
func (i Interval) Map(grows func(float64) float64) Interval {
	return Interval{grows(i.Low), grows(i.High)}
}

var unknown = Interval{math.NaN(), math.NaN()}

// Median is the middle value; for an even number of values the middle of the two in the
// middle; NaN for none.
func Median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	if len(sorted) == 0 {
		return math.NaN()
	}
	return middle(sorted[(len(sorted)-1)/2], sorted[len(sorted)/2])
}

// middle is the middle of two values; 0 between -∞ and +∞.
func middle(a, b float64) float64 {
	if math.IsInf(a, -1) && math.IsInf(b, 1) {
		return 0
	}
	return (a + b) / 2
}

// Quantile is the least value that at least a share p of the values does not exceed
// (nearest rank: definition 1 of Hyndman and Fan, The American Statistician 50, 1996). It
// is always one of the values, and so may be infinite. NaN for no values.
func Quantile(values []float64, p float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	// The last bits of p·n are dropped: rounding alone may put it above a whole number.
	rank := int(math.Ceil(p*float64(len(sorted)) - 1e-9))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

// Ratio is a/b, and 1 when both are equal, even if infinite or 0.
func Ratio(a, b float64) float64 {
	if a == b {
		return 1
	}
	return a / b
}

// Difference is a-b, and 0 when both are equal, even if infinite.
func Difference(a, b float64) float64 {
	if a == b {
		return 0
	}
	return a - b
}

// Rate is the exact interval of a probability when count of n cases were seen (Clopper and
// Pearson, Biometrika 26, 1934; computed by quantiles of the beta distribution). It covers
// at least what it states. It is not known when n is 0.
func Rate(count, n int, confidence float64) Interval {
	if n == 0 {
		return unknown
	}
	alpha, interval := 1-confidence, Interval{0, 1}
	if count > 0 {
		interval.Low = distuv.Beta{Alpha: float64(count), Beta: float64(n - count + 1)}.Quantile(alpha / 2)
	}
	if count < n {
		interval.High = distuv.Beta{Alpha: float64(count + 1), Beta: float64(n - count)}.Quantile(1 - alpha/2)
	}
	return interval
}

// RateDifference is the interval of the difference between two probabilities: the one of
// which count of n cases were seen, minus the one of which countB of nB were (Newcombe,
// Statistics in Medicine 17, 1998, p. 873, method 10: from Wilson's score intervals). It is
// not exact, but covers about what it states even with few trials. It is not known when n
// or nB is 0.
func RateDifference(count, n, countB, nB int, confidence float64) Interval {
	if n == 0 || nB == 0 {
		return unknown
	}
	a, b := float64(count)/float64(n), float64(countB)/float64(nB)
	ofA, ofB := wilson(count, n, confidence), wilson(countB, nB, confidence)
	return Interval{Low: a - b - math.Hypot(a-ofA.Low, ofB.High-b), High: a - b + math.Hypot(ofA.High-a, b-ofB.Low)}
}

// wilson is the score interval of a probability (Wilson, JASA 22, 1927).
func wilson(count, n int, confidence float64) Interval {
	z := distuv.UnitNormal.Quantile((1 + confidence) / 2)
	share, of := float64(count)/float64(n), float64(n)
	middle, half := share+z*z/(2*of), z*math.Sqrt(share*(1-share)/of+z*z/(4*of*of))
	return Interval{Low: max((middle-half)/(1+z*z/of), 0), High: min((middle+half)/(1+z*z/of), 1)}
}

// HalfWidthPercent is half of an interval's width in percent of its value; NaN when one of
// them is not known or infinite, or when the value is 0 and the width is not.
func HalfWidthPercent(value float64, of Interval) float64 {
	width := of.High - of.Low
	if width == 0 {
		return 0
	}
	percent := 100 * width / 2 / math.Abs(value)
	if math.IsInf(percent, 0) {
		return math.NaN()
	}
	return percent
}

// WantN forecasts how many values are needed until half of an interval's width is the
// wanted percentage, given the half width with n values: widths shrink with the root of n,
// so it is n·(half width/wanted)².
func WantN(n int, halfWidthPercent, wanted float64) float64 {
	ratio := halfWidthPercent / wanted
	return math.Ceil(float64(n) * ratio * ratio)
}
