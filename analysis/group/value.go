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
	MaxResponseMs:    func(row *dataset.Trial) *float64 { return row.Response.Ms },
	ReadResponseMs:   func(row *dataset.Trial) *float64 { return row.ReadResponse.Ms },
	WriteResponseMs:  func(row *dataset.Trial) *float64 { return row.WriteResponse.Ms },
}

// inFlight says of a longest response time whether it is one from below.
var inFlight = map[string]func(*dataset.Trial) *bool{
	MaxResponseMs:   func(row *dataset.Trial) *bool { return row.Response.InFlight },
	ReadResponseMs:  func(row *dataset.Trial) *bool { return row.ReadResponse.InFlight },
	WriteResponseMs: func(row *dataset.Trial) *bool { return row.WriteResponse.InFlight },
}

// The metrics that Value knows.
const (
	BlackoutMs       = "blackout_ms"
	TotalMigrationMs = "total_migration_ms"
	RecoveryMs       = "recovery_ms"
	IOLostS          = "io_lost_s"
	MaxResponseMs    = "max_response_ms"
	ReadResponseMs   = "read_max_response_ms"
	WriteResponseMs  = "write_max_response_ms"
)

// IsMetric says whether Value knows a metric.
func IsMetric(metric string) bool { return metrics[metric] != nil }

// Value is with which value a trial takes its place among those of its group when
// they are put in order by a metric: +∞ for one in which the system under test
// failed, whatever was measured of it, for a recovery that was not seen before the
// trial's end, and for a longest response time that is one from below, as its I/O
// never completed. Left out, the worst trials would make a median better. False
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
	if never := inFlight[metric]; never != nil {
		if flying := never(row); flying != nil && *flying {
			return math.Inf(1), true
		}
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
