package stats

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"

	"gonum.org/v1/gonum/mathext"
	"gonum.org/v1/gonum/stat/distuv"
)

// Bootstrap computes intervals by drawing resamples from the values.
type Bootstrap struct {
	Seed       uint64
	Resamples  int
	Confidence float64 // of the intervals, such as 0.95
}

// Default is what package answers uses. With 10,000 resamples the ends of an interval vary
// from seed to seed by a few percent of its width.
var Default = Bootstrap{Seed: 1, Resamples: 10_000, Confidence: 0.95}

// source is the source of random numbers. Each interval gets the same ones, whatever else
// is computed.
func (b Bootstrap) source() *rand.Rand {
	return rand.New(rand.NewPCG(b.Seed, 0x68656c696f)) //nolint:gosec // nobody has to be kept from guessing it
}

// Median is the BCa interval of a median, like that of Interval. Here it is computed over
// all possible resamples, because the probabilities of their medians are known (see
// medians), so it needs no random numbers. It is not known with fewer than
// FewestForInterval values.
func (b Bootstrap) Median(values []float64) Interval {
	if len(values) < FewestForInterval {
		return unknown
	}
	sorted := slices.Sorted(slices.Values(values))
	return b.corrected(medianOf(sorted), medians(sorted), acceleration(mediansWithout(sorted)))
}

// Medians is the BCa interval, like that of Interval, of a function of the medians of two
// independent samples, such as their ratio.
func (b Bootstrap) Medians(x, y []float64, of func(x, y float64) float64) Interval {
	if min(len(x), len(y)) < FewestForInterval {
		return unknown
	}
	x, y = slices.Sorted(slices.Values(x)), slices.Sorted(slices.Values(y))
	random, xs, ys, replicates := b.source(), drawingOf(x), drawingOf(y), make([]float64, b.Resamples)
	for i := range replicates {
		replicates[i] = of(xs.median(random), ys.median(random))
	}
	xLeft, yLeft := mediansWithout(x), mediansWithout(y)
	for i, left := range xLeft {
		xLeft[i] = of(left, medianOf(y))
	}
	for i, left := range yLeft {
		yLeft[i] = of(medianOf(x), left)
	}
	return b.corrected(of(medianOf(x), medianOf(y)), equally(replicates), acceleration(xLeft, yLeft))
}

// Interval is the BCa interval (bias-corrected and accelerated: Efron, Journal of the
// American Statistical Association 82, 1987; Efron and Tibshirani, An Introduction to the
// Bootstrap, 1993, 14.3) of a statistic. When leaving a value out makes the statistic
// infinite, the acceleration is 0, and the interval is only corrected for bias. The
// statistic function must neither keep nor change the values. The interval is not known
// with fewer than FewestForInterval values.
func (b Bootstrap) Interval(values []float64, statistic func([]float64) float64) Interval {
	n := len(values)
	if n < FewestForInterval {
		return unknown
	}
	random, drawn, replicates := b.source(), make([]float64, n), make([]float64, b.Resamples)
	for i := range replicates {
		for j := range drawn {
			drawn[j] = values[random.IntN(n)]
		}
		replicates[i] = statistic(drawn)
	}
	left := make([]float64, n)
	for i := range left {
		left[i] = statistic(slices.Delete(slices.Clone(values), i, i+1))
	}
	return b.corrected(statistic(values), equally(replicates), acceleration(left))
}

// medianOf is the median of sorted values.
func medianOf(sorted []float64) float64 {
	return middle(sorted[(len(sorted)-1)/2], sorted[len(sorted)/2])
}

// mediansWithout are the medians of the sorted values with each value left out in turn.
func mediansWithout(sorted []float64) []float64 {
	n := len(sorted)
	left := make([]float64, n)
	rest := func(rank, without int) float64 { // rank from 0, among the others
		if rank >= without {
			rank++
		}
		return sorted[rank]
	}
	for i := range left {
		left[i] = middle(rest((n-2)/2, i), rest((n-1)/2, i))
	}
	return left
}

// drawing draws medians of resamples with their probabilities.
type drawing struct{ values, upTo []float64 }

func drawingOf(sorted []float64) drawing {
	var d drawing
	reached := 0.0
	for _, of := range medians(sorted) {
		reached += of.probability
		d.values, d.upTo = append(d.values, of.value), append(d.upTo, reached)
	}
	return d
}

func (d drawing) median(random *rand.Rand) float64 {
	i, _ := slices.BinarySearch(d.upTo, random.Float64())
	return d.values[min(i, len(d.values)-1)] // the last improbable ones may be missing
}

// outcome is a result of resampling: a value and its probability.
type outcome struct{ value, probability float64 }

// improbable is the probability below which outcomes are left out.
const improbable = 1e-13

// equally makes outcomes of equal probability, in ascending order.
func equally(replicates []float64) []outcome {
	slices.Sort(replicates)
	outcomes := make([]outcome, len(replicates))
	for i, value := range replicates {
		outcomes[i] = outcome{value, 1 / float64(len(replicates))}
	}
	return outcomes
}

// medians are the medians of all n^n resamples of n sorted values, in ascending order. The
// k-th smallest value of a resample is at most the i-th value when at least k of n draws
// are (Efron, Annals of Statistics 7, 1979, 3). The two middle values of 2m draws are the
// i-th and a later j-th value when m draws have the i-th value as their greatest, and the
// other m draws have the j-th as their smallest.
func medians(sorted []float64) []outcome {
	n := len(sorted)
	var outcomes []outcome
	add := func(value, probability float64) {
		if probability > improbable {
			outcomes = append(outcomes, outcome{value, probability})
		}
	}
	half := float64((n + 1) / 2)
	upTo := func(i int) float64 { // the half-th smallest is at most the i-th value
		return mathext.RegIncBeta(half, float64(n)-half+1, float64(i)/float64(n))
	}
	choices, _ := math.Lgamma(2*half + 1)
	each, _ := math.Lgamma(half + 1)
	extreme := func(of int) float64 { // log of: half draws are among so many, and one at least is the last of them
		return half*math.Log(float64(of)/float64(n)) + math.Log1p(-math.Pow(float64(of-1)/float64(of), half))
	}
	for i := 1; i <= n; i++ {
		here := upTo(i) - upTo(i-1)
		if here <= improbable {
			continue
		}
		if n%2 == 0 {
			for j := i + 1; j <= n; j++ {
				apart := math.Exp(choices - 2*each + extreme(i) + extreme(n-j+1))
				add(middle(sorted[i-1], sorted[j-1]), apart)
				here -= apart
			}
		}
		add(sorted[i-1], here)
	}
	slices.SortFunc(outcomes, func(a, b outcome) int { return cmp.Compare(a.value, b.value) })
	return outcomes
}

// acceleration is the constant a of BCa: a sixth of the skewness of the values' influence
// on the statistic, computed from the statistic with each value of a sample left out (the
// jackknife); for several samples after Davison and Hinkley (Bootstrap Methods and their
// Application, 1997, 5.3). It is 0 where it is not known, and where the values have no
// influence.
func acceleration(samples ...[]float64) float64 {
	var cubes, squares float64
	for _, left := range samples {
		n := float64(len(left))
		mean := 0.0
		for _, value := range left {
			mean += value / n
		}
		for _, value := range left {
			influence := (n - 1) * (mean - value) / n
			cubes, squares = cubes+influence*influence*influence, squares+influence*influence
		}
	}
	a := cubes / (6 * math.Pow(squares, 1.5))
	if math.IsNaN(a) || math.IsInf(a, 0) {
		return 0
	}
	return a
}

// corrected is the corrected interval; value is the statistic of the original values, and
// outcomes are those of the resamples, in ascending order. Half of the outcomes that equal
// value count as below it, as in SciPy's scipy.stats.bootstrap, because a median often
// stays the same. The ends of the interval are outcomes, never values between two of them.
func (b Bootstrap) corrected(value float64, outcomes []outcome, a float64) Interval {
	if math.IsNaN(value) || len(outcomes) == 0 {
		return unknown
	}
	below := 0.0
	for _, of := range outcomes {
		switch {
		case of.value < value:
			below += of.probability
		case of.value == value:
			below += of.probability / 2
		}
	}
	least := 0.5 / float64(b.Resamples)
	z0 := distuv.UnitNormal.Quantile(min(max(below, least), 1-least))
	z := distuv.UnitNormal.Quantile(0.5 + b.Confidence/2)
	at := func(z float64) float64 {
		level := distuv.UnitNormal.CDF(z0 + (z0+z)/(1-a*(z0+z)))
		reached := 0.0
		for _, of := range outcomes {
			if reached += of.probability; reached >= level {
				return of.value
			}
		}
		return outcomes[len(outcomes)-1].value
	}
	return Interval{at(-z), at(z)}
}
