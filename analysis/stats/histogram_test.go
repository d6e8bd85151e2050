package stats_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/analysis/stats"
)

// TestHistogramSteps: the steps are the distribution function: as many are longer as the
// values say, and none than the last.
func TestHistogramSteps(t *testing.T) {
	h := stats.NewHistogram()
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

// TestHistogramCounts: what table histograms has is counted as if it had come one by one.
func TestHistogramCounts(t *testing.T) {
	h := stats.NewHistogram()
	require.NoError(t, h.AddCounts("5:2 100:1", 100))
	assert.Equal(t, []int64{3, 100, 5}, []int64{h.Count, h.LongestNs, h.Percentile(500)})
	for _, bad := range []string{"5", "x:1", "5:-1", "-1:1", "9999999:1"} {
		assert.ErrorContains(t, h.AddCounts(bad, 1), "no bucket", bad)
	}
}
