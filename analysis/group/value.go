package group

import (
	"math"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/trial"
)

// metrics that have no end when a trial fails, with their columns of table trials.
var metrics = map[string]func(*dataset.Trial) *float64{
	BlackoutMs:       func(row *dataset.Trial) *float64 { return row.BlackoutMs },
	TotalMigrationMs: func(row *dataset.Trial) *float64 { return row.TotalMigrationMs },
	RecoveryMs:       func(row *dataset.Trial) *float64 { return row.RecoveryMs },
	IOLostS:          func(row *dataset.Trial) *float64 { return row.IOLostS },
	MaxResponseMs:    func(row *dataset.Trial) *float64 { return row.Response.Ms },
	ReadResponseMs:   func(row *dataset.Trial) *float64 { return row.ReadResponse.Ms },
	WriteResponseMs:  func(row *dataset.Trial) *float64 { return row.WriteResponse.Ms },
}

// inFlight says for each longest response time whether it is only a lower bound.
var inFlight = map[string]func(*dataset.Trial) *bool{
	MaxResponseMs:   func(row *dataset.Trial) *bool { return row.Response.InFlight },
	ReadResponseMs:  func(row *dataset.Trial) *bool { return row.ReadResponse.InFlight },
	WriteResponseMs: func(row *dataset.Trial) *bool { return row.WriteResponse.InFlight },
}

// The metrics that Value supports.
const (
	BlackoutMs       = "blackout_ms"
	TotalMigrationMs = "total_migration_ms"
	RecoveryMs       = "recovery_ms"
	IOLostS          = "io_lost_s"
	MaxResponseMs    = "max_response_ms"
	ReadResponseMs   = "read_max_response_ms"
	WriteResponseMs  = "write_max_response_ms"
)

// IsMetric says whether Value supports a metric.
func IsMetric(metric string) bool { return metrics[metric] != nil }

// Value is the value with which a trial is ordered within its group by a metric. It is +∞
// for a trial in which the system under test failed, whatever was measured; for a recovery
// that was not seen before the trial's end; and for a longest response time that is only a
// lower bound, because its I/O never completed. Leaving these out would let the worst
// trials improve a median. It is false for a trial without a value: an invalid or skipped
// one, or a valid one whose value is not known.
func Value(row *dataset.Trial, metric string) (float64, bool) {
	switch trial.Verdict(row.Verdict) {
	case trial.TargetFailed:
		return math.Inf(1), true
	case trial.Valid:
	default:
		return 0, false
	}
	if never := inFlight[metric]; never != nil {
		if flying := never(row); flying != nil && *flying {
			return math.Inf(1), true
		}
	}
	value := metrics[metric](row)
	switch {
	case value == nil:
		// Without a stall there is nothing to recover from.
		return math.Inf(1), metric == RecoveryMs && row.BlackoutMs != nil
	case math.IsNaN(*value) || math.IsInf(*value, 0):
		return 0, false
	}
	return *value, true
}
