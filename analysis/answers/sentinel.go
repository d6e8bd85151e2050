package answers

import (
	"maps"
	"math"
	"slices"
	"time"

	"heliotrope/analysis/group"
	"heliotrope/analysis/stats"
)

// watched are the metrics whose trend over the sentinel's trials is computed.
var watched = []string{BeforeIOPS, group.BlackoutMs, group.TotalMigrationMs, group.MaxResponseMs}

// trends are the trends of the sentinel's trials over the times at which they began, for
// each lane: lanes are testbeds that may differ, and if they were pooled, one that joins
// late would be a trend. A trial with an infinite value, such as one that failed, is left
// out: no slope leads to it.
func (m *material) trends() []Trend {
	lanes := map[string][]*one{}
	for _, trial := range m.sentinel {
		lanes[trial.row.Lane] = append(lanes[trial.row.Lane], trial)
	}
	trends := []Trend{}
	var p []float64
	for _, lane := range slices.Sorted(maps.Keys(lanes)) {
		for _, name := range watched {
			if trend, any := trendOf(lanes[lane], metricOf(name)); any {
				trends, p = append(trends, trend), append(p, float64(trend.P))
			}
		}
	}
	for i, adjusted := range stats.Holm(p) {
		trends[i].AdjustedP = Number(adjusted)
		if !(adjusted <= alpha) {
			trends[i].Verdict = Undecided
		}
	}
	return trends
}

// trendOf is the trend of a metric over a lane's trials, in the order of their beginnings,
// before correction for other trends; false with fewer than two values.
func trendOf(trials []*one, of *metric) (Trend, bool) {
	var hours, values []float64
	for _, trial := range trials {
		if value, known := of.of(trial); known && !math.IsInf(value, 0) {
			hours = append(hours, time.Duration(trial.row.StartedTsNs-trials[0].row.StartedTsNs).Hours())
			values = append(values, value)
		}
	}
	if len(values) < 2 {
		return Trend{}, false
	}
	found, median := stats.TrendOf(hours, values, stats.Default.Confidence), stats.Median(values)
	percent := func(slope float64) float64 { return 100 * slope / median }
	if median == 0 {
		percent = func(float64) float64 { return math.NaN() }
	}
	interval := found.Interval.Map(percent)
	return Trend{Lane: trials[0].row.Lane, Metric: of.Name, N: len(values), Hours: hours[len(hours)-1] - hours[0], Median: Number(median),
		PercentPerHour: Number(percent(found.Slope)), Low: Number(interval.Low), High: Number(interval.High), P: Number(found.Test.TwoSided), Verdict: side(found.Test)}, true
}
