package answers

import (
	"math"
	"time"

	"heliotrope/analysis/group"
	"heliotrope/analysis/stats"
)

// watched are the metrics whose trend over the sentinel's trials is computed.
var watched = []string{BeforeIOPS, group.BlackoutMs, group.TotalMigrationMs, group.MaxResponseMs}

// trends are the trends of the sentinel's trials over the times at which they began. A
// trial with an infinite value is left out: no slope leads to it.
func (m *material) trends() []Trend {
	trends := []Trend{}
	var p []float64
	for _, name := range watched {
		of := metricOf(name)
		var hours, values []float64
		for _, trial := range m.sentinel {
			if value, known := of.of(trial); known && !math.IsInf(value, 0) {
				hours = append(hours, time.Duration(trial.row.StartedTsNs-m.sentinel[0].row.StartedTsNs).Hours())
				values = append(values, value)
			}
		}
		if len(values) < 2 {
			continue
		}
		found, median := stats.TrendOf(hours, values, stats.Default.Confidence), stats.Median(values)
		percent := func(slope float64) float64 { return 100 * slope / median }
		if median == 0 {
			percent = func(float64) float64 { return math.NaN() }
		}
		interval := found.Interval.Map(percent)
		trends = append(trends, Trend{Metric: name, N: len(values), Hours: hours[len(hours)-1] - hours[0], Median: Number(median),
			PercentPerHour: Number(percent(found.Slope)), Low: Number(interval.Low), High: Number(interval.High), P: Number(found.Test.TwoSided), Verdict: side(found.Test)})
		p = append(p, found.Test.TwoSided)
	}
	for i, adjusted := range stats.Holm(p) {
		trends[i].AdjustedP = Number(adjusted)
		if !(adjusted <= alpha) {
			trends[i].Verdict = Undecided
		}
	}
	return trends
}
