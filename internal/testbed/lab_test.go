//go:build lab

package testbed_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"heliotrope/internal/campaign"
	"heliotrope/internal/clock"
	"heliotrope/internal/inventory"
	"heliotrope/internal/load"
	"heliotrope/internal/record"
	"heliotrope/internal/storage"
	"heliotrope/internal/storage/drbd"
	"heliotrope/internal/testbed"
	"heliotrope/internal/trial"
	"heliotrope/internal/witness"
)

const diskBytes = 64 << 20

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// open connects to the testbed of HELIOTROPE_INVENTORY and tears everything of
// ours down, now and at the end.
func open(t *testing.T) *testbed.Testbed {
	t.Helper()
	inv, err := inventory.Load(os.Getenv("HELIOTROPE_INVENTORY"))
	must(t, err)
	tb, err := testbed.Connect(inv)
	must(t, err)
	teardown := func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
		defer cancel()
		return tb.Teardown(ctx)
	}
	t.Cleanup(func() {
		if err := teardown(); err != nil {
			t.Errorf("final teardown: %v", err)
		}
		_ = tb.Close()
	})
	must(t, teardown())
	return tb
}

// database is a mix of reads and writes, random, two at a time.
var database = campaign.AccessSpec{Name: "database", Outstanding: 2, Lines: []campaign.AccessLine{
	{SizeBytes: 4096, SharePercent: 50, ReadPercent: 60, RandomPercent: 100},
	{SizeBytes: 8192, SharePercent: 50, ReadPercent: 40, RandomPercent: 100},
}}

// TestRecordThroughMigration records the load in the guest and the counters of
// every host through a live migration: nothing is lost and nothing is left.
func TestRecordThroughMigration(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	tb := open(t)
	before, err := tb.Snapshot(ctx)
	must(t, err)
	facts, err := tb.Facts(ctx)
	must(t, err)
	t.Logf("facts: %+v", facts)

	ref := trial.Ref{Campaign: "test", Attempt: 1, Trial: campaign.Trial{Sequence: 1, Seed: 42, Cell: campaign.Cell{Access: database}}}
	system, err := tb.Storage("iscsi", drbd.Options{})
	must(t, err)
	disk, err := system.Provision(ctx, storage.Spec{Name: "disk", SizeBytes: diskBytes}, storage.SiteA)
	must(t, err)
	domain, err := tb.StartGuest(ctx, storage.SiteA, disk, 0)
	must(t, err)

	recordings := map[string]record.Recording{}
	for _, name := range tb.HostNames() {
		recordings[name], err = tb.Counters(ref, name)
		must(t, err)
	}
	guestLoad, err := tb.Load(ref)
	must(t, err)
	recordings[testbed.GuestName] = guestLoad
	idle := clocks(ctx, t, tb, "idle, before")
	for name, recording := range recordings {
		must(t, recording.Start(ctx))
		t.Logf("%s records", name)
	}
	advance(ctx, t, guestLoad, 200)
	clocks(ctx, t, tb, "under load, before")

	must(t, system.PrepareMigration(ctx, disk, storage.SiteA, storage.SiteB))
	migration, err := tb.Hypervisor(storage.SiteA).Migrate(ctx, domain.Name, tb.Hypervisor(storage.SiteB), nil)
	must(t, err)
	must(t, system.FinishMigration(ctx, disk, storage.SiteB))
	t.Logf("migrated in %s", migration.Duration())
	advance(ctx, t, guestLoad, 200)
	clocks(ctx, t, tb, "under load, after")

	folder := t.TempDir()
	for name, recording := range recordings {
		progress, err := recording.Progress(ctx)
		must(t, err)
		if !progress.Running || progress.Steps == 0 {
			t.Errorf("%s: %+v", name, progress)
		}
		must(t, recording.Stop(ctx))
		started := time.Now()
		_, err = recording.Fetch(ctx, filepath.Join(folder, name), nil)
		must(t, err)
		t.Logf("fetched from %s in %s", name, time.Since(started).Round(time.Millisecond))
	}
	after := clocks(ctx, t, tb, "idle, after")
	checkLoad(t, filepath.Join(folder, testbed.GuestName), migration.Started.Add(idle[testbed.GuestName].Ahead),
		migration.Finished.Add(after[testbed.GuestName].Ahead))
	for _, name := range tb.HostNames() {
		checkCounters(t, tb, filepath.Join(folder, name), name)
	}

	must(t, tb.Teardown(ctx))
	later, err := tb.Snapshot(ctx)
	must(t, err)
	if changes := before.Diff(later); len(changes) > 0 {
		t.Errorf("the hosts are not as before:\n%s", strings.Join(changes, "\n"))
	}
}

// clocks prints how far each machine's clock is from ours.
func clocks(ctx context.Context, t *testing.T, tb *testbed.Testbed, when string) map[string]clock.Offset {
	t.Helper()
	offsets := map[string]clock.Offset{}
	for _, name := range append(tb.HostNames(), testbed.GuestName) {
		offset, err := tb.Clock(ctx, name)
		must(t, err)
		t.Logf("clock of %s, %s: %s ahead, ± %s", name, when, offset.Ahead, offset.Uncertainty)
		offsets[name] = offset
	}
	return offsets
}

// advance waits until so many more I/Os have completed.
func advance(ctx context.Context, t *testing.T, recording record.Recording, ios int64) {
	t.Helper()
	first, err := recording.Progress(ctx)
	must(t, err)
	pace := time.NewTicker(time.Second) // looking costs the guest I/Os
	defer pace.Stop()
	for last := first; last.Steps < first.Steps+ios; {
		<-pace.C
		last, err = recording.Progress(ctx)
		must(t, err)
		if !last.Running {
			t.Fatalf("the load ended: %s", last.Problem)
		}
		if last.Steps >= first.Steps+ios {
			t.Logf("load: %.0f IOPS, mean %.1f ms", last.IOPS, last.MeanLatencyMs)
		}
	}
}

// checkLoad reads the log: complete, in order, on the disk, from before the
// migration to after it.
func checkLoad(t *testing.T, folder string, migrated, finished time.Time) {
	t.Helper()
	result, err := os.Open(filepath.Join(folder, load.ResultFile))
	must(t, err)
	defer result.Close()
	outcome, err := load.ReadResult(result)
	must(t, err)
	log, err := os.Open(filepath.Join(folder, load.LogFile))
	must(t, err)
	defer log.Close()
	var ios, reads, early, late, back int64
	var last, gap, gapEnd, worst int64
	must(t, load.ReadLog(log, func(e load.Entry) error {
		ios++
		if e.Op == load.Read {
			reads++
		}
		if e.GuestTimeNs < migrated.UnixNano() {
			early++
		}
		if e.GuestTimeNs > finished.UnixNano() {
			late++
		}
		if last != 0 && e.GuestTimeNs < last {
			back++
		}
		if last != 0 && e.GuestTimeNs-last > gap {
			gap, gapEnd = e.GuestTimeNs-last, e.GuestTimeNs
		}
		last, worst = e.GuestTimeNs, max(worst, e.LatencyNs)
		if end := e.OffsetBytes + int64(e.SizeBytes); end > diskBytes || e.OffsetBytes%512 != 0 {
			t.Errorf("an I/O at %d of %d bytes", e.OffsetBytes, e.SizeBytes)
		}
		return nil
	}))
	info, err := log.Stat()
	must(t, err)
	t.Logf("load: %+v; %d I/Os, %d reads, %d before and %d after the migration, longest silence %s until %s, longest I/O %s, %d bytes for each I/O",
		outcome, ios, reads, early, late, time.Duration(gap), time.Unix(0, gapEnd).UTC().Format(time.StampMilli), time.Duration(worst), info.Size()/max(ios, 1))
	if outcome.Error != 0 || outcome.IOs != ios || early == 0 || late == 0 || back != 0 {
		t.Errorf("of %d I/Os %d are before the migration, %d after it, %d go back in time; fio says %+v", ios, early, late, back, outcome)
	}
	if share := float64(reads) / float64(ios); share < 0.4 || share > 0.6 {
		t.Errorf("%.0f %% of the I/Os are reads, want 50", 100*share)
	}
}

// checkCounters reads the counters: all that the host has, and traffic.
func checkCounters(t *testing.T, tb *testbed.Testbed, folder, host string) {
	t.Helper()
	file, err := os.Open(filepath.Join(folder, witness.CountersFile))
	must(t, err)
	defer file.Close()
	first, last := map[string]int64{}, map[string]int64{}
	samples := map[time.Time]bool{}
	must(t, witness.ReadCounters(file, func(r witness.Reading) error {
		key := r.Device + " " + r.Name
		if _, known := first[key]; !known {
			first[key] = r.Value
		}
		last[key] = r.Value
		samples[r.At] = true
		return nil
	}))
	if last["memory free_bytes"] == 0 {
		t.Errorf("%s: no free memory", host)
	}
	want := []string{"cpu idle_ticks", "test-net rx_bytes", "test-net tx_bytes"}
	if host == tb.Inventory.WAN.Host {
		want = append(want, "wan rx_bytes", "wan tx_bytes")
	} else {
		want = append(want, "guest-disk writes")
	}
	for _, key := range want {
		if growth := last[key] - first[key]; growth == 0 {
			t.Errorf("%s: %s did not change from %d", host, key, first[key])
		}
	}
	t.Logf("%s: %d samples", host, len(samples))
}
