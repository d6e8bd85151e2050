package judge_test

import (
	"strings"
	"testing"

	"heliotrope/analysis/dataset"
	"heliotrope/analysis/judge"
	"heliotrope/internal/cause"
	"heliotrope/internal/trial"
	"heliotrope/internal/witness"
)

// silent removes everything that the guest says from its stall on: it hangs.
func silent(t *tables) {
	away(t)
	t.heartbeats = remove(t.heartbeats, func(h dataset.Heartbeat) bool { return h.TsNs >= at(52_000) })
	t.clocks = remove(t.clocks, func(c dataset.Clock) bool { return c.Machine == trial.Guest && c.TsNs >= at(52_000) })
}

// away removes everything that the disk did from the stall on, and lets the ledger stand
// still.
func away(t *tables) {
	t.io = remove(t.io, func(x dataset.IO) bool { return x.TsNs >= at(52_000) })
	t.counters = nil
	t.disk("host-a", 30_050, 75_000, 100, func(ms int64) bool { return ms < 52_000 })
	t.disk("host-b", 50_050, 75_000, 100, func(int64) bool { return false })
	for i := range t.heartbeats {
		t.heartbeats[i].Acked = min(t.heartbeats[i].Sequence/20, 110)
	}
}

func TestWhatDoesNotComeBack(t *testing.T) {
	for name, c := range map[string]struct {
		spoil   func(*dataset.Trial, *tables)
		verdict trial.Verdict
		cause   cause.Code
		text    string
	}{
		"the guest hangs":                      {func(_ *dataset.Trial, r *tables) { silent(r) }, trial.TargetFailed, cause.GuestHung, "no sign of the guest in the 10s of phase after, while it was watched on host-b"},
		"the guest hangs, and its log is lost": {func(_ *dataset.Trial, r *tables) { silent(r); r.io = nil }, trial.TargetFailed, cause.GuestHung, "no sign"},
		"the disk stays away":                  {func(_ *dataset.Trial, r *tables) { away(r) }, trial.TargetFailed, cause.NoRecovery, "the guest was heard in the 10s of phase after, and no I/O completed"},
		"the disk of a guest without a backend's witness stays away": {func(row *dataset.Trial, r *tables) {
			away(r)
			row.AbsentWitnesses, r.counters = dataset.WitnessBackend, nil
		}, trial.TargetFailed, cause.NoRecovery, "no I/O"},
		"the ledger goes on: the load alone has ended": {func(_ *dataset.Trial, r *tables) {
			away(r)
			for i := range r.heartbeats {
				r.heartbeats[i].Acked = r.heartbeats[i].Sequence / 20
			}
		}, trial.Invalid, cause.WitnessDied, "no I/O completed after"},
		"no ledger, and the heartbeats tell that its log, which is lost, had nothing": {func(_ *dataset.Trial, r *tables) {
			away(r)
			r.io = nil
			for i := range r.heartbeats {
				r.heartbeats[i].CompletedIOs = dataset.Known(min(r.heartbeats[i].Sequence, 2200))
				r.heartbeats[i].Acked = 0
			}
		}, trial.TargetFailed, cause.NoRecovery, "no I/O"},
		"the heartbeats tell of the load's I/Os": {func(_ *dataset.Trial, r *tables) {
			away(r)
			for i := range r.heartbeats {
				r.heartbeats[i].CompletedIOs = dataset.Known(r.heartbeats[i].Sequence)
			}
		}, trial.Invalid, cause.WitnessDied, "no I/O completed after"},
		"nobody watched": {func(_ *dataset.Trial, r *tables) {
			silent(r)
			r.domains = remove(r.domains, func(d dataset.Domain) bool { return d.Host == "host-b" && d.TsNs > at(62_000) })
		}, trial.Invalid, cause.WitnessDied, ""},
		"the guest that hangs was never heard": {func(_ *dataset.Trial, r *tables) {
			silent(r)
			r.heartbeats, r.clocks = nil, remove(r.clocks, func(c dataset.Clock) bool { return c.Machine == trial.Guest })
		}, trial.Invalid, cause.ClockUncertain, ""},
		"the load was never there": {func(_ *dataset.Trial, r *tables) {
			away(r)
			r.io = []dataset.IO{}
			for i := range r.heartbeats {
				r.heartbeats[i].Acked = 0
			}
		}, trial.Invalid, cause.WitnessDied, ""},
		"only its answers are heard": {func(_ *dataset.Trial, r *tables) {
			r.heartbeats = remove(r.heartbeats, func(h dataset.Heartbeat) bool { return h.TsNs >= at(52_000) })
		}, trial.Invalid, cause.WitnessDied, "no heartbeat"},
		"a host's clock was set as well": {func(_ *dataset.Trial, r *tables) {
			silent(r)
			for i := range r.clocks {
				if c := &r.clocks[i]; c.Machine == "host-b" && c.TsNs > at(60_000) {
					c.AheadNs += 1e9
				}
			}
		}, trial.Invalid, cause.ClockJumped, ""},
		"without a migration": {func(row *dataset.Trial, r *tables) {
			away(r)
			row.Control = "none"
			r.domains = append(watches(r.domains), domain(29_500, "host-a", 7, witness.DomainRunning))
		}, "", "", ""},
		"a pause": {func(row *dataset.Trial, r *tables) {
			*row, *r = pause()
			silent(r)
		}, trial.TargetFailed, cause.GuestHung, "watched on host-a"},
	} {
		t.Run(name, func(t *testing.T) {
			row, rows := attempt(trial.Teardown), migration()
			c.spoil(&row, &rows)
			judged := run(t, &row, rows, judge.DefaultLimits())
			if judged.Verdict != c.verdict || judged.Cause != c.cause || !strings.Contains(judged.Reason, c.text) {
				t.Errorf("%s, %s: %s", judged.Verdict, judged.Cause, judged.Reason)
			}
			judged.Apply(&row)
			if c.verdict != "" && (row.Verdict != string(c.verdict) || !row.Judged) {
				t.Errorf("the row's verdict is %s", row.Verdict)
			}
			judge.Again(&row)
			if again := run(t, &row, rows, judge.DefaultLimits()); again.Verdict != c.verdict || again.Cause != c.cause {
				t.Errorf("judged again: %s, %s", again.Verdict, again.Cause)
			}
		})
	}
}

// A disk that does not come back still has its numbers: no recovery, and everything that
// was lost.
func TestNoRecoveryKeepsItsNumbers(t *testing.T) {
	row, rows := attempt(trial.Teardown), migration()
	away(&rows)
	run(t, &row, rows, judge.DefaultLimits())
	if row.RecoveryMs != nil || !near(row.IOLostS, 18) || !near(row.BlackoutMs, 3000) || !near(row.LongestGapMs, 18_100) {
		t.Errorf("recovery %v, lost %v s, blackout %v ms, gap %v ms", value(row.RecoveryMs), value(row.IOLostS), value(row.BlackoutMs), value(row.LongestGapMs))
	}
}

// What the storage does before the migration is in the window. An attempt that does not
// know when that began is judged from the migration's start.
func TestWindowHasTheStoragesParts(t *testing.T) {
	for prepared, want := range map[int64]float64{0: 4, 50_000: 4.8} {
		row, rows := attempt(trial.Teardown), migration()
		rows.io = remove(rows.io, func(x dataset.IO) bool { return x.TsNs >= at(50_200) && x.TsNs < at(51_000) })
		if prepared > 0 {
			row.StoragePrepareTsNs = ptr(at(prepared))
		}
		if run(t, &row, rows, judge.DefaultLimits()); !near(row.IOLostS, want) {
			t.Errorf("prepared from %d ms: %v s lost, want %v", prepared, value(row.IOLostS), want)
		}
	}
}
