package report_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"heliotrope/analysis/dataset"
	"heliotrope/analysis/report"
	"heliotrope/internal/trial"
)

// measured is a campaign with all that proves it: two cells, one of them
// paused for 5 s, each with two trials; the first is the sentinel.
func measured() report.Tables {
	var all report.Tables
	trials, phases := campaign("emulated", "lan")
	all.Trials, all.Phases = trials[:4], phases[:12]
	for i := range all.Trials {
		row := &all.Trials[i]
		n := float64(i + 1)
		row.StartedTsNs = int64(i) * 120e9
		row.CellID, row.Storage, row.DRBDProtocol = "one", "nfs", nil
		if i >= 2 {
			row.CellID, row.Control, row.HoldMs, row.TotalMigrationMs = "two", "pause", ptr(5000.0), nil
		}
		row.Sentinel = i < 2
		row.DisagreementMs, row.ClockUncertaintyMs, row.ClockDriftPPM, row.GuestClockStepMs = ptr(10*n), ptr(n), ptr(-n), ptr(100*n)
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
	summary, err := report.Summarise("quick", "emulated", measured())
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "measured.md", markdown(t, summary))
	golden(t, "measured.txt", terminal(t, summary))
}

func TestProof(t *testing.T) {
	summary, err := report.Summarise("quick", "emulated", measured())
	if err != nil {
		t.Fatal(err)
	}
	if len(summary.Ledgers) != 1 || summary.Ledgers[0] != (report.Ledger{Storage: "nfs", Copy: "store", Trials: 4, Acked: 400, Checked: 360, Found: 358, Losses: 2}) {
		t.Errorf("ledgers are %+v", summary.Ledgers)
	}
	if p := summary.Paths; len(p) != 2 || p[1].Certificates != 4 || p[1].Problems != 1 || p[0].Problems != 0 || p[0].Drops != 6 ||
		(p[0].RTTMs != report.Spread{N: 4, Median: 2.5, Min: 1, Max: 4}) {
		t.Errorf("paths are %+v", p)
	}
	// Of the valid migrations only: the first trial's.
	if c := summary.Traffic; len(c) != 1 || (c[0].ToBMB != report.Spread{N: 1, Median: 10, Min: 10, Max: 10}) {
		t.Errorf("traffic is %+v", c)
	}
	if len(summary.Sentinel) != 2 || summary.Sentinel[1].Verdict != trial.TargetFailed || *summary.Sentinel[0].IOPS != 100 {
		t.Errorf("the sentinel is %+v", summary.Sentinel)
	}
	if cell := summary.Cells[1]; cell.ID != "two" || (cell.Witnesses["network"].Ms != report.Spread{N: 2, Median: 5033.5, Min: 5033, Max: 5034}) ||
		cell.Steady != 2 || (cell.GuestStepMs != report.Spread{N: 2, Median: 350, Min: 300, Max: 400}) {
		t.Errorf("cell is %+v", cell)
	}
	for _, line := range strings.Split(terminal(t, summary), "\n") {
		if len([]rune(line)) > 120 {
			t.Errorf("wider than a terminal: %s", line)
		}
	}
}

// TestHypervisorsAreKeptApart holds that neither the bytes nor the ledgers of
// two hypervisors, or of two ways to migrate, are put together.
func TestHypervisorsAreKeptApart(t *testing.T) {
	all := measured()
	for i := range all.Trials {
		row := &all.Trials[i]
		row.CellID, row.Control, row.HoldMs, row.Sentinel, row.Verdict = row.Key, "", nil, false, string(trial.Valid)
		row.Migration, row.AutoConverge = ptr("precopy"), ptr(false)
	}
	kvm, mirror, limited := &all.Trials[1], &all.Trials[2], &all.Trials[3]
	kvm.Hypervisor, mirror.Hypervisor, limited.Hypervisor = "kvm", "kvm", "kvm"
	mirror.Storage, mirror.MirrorCopy = "mirror", ptr("full")
	limited.Migration, limited.AutoConverge, limited.BandwidthMiBPerS, limited.MaxDowntimeMs = ptr("postcopy"), ptr(true), ptr(int32(8)), ptr(int32(300))
	summary, err := report.Summarise("quick", "emulated", all)
	if err != nil {
		t.Fatal(err)
	}
	var ledgers, classes []string
	for _, ledger := range summary.Ledgers {
		ledgers = append(ledgers, fmt.Sprint(ledger.Storage, " ", ledger.Trials))
	}
	for _, class := range summary.Traffic {
		classes = append(classes, class.Storage)
	}
	if want := []string{"kvm, mirror full 1", "kvm, nfs 2", "xen, nfs 1"}; !slices.Equal(ledgers, want) {
		t.Errorf("ledgers %q, want %q", ledgers, want)
	}
	if want := []string{"kvm, mirror full, ", "kvm, nfs, ", "kvm, nfs, postcopy, auto-converge, ≤ 8 MiB/s, stop ≤ 300 ms, ", "xen, nfs, "}; !slices.Equal(classes, want) {
		t.Errorf("traffic %q, want %q", classes, want)
	}
	text := markdown(t, summary)
	for _, want := range []string{"| xen, nfs |", "| kvm, nfs |", "| kvm, mirror full |", "| kvm, nfs, postcopy, auto-converge, ≤ 8 MiB/s, stop ≤ 300 ms |"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}
