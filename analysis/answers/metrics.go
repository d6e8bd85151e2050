package answers

import (
	"math"

	"heliotrope/analysis/dataset"
	"heliotrope/analysis/group"
	"heliotrope/analysis/judge"
)

// one is a trial, with what other tables have of it.
type one struct {
	row    *dataset.Trial
	phases map[string]*dataset.Phase
	// wanBytes is the interface's own count of both directions, in phases before to after;
	// nil where one of these phases was not counted.
	wanBytes *int64
}

// metric is a metric that answers can show.
type metric struct {
	About
	value func(*one) (float64, bool)
}

// Metrics that package group does not define. The metrics of phases are called before_,
// during_ or after_, followed by the name of a column of table phases.
const (
	WANMB          = "wan_mb"
	WANMbitPerS    = "wan_mbit_per_s"
	WANMeasuredMB  = "wan_measured_mb"
	WANPerIOByte   = "wan_per_io_byte"
	BeforeIOPS     = dataset.Before + "_iops"
	BeforeP99Ms    = dataset.Before + "_p99_ms"
	AfterP99Ms     = dataset.After + "_p99_ms"
	DuringP99Ms    = dataset.During + "_p99_ms"
	megabyte       = 1e6
	bitsOfMegabyte = 8
)

// metrics has all metrics in the order in which they are shown.
var metrics = allMetrics()

// IsMetric says whether answers have a metric of this name.
func IsMetric(name string) bool { return metricOf(name) != nil }

// MetricNames are the names of all metrics that answers may have.
func MetricNames() []string {
	names := make([]string, len(metrics))
	for i := range metrics {
		names[i] = metrics[i].Name
	}
	return names
}

func metricOf(name string) *metric {
	for i := range metrics {
		if metrics[i].Name == name {
			return &metrics[i]
		}
	}
	return nil
}

func allMetrics() []metric {
	var all []metric
	for _, about := range []About{
		{Name: group.BlackoutMs, Unit: "ms", Says: "downtime: how long the guest ran nowhere, as the hypervisor's witness saw it"},
		{Name: group.TotalMigrationMs, Unit: "ms", Says: "total migration time"},
		{Name: group.MaxResponseMs, Unit: "ms", Says: "longest response time of any I/O"},
		{Name: group.ReadResponseMs, Unit: "ms", Says: "longest response time of any read"},
		{Name: group.WriteResponseMs, Unit: "ms", Says: "longest response time of any write"},
		{Name: group.RecoveryMs, Unit: "ms", Says: "from the end of the blackout until the load was back"},
		{Name: group.IOLostS, Unit: "s", Says: "I/O lost, in seconds of the level before"},
	} {
		about.FailedIsInfinite, about.LessIsBetter = true, true
		all = append(all, metric{about, func(of *one) (float64, bool) { return group.Value(of.row, about.Name) }})
	}
	all = append(all,
		metric{About{Name: WANMB, Unit: "MB", Says: "on the WAN during the migration, both directions", LessIsBetter: true}, func(of *one) (float64, bool) {
			return scaled(of.row.WANBytes, 1/megabyte)
		}},
		metric{About{Name: WANMbitPerS, Unit: "Mbit/s", Says: "the same, by the time that the migration took", LessIsBetter: true}, func(of *one) (float64, bool) {
			during := of.phases[dataset.During]
			if during == nil || during.Seconds <= 0 {
				return 0, false
			}
			return scaled(of.row.WANBytes, bitsOfMegabyte/megabyte/during.Seconds)
		}},
		metric{About{Name: WANMeasuredMB, Unit: "MB", Says: "on the WAN in all measuring phases: before, during and after the migration", LessIsBetter: true}, func(of *one) (float64, bool) {
			return scaled(of.wanBytes, 1/megabyte)
		}},
		metric{About{Name: WANPerIOByte, Unit: "B/B", Says: "the same, by the bytes that the load read and wrote meanwhile", LessIsBetter: true}, func(of *one) (float64, bool) {
			var bytes int64
			for _, name := range measuring {
				if phase := of.phases[name]; phase == nil || phase.Bytes == nil {
					return 0, false
				} else {
					bytes += *phase.Bytes
				}
			}
			return scaled(of.wanBytes, 1/float64(bytes))
		}})
	for _, phase := range measuring {
		for _, of := range []struct {
			column, unit, says string
			value              func(*dataset.Phase) *float64
		}{
			{"iops", "1/s", "I/Os a second", func(p *dataset.Phase) *float64 { return p.IOPS }},
			{"p50_ms", "ms", "median response time of its I/Os", func(p *dataset.Phase) *float64 { return p.P50Ms }},
			{"p99_ms", "ms", "99th percentile of its response times", func(p *dataset.Phase) *float64 { return p.P99Ms }},
			{"p99_9_ms", "ms", "99.9th percentile of its response times", func(p *dataset.Phase) *float64 { return p.P999Ms }},
		} {
			about := About{Name: phase + "_" + of.column, Unit: of.unit, Says: "phase " + phase + ": " + of.says, LessIsBetter: of.unit == "ms"}
			all = append(all, metric{about, func(trial *one) (float64, bool) {
				if trial.phases[phase] == nil {
					return 0, false
				}
				return scaled(of.value(trial.phases[phase]), 1)
			}})
		}
	}
	return all
}

var measuring = []string{dataset.Before, dataset.During, dataset.After}

// scaled converts a value to another unit; false when the value is not known.
func scaled[T int64 | float64](value *T, factor float64) (float64, bool) {
	if value == nil {
		return 0, false
	}
	in := float64(*value) * factor
	return in, !math.IsNaN(in) && !math.IsInf(in, 0)
}

// of is the metric's value in a trial; false when the trial has none.
func (m *metric) of(trial *one) (float64, bool) {
	if !m.FailedIsInfinite && !valid(trial.row) {
		return 0, false
	}
	return m.value(trial)
}

// trafficOf is the bytes that the WAN's interface counted in the measuring phases, by
// attempt.
func trafficOf(rows []dataset.Traffic) map[string]*int64 {
	type counted struct {
		bytes  int64
		phases map[string]bool
	}
	all := map[string]*counted{}
	for i := range rows {
		row := &rows[i]
		if row.Class != judge.ClassInterface {
			continue
		}
		for _, phase := range measuring {
			if row.Phase == phase {
				if all[row.Trial] == nil {
					all[row.Trial] = &counted{phases: map[string]bool{}}
				}
				all[row.Trial].bytes += row.Bytes
				all[row.Trial].phases[phase+row.Direction] = true
			}
		}
	}
	of := map[string]*int64{}
	for key, trial := range all {
		if len(trial.phases) == 2*len(measuring) {
			of[key] = &trial.bytes
		}
	}
	return of
}
