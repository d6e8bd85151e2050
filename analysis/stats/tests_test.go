package stats_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/analysis/stats"
)

func TestSignedRank(t *testing.T) {
	for _, of := range known(t).SignedRank {
		got := stats.SignedRank(of.Values)
		assert.InDelta(t, of.Less, got.Less, 1e-12, "%v", of.Values)
		assert.InDelta(t, of.Greater, got.Greater, 1e-12, "%v", of.Values)
	}
	// R's help of wilcox.test: depression scores, Hollander and Wolfe table 3.1: V = 40, p = 0.01953.
	first := []float64{1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30}
	second := []float64{0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29}
	for i := range first {
		first[i] -= second[i]
	}
	got := stats.SignedRank(first)
	assert.InDelta(t, 0.01953, got.Greater, 5e-6)
	assert.InDelta(t, 0.03906, got.TwoSided, 5e-6)
	// Failures have the greatest size, and do not cancel.
	assert.InDelta(t, 2.0/64, stats.SignedRank([]float64{1, 2, 3, 4, inf, inf}).TwoSided, 1e-12)
	assert.InDelta(t, 1, stats.SignedRank([]float64{inf, -inf, 0, 0}).TwoSided, 0)
	assert.InDelta(t, 1, stats.SignedRank(nil).TwoSided, 0)
}

// The normal approximation is close to the exact distribution at the number of values at
// which it takes over.
func TestManyPairs(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 9))
	values := make([]float64, 201)
	for i := range values {
		values[i] = random.NormFloat64() + 0.15
	}
	many, exact := stats.SignedRank(values), stats.SignedRank(values[:200])
	require.Less(t, many.Greater, 0.2)
	assert.InEpsilon(t, exact.Greater, many.Greater, 0.2)
	a, b := make([]float64, 31), make([]float64, 30)
	for i := range a {
		a[i] = math.Round(10 * (random.NormFloat64() + 0.5))
	}
	for i := range b {
		b[i] = math.Round(10 * random.NormFloat64())
	}
	assert.InEpsilon(t, stats.MannWhitney(a[:30], b).Greater, stats.MannWhitney(a, b).Greater, 0.5)
}

func TestMannWhitney(t *testing.T) {
	for _, of := range known(t).MannWhitney {
		got := stats.MannWhitney(of.A, of.B)
		assert.InDelta(t, of.Less, got.Less, 1e-12, "%v", of)
		assert.InDelta(t, of.Greater, got.Greater, 1e-12, "%v", of)
	}
	// R's help of wilcox.test: permeability, Hollander and Wolfe table 4.1: W = 35, p = 0.1272.
	got := stats.MannWhitney([]float64{0.80, 0.83, 1.89, 1.04, 1.45, 1.38, 1.91, 1.64, 0.73, 1.46}, []float64{1.15, 0.88, 0.90, 0.74, 1.21})
	assert.InDelta(t, 0.1272, got.Greater, 5e-5)
	assert.InDelta(t, 1.0/20, stats.MannWhitney([]float64{inf, inf, inf}, []float64{1, 2, 3}).Greater, 1e-12)
	assert.InDelta(t, 1, stats.MannWhitney(nil, []float64{1}).TwoSided, 0)
}

func TestHolm(t *testing.T) {
	// R: p.adjust(c(0.01, 0.02, 0.03, 0.04), "holm"), in another order, and one that is no test.
	got := stats.Holm([]float64{0.04, 0.01, math.NaN(), 0.03, 0.02})
	for i, want := range []float64{0.06, 0.04, math.NaN(), 0.06, 0.06} {
		if math.IsNaN(want) {
			assert.True(t, math.IsNaN(got[i]))
			continue
		}
		assert.InDelta(t, want, got[i], 1e-12)
	}
	assert.InDelta(t, 1, stats.Holm([]float64{0.6, 0.7})[0], 0)
}

// With that many pairs something can be found, and with one fewer it cannot.
func TestFewestPairs(t *testing.T) {
	for _, family := range []int{1, 2, 3, 24, 1000} {
		n := stats.FewestPairs(family, 0.05)
		values := make([]float64, n)
		for i := range values {
			values[i] = 1
		}
		assert.LessOrEqual(t, stats.SignedRank(values).TwoSided*float64(family), 0.05, "%d", family)
		assert.Greater(t, stats.SignedRank(values[1:]).TwoSided*float64(family), 0.05, "%d", family)
	}
}

func TestTrend(t *testing.T) {
	of := known(t)
	for _, one := range of.MannKendall {
		x := make([]float64, len(one.Y))
		for i := range x {
			x[i] = float64(i)
		}
		got := stats.TrendOf(x, one.Y, 0.95)
		assert.InDelta(t, one.Less, got.Test.Less, 1e-12, "%v", one.Y)
		assert.InDelta(t, one.Greater, got.Test.Greater, 1e-12, "%v", one.Y)
	}
	for _, one := range of.TheilSen {
		got := stats.TrendOf(one.X, one.Y, 0.95)
		assert.InDelta(t, one.Slope, got.Slope, 1e-12)
		assert.InDelta(t, one.Low, got.Interval.Low, 1e-12)
		assert.InDelta(t, one.High, got.Interval.High, 1e-12)
	}
	// R's help of cor.test: tuna, Hollander and Wolfe example 8.1: T = 26, p = 0.1194.
	got := stats.TrendOf([]float64{44.4, 45.9, 41.9, 53.3, 44.7, 44.1, 50.7, 45.2, 60.1}, []float64{2.6, 3.1, 2.5, 5.0, 3.6, 4.0, 5.2, 2.8, 3.8}, 0.95)
	assert.InDelta(t, 0.1194, got.Test.TwoSided, 5e-5)
	// Hollander and Wolfe example 9.1: cloud seeding, slope -0.056, C = -6, P(C ≤ -6) = 0.117.
	got = stats.TrendOf([]float64{1, 2, 3, 4, 5}, []float64{1.26, 1.27, 1.12, 1.16, 1.03}, 0.95)
	assert.InDelta(t, -0.056, got.Slope, 5e-4)
	assert.InDelta(t, 0.117, got.Test.Less, 5e-4)
	assert.False(t, got.Interval.Known(), "five values are too few")
	// Ties are no trend.
	got = stats.TrendOf([]float64{1, 2, 3, 4, 5, 6, 7, 8}, []float64{2, 2, 2, 2, 2, 2, 2, 2}, 0.95)
	assert.InDelta(t, 0, got.Slope, 0)
	assert.InDelta(t, 1, got.Test.TwoSided, 0)
	got = stats.TrendOf([]float64{1}, []float64{1}, 0.95)
	assert.True(t, math.IsNaN(got.Slope))
	assert.InDelta(t, 1, got.Test.TwoSided, 0)
}

// around are pairs whose logarithms scatter around a value.
func around(random *rand.Rand, n int, value, sigma float64) []float64 {
	values := make([]float64, n)
	for i := range values {
		values[i] = value + sigma*random.NormFloat64()
	}
	return values
}

func TestCrossover(t *testing.T) {
	random := rand.New(rand.NewPCG(6, 6))
	x := []float64{1, 30, 90, 160}
	curve := func(n int, sigma float64, at ...float64) [][]float64 {
		var logs [][]float64
		for _, value := range at {
			logs = append(logs, around(random, n, value, sigma))
		}
		return logs
	}
	// The line from (30, -0.3) to (90, 0.3) is 0 at 60.
	got := stats.Default.CrossoverOf(x, curve(12, 0.05, -0.6, -0.3, 0.3, 0.9))
	require.True(t, got.Crosses)
	assert.InDelta(t, 60, got.At, 6)
	assert.Less(t, got.Interval.Low, 60.0)
	assert.Greater(t, got.Interval.High, 60.0)
	assert.Less(t, got.Interval.High-got.Interval.Low, 30.0)
	assert.InDelta(t, 0, got.None, 0)
	assert.Equal(t, -1, got.Below)
	// None in the range, and sure of it.
	got = stats.Default.CrossoverOf(x, curve(12, 0.05, 0.6, 0.5, 0.4, 0.3))
	assert.False(t, got.Crosses)
	assert.True(t, math.IsNaN(got.At))
	assert.False(t, got.Interval.Known())
	assert.InDelta(t, 1, got.None, 0)
	assert.Equal(t, 1, got.Below)
	// Nobody can tell.
	got = stats.Default.CrossoverOf(x, curve(8, 1, 0.5, 0.4, 0.2, 0.1))
	assert.Greater(t, got.None, 0.02)
	assert.Less(t, got.None, 0.98)
	// Twice.
	got = stats.Default.CrossoverOf(x, curve(12, 0.05, -1, 1, 1, -1))
	assert.InDelta(t, 15.5, got.At, 2)
	assert.InDelta(t, 1, got.Several, 0)
	// Too few pairs.
	got = stats.Default.CrossoverOf(x, curve(5, 0.01, -1, -1, 1, 1))
	assert.InDelta(t, 60, got.At, 2)
	assert.False(t, got.Interval.Known())
	assert.True(t, math.IsNaN(got.None))
	// Lines to ∞ cross at their finite ends. At a median of exactly 0 the curves are equal:
	// they cross there where they go on to the other side, and else they only touch.
	one := func(values ...float64) [][]float64 {
		var logs [][]float64
		for _, value := range values {
			logs = append(logs, []float64{value})
		}
		return logs
	}
	assert.InDelta(t, 30, stats.Default.CrossoverOf(x, one(-1, -1, inf, inf)).At, 0)
	assert.InDelta(t, 90, stats.Default.CrossoverOf(x, one(-inf, -inf, 1, inf)).At, 0)
	assert.InDelta(t, 60, stats.Default.CrossoverOf(x, one(-inf, -inf, inf, inf)).At, 0)
	assert.InDelta(t, 30, stats.Default.CrossoverOf(x, one(-1, 0, 1, 1)).At, 0)
	assert.InDelta(t, 30, stats.Default.CrossoverOf(x, one(-1, 0, 0, inf)).At, 0)
	assert.InDelta(t, 90, stats.Default.CrossoverOf(x, one(0, 2, 0, -1)).At, 0)
	assert.False(t, stats.Default.CrossoverOf(x, one(-1, 0, -1, 0)).Crosses)
	assert.Equal(t, 0, stats.Default.CrossoverOf(x, one(0, 0, 0, 0)).Below)
	assert.False(t, stats.Default.CrossoverOf(x[:1], one(1)).Crosses)
}
