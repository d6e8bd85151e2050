package judge_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"heliotrope/analysis/dataset"
	"heliotrope/analysis/judge"
	"heliotrope/internal/cause"
	"heliotrope/internal/trial"
	"heliotrope/internal/witness"
)

// TestSteeredClock: a clock that its daemon slewed was not set. Its uncertainty in that
// time follows from how fast it was made to run.
func TestSteeredClock(t *testing.T) {
	row, rows := attempt(trial.Teardown), migration()
	for i := range rows.clocks {
		// A reading each second; for one of them 4 % fast.
		if c := &rows.clocks[i]; c.Machine == "host-b" && c.TsNs > at(60_000) {
			c.AheadNs += 40e6
		}
	}
	judged := run(t, &row, rows, judge.DefaultLimits())
	require.Equal(t, cause.ClockJumped, judged.Cause, judged.Reason)

	for ms := int64(0); ms < 100_000; ms += 1000 {
		ppb := int64(0)
		if ms == 60_000 {
			ppb = 40e6
		}
		rows.counters = append(rows.counters, dataset.Counter{TsNs: at(ms), Host: "host-b", Device: witness.Clock, Name: witness.SteeringPPB, Value: ppb})
	}
	judged = run(t, &row, rows, judge.DefaultLimits())
	require.Equal(t, cause.ClockUncertain, judged.Cause, judged.Reason)
	require.Greater(t, *row.ClockUncertaintyMs, 20.0)
	limits := judge.DefaultLimits()
	limits.ClockUncertaintyMs = 45
	require.Empty(t, run(t, &row, rows, limits).Reason)
}
