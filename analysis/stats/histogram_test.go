package stats_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/analysis/stats"
	"heliotrope/internal/load/iolog"
)

// TestHistogramSteps: the steps are the distribution function: as many response times are
// longer as the values say, and none is longer than the last.
func TestHistogramSteps(t *testing.T) {
	var h stats.Histogram
	for _, ns := range []int64{5, 5, 100, 1_000_000, 7} {
		h.Add(ns)
	}
	var to, longer []int64
	for ns, more := range h.Steps {
		to, longer = append(to, ns), append(longer, more)
	}
	assert.Equal(t, []int64{5, 7, 100, 1_000_000}, to)
	assert.Equal(t, []int64{3, 2, 1, 0}, longer)
}

// TestHistogramPercentiles: within 0.1 % of the exact ones, of the shortest response times
// that there are to the longest.
func TestHistogramPercentiles(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 7))
	for _, shortest := range []float64{1, 900, 1e3, 4e6, 1e12, math.MaxInt64 / 4} {
		var h stats.Histogram
		var exact []float64
		for range 5000 {
			ns := int64(shortest * (1 + 3*random.Float64()))
			h.Add(ns)
			exact = append(exact, float64(ns))
		}
		slices.Sort(exact)
		for _, perMille := range []int64{1, 10, 500, 990, 999, 1000} {
			assert.InEpsilon(t, exact[(5000*perMille+999)/1000-1], float64(h.Percentile(perMille)), 0.001, "%d of %g ns", perMille, shortest)
		}
	}
}

// TestHistogramOfCounts: of I/Os for which a load's log had no room, only the buckets are
// known.
func TestHistogramOfCounts(t *testing.T) {
	random := rand.New(rand.NewPCG(8, 8))
	var exact, counted stats.Histogram
	for range 5000 {
		ns := int64(1e6 * math.Exp(random.NormFloat64()))
		exact.Add(ns)
		require.NoError(t, counted.AddCounts(fmt.Sprintf("%d:1", iolog.Bucket(ns)), ns))
	}
	assert.InEpsilon(t, exact.Percentile(990), counted.Percentile(990), 0.005)
	assert.InEpsilon(t, exact.Mean(), counted.Mean(), 0.004)
	assert.Equal(t, []int64{exact.Count, exact.LongestNs}, []int64{counted.Count, counted.LongestNs})
}

// TestHistogramOfMany: sums beyond 64 bits and ranks of very many response times are right, and more than can be counted
// are refused.
func TestHistogramOfMany(t *testing.T) {
	var h, twice stats.Histogram
	for range 5 {
		h.Add(math.MaxInt64)
	}
	h.Add(0)
	assert.InEpsilon(t, 5.0/6*math.MaxInt64, h.Mean(), 1e-9)
	twice.Join(h)
	twice.Join(h)
	assert.InEpsilon(t, h.Mean(), twice.Mean(), 1e-9)

	var many stats.Histogram
	most := iolog.Bucket(1 << 40)
	require.NoError(t, many.AddCounts(fmt.Sprintf("5:%d %d:%d", int64(1)<<61, most, int64(1)<<61), 1<<40))
	assert.InEpsilon(t, 1<<39, many.Mean(), 0.01)
	assert.Equal(t, int64(5), many.Percentile(500))
	assert.InEpsilon(t, 1<<40, many.Percentile(990), 0.01)
	assert.ErrorContains(t, many.AddCounts(fmt.Sprintf("5:%d", int64(1)<<62), 1), "more I/Os than can be counted")
}

// TestHistogramCounts: what table histograms has is counted as if it had come one by one.
func TestHistogramCounts(t *testing.T) {
	var h stats.Histogram
	require.NoError(t, h.AddCounts("5:2 100:1", 100))
	assert.Equal(t, []int64{3, 100, 5}, []int64{h.Count, h.LongestNs, h.Percentile(500)})
	for _, bad := range []string{"5", "x:1", "5:-1", "-1:1", "9999999:1"} {
		assert.ErrorContains(t, h.AddCounts(bad, 1), "no bucket", bad)
	}
}
