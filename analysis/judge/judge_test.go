package judge_test

import (
	"errors"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"heliotrope/analysis/dataset"
	"heliotrope/analysis/judge"
	"heliotrope/internal/cause"
	"heliotrope/internal/trial"
	"heliotrope/internal/witness"
)

func TestMigration(t *testing.T) {
	row, rows := attempt(trial.Teardown), migration()
	judged := run(t, &row, rows, judge.DefaultLimits())
	if judged.Verdict != "" || judged.Cause != "" || judged.Reason != "" {
		t.Errorf("verdict %s: %s, %s", judged.Verdict, judged.Cause, judged.Reason)
	}
	// The last I/O was at 51.9 s, the next at 55 s; ± 3 ms twice, and 1 ms of the log.
	says(t, judged, dataset.WitnessGuest, 3100, 7)
	// ± 5 ms between looks, and 1 ms of both hosts' clocks.
	says(t, judged, dataset.WitnessHypervisor, 3000, 7)
	// Samples at 51.95 s and 55.05 s; ± 100 ms between samples, and the clocks.
	says(t, judged, dataset.WitnessBackend, 3100, 102)
	// Sent at 51.99 s and at 55 s; ± 10 ms between heartbeats, and the guest's clock twice.
	says(t, judged, dataset.WitnessNetwork, 3010, 16)
	for name, v := range map[string]struct {
		got  *float64
		want float64
	}{
		"blackout": {row.BlackoutMs, 3000}, "disagreement": {row.DisagreementMs, 100},
		"longest gap": {row.LongestGapMs, 3100}, "gap by the guest's clock": {row.GapGuestClockMs, 1100},
		"overhead": {row.OverheadS, 60},
		// No I/O for 3 s, and half of them for 2 s; then they are back.
		"I/O lost": {row.IOLostS, 4}, "recovery": {row.RecoveryMs, 2000}, "range": {row.SteadyRangePercent, 0}, "slope": {row.SteadySlopePercent, 0},
	} {
		if !near(v.got, v.want) {
			t.Errorf("%s is %v, want %v", name, value(v.got), v.want)
		}
	}
	for name, v := range map[string]struct {
		got  *float64
		want float64
	}{"blackout": {row.BlackoutUncertaintyMs, 7}, "longest gap": {row.LongestGapUncertaintyMs, 7}, "clocks": {row.ClockUncertaintyMs, 3}} {
		if !about(v.got, v.want) {
			t.Errorf("the uncertainty of %s is %v, want %v and a little", name, value(v.got), v.want)
		}
	}
	if row.Steady == nil || !*row.Steady || *row.IORows != int64(len(rows.io)) {
		t.Errorf("steady %v, %d rows", row.Steady, *row.IORows)
	}
	if len(judged.Notes) != 0 {
		t.Errorf("notes are %q", judged.Notes)
	}

	// The order of the rows does not matter.
	random := rand.New(rand.NewPCG(1, 1))
	random.Shuffle(len(rows.io), func(i, j int) { rows.io[i], rows.io[j] = rows.io[j], rows.io[i] })
	random.Shuffle(len(rows.clocks), func(i, j int) { rows.clocks[i], rows.clocks[j] = rows.clocks[j], rows.clocks[i] })
	random.Shuffle(len(rows.counters), func(i, j int) { rows.counters[i], rows.counters[j] = rows.counters[j], rows.counters[i] })
	random.Shuffle(len(rows.domains), func(i, j int) { rows.domains[i], rows.domains[j] = rows.domains[j], rows.domains[i] })
	again := attempt(trial.Teardown)
	if shuffled := run(t, &again, rows, judge.DefaultLimits()); !reflect.DeepEqual(shuffled, judged) || !reflect.DeepEqual(again, row) {
		t.Errorf("shuffled, it is\n%+v\n%+v\nand not\n%+v\n%+v", shuffled, again, judged, row)
	}
}

// Two readings of a counter at the same time are one look, even when they differ: they do
// not say when the counter grew, least of all at the first look.
func TestReadingsOfOneTime(t *testing.T) {
	row, rows := attempt(trial.Teardown), migration()
	want := run(t, &row, rows, judge.DefaultLimits())
	again := slices.Clone(rows.counters)
	for _, host := range []string{"host-a", "host-b"} {
		i := slices.IndexFunc(again, func(c dataset.Counter) bool { return c.Host == host && c.Name == "reads" })
		twice := again[i]
		twice.Value--
		again = slices.Insert(again, i, twice)
	}
	rows.counters = again
	if got := run(t, &row, rows, judge.DefaultLimits()); !reflect.DeepEqual(got, want) {
		t.Errorf("it is\n%+v\nand not\n%+v", got, want)
	}
}

// On the way back the hosts swap their parts.
func TestReturn(t *testing.T) {
	row, rows := attempt(trial.Teardown), migration()
	row.Direction = "return"
	other := map[string]string{"host-a": "host-b", "host-b": "host-a"}
	for i := range rows.domains {
		rows.domains[i].Host = other[rows.domains[i].Host]
	}
	for i := range rows.counters {
		rows.counters[i].Host = other[rows.counters[i].Host]
	}
	judged := run(t, &row, rows, judge.DefaultLimits())
	says(t, judged, dataset.WitnessHypervisor, 3000, 7)
	says(t, judged, dataset.WitnessBackend, 3100, 102)
	if judged.Verdict != "" {
		t.Errorf("%s: %s", judged.Verdict, judged.Reason)
	}
}

func TestPause(t *testing.T) {
	row, rows := pause()
	judged := run(t, &row, rows, judge.DefaultLimits())
	says(t, judged, dataset.WitnessGuest, 3100, 7)
	says(t, judged, dataset.WitnessHypervisor, 3000, 7)
	says(t, judged, dataset.WitnessBackend, 3100, 102)
	says(t, judged, dataset.WitnessNetwork, 3010, 16)
	if judged.Verdict != "" || !near(row.BlackoutMs, 3000) || !near(row.DisagreementMs, 100) {
		t.Errorf("%s %s, blackout %v, disagreement %v", judged.Verdict, judged.Reason, value(row.BlackoutMs), value(row.DisagreementMs))
	}
}

// The guest's clock is corrected by what the hypervisors saw.
func TestSuspension(t *testing.T) {
	row, rows := attempt(trial.Teardown), migration()
	paused, pausedRows := pause()
	// By the clocks, the target made the domain just before the migration began.
	early := slices.Clone(rows.domains)
	for i := range early {
		if early[i].Host == "host-b" && early[i].State == witness.DomainPaused {
			early[i].TsNs = *row.MigrationStartedTsNs - 1000
		}
	}
	for name, c := range map[string]struct {
		row  dataset.Trial
		rows []dataset.Domain
		want bool
	}{"early": {row, early, true}, "migration": {row, rows.domains, true}, "pause": {paused, pausedRows.domains, true}, "nothing seen": {row, watches(rows.domains), false},
		"never migrated": {attempt(trial.Before), rows.domains, false}} {
		tables := rows
		tables.domains = c.rows
		guest, err := judge.GuestClock(&c.row, tables.raw(), nil, judge.DefaultLimits())
		require.NoError(t, err, name)
		got := guest.Stall
		require.Equal(t, c.want, !got.IsZero(), name)
		if c.want && (got.From.UnixNano() != at(52_000) || got.To.UnixNano() != at(55_000)) {
			t.Errorf("%s: %+v", name, got)
		}
		if c.want { // the looks, and two clocks
			require.InDelta(t, 7e6, float64(got.Uncertainty), 1e5, name)
		}
	}
}

// In a control without a migration, witnesses report their longest silence, and there is no
// blackout.
func TestNoMigration(t *testing.T) {
	row, rows := pause()
	row.Control, row.MigrationStartedTsNs = "none", nil
	rows.domains = append(watches(rows.domains), domain(29_500, "host-a", 7, witness.DomainRunning))
	rows.counters, rows.io, rows.heartbeats = nil, nil, nil
	rows.disk("host-a", 30_050, 75_000, 100, func(int64) bool { return true })
	for ms := int64(30_000); ms < 75_000; ms += 50 {
		if ms > 65_000 && ms < 66_000 { // in phase after: not looked at
			continue
		}
		rows.io = append(rows.io, dataset.IO{TsNs: at(ms)})
		rows.heartbeats = append(rows.heartbeats, dataset.Heartbeat{TsNs: at(ms + 2), SentTsNs: at(ms), Sequence: ms/50 - 599})
	}
	judged := run(t, &row, rows, judge.DefaultLimits())
	says(t, judged, dataset.WitnessGuest, 50, 7)
	says(t, judged, dataset.WitnessBackend, 100, 102)
	says(t, judged, dataset.WitnessNetwork, 50, 6+50) // by how often they came, not by how often they might have
	if w := of(t, judged, dataset.WitnessHypervisor); w.StallMs != nil || w.Problem != "" {
		t.Errorf("the hypervisor saw %+v", w)
	}
	if judged.Verdict != "" || row.BlackoutMs != nil || row.DisagreementMs != nil || row.RecoveryMs != nil || !near(row.IOLostS, 0) {
		t.Errorf("%s %s, blackout %v, disagreement %v, lost %v", judged.Verdict, judged.Reason, row.BlackoutMs, row.DisagreementMs, value(row.IOLostS))
	}
}

// remove leaves out the rows of which gone says so.
func remove[R any](rows []R, gone func(R) bool) []R {
	return slices.DeleteFunc(slices.Clone(rows), gone)
}

// A witness that is missing or has a hole says nothing, and makes the measurement invalid.
func TestWitnessesThatDied(t *testing.T) {
	in := func(ts, from, to int64) bool { return ts >= at(from) && ts < at(to) }
	for name, c := range map[string]struct {
		witness, text string
		spoil         func(*tables)
	}{
		"no I/O":        {dataset.WitnessGuest, "no I/O", func(r *tables) { r.io = nil }},
		"no I/O after":  {dataset.WitnessGuest, "after", func(r *tables) { r.io = remove(r.io, func(x dataset.IO) bool { return in(x.TsNs, 52_000, 99_000) }) }},
		"no I/O before": {dataset.WitnessGuest, "before", func(r *tables) { r.io = remove(r.io, func(x dataset.IO) bool { return in(x.TsNs, 0, 55_000) }) }},
		"no domains":    {dataset.WitnessHypervisor, "host-a", func(r *tables) { r.domains = nil }},
		"no watch in between": {dataset.WitnessHypervisor, "host-b for 3", func(r *tables) {
			r.domains = remove(r.domains, func(x dataset.Domain) bool { return x.Host == "host-b" && in(x.TsNs, 61_500, 64_000) })
		}},
		"watch ended": {dataset.WitnessHypervisor, "host-a", func(r *tables) {
			r.domains = remove(r.domains, func(x dataset.Domain) bool { return x.Host == "host-a" && in(x.TsNs, 67_000, 99_000) })
		}},
		"a watch tells of one": {dataset.WitnessHypervisor, "host-a", func(r *tables) { r.domains[106].SpacingNs = 1.5e9 }},
		"never stopped": {dataset.WitnessHypervisor, "seen to stop", func(r *tables) {
			r.domains = remove(r.domains, func(x dataset.Domain) bool { return x.State == witness.DomainSuspended })
		}},
		"never ran": {dataset.WitnessHypervisor, "seen to run", func(r *tables) {
			r.domains = remove(r.domains, func(x dataset.Domain) bool { return x.Host == "host-b" && x.ID == 3 })
		}},
		"no counters": {dataset.WitnessBackend, "host-a", func(r *tables) { r.counters = nil }},
		"none of the target": {dataset.WitnessBackend, "host-b", func(r *tables) {
			r.counters = remove(r.counters, func(x dataset.Counter) bool { return x.Host == "host-b" })
		}},
		"a hole before": {dataset.WitnessBackend, "host-a for 1.1", func(r *tables) {
			r.counters = remove(r.counters, func(x dataset.Counter) bool { return x.Host == "host-a" && in(x.TsNs, 51_050, 52_050) })
		}},
		"ended at the stall": {dataset.WitnessBackend, "at the stall", func(r *tables) {
			r.counters = remove(r.counters, func(x dataset.Counter) bool { return x.Host == "host-a" && in(x.TsNs, 51_500, 99_000) })
		}},
		"began after it": {dataset.WitnessBackend, "at the stall", func(r *tables) {
			r.counters = remove(r.counters, func(x dataset.Counter) bool { return x.Host == "host-b" && in(x.TsNs, 0, 55_200) })
		}},
		"ended after it": {dataset.WitnessBackend, "host-b for", func(r *tables) {
			r.counters = remove(r.counters, func(x dataset.Counter) bool { return x.Host == "host-b" && in(x.TsNs, 66_000, 99_000) })
		}},
		"never any I/O": {dataset.WitnessBackend, "no I/O", func(r *tables) {
			r.counters = remove(r.counters, func(x dataset.Counter) bool { return x.Name == "reads" })
		}},
		"no heartbeats": {dataset.WitnessNetwork, "no heartbeat", func(r *tables) { r.heartbeats = nil }},
		"none after": {dataset.WitnessNetwork, "after", func(r *tables) {
			r.heartbeats = remove(r.heartbeats, func(x dataset.Heartbeat) bool { return in(x.SentTsNs, 55_000, 99_000) })
		}},
		"none before": {dataset.WitnessNetwork, "before", func(r *tables) {
			r.heartbeats = remove(r.heartbeats, func(x dataset.Heartbeat) bool { return in(x.SentTsNs, 0, 52_000) })
		}},
		"and no clock at all": {dataset.WitnessNetwork, "clock", func(r *tables) { r.clocks = nil }},
	} {
		t.Run(name, func(t *testing.T) {
			row, rows := attempt(trial.Teardown), migration()
			c.spoil(&rows)
			judged := run(t, &row, rows, judge.DefaultLimits())
			w := of(t, judged, c.witness)
			if w.StallMs != nil || w.UncertaintyMs != nil || w.FromTsNs != nil || !strings.Contains(w.Problem, c.text) {
				t.Errorf("%s says %v, %q; want a problem with %q", c.witness, value(w.StallMs), w.Problem, c.text)
			}
			want := cause.WitnessDied
			if rows.clocks == nil {
				want = cause.ClockUncertain
			}
			if judged.Verdict != trial.Invalid || judged.Cause != want || judged.Reason == "" || row.DisagreementMs != nil {
				t.Errorf("%s, %s: %s, disagreement %v", judged.Verdict, judged.Cause, judged.Reason, row.DisagreementMs)
			}
		})
	}
}

// The guest's clock stands still while the guest is stopped. Where nobody watched, the step
// does not count as a clock that was set: its reason is not known, and the cause is the
// missing watch.
func TestUnknownIsNoJump(t *testing.T) {
	row, rows := attempt(trial.Teardown), migration()
	for i := range rows.clocks {
		if c := &rows.clocks[i]; c.Machine == trial.Guest && c.TsNs >= at(55_000) {
			c.AheadNs = -3e9
		}
	}
	for i := range rows.heartbeats {
		if h := &rows.heartbeats[i]; h.SentTsNs >= at(55_000) {
			h.SentGuestNs -= 3e9
		}
	}
	judged := run(t, &row, rows, judge.DefaultLimits())
	if judged.Verdict != "" {
		t.Fatalf("%s, %s: %s", judged.Verdict, judged.Cause, judged.Reason)
	}
	rows.domains = remove(rows.domains, func(x dataset.Domain) bool { return x.Host == "host-a" && x.TsNs >= at(50_500) && x.TsNs < at(56_500) })
	judged = run(t, &row, rows, judge.DefaultLimits())
	if judged.Verdict != trial.Invalid || judged.Cause != cause.WitnessDied || !strings.HasPrefix(judged.Reason, "the hypervisor says nothing of the stall: nobody watched") {
		t.Errorf("%s, %s: %s", judged.Verdict, judged.Cause, judged.Reason)
	}
}

// A hypervisor that reports every change with its own time is not polled: it may be silent
// for some seconds, for instance because it is busy, but not for long.
func TestToldNotLookedAt(t *testing.T) {
	for seconds, want := range map[int64]trial.Verdict{4: "", 9: trial.Invalid} {
		row, rows := attempt(trial.Teardown), migration()
		rows.domains = remove(rows.domains, func(x dataset.Domain) bool {
			return x.State == witness.DomainWatch && x.Host == "host-a" && x.TsNs >= at(52_100) && x.TsNs < at(52_100+seconds*1000)
		})
		for i := range rows.domains {
			if d := &rows.domains[i]; d.State == witness.DomainWatch {
				d.SpacingNs = 0
			}
		}
		if judged := run(t, &row, rows, judge.DefaultLimits()); judged.Verdict != want {
			t.Errorf("%d s: %s, %s: %s", seconds, judged.Verdict, judged.Cause, judged.Reason)
		}
	}
}

// A guest that comes back to its first host has two domain numbers there, and both are the
// guest's.
func TestNumbersDoNotMatter(t *testing.T) {
	row, rows := attempt(trial.Teardown), migration()
	for i := range rows.domains {
		if d := &rows.domains[i]; d.Host == "host-b" && d.State == witness.DomainRunning {
			d.ID = 9 // paused as 3
		}
	}
	rows.domains = append(rows.domains, domain(29_400, "host-b", 9, witness.DomainRunning), domain(29_450, "host-b", 9, witness.DomainGone))
	says(t, run(t, &row, rows, judge.DefaultLimits()), dataset.WitnessHypervisor, 3000, 7)
}

// Counters that wrap around, begin again with the move, or jump back show no activity
// beyond their readings, and never a negative number.
func TestCountersBeginAgain(t *testing.T) {
	row, rows := attempt(trial.Teardown), migration()
	for i := range rows.counters {
		// At the target the device is made anew while the guest is stopped: 0, and no I/O.
		if c := &rows.counters[i]; c.Host == "host-b" && c.TsNs >= at(53_000) {
			c.Value -= 1000
			if c.Name == "writes" {
				c.Value = 0
			}
		}
	}
	judged := run(t, &row, rows, judge.DefaultLimits())
	says(t, judged, dataset.WitnessBackend, 3100, 102)
	// It begins again with I/O: that counts, at 53.05 s.
	for i := range rows.counters {
		if c := &rows.counters[i]; c.Host == "host-b" && c.Name == "reads" && c.TsNs >= at(53_000) {
			c.Value += 4
		}
	}
	judged = run(t, &row, rows, judge.DefaultLimits())
	says(t, judged, dataset.WitnessBackend, 2000, 102) // 53.05 to 55.05
}

// The network duplicates, reorders and loses datagrams.
func TestHeartbeatsDuplicatedReorderedLost(t *testing.T) {
	row, rows := attempt(trial.Teardown), migration()
	twice := rows.heartbeats[100]
	twice.TsNs = at(53_000) // in the middle of the stall: no sign of life
	last := slices.IndexFunc(rows.heartbeats, func(h dataset.Heartbeat) bool { return h.SentTsNs >= at(52_000) })
	rows.heartbeats[200].TsNs += 500e6                                                                                // overtaken by fifty
	rows.heartbeats[last-3].TsNs = at(52_900)                                                                         // late
	rows.heartbeats = slices.Delete(rows.heartbeats, last-2, last)                                                    // the last two before the stall are lost
	rows.heartbeats = append(rows.heartbeats, twice)                                                                  // and one came twice
	rows.heartbeats = slices.DeleteFunc(rows.heartbeats, func(h dataset.Heartbeat) bool { return h.Sequence == 300 }) // one more is lost
	judged := run(t, &row, rows, judge.DefaultLimits())
	// Sent at 51.97 s, and 55 s: the two that are missing are part of it.
	says(t, judged, dataset.WitnessNetwork, 3030, 16)
	if !slices.Contains(judged.Notes, "network: 1 heartbeats came twice, 1 late, 3 never") {
		t.Errorf("notes are %q", judged.Notes)
	}
}

// Without the guest's clock the times of arrival are used, minus the delay from site B:
// half of the certificate's round trip.
func TestNetworkByArrival(t *testing.T) {
	row, rows := attempt(trial.Teardown), migration()
	rows.clocks = remove(rows.clocks, func(c dataset.Clock) bool { return c.Machine == trial.Guest })
	if w := of(t, run(t, &row, rows, judge.DefaultLimits()), dataset.WitnessNetwork); w.StallMs != nil || !strings.Contains(w.Problem, "path") {
		t.Errorf("without a certificate: %v, %q", value(w.StallMs), w.Problem)
	}
	rows.certificates = []dataset.Certificate{{Moment: "before", Direction: "b-to-a", RTTMinMs: ptr(59.0), RTTMedianMs: ptr(60.0), RTTMaxMs: ptr(63.0), Pings: 9, Received: 9}}
	// Arrived at 51.992 s and at 55.032 s: 3040 ms, less 30 ms. ± 10 ms between heartbeats, 1 ms twice, 2 ms of the path.
	says(t, run(t, &row, rows, judge.DefaultLimits()), dataset.WitnessNetwork, 3010, 14)
	row.Direction = "return" // the other way round it would be longer by that
	for i := range rows.domains {
		rows.domains[i].Host = map[string]string{"host-a": "host-b", "host-b": "host-a"}[rows.domains[i].Host]
	}
	says(t, run(t, &row, rows, judge.DefaultLimits()), dataset.WitnessNetwork, 3070, 14)
}

func TestClockLimit(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*dataset.Clock)
		text  string
		cause cause.Code
	}{
		"one bad reading among good ones": {func(c *dataset.Clock) {
			if c.TsNs == at(55_000) {
				c.UncertaintyNs = 1e9
			}
		}, "", ""},
		"no reading is good": {func(c *dataset.Clock) {
			if c.Machine == "store" {
				c.UncertaintyNs = 20_400_000
			}
		}, "store", cause.ClockUncertain},
		"bad outside of the measuring phases": {func(c *dataset.Clock) {
			if c.TsNs < at(24_000) || c.TsNs > at(76_000) {
				c.UncertaintyNs = 1e9
			}
		}, "", ""},
		"a host's clock was set": {func(c *dataset.Clock) {
			if c.Machine == "host-b" && c.TsNs > at(60_000) {
				c.AheadNs += 1e9
			}
		}, "host-b", cause.ClockJumped},
		"the guest's clock was set in phase after": {func(c *dataset.Clock) {
			if c.Machine == trial.Guest && c.TsNs > at(65_000) {
				c.AheadNs += 1e9
			}
		}, "guest", cause.ClockJumped},
	} {
		row, rows := attempt(trial.Teardown), migration()
		for i := range rows.clocks {
			c.spoil(&rows.clocks[i])
		}
		judged := run(t, &row, rows, judge.DefaultLimits())
		if judged.Cause != c.cause || !strings.Contains(judged.Reason, c.text) {
			t.Errorf("%s: ± %v ms, %s %s", name, value(row.ClockUncertaintyMs), judged.Cause, judged.Reason)
		}
		limits := judge.DefaultLimits()
		limits.ClockUncertaintyMs = 22
		if judged := run(t, &row, rows, limits); judged.Verdict != "" && c.cause != cause.ClockJumped {
			t.Errorf("%s, with another limit: %s", name, judged.Reason)
		}
	}
}

// For an attempt that did not get to its end, only what is known is reported, and nothing
// is held against it except a lost write.
func TestWhatStopped(t *testing.T) {
	for _, c := range []struct {
		last      trial.Phase
		phases    int
		witnesses int
		gap       bool
	}{{trial.Attest, 0, 0, false}, {trial.Before, 0, 0, false}, {trial.Migrate, 1, 0, false}, {trial.After, 2, 4, true}, {trial.Collect, 3, 4, true}} {
		row, rows := attempt(c.last), migration()
		rows.domains = nil
		judged := run(t, &row, rows, judge.DefaultLimits())
		if len(judged.Phases) != c.phases || len(judged.Witnesses) != c.witnesses || (row.LongestGapMs != nil) != c.gap {
			t.Errorf("up to %s: %d phases, %d witnesses, gap %v", c.last, len(judged.Phases), len(judged.Witnesses), row.LongestGapMs)
		}
		if complete := c.last == trial.Collect; (row.OverheadS != nil) != complete || (judged.Verdict != "") != complete {
			t.Errorf("up to %s: overhead %v, verdict %s", c.last, row.OverheadS, judged.Verdict)
		}
	}
	// Nothing at all: rows of witnesses that say so.
	row := attempt(trial.Teardown)
	row.HostsJSON = ""
	judged, err := judge.Judge(&row, judge.Raw{}, judge.DefaultLimits())
	if err != nil || len(judged.Phases) != 3 || len(judged.Witnesses) != 4 || row.LongestGapMs != nil || judged.Verdict != trial.Invalid {
		t.Errorf("without any rows: %+v, %v", judged, err)
	}
	for _, w := range judged.Witnesses {
		if w.Problem == "" || w.StallMs != nil {
			t.Errorf("without any rows: %+v", w)
		}
	}
}

func TestErrorsArePassedOn(t *testing.T) {
	failure := errors.New("damaged")
	row := attempt(trial.Teardown)
	for name, raw := range map[string]judge.Raw{
		"io": {IO: failing[dataset.IO](failure)}, "counters": {Counters: failing[dataset.Counter](failure)}, "clocks": {Clocks: failing[dataset.Clock](failure)},
		"domains": {Domains: failing[dataset.Domain](failure)}, "heartbeats": {Heartbeats: failing[dataset.Heartbeat](failure)},
	} {
		if _, err := judge.Judge(&row, raw, judge.DefaultLimits()); !errors.Is(err, failure) || !strings.Contains(err.Error(), "0001.1") {
			t.Errorf("%s: %v", name, err)
		}
	}
	row.HostsJSON = "{"
	if _, err := judge.Judge(&row, judge.Raw{}, judge.DefaultLimits()); err == nil {
		t.Error("hosts that are no JSON are accepted")
	}
}

func failing[R any](err error) dataset.Batches[R] {
	return func(yield func([]R, error) bool) { yield(nil, err) }
}
