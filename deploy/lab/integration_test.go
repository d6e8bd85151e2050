//go:build lab

package lab_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"
	"testing"
	"time"

	"heliotrope/internal/hypervisor"
	"heliotrope/internal/inventory"
	"heliotrope/internal/remote"
	"heliotrope/internal/storage"
	"heliotrope/internal/testbed"
	"heliotrope/internal/wan"
)

// inventoryVariable names the inventory of the testbed to test on.
const inventoryVariable = "HELIOTROPE_INVENTORY"

const diskBytes = 64 << 20

// open connects to the testbed and removes everything of ours from it, now and at the end.
func open(t testing.TB) *testbed.Testbed {
	t.Helper()
	file := os.Getenv(inventoryVariable)
	if file == "" {
		t.Fatalf("%s is not set: run `make test-lab`, or set it to an inventory", inventoryVariable)
	}
	inv, err := inventory.Load(file)
	must(t, err)
	tb := connect(t, inv)
	teardown := func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
		defer cancel()
		return tb.Teardown(ctx)
	}
	t.Cleanup(func() {
		if err := teardown(); err != nil {
			t.Errorf("final teardown: %v", err)
		}
	})
	if err := teardown(); err != nil {
		t.Fatalf("teardown before the test: %v", err)
	}
	return tb
}

// connect connects to a testbed and leaves it as it is.
func connect(t testing.TB, inv *inventory.Inventory) *testbed.Testbed {
	t.Helper()
	tb, err := testbed.Connect(inv)
	must(t, err)
	t.Cleanup(func() { _ = tb.Close() })
	return tb
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// startGuest makes a disk on a storage system and starts the guest with it at a
// site.
func startGuest(ctx context.Context, t testing.TB, tb *testbed.Testbed, at storage.Site, kind string, options storage.Options) (storage.System, testbed.Guest) {
	t.Helper()
	system, err := tb.Storage(kind, options)
	must(t, err)
	disk, err := system.Provision(ctx, storage.Spec{Name: "disk", SizeBytes: diskBytes}, at)
	must(t, err)
	guest := testbed.Guest{Disk: disk}
	_, err = tb.StartGuest(ctx, at, guest)
	must(t, err)
	return system, guest
}

// TestMigrateUnderLoad does the thesis' experiment by hand. The guest writes to its disk while it
// is migrated over a WAN of 60 ms, away from the storage server or towards it; afterwards the
// hosts are as they were. DRBD replicates with protocol A, which it must leave for the migration
// and return to, at both sites.
func TestMigrateUnderLoad(t *testing.T) {
	t.Run("iscsi", func(t *testing.T) { migrateUnderLoad(t, "iscsi", nil, storage.SiteB) })
	t.Run("nfs", func(t *testing.T) { migrateUnderLoad(t, "nfs", nil, storage.SiteA) })
	t.Run("drbd", func(t *testing.T) { migrateUnderLoad(t, "drbd", storage.Options{"protocol": "A"}, storage.SiteA) })
}

// migrateUnderLoad migrates away from the site where the guest starts.
func migrateUnderLoad(t *testing.T, kind string, options storage.Options, from storage.Site) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	defer cancel()
	tb := open(t)
	before, err := tb.Snapshot(ctx)
	must(t, err)

	shape60(ctx, t, tb)
	system, guest := startGuest(ctx, t, tb, from, kind, options)

	load := startLoad(ctx, t, tb)
	migrate(ctx, t, tb, system, guest, from)
	load.mustAdvance(ctx, t, tb)
	load.stop(ctx, t, tb)

	if verifier, ok := system.(storage.Verifier); ok {
		outOfSync, err := verifier.Verify(ctx, guest.Disk)
		must(t, err)
		if outOfSync != 0 {
			t.Errorf("the replicas differ in %d bytes", outOfSync)
		}
	}
	must(t, tb.Teardown(ctx))
	must(t, tb.Teardown(ctx)) // nothing left to do is no error
	after, err := tb.Snapshot(ctx)
	must(t, err)
	if changes := before.Diff(after); len(changes) > 0 {
		t.Errorf("the hosts are not as before:\n%s", strings.Join(changes, "\n"))
	}
}

// transports returns the transports that the testbed's hypervisor offers for its migrations; ""
// when it offers no choice.
func transports(inv *inventory.Inventory) []string {
	if inv.SiteA().Transport == "" {
		return []string{""}
	}
	return []string{"tcp", "ssh"}
}

// TestCancelledMigration: the guest continues at the source, nothing is left at the target, and
// the next migration succeeds, over each transport.
func TestCancelledMigration(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	defer cancel()
	tb := open(t)
	system, guest := startGuest(ctx, t, tb, storage.SiteA, "iscsi", nil)
	load := startLoad(ctx, t, tb)

	domain := tb.DomainName(testbed.GuestName)
	for _, transport := range transports(tb.Inventory) {
		tb.Inventory.SiteA().Transport = transport
		tb = connect(t, tb.Inventory) // a driver reads its machine's settings only when it is made
		cancelled, cancelMigration := context.WithCancel(ctx)
		order := orderOf(tb, guest, storage.SiteA)
		order.Progress = func(progress hypervisor.Progress) {
			if progress.SentBytes > progress.MemoryBytes/4 {
				cancelMigration()
			}
		}
		_, err := tb.Hypervisor(storage.SiteA).Migrate(cancelled, order)
		cancelMigration()
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("cancelled over %q: %v", transport, err)
		}
		expectDomains(ctx, t, tb, storage.SiteA, domain)
		expectDomains(ctx, t, tb, storage.SiteB)
		load.mustAdvance(ctx, t, tb)
	}
	migrate(ctx, t, tb, system, guest, storage.SiteA) // over the last of them
	load.mustAdvance(ctx, t, tb)
	load.stop(ctx, t, tb)
}

// shape60 shapes 60 ms and accepts it only when ping agrees. Busy processors can lengthen a round
// trip, but not shorten it.
func shape60(ctx context.Context, t *testing.T, tb *testbed.Testbed) {
	t.Helper()
	hostA, addressB := tb.Host(tb.Inventory.Sites.A), tb.Inventory.SiteB().Address
	bare, err := wan.Measure(ctx, hostA, addressB, 10, 200*time.Millisecond)
	must(t, err)
	must(t, tb.WAN().Shape(ctx, "a test", wan.Profile{Name: "test", RTT: 60 * time.Millisecond}, 30*time.Minute))
	shaped, err := wan.Measure(ctx, hostA, addressB, 10, 200*time.Millisecond)
	must(t, err)
	added := shaped.Min - bare.Min
	t.Logf("RTT %s bare, %s shaped: %s added", bare.Min, shaped.Min, added)
	if added < 58*time.Millisecond || added > 90*time.Millisecond {
		t.Errorf("60 ms were shaped, but the least RTT rose by %s", added)
	}
}

// orderOf is the migration of the guest away from a site.
func orderOf(tb *testbed.Testbed, guest testbed.Guest, from storage.Site) hypervisor.Order {
	to := from.Other()
	return hypervisor.Order{Domain: tb.GuestAt(from, guest), AtTarget: tb.GuestAt(to, guest), Target: tb.Hypervisor(to)}
}

// migrate moves the guest away from a site, within the storage's window, and checks where it runs
// afterwards.
func migrate(ctx context.Context, t testing.TB, tb *testbed.Testbed, system storage.System, guest testbed.Guest, from storage.Site) hypervisor.Migration {
	t.Helper()
	to := from.Other()
	must(t, system.PrepareMigration(ctx, guest.Disk, from, to))
	migration, err := tb.Hypervisor(from).Migrate(ctx, orderOf(tb, guest, from))
	if err != nil {
		t.Fatalf("%v\n%s", err, migration.Log)
	}
	must(t, system.FinishMigration(ctx, guest.Disk, to))
	t.Logf("%s to %s over %s: %s, %d MiB", from, to, system.Kind(), migration.Duration().Round(100*time.Millisecond), migration.StreamBytes>>20)
	expectDomains(ctx, t, tb, from)
	expectDomains(ctx, t, tb, to, tb.DomainName(testbed.GuestName))
	return migration
}

func expectDomains(ctx context.Context, t testing.TB, tb *testbed.Testbed, site storage.Site, want ...string) {
	t.Helper()
	states, err := tb.Hypervisor(site).List(ctx)
	must(t, err)
	var got []string
	for _, state := range states {
		got = append(got, state.Name)
		if state.Status != hypervisor.Running {
			t.Errorf("domain %s at site %s is %s", state.Name, site, state.Status)
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("domains at site %s: %v, want %v", site, got, want)
	}
}

// load is an fio that writes in the guest.
type load struct {
	ended     chan error
	output    []byte // once ended
	completed int64  // writes, when last looked
}

func startLoad(ctx context.Context, t testing.TB, tb *testbed.Testbed) *load {
	t.Helper()
	l := &load{ended: make(chan error, 1)}
	go func() {
		result, err := tb.Guest().Run(ctx, remote.Command{Args: []string{"fio", "--name=load", "--filename=" + tb.GuestDevices().Disk,
			"--ioengine=psync", "--direct=1", "--sync=1", "--rw=randwrite", "--bs=4k", "--thread",
			"--time_based", "--runtime=3600", "--output-format=json"}})
		l.output = result.Stdout
		l.ended <- err
	}()
	l.mustAdvance(ctx, t, tb)
	return l
}

// mustAdvance waits until the disk has completed more writes than at the previous look: the guest
// lives, and keeps writing.
func (l *load) mustAdvance(ctx context.Context, t testing.TB, tb *testbed.Testbed) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	base := max(l.completed, completedWrites(ctx, t, tb))
	for {
		select {
		case err := <-l.ended:
			t.Fatalf("the load ended by itself: %v", err)
		default:
		}
		if l.completed = completedWrites(ctx, t, tb); l.completed > base+10 {
			return
		}
	}
}

// completedWrites is the fifth field of the disk's stat file
// (Documentation/block/stat.rst).
func completedWrites(ctx context.Context, t testing.TB, tb *testbed.Testbed) int64 {
	t.Helper()
	result, err := tb.Guest().Run(ctx, remote.Command{Args: []string{"cat", path.Join("/sys/block", path.Base(tb.GuestDevices().Disk), "stat")}})
	must(t, err)
	fields := strings.Fields(string(result.Stdout))
	if len(fields) < 5 {
		t.Fatalf("unreadable disk statistics: %q", result.Stdout)
	}
	count, err := strconv.ParseInt(fields[4], 10, 64)
	must(t, err)
	return count
}

// stop ends the load, and returns what it did.
func (l *load) stop(ctx context.Context, t testing.TB, tb *testbed.Testbed) fioJob {
	t.Helper()
	_, err := tb.Guest().Run(ctx, remote.Command{Args: []string{"killall", "-INT", "fio"}})
	must(t, err)
	if err := <-l.ended; err != nil {
		if code, ended := remote.ExitCode(err); !ended || code != 128 { // fio's own code for an interrupted run
			t.Errorf("fio: %v", err)
		}
	}
	return parseFio(t, l.output)
}

// fioJob is fio's report of a job that writes (fio(1), JSON output).
type fioJob struct {
	Write struct {
		TotalIOs int64   `json:"total_ios"`
		IOPS     float64 `json:"iops"`
		Latency  struct {
			Max        float64            `json:"max"`  // ns
			Mean       float64            `json:"mean"` // ns
			Percentile map[string]float64 `json:"percentile"`
		} `json:"clat_ns"`
	} `json:"write"`
}

// parseFio reads the report of one job, which must have written.
func parseFio(t testing.TB, output []byte) fioJob {
	t.Helper()
	// An interrupted run prints that before its report.
	var report struct {
		Jobs []fioJob `json:"jobs"`
	}
	must(t, json.NewDecoder(bytes.NewReader(output[max(0, bytes.IndexByte(output, '{')):])).Decode(&report))
	if len(report.Jobs) != 1 || report.Jobs[0].Write.TotalIOs == 0 {
		t.Fatalf("fio wrote nothing: %s", output)
	}
	return report.Jobs[0]
}
