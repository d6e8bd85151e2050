package judge_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"heliotrope/analysis/dataset"
	"heliotrope/analysis/judge"
	"heliotrope/internal/cause"
	"heliotrope/internal/trial"
)

// every adds an I/O every step ms.
func every(ios []dataset.IO, from, to, step int64) []dataset.IO {
	for ms := from; ms < to; ms += step {
		ios = append(ios, dataset.IO{TsNs: at(ms), GuestTsNs: at(ms), Op: dataset.OpRead})
	}
	return ios
}

// rated is the scene migration with other I/Os: 10 a second, 5 a second from 55 s to 57 s,
// and afterwards one every step ms.
func rated(step int64) (dataset.Trial, tables) {
	row, rows := attempt(trial.Teardown), migration()
	rows.io = every(every(every(nil, 30_000, 52_000, 100), 55_000, 57_000, 200), 57_000, 75_000, step)
	return row, rows
}

// The guest's load has recovered when it is at the level of the new site, and the loss is
// counted against that level.
func TestRecoveryAtTheNewSite(t *testing.T) {
	for name, c := range map[string]struct {
		step                  int64
		level, recovery, lost float64
	}{
		"as before": {100, 10, 2000, 4},
		// 75 I/Os in the 18 s from the stall's beginning on, which are 15 s at 5 a second.
		"slower": {200, 5, 0, 3},
		// 10 and 260 I/Os, which are 13.5 s at 20 a second.
		"faster": {50, 20, 2000, 4.5},
	} {
		t.Run(name, func(t *testing.T) {
			row, rows := rated(c.step)
			judged := run(t, &row, rows, judge.DefaultLimits())
			if !near(row.LevelAfterIOPS, c.level) || !near(row.RecoveryMs, c.recovery) || !near(row.IOLostS, c.lost) {
				t.Errorf("level %v, recovery %v, lost %v", value(row.LevelAfterIOPS), value(row.RecoveryMs), value(row.IOLostS))
			}
			require.Empty(t, judged.Notes)
		})
	}
}

// I/Os beyond the level reduce the loss.
func TestSignedLoss(t *testing.T) {
	row, rows := rated(100)
	rows.io = every(rows.io, 51_000, 52_000, 20) // 50 more, which are 5 s
	run(t, &row, rows, judge.DefaultLimits())
	require.InDelta(t, -1, *row.IOLostS, 1e-9)

	row, rows = rated(100)
	row.Control, row.MigrationStartedTsNs = "none", nil
	rows.domains = append(watches(rows.domains), domain(29_500, "host-a", 7, "running"))
	rows.io = every(nil, 30_000, 75_000, 100)
	rows.io = every(rows.io, 55_000, 56_000, 500)
	run(t, &row, rows, judge.DefaultLimits())
	require.InDelta(t, -.2, *row.IOLostS, 1e-9, "of phase migrate alone")
	require.InDelta(t, 10, *row.LevelAfterIOPS, 1e-9)
	require.Nil(t, row.RecoveryMs)
}

// A load that is never steady at the new site has no level to recover to.
func TestNoSteadyLevelAtTheNewSite(t *testing.T) {
	row, rows := rated(100)
	rows.io = every(rows.io, 62_000, 64_000, 50)
	rows.io = every(rows.io, 66_000, 68_000, 50)
	judged := run(t, &row, rows, judge.DefaultLimits())
	require.Nil(t, row.LevelAfterIOPS)
	require.Nil(t, row.RecoveryMs)
	require.Nil(t, row.IOLostS)
	require.Equal(t, []string{"recovery and I/O lost are not known: no steady level at the new site"}, judged.Notes)

	// The last steady window counts: the last 2 s have only one I/O.
	row, rows = rated(100)
	rows.io = append(remove(rows.io, func(x dataset.IO) bool { return x.TsNs >= at(68_000) }), every(nil, 68_000, 70_000, 5000)...)
	limits := judge.DefaultLimits()
	limits.SteadyState.Window = 3
	run(t, &row, rows, limits)
	require.InDelta(t, 10, *row.LevelAfterIOPS, 1e-9)
}

// When the disk did not come back, all of the time from the stall on is lost.
func TestLossWithoutRecovery(t *testing.T) {
	row, rows := rated(100)
	rows.io = remove(rows.io, func(x dataset.IO) bool { return x.TsNs >= at(52_000) })
	judged := run(t, &row, rows, judge.DefaultLimits())
	require.InDelta(t, 18, *row.IOLostS, 1e-9)
	require.Nil(t, row.RecoveryMs)
	require.Nil(t, row.LevelAfterIOPS)
	require.NotContains(t, judged.Notes, "recovery and I/O lost are not known: no steady level at the new site")
}

// A migration whose stall nobody saw has no moment from which the new site's level counts.
func TestLossWithoutAStall(t *testing.T) {
	row, rows := rated(100)
	row.AbsentWitnesses, rows.domains = dataset.WitnessHypervisor, nil
	run(t, &row, rows, judge.DefaultLimits())
	require.Nil(t, row.IOLostS)
	require.InDelta(t, 10, *row.LevelAfterIOPS, 1e-9)
}

// The disk was unavailable for 3.1 s, and then ten times for 200 ms: in phase before, an
// I/O completed every 100 ms.
func TestUnavailable(t *testing.T) {
	row, rows := rated(100)
	run(t, &row, rows, judge.DefaultLimits())
	require.InDelta(t, 5.1, *row.UnavailableS, 1e-9)

	// Up to the end of phase after.
	rows.io = remove(rows.io, func(x dataset.IO) bool { return x.TsNs >= at(52_000) })
	run(t, &row, rows, judge.DefaultLimits())
	require.InDelta(t, 18.1, *row.UnavailableS, 1e-9)

	// Nothing completed in phase before: 10 s without an I/O are usual, 20 s are not.
	rows.io = every(nil, 30_000, 39_000, 100)
	run(t, &row, rows, judge.DefaultLimits())
	require.InDelta(t, 20, *row.UnavailableS, 1e-9)
}

// Rows may be out of the order of completion by some thousands of rows, but not by more.
func TestOrderOfCompletion(t *testing.T) {
	const rows = 200_000
	for late, want := range map[int]cause.Code{0: "", 65_000: "", 150_000: cause.DataDamaged} {
		row, t3 := attempt(trial.Teardown), migration()
		var ios []dataset.IO
		for i := range int64(rows) { // up to 52 s, and on from 55 s
			ms := 30_000 + i*42/200
			if ms >= 52_000 {
				ms += 3000
			}
			ios = append(ios, dataset.IO{TsNs: at(ms), GuestTsNs: at(ms), Op: dataset.OpRead})
		}
		moved := ios[10_000]
		ios = append(ios[:10_000:10_000], ios[10_001:]...)
		ios = append(ios[:10_000+late:10_000+late], append([]dataset.IO{moved}, ios[10_000+late:]...)...)
		t3.io = ios
		judged := run(t, &row, t3, judge.DefaultLimits())
		if judged.Cause != want {
			t.Errorf("late by %d rows: %s: %s", late, judged.Cause, judged.Reason)
		}
		if want == "" {
			require.InDelta(t, 3000, *row.LongestGapMs, 2)
			continue
		}
		require.Contains(t, judged.Reason, "1 of 200000 I/Os come more than 65536 rows too late")
		require.Nil(t, row.LongestGapMs)
		require.Nil(t, row.UnavailableS)
		require.Equal(t, int64(rows), *row.IORows)
		if w := of(t, judged, dataset.WitnessGuest); w.StallMs != nil || !strings.Contains(w.Problem, "order") {
			t.Errorf("the guest's witness says %v, %q", value(w.StallMs), w.Problem)
		}
	}
}

// A log that was never fetched has no I/Os to count.
func TestNoLog(t *testing.T) {
	row, rows := attempt(trial.Teardown), migration()
	raw := rows.raw()
	raw.IO = nil
	judged, err := judge.Judge(&row, raw, judge.DefaultLimits())
	require.NoError(t, err)
	require.Nil(t, row.IORows)
	require.Equal(t, dataset.Response{}, row.Response)
	for _, phase := range judged.Phases {
		require.Nil(t, phase.IOs)
		require.Nil(t, phase.IOPS)
		require.InDelta(t, 10, phase.Seconds, 1e-9)
	}
}
