//go:build lab

package testbed_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"heliotrope/internal/campaign"
	"heliotrope/internal/clock"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/inventory"
	"heliotrope/internal/load"
	"heliotrope/internal/load/engine"
	"heliotrope/internal/load/iolog"
	"heliotrope/internal/record"
	"heliotrope/internal/storage"
	"heliotrope/internal/testbed"
	"heliotrope/internal/trial"
	"heliotrope/internal/witness"
)

const (
	diskBytes   = 64 << 20
	ledgerBytes = 8 << 20
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// open connects to the testbed of HELIOTROPE_INVENTORY and tears everything of
// ours down, now and at the end.
func open(t testing.TB) *testbed.Testbed {
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

// TestLabWitnesses runs all witnesses through a pause of known length and a
// live migration: every witness sees the pause, no acknowledged write is lost,
// and nothing is left behind.
func TestLabWitnesses(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	tb := open(t)
	install(ctx, t, tb, hosts(tb)...)
	before, err := tb.Snapshot(ctx)
	must(t, err)
	facts, err := tb.Facts(ctx)
	must(t, err)
	t.Logf("facts: %+v", facts)

	ref := trial.Ref{Campaign: "test", Attempt: 1, DiskBytes: diskBytes, LedgerBytes: ledgerBytes,
		Trial: campaign.Trial{Sequence: 1, Seed: 42, Cell: campaign.Cell{Storage: "iscsi", Access: database, WAN: "lan"}}}
	system, err := tb.Storage("iscsi", nil)
	must(t, err)
	disk, err := system.Provision(ctx, storage.Spec{Name: "disk", SizeBytes: diskBytes}, storage.SiteA)
	must(t, err)
	measured := testbed.Guest{Disk: disk}
	domain, err := tb.StartGuest(ctx, storage.SiteA, measured)
	must(t, err)
	must(t, tb.InstallWitness(ctx, testbed.GuestName))
	certificate, err := tb.Certify(ctx, ref)
	must(t, err)
	t.Logf("certificate: %+v", certificate)

	guestLoad, err := tb.Load(ref)
	must(t, err)
	recordings := []*recorded{{name: "load", Recording: guestLoad}}
	for _, name := range append([]string{testbed.GuestName}, hosts(tb)...) {
		recording, err := tb.Witness(ref, name)
		must(t, err)
		recordings = append(recordings, &recorded{name: name, Recording: recording})
	}
	for _, r := range slices.Backward(recordings) { // the hosts watch first and last
		must(t, r.Start(ctx))
	}
	idle := clocks(ctx, t, tb, "before")
	advance(ctx, t, guestLoad, 100)
	pause := hold(ctx, t, tb.Hypervisor(storage.SiteA), domain.Name, 3*time.Second)
	advance(ctx, t, guestLoad, 100)
	must(t, system.PrepareMigration(ctx, disk, storage.SiteA, storage.SiteB))
	migration, err := tb.Hypervisor(storage.SiteA).Migrate(ctx, hypervisor.Order{Domain: domain,
		AtTarget: tb.GuestAt(storage.SiteB, measured), Target: tb.Hypervisor(storage.SiteB)})
	must(t, err)
	must(t, system.FinishMigration(ctx, disk, storage.SiteB))
	t.Logf("migrated in %s", migration.Duration())
	advance(ctx, t, guestLoad, 100)

	folder := t.TempDir()
	for _, r := range recordings {
		r.collect(ctx, t, folder)
	}
	after := clocks(ctx, t, tb, "after")
	siteA, siteB := filepath.Join(folder, tb.Inventory.Sites.A), filepath.Join(folder, tb.Inventory.Sites.B)
	config, err := tb.LoadConfig(ref)
	must(t, err)
	checkLoad(t, config, filepath.Join(folder, "load"), migration.Started.Add(idle[testbed.GuestName].Ahead),
		migration.Finished.Add(after[testbed.GuestName].Ahead))
	pause.check(t, siteA, idle[tb.Inventory.Sites.A])
	checkMigration(t, siteA, siteB, idle[tb.Inventory.Sites.A], idle[tb.Inventory.Sites.B], migration)
	for _, name := range hosts(tb) {
		checkCounters(t, tb, filepath.Join(folder, name), name)
	}
	copies, err := system.(storage.Copier).Copies(ctx, disk, storage.SiteB)
	must(t, err)
	checkLedger(ctx, t, tb, ref, copies, acked(t, siteA), nil)
	checkEvidence(ctx, t, tb)

	must(t, tb.Teardown(ctx))
	later, err := tb.Snapshot(ctx)
	must(t, err)
	if changes := before.Diff(later); len(changes) > 0 {
		t.Errorf("the hosts are not as before:\n%s", strings.Join(changes, "\n"))
	}
}

// hosts are the machines with a shell, without the guest.
func hosts(tb *testbed.Testbed) []string {
	var names []string
	for _, machine := range tb.Machines() {
		if machine.Shell && machine.Name != testbed.GuestName {
			names = append(names, machine.Name)
		}
	}
	return names
}

// recorded is a recording and the name of its folder.
type recorded struct {
	name string
	record.Recording
}

// collect requires that the recording still runs, and fetches its files.
func (r *recorded) collect(ctx context.Context, t *testing.T, folder string) {
	t.Helper()
	progress, err := r.Progress(ctx)
	must(t, err)
	if !progress.Running || progress.Steps == 0 {
		t.Errorf("%s: %+v", r.name, progress)
	}
	must(t, r.Stop(ctx))
	started := time.Now()
	_, err = r.Fetch(ctx, filepath.Join(folder, r.name), nil)
	must(t, err)
	t.Logf("fetched from %s in %s", r.name, time.Since(started).Round(time.Millisecond))
}

// install builds the witness and puts it on machines, until the test's end.
func install(ctx context.Context, t testing.TB, tb *testbed.Testbed, machines ...string) {
	t.Helper()
	tb.WitnessBinary = filepath.Join(t.TempDir(), witness.Program)
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", tb.WitnessBinary, "heliotrope/cmd/heliotrope-witness")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	output, err := build.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	for _, machine := range machines {
		started := time.Now()
		must(t, tb.InstallWitness(ctx, machine))
		t.Logf("installed on %s in %s", machine, time.Since(started).Round(time.Millisecond))
		if machine == testbed.GuestName {
			continue // it ends with the guest
		}
		t.Cleanup(func() {
			files, err := tb.Machine(machine).Files(context.WithoutCancel(ctx))
			must(t, err)
			must(t, files.RemoveAll(tb.ProgramDir(machine)))
		})
	}
}

// clocks prints how far each machine's clock is from ours.
func clocks(ctx context.Context, t *testing.T, tb *testbed.Testbed, when string) map[string]clock.Offset {
	t.Helper()
	offsets := map[string]clock.Offset{}
	for _, name := range append(hosts(tb), testbed.GuestName) {
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
func checkLoad(t *testing.T, config engine.Config, folder string, migrated, finished time.Time) {
	t.Helper()
	outcome, err := load.ResultOf(folder, config.Access)
	must(t, err)
	var ios, reads, early, late, back int64
	var last, gap, gapEnd, worst int64
	account, err := load.Read(folder, nil, config.Replay(), migrated, func(e iolog.Entry) error {
		ios++
		if !e.Write {
			reads++
		}
		if e.CompletedNs < migrated.UnixNano() {
			early++
		}
		if e.CompletedNs > finished.UnixNano() {
			late++
		}
		if last != 0 && e.CompletedNs < last {
			back++
		}
		if last != 0 && e.CompletedNs-last > gap {
			gap, gapEnd = e.CompletedNs-last, e.CompletedNs
		}
		last, worst = e.CompletedNs, max(worst, e.CompletedNs-e.SubmittedNs)
		if end := e.OffsetBytes + int64(e.SizeBytes); end > diskBytes-ledgerBytes || e.OffsetBytes%512 != 0 {
			t.Errorf("an I/O at %d of %d bytes", e.OffsetBytes, e.SizeBytes)
		}
		return nil
	})
	must(t, err)
	t.Logf("load: %+v; %d I/Os, %d reads, %d before and %d after the migration, longest silence %s until %s, longest I/O %s",
		outcome, ios, reads, early, late, time.Duration(gap), time.Unix(0, gapEnd).UTC().Format(time.StampMilli), time.Duration(worst))
	if outcome.Errors != 0 || len(account.Missing) > 0 || outcome.IOs != ios || early == 0 || late == 0 || back != 0 {
		t.Errorf("of %d I/Os %d are before the migration, %d after it, %d go back in time; its engine says %+v, its log lacks %v", ios, early, late, back, outcome, account.Missing)
	}
	if share := float64(reads) / float64(ios); share < 0.4 || share > 0.6 {
		t.Errorf("%.0f %% of the I/Os are reads, want 50", 100*share)
	}
}
