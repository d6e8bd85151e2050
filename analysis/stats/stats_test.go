package stats_test

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gonum.org/v1/gonum/stat/distuv"

	"heliotrope/analysis/stats"
)

var inf = math.Inf(1)

// reference is what testdata/reference.py finds by brute force.
type reference struct {
	BCaMedian []struct {
		Values    []float64
		Low, High float64
	} `json:"bca_median"`
	BCaVariance struct{ Low, High float64 } `json:"bca_variance"`
	SignedRank  []struct {
		Values        []float64
		Less, Greater float64
	} `json:"signed_rank"`
	MannWhitney []struct {
		A, B          []float64
		Less, Greater float64
	} `json:"mann_whitney"`
	MannKendall []struct {
		Y             []float64
		Less, Greater float64
	} `json:"mann_kendall"`
	TheilSen []struct {
		X, Y             []float64
		Slope, Low, High float64
	} `json:"theil_sen"`
	ClopperPearson []struct {
		K, N      int
		Low, High float64
	} `json:"clopper_pearson"`
	RatioOfMedians []struct {
		A, B      []float64
		Low, High float64
	} `json:"ratio_of_medians"`
}

func known(t *testing.T) reference {
	t.Helper()
	text, err := os.ReadFile("testdata/reference.json")
	require.NoError(t, err)
	var of reference
	require.NoError(t, json.Unmarshal(text, &of))
	return of
}

func TestMedianAndQuantile(t *testing.T) {
	for _, of := range []struct {
		values []float64
		want   float64
	}{{[]float64{3, 1, 2}, 2}, {[]float64{4, 1, 2, 3}, 2.5}, {[]float64{1, inf}, inf}, {[]float64{1, 2, inf}, 2}, {[]float64{inf, inf}, inf}, {[]float64{-inf, inf}, 0}} {
		assert.InDelta(t, of.want, stats.Median(of.values), 0, "%v", of.values)
	}
	assert.True(t, math.IsNaN(stats.Median(nil)))
	assert.True(t, math.IsNaN(stats.Quantile(nil, 0.5)))
	values := []float64{5, 3, 1, 2, 4, inf, 6, 7, 8, 9}
	for p, want := range map[float64]float64{0: 1, 0.1: 1, 0.11: 2, 0.3: 3, 0.5: 5, 0.9: 9, 0.91: inf, 1: inf} {
		assert.InDelta(t, want, stats.Quantile(values, p), 0, "%v", p)
	}
}

func TestRatioAndDifference(t *testing.T) {
	for _, of := range [][4]float64{{6, 3, 2, 3}, {inf, inf, 1, 0}, {inf, 3, inf, inf}, {3, inf, 0, -inf}, {0, 0, 1, 0}, {2, 0, inf, 2}} {
		assert.InDelta(t, of[2], stats.Ratio(of[0], of[1]), 0, "%v", of)
		assert.InDelta(t, of[3], stats.Difference(of[0], of[1]), 0, "%v", of)
	}
}

func TestRate(t *testing.T) {
	for _, of := range known(t).ClopperPearson {
		got := stats.Rate(of.K, of.N, 0.95)
		assert.InDelta(t, of.Low, got.Low, 1e-9, "%d of %d", of.K, of.N)
		assert.InDelta(t, of.High, got.High, 1e-9, "%d of %d", of.K, of.N)
	}
	// R's help of binom.test: Mendel's peas, from Conover's Practical Nonparametric Statistics.
	got := stats.Rate(682, 925, 0.95)
	assert.InDelta(t, 0.7076683, got.Low, 5e-8)
	assert.InDelta(t, 0.7654066, got.High, 5e-8)
	assert.False(t, stats.Rate(0, 0, 0.95).Known())
}

// TestRateDifference: Newcombe's examples (1998, table II, method 10).
func TestRateDifference(t *testing.T) {
	for _, of := range []struct {
		count, n, countB, nB int
		low, high            float64
	}{
		{56, 70, 48, 80, 0.0524, 0.3339}, {9, 10, 3, 10, 0.1705, 0.8090}, {6, 7, 2, 7, 0.0582, 0.8062}, {5, 56, 0, 29, -0.0381, 0.1926},
		{0, 10, 0, 20, -0.1611, 0.2775}, {0, 10, 0, 10, -0.2775, 0.2775}, {10, 10, 0, 20, 0.6791, 1}, {10, 10, 0, 10, 0.6075, 1},
	} {
		got := stats.RateDifference(of.count, of.n, of.countB, of.nB, 0.95)
		assert.InDelta(t, of.low, got.Low, 5e-5, "%+v", of)
		assert.InDelta(t, of.high, got.High, 5e-5, "%+v", of)
	}
	assert.False(t, stats.RateDifference(0, 0, 1, 2, 0.95).Known())
}

func TestHalfWidthAndWantN(t *testing.T) {
	assert.InDelta(t, 10, stats.HalfWidthPercent(100, stats.Interval{Low: 95, High: 115}), 1e-12)
	assert.InDelta(t, 0, stats.HalfWidthPercent(0, stats.Interval{}), 0)
	assert.True(t, math.IsNaN(stats.HalfWidthPercent(0, stats.Interval{High: 1})))
	assert.True(t, math.IsNaN(stats.HalfWidthPercent(100, stats.Interval{Low: 95, High: inf})))
	assert.True(t, math.IsNaN(stats.HalfWidthPercent(inf, stats.Interval{Low: inf, High: inf})), "∞ is not precise")
	assert.InDelta(t, 40, stats.WantN(10, 10, 5), 0)
	assert.InDelta(t, 11, stats.WantN(10, 5.1, 5), 0)
}

// spatial is test A of Efron and Tibshirani's spatial data (1993, table 14.1).
var spatial = []float64{48, 36, 20, 29, 42, 42, 20, 42, 22, 41, 45, 14, 6, 0, 33, 28, 34, 4, 32, 24, 47, 41, 24, 26, 30, 41}

// Chapter 14 of the book: the variance is 171.5, and its BCa interval of 90 % is (115.8,
// 259.6). It comes from only 2,000 resamples, so its ends are only certain to a few units.
func TestPublishedBCa(t *testing.T) {
	variance := func(sample []float64) float64 {
		mean, sum := 0.0, 0.0
		for _, value := range sample {
			mean += value / float64(len(sample))
		}
		for _, value := range sample {
			sum += (value - mean) * (value - mean)
		}
		return sum / float64(len(sample))
	}
	require.InDelta(t, 171.5, variance(spatial), 0.05)
	got := stats.Bootstrap{Seed: 3, Resamples: 100_000, Confidence: 0.9}.Interval(spatial, variance)
	assert.InDelta(t, 115.8, got.Low, 4)
	assert.InDelta(t, 259.6, got.High, 4)
	want := known(t).BCaVariance
	assert.InDelta(t, want.Low, got.Low, 0.5)
	assert.InDelta(t, want.High, got.High, 0.5)
}

// The interval of a median is that of all n^n resamples, and the general method gives the
// same.
func TestBCaOfMedian(t *testing.T) {
	for _, of := range known(t).BCaMedian {
		want := stats.Interval{Low: of.Low, High: of.High}
		assert.Equal(t, want, stats.Default.Median(of.Values), "%v", of.Values)
		assert.Equal(t, want, stats.Bootstrap{Seed: 8, Resamples: 100_000, Confidence: 0.95}.Interval(of.Values, stats.Median), "%v", of.Values)
	}
}

func TestBCaOfTwoSamples(t *testing.T) {
	// An end is a step of a discrete distribution, and may be the next one for another seed.
	for _, of := range known(t).RatioOfMedians {
		got := stats.Bootstrap{Seed: 5, Resamples: 100_000, Confidence: 0.95}.Medians(of.A, of.B, stats.Ratio)
		assert.InEpsilon(t, of.Low, got.Low, 0.02)
		assert.InEpsilon(t, of.High, got.High, 0.04)
	}
}

func TestBootstrapAtItsEdges(t *testing.T) {
	assert.False(t, stats.Default.Median([]float64{1, 2, 3, 4, 5}).Known(), "five values")
	assert.False(t, stats.Default.Medians([]float64{1, 2, 3, 4, 5, 6}, []float64{1}, stats.Ratio).Known())
	assert.False(t, stats.Default.Interval([]float64{1, 2, 3, 4, 5}, stats.Median).Known())
	assert.Equal(t, stats.Interval{Low: 4, High: 4}, stats.Default.Median([]float64{4, 4, 4, 4, 4, 4}))
	assert.Equal(t, stats.Interval{Low: inf, High: inf}, stats.Default.Median([]float64{inf, inf, inf, inf, inf, inf}))
	// Two failures of eight: the upper end may be infinite, the lower one is not.
	got := stats.Default.Median([]float64{1, 2, 3, 4, 5, 6, inf, inf})
	assert.Less(t, got.Low, 4.5)
	assert.Greater(t, got.High, 5.5)
	assert.False(t, math.IsInf(got.Low, 0))
	// Three of seven.
	assert.InDelta(t, inf, stats.Default.Median([]float64{1, 2, 3, 4, inf, inf, inf}).High, 0)
	// The same values and seed: the same interval, in whatever order.
	values := []float64{9, 1, 5, 3, 7, 2, 8}
	want := stats.Default.Median(values)
	slices.Sort(values)
	assert.Equal(t, want, stats.Default.Median(values))
}

// Coverage is the share of samples whose 95 % interval contains the true value.
// docs/statistics.md has these shares.
func TestCoverage(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	logNormal := func() float64 { return math.Exp(random.NormFloat64()) }
	few := stats.Bootstrap{Seed: 1, Resamples: 500, Confidence: 0.95}
	draw := func(n int, of func() float64) []float64 {
		values := make([]float64, n)
		for i := range values {
			values[i] = of()
		}
		return values
	}
	for _, of := range []struct {
		name      string
		samples   int
		interval  func(n int) stats.Interval
		truth     float64
		low, high float64 // within which the share must be
	}{
		{"the median", 2000, func(n int) stats.Interval { return stats.Default.Median(draw(n, logNormal)) }, 1, 0.85, 0.985},
		// A fifth of the values is infinite: the median is the quantile of 0.5/0.8 of the others.
		{"the median, a fifth is infinite", 1000, func(n int) stats.Interval {
			return stats.Default.Median(draw(n, func() float64 {
				if random.Float64() < 0.2 {
					return inf
				}
				return logNormal()
			}))
		}, math.Exp(distuv.UnitNormal.Quantile(0.5 / 0.8)), 0.85, 0.985},
		// Whole numbers: most samples have ties.
		{"the median of whole numbers", 1000, func(n int) stats.Interval {
			return stats.Default.Median(draw(n, func() float64 { return math.Floor(2.5 * logNormal()) }))
		}, 2, 0.85, 1},
		// Pairs have their block in common, which the ratio does not.
		{"the median ratio of pairs", 1000, func(n int) stats.Interval {
			return stats.Default.Median(draw(n, func() float64 {
				block := random.NormFloat64()
				a, b := block+0.3*random.NormFloat64(), block+0.3*random.NormFloat64()+math.Log(2)
				return math.Log(stats.Ratio(math.Exp(a), math.Exp(b)))
			})).Map(math.Exp)
		}, 0.5, 0.85, 0.985},
		{"the ratio of two medians", 600, func(n int) stats.Interval {
			return few.Medians(draw(n, logNormal), draw(n, func() float64 { return 3 * logNormal() }), stats.Ratio)
		}, 1.0 / 3, 0.85, 0.995},
	} {
		for _, n := range []int{6, 8, 12, 20, 40} {
			covered := 0
			for range of.samples {
				if got := of.interval(n); got.Low <= of.truth && got.High >= of.truth {
					covered++
				}
			}
			share := float64(covered) / float64(of.samples)
			t.Logf("%s, %d values: %.1f %%", of.name, n, 100*share)
			assert.Greater(t, share, of.low, "%s, %d values", of.name, n)
			assert.LessOrEqual(t, share, of.high, "%s, %d values", of.name, n)
		}
	}
}

func TestHistogramsAreJoined(t *testing.T) {
	random := rand.New(rand.NewPCG(4, 4))
	var exact []float64
	var all stats.Histogram
	percentiles := 0.0
	for part := range 5 { // of very different lengths and scales
		var one stats.Histogram
		for range 1000 * (part*part + 1) {
			ns := int64(float64(1e5*(part+1)) * math.Exp(random.NormFloat64()))
			one.Add(ns)
			exact = append(exact, float64(ns))
		}
		percentiles += float64(one.Percentile(990)) / 5
		all.Join(one)
	}
	assert.Equal(t, int64(len(exact)), all.Count)
	for perMille, p := range map[int64]float64{500: 0.5, 990: 0.99, 999: 0.999, 1000: 1} {
		assert.InEpsilon(t, stats.Quantile(exact, p), float64(all.Percentile(perMille)), 0.001)
	}
	assert.Greater(t, math.Abs(percentiles/stats.Quantile(exact, 0.99)-1), 0.05, "a mean of percentiles is another number")
}
