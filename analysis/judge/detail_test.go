package judge_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"heliotrope/analysis/dataset"
	"heliotrope/analysis/judge"
	"heliotrope/internal/load/iolog"
	"heliotrope/internal/trial"
)

// blur replaces the I/Os that completed from one moment to another, in ms, by histograms of
// so many ms each, as the load's log does when it has no room for single I/Os.
func blur(rows *tables, from, to, length int64) {
	for ms := from; ms < to; ms += length {
		for _, op := range []string{dataset.OpRead, dataset.OpWrite} {
			h := dataset.Histogram{TsNs: at(ms), LengthNs: length * 1e6, Op: op}
			rows.io = remove(rows.io, func(x dataset.IO) bool {
				if x.Op != op || x.TsNs < at(ms) || x.TsNs >= at(ms+length) {
					return false
				}
				h.IOs++
				h.Bytes += int64(x.SizeBytes)
				h.MaxNs = max(h.MaxNs, x.LatencyNs)
				h.Counts += fmt.Sprintf("%d:1 ", iolog.Bucket(x.LatencyNs))
				return true
			})
			if h.IOs > 0 {
				rows.histograms = append(rows.histograms, h)
			}
		}
	}
}

// I/Os that the log does not have one by one are counted by its histograms.
func TestHistograms(t *testing.T) {
	want, rows := attempt(trial.Teardown), migration()
	full := run(t, &want, rows, judge.DefaultLimits())
	blur(&rows, 36_000, 44_000, 10)
	blur(&rows, 60_000, 66_000, 10)
	slices.Reverse(rows.histograms)
	row := attempt(trial.Teardown)
	judged := run(t, &row, rows, judge.DefaultLimits())
	require.Empty(t, judged.Reason)
	require.Empty(t, judged.Notes)
	require.Equal(t, int64(len(rows.io)), *row.IORows)
	for i, phase := range full.Phases {
		got := judged.Phases[i]
		for name, v := range map[string][2]*float64{"p50": {got.P50Ms, phase.P50Ms}, "p99": {got.P99Ms, phase.P99Ms}, "p99.9": {got.P999Ms, phase.P999Ms}, "mean": {got.MeanMs, phase.MeanMs}} {
			require.InEpsilon(t, *v[1], *v[0], .004, "%s of %s", name, phase.Phase)
		}
		require.Equal(t, *phase.MaxMs, *got.MaxMs)
		require.Equal(t, []int64{*phase.IOs, *phase.Reads, *phase.Writes, *phase.Bytes}, []int64{*got.IOs, *got.Reads, *got.Writes, *got.Bytes})
	}
	for name, v := range map[string][2]*float64{"level": {row.LevelAfterIOPS, want.LevelAfterIOPS}, "recovery": {row.RecoveryMs, want.RecoveryMs},
		"lost": {row.IOLostS, want.IOLostS}, "gap": {row.LongestGapMs, want.LongestGapMs}, "longest": {row.Response.Ms, want.Response.Ms},
		"range": {row.SteadyRangePercent, want.SteadyRangePercent}} {
		require.InDelta(t, *v[1], *v[0], 1e-6, name)
	}
	says(t, judged, dataset.WitnessGuest, 3100, 7)
	require.InDelta(t, *want.LongestGapUncertaintyMs+10, *row.LongestGapUncertaintyMs, 1e-6)
	require.Nil(t, row.GapGuestClockMs)
}

// When the end of a stall is in a histogram, it is as uncertain as the histogram is long,
// and it is not known whether the histogram's longest I/O was in flight over the step.
func TestHistogramsAtTheStall(t *testing.T) {
	row, rows := still()
	rows.io = stream(dataset.OpRead, 20_000)
	blur(&rows, 51_000, 57_000, 10)
	for i := range rows.histograms {
		rows.histograms[i].MaxNs = min(rows.histograms[i].MaxNs, 20e6) // by the guest's clock
	}
	judged := run(t, &row, rows, judge.DefaultLimits())
	// The last I/O completed at 52 s, the time of which is from 52 s to 52.01 s; the next one at 55.02 s.
	says(t, judged, dataset.WitnessGuest, 3020, 17)
	is(t, row.Response, 1520, 1507) // 20 ms, or the stall and 20 ms
}

// Rounds of a second cannot be told apart with histograms of a second.
func TestCoarseHistograms(t *testing.T) {
	row, rows := attempt(trial.Teardown), migration()
	blur(&rows, 60_000, 64_000, 2000)
	judged := run(t, &row, rows, judge.DefaultLimits())
	require.Equal(t, []string{"the load's levels, recovery and I/O lost are not known: the histograms of its log are too coarse"}, judged.Notes)
	require.Nil(t, row.RecoveryMs)
	require.Nil(t, row.IOLostS)
	require.Nil(t, row.Steady)
	require.Equal(t, int64(100), *judged.Phases[2].IOs)
}

func TestDamagedHistograms(t *testing.T) {
	for _, counts := range []string{"7", "7:x", "x:7", "-1:7", "7:-1", fmt.Sprintf("%d:1", iolog.Bucket(math.MaxInt64)+1)} {
		row, rows := attempt(trial.Teardown), migration()
		rows.histograms = []dataset.Histogram{{TsNs: at(41_000), LengthNs: 1e7, IOs: 7, Counts: counts}}
		_, err := judge.Judge(&row, rows.raw(), judge.DefaultLimits())
		require.ErrorContains(t, err, "is no bucket and its I/Os")
	}
}
