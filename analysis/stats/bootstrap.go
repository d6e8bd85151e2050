package stats

import (
	"math"
	"math/rand/v2"
	"slices"

	"gonum.org/v1/gonum/stat/distuv"
)

// Bootstrap is how intervals are found by drawing from the values again and again.
type Bootstrap struct {
	Seed       uint64
	Resamples  int
	Confidence float64 // of the intervals, as 0.95
}

// Default is what answers use: at 10,000 resamples the ends of an interval vary by
// a few percent of its width from seed to seed.
var Default = Bootstrap{Seed: 1, Resamples: 10_000, Confidence: 0.95}

// source of random numbers: each interval has the same, whatever else is computed.
func (b Bootstrap) source() *rand.Rand {
	return rand.New(rand.NewPCG(b.Seed, 0x68656c696f)) //nolint:gosec // nobody has to be kept from guessing it
}

// Median is the interval of a median: BCa, as that of Interval. Not known of fewer
// than FewestForInterval values.
func (b Bootstrap) Median(values []float64) Interval {
	n := len(values)
	if n < FewestForInterval {
		return unknown
	}
	sorted := slices.Sorted(slices.Values(values))
	random := b.source()
	replicates := make([]float64, b.Resamples)
	counts := make([]int, n)
	for i := range replicates {
		replicates[i] = resampledMedian(sorted, counts, random)
	}
	return b.corrected(Median(values), replicates, acceleration([][]float64{values}, func(samples [][]float64) float64 { return Median(samples[0]) }))
}

// resampledMedian draws as many of the sorted values as there are, each by its place,
// and finds the middle of them by counting: nothing is sorted again.
func resampledMedian(sorted []float64, counts []int, random *rand.Rand) float64 {
	n := len(sorted)
	clear(counts)
	for range n {
		counts[random.IntN(n)]++
	}
	at := func(rank int) float64 { // from 0
		for i, count := range counts {
			if rank -= count; rank < 0 {
				return sorted[i]
			}
		}
		return sorted[n-1]
	}
	return middle(at((n-1)/2), at(n/2))
}

// Interval is the BCa interval (bias-corrected and accelerated: Efron, Journal of the
// American Statistical Association 82, 1987; Efron and Tibshirani, An Introduction
// to the Bootstrap, 1993, 14.3) of a statistic of one or more independent samples,
// each of which is drawn from alone. The acceleration is the jackknife's, for several
// samples that of Davison and Hinkley (Bootstrap Methods and their Application,
// 1997, 5.3). Where leaving a value out makes the statistic infinite, it is 0, and
// the interval is corrected for bias only. The statistic must not keep the samples,
// nor change them. Not known where one of the samples has fewer values than
// FewestForInterval.
func (b Bootstrap) Interval(samples [][]float64, statistic func(samples [][]float64) float64) Interval {
	drawn := make([][]float64, len(samples))
	for i, sample := range samples {
		if len(sample) < FewestForInterval {
			return unknown
		}
		drawn[i] = make([]float64, len(sample))
	}
	random := b.source()
	replicates := make([]float64, b.Resamples)
	for i := range replicates {
		for j, sample := range samples {
			for k := range drawn[j] {
				drawn[j][k] = sample[random.IntN(len(sample))]
			}
		}
		replicates[i] = statistic(drawn)
	}
	return b.corrected(statistic(samples), replicates, acceleration(samples, statistic))
}

// acceleration is a in BCa: a sixth of the skewness of the values' influence on the
// statistic; 0 where it is not known, and where they have none.
func acceleration(samples [][]float64, statistic func([][]float64) float64) float64 {
	var cubes, squares float64
	without := slices.Clone(samples)
	for i, sample := range samples {
		n := len(sample)
		left := make([]float64, n) // the statistic, each value left out
		mean := 0.0
		for j := range sample {
			without[i] = slices.Delete(slices.Clone(sample), j, j+1)
			left[j] = statistic(without)
			mean += left[j] / float64(n)
		}
		without[i] = sample
		for _, value := range left {
			influence := float64(n-1) * (mean - value) / float64(n)
			cubes, squares = cubes+influence*influence*influence, squares+influence*influence
		}
	}
	a := cubes / (6 * math.Pow(squares, 1.5))
	if math.IsNaN(a) || math.IsInf(a, 0) {
		return 0
	}
	return a
}

// corrected is the interval by the replicates of a statistic whose value is given.
// Half of the replicates that equal it count as below it, as in SciPy's
// scipy.stats.bootstrap: a median has many of them. The ends are replicates, rounded
// outwards, never something between two of them.
func (b Bootstrap) corrected(value float64, replicates []float64, a float64) Interval {
	if math.IsNaN(value) {
		return unknown
	}
	slices.Sort(replicates)
	count := float64(len(replicates))
	below, _ := slices.BinarySearch(replicates, value)
	upTo := below
	for upTo < len(replicates) && replicates[upTo] == value {
		upTo++
	}
	share := float64(below+upTo) / 2 / count
	z0 := distuv.UnitNormal.Quantile(min(max(share, 0.5/count), 1-0.5/count))
	level := func(z float64) float64 { return distuv.UnitNormal.CDF(z0 + (z0+z)/(1-a*(z0+z))) }
	z := distuv.UnitNormal.Quantile(0.5 + b.Confidence/2)
	at := func(rank float64) float64 { return replicates[min(max(int(rank), 1), len(replicates))-1] }
	return Interval{at(math.Floor(level(-z) * (count + 1))), at(math.Ceil(level(z) * (count + 1)))}
}
