// Package stats is the statistics that answers are made of: numbers in, numbers out.
// It knows nothing of trials and datasets.
//
// It promises that each method is a published one, named where it is, that +∞ is a
// value like others wherever only the order of values matters (a trial that failed
// is above all others), and that random numbers come from a seed alone.
//
// Intervals of a median are also in package precision, and both stay: a campaign
// that stops by precision looks several times, and must not stop by luck, so that
// it has intervals of order statistics, which are exact and cover too much rather
// than too little. Here intervals describe what a campaign that has ended has found,
// of anything that can be computed of its values, and are as narrow as the bootstrap
// makes them: of few values they cover less than they say (docs/statistics.md has
// how much less). Nothing is decided by a bootstrap's interval: that two things
// differ is told by exact tests.
//
// NaN stands for what is not known, in results and never in values.
package stats

import (
	"math"
	"slices"

	"gonum.org/v1/gonum/stat/distuv"
)

// FewestForInterval is how many values it takes for an interval of their median. All
// of them, from the least to the greatest, miss the median with 2·2^-n: of five
// values with 6.25 %, so that no interval inside of them can be one of 95 %.
const FewestForInterval = 6

// Interval is one of confidence. Its ends are NaN where it is not known, and may be
// infinite.
type Interval struct{ Low, High float64 }

// Known says whether there is one.
func (i Interval) Known() bool { return !math.IsNaN(i.Low) && !math.IsNaN(i.High) }

// Map is the interval of what grows with the value.
func (i Interval) Map(grows func(float64) float64) Interval {
	return Interval{grows(i.Low), grows(i.High)}
}

var unknown = Interval{math.NaN(), math.NaN()}

// Median is the middle value; of an even number the middle of the two in the middle.
// NaN of none.
func Median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	if len(sorted) == 0 {
		return math.NaN()
	}
	return middle(sorted[(len(sorted)-1)/2], sorted[len(sorted)/2])
}

// middle of two values; 0 between -∞ and +∞, which are as far from it.
func middle(a, b float64) float64 {
	if math.IsInf(a, -1) && math.IsInf(b, 1) {
		return 0
	}
	return (a + b) / 2
}

// Quantile is the least of the values that at least a share p of them does not
// exceed (nearest rank: definition 1 of Hyndman and Fan, The American Statistician
// 50, 1996), so that it is one of them and may be infinite. NaN of none.
func Quantile(values []float64, p float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	// Without the last bits of p·n, which may be above a whole number by rounding alone.
	rank := int(math.Ceil(p*float64(len(sorted)) - 1e-9))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

// Ratio is a/b, and 1 where both are the same, infinite or 0: neither is ahead.
func Ratio(a, b float64) float64 {
	if a == b {
		return 1
	}
	return a / b
}

// Difference is a-b, and 0 where both are infinite.
func Difference(a, b float64) float64 {
	if a == b {
		return 0
	}
	return a - b
}

// Rate is the exact interval of a probability of which so many of n were seen
// (Clopper and Pearson, Biometrika 26, 1934; by quantiles of the beta distribution).
// It covers what it says or more. Not known of n = 0.
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

// RateDifference is the interval of by how much a probability of which count of n were seen
// is above another one, of which countB of nB were (Newcombe, Statistics in Medicine 17,
// 1998, p. 873, method 10: of Wilson's score intervals). It is not exact; it covers about
// what it says also of few trials. Not known of none.
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

// HalfWidthPercent is half of an interval's width, in percent of its value; NaN where
// one of them is not known or infinite, or the value is 0 and the interval is not.
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

// WantN is how many values it takes until half of an interval's width is as many
// percent as wanted, when n values have the one that is given: as the width goes
// with one over the root of n, n·(half width/wanted)². It is a forecast.
func WantN(n int, halfWidthPercent, wanted float64) float64 {
	ratio := halfWidthPercent / wanted
	return math.Ceil(float64(n) * ratio * ratio)
}
