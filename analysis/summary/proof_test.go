package summary_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/analysis/dataset"
	"heliotrope/analysis/group"
	"heliotrope/analysis/summary"
	"heliotrope/internal/trial"
)

// measured is a campaign with all that proves it: two cells, one of them
// paused for 5 s, each with two trials, and before them two of the sentinel.
func measured() summary.Tables {
	var all summary.Tables
	trials, phases := campaign("emulated", "lan")
	all.Trials, all.Phases = trials[:6], phases[:18]
	for i := range all.Trials {
		row := &all.Trials[i]
		n := float64(i + 1)
		row.StartedTsNs = int64(i) * 120e9
		row.CellID, row.Storage, row.DRBDProtocol = "one", "nfs", nil
		if i == 2 || i == 3 {
			// Four witnesses find the first pause, and one of them not the second.
			row.CellID, row.Control, row.HoldMs, row.TotalMigrationMs = "two", "pause", ptr(5000.0), ptr(5060.0-10*n)
		}
		row.Sentinel = i < 2
		row.DisagreementMs, row.ClockUncertaintyMs, row.ClockDriftPPM, row.GuestClockStepMs = ptr(10*n), ptr(n), ptr(-n), ptr(100*n)
		row.Response = dataset.Response{Ms: ptr(5000 * n), InFlight: ptr(i == 5)}
		row.Steady, row.RecoveryMs, row.IOLostS = ptr(i != 0), ptr(1000*n), ptr(n)
		for j, name := range []string{dataset.WitnessGuest, dataset.WitnessHypervisor, dataset.WitnessBackend, dataset.WitnessNetwork} {
			all.Witnesses = append(all.Witnesses, dataset.Witness{Trial: row.Key, Witness: name, StallMs: ptr(5000 + n + 10*float64(j)), UncertaintyMs: ptr(n)})
		}
		for _, direction := range []string{"a-to-b", "b-to-a"} {
			all.Certificates = append(all.Certificates, dataset.Certificate{Trial: row.Key, Moment: "before", Direction: direction, Profile: "lan",
				RTTMedianMs: ptr(n), ThroughputMbit: 90 + n, Drops: int64(i), LossPercent: n})
		}
		all.Ledger = append(all.Ledger, dataset.Ledger{Trial: row.Key, Copy: "store", Acked: 100, Checked: 90, Found: 90})
		for _, direction := range []string{"to-b", "to-a"} {
			all.Traffic = append(all.Traffic, dataset.Traffic{Trial: row.Key, Phase: "during", Class: "nfs", Direction: direction, Bytes: int64(n * 1e7)},
				dataset.Traffic{Trial: row.Key, Phase: "before", Class: "nfs", Direction: direction, Bytes: 1})
		}
	}
	all.Certificates[7].Problem = "median round trip"
	// The sentinel's second trial lost writes.
	all.Trials[1].Verdict, all.Trials[1].Cause, all.Trials[1].Reason = string(trial.TargetFailed), "lost-write", "2 acknowledged writes are not there"
	all.Ledger[1].Found, all.Ledger[1].LostCount = 88, 2
	return all
}

func TestProofInReports(t *testing.T) {
	made, err := summary.Summarise("quick", "emulated", measured())
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "measured.md", markdown(t, made))
	golden(t, "measured.txt", terminal(t, made))
}

func TestProof(t *testing.T) {
	made, err := summary.Summarise("quick", "emulated", measured())
	if err != nil {
		t.Fatal(err)
	}
	// The sentinel's ledger is in no cell, and among those of every attempt.
	if got := made.Lost; got != (summary.Lost{Attempts: 6, Losing: 1, Checked: 540, Losses: 2}) {
		t.Errorf("of every attempt: %+v", got)
	}
	if got := made.Cells[0].Ledgers; len(got) != 1 || got[0] != (summary.Ledger{Copy: "store", Trials: 2, Acked: 200, Checked: 180, Found: 180}) {
		t.Errorf("ledgers are %+v", got)
	}
	if p := made.Paths; len(p) != 2 || p[1].Certificates != 4 || p[1].Problems != 1 || p[0].Problems != 0 || p[0].Drops != 14 ||
		(p[0].RTTMs != summary.Spread{N: 4, Median: 4.5, Min: 3, Max: 6}) {
		t.Errorf("paths are %+v", p)
	}
	if c := made.Cells[0].Traffic; len(c) != 1 || (c[0].ToBMB != summary.Spread{N: 2, Median: 55, Min: 50, Max: 60}) {
		t.Errorf("traffic is %+v", c)
	}
	if c := made.Causes; len(c) != 1 || !c[0].Sentinel || c[0].Cause != "lost-write" || c[0].Attempts != 1 {
		t.Errorf("causes are %+v", c)
	}
	if len(made.Sentinel) != 2 || made.Sentinel[1].Verdict != trial.TargetFailed || *made.Sentinel[0].IOPS != 100 {
		t.Errorf("the sentinel is %+v", made.Sentinel)
	}
	if cell := made.Cells[1]; cell.ID != "two" || (cell.Witnesses["network"].Ms != summary.Spread{N: 2, Median: 5033.5, Min: 5033, Max: 5034}) ||
		cell.Steady != 2 || (cell.GuestStepMs != summary.Spread{N: 2, Median: 350, Min: 300, Max: 400}) {
		t.Errorf("cell is %+v", cell)
	}
	if failed := made.FailedControls(); len(failed) != 1 || failed[0] != "nfs, control pause 5 s, trial 0004.1: network's stall ms: 5034.0 ± 4.0, want 5000 to 5020 + 0" {
		t.Errorf("failed controls are %q", failed)
	}
	for _, line := range strings.Split(terminal(t, made), "\n") {
		if len([]rune(line)) > 120 {
			t.Errorf("wider than a terminal: %s", line)
		}
	}
}

// TestGroups checks that each row of a trial that counts is in the cell of its group and in
// no other: hypervisors, WANs, ways to migrate and directions are not put together, nor are
// sentinels with the cell that they equal.
func TestGroups(t *testing.T) {
	all := measured()
	for i := range all.Trials {
		row := &all.Trials[i]
		row.CellID, row.Control, row.HoldMs, row.Sentinel, row.Verdict, row.Cause = "same", "", nil, false, string(trial.Valid), ""
	}
	all.Trials[1].Direction = "return"
	all.Trials[2].CellID, all.Trials[2].Hypervisor = "other", "kvm"
	all.Trials[3].Sentinel = true
	all.Trials[4].CellID, all.Trials[4].WAN = "far", "160ms"
	all.Trials[5].CellID, all.Trials[5].Migration = "late", ptr("postcopy")
	made, err := summary.Summarise("quick", "emulated", all)
	require.NoError(t, err)
	seen := map[group.Key]int{}
	for i := range all.Trials {
		row := &all.Trials[i]
		key, in := group.Of(row)
		if !in {
			continue
		}
		seen[key]++
		at := slices.IndexFunc(made.Cells, func(c summary.Cell) bool { return c.ID == key.CellID && c.Direction == key.Direction })
		require.GreaterOrEqual(t, at, 0)
		cell := made.Cells[at]
		n := float64(i + 1)
		assert.Equal(t, 1, cell.Verdicts[trial.Valid])
		assert.Equal(t, summary.Spread{N: 1, Median: 10 * n, Min: 10 * n, Max: 10 * n}, cell.DisagreementMs)
		assert.Equal(t, summary.Spread{N: 1, Median: 10 * n, Min: 10 * n, Max: 10 * n}, cell.Traffic[0].ToBMB)
		assert.Equal(t, 1, cell.Ledgers[0].Trials)
	}
	assert.Len(t, seen, 5)
	assert.Len(t, made.Cells, 5)
	assert.Len(t, made.Sentinel, 1)
	text := markdown(t, made)
	for _, want := range []string{"| xen, nfs, lan, outbound |", "| xen, nfs, lan, return |", "| kvm, nfs, lan, outbound |", "| xen, nfs, 160ms, outbound |", "| xen, nfs, lan, postcopy, outbound |"} {
		assert.Contains(t, text, want)
	}
}

// Cells whose rows do not differ still have different names.
func TestEachCellHasItsName(t *testing.T) {
	trials, phases := campaign("emulated", "lan")
	trials, phases = trials[:6], phases[:18]
	for i := range trials {
		trials[i].Storage, trials[i].DRBDProtocol, trials[i].CellID = "nfs", nil, []string{"nfs-qd1", "nfs-qd8"}[i/3]
	}
	text := markdown(t, summarise(t, "emulated", trials, phases))
	assert.Contains(t, text, "| nfs-qd1, nfs |")
	assert.Contains(t, text, "| nfs-qd8, nfs |")
}

// TestAtMost: with no loss in 20 trials it is 13.9 %; the rule of three says 15 %.
func TestAtMost(t *testing.T) {
	assert.InDelta(t, 0.139, summary.AtMost(20), 0.0005)
	assert.InDelta(t, 0.95, summary.AtMost(1), 1e-9)
	assert.Less(t, summary.AtMost(300), 3.0/300)
	all := measured()
	all.Trials[1].Verdict, all.Ledger[1].LostCount = string(trial.Valid), 0
	made, err := summary.Summarise("quick", "emulated", all)
	require.NoError(t, err)
	assert.Contains(t, terminal(t, made), "Ledger: 0 of 540 acknowledged writes that were looked for are lost, in 6 attempts; with 95 % fewer than 39.3 % lose any\n")
}
