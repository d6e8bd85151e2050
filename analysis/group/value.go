package group

import (
	"math"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/trial"
)

// metrics by their columns of table trials: what a failure has no end of.
var metrics = map[string]func(*dataset.Trial) *float64{
	BlackoutMs:       func(row *dataset.Trial) *float64 { return row.BlackoutMs },
	TotalMigrationMs: func(row *dataset.Trial) *float64 { return row.TotalMigrationMs },
	RecoveryMs:       func(row *dataset.Trial) *float64 { return row.RecoveryMs },
	IOLostS:          func(row *dataset.Trial) *float64 { return row.IOLostS },
}

// The metrics that Value knows.
const (
	BlackoutMs       = "blackout_ms"
	TotalMigrationMs = "total_migration_ms"
	RecoveryMs       = "recovery_ms"
	IOLostS          = "io_lost_s"
)

// IsMetric says whether Value knows a metric.
func IsMetric(metric string) bool { return metrics[metric] != nil }

// Value is with which value a trial takes its place among those of its group when
// they are put in order by a metric: +∞ for one in which the system under test
// failed, whatever was measured of it, and for a recovery that was not seen before
// the trial's end. Left out, the worst trials would make a median better. False
// where the trial says nothing: an invalid or skipped one, and a value that is not
// known of a valid one.
func Value(row *dataset.Trial, metric string) (float64, bool) {
	switch trial.Verdict(row.Verdict) {
	case trial.TargetFailed:
		return math.Inf(1), true
	case trial.Valid:
	default:
		return 0, false
	}
	value := metrics[metric](row)
	switch {
	case value == nil:
		// Without a stall there is nothing to come back from.
		return math.Inf(1), metric == RecoveryMs && row.BlackoutMs != nil
	case math.IsNaN(*value) || math.IsInf(*value, 0):
		return 0, false
	}
	return *value, true
}
