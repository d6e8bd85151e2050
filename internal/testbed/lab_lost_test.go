//go:build lab

package testbed_test

import (
	"context"
	"net/netip"
	"path"
	"strconv"
	"strings"
	"testing"
	"time"

	"heliotrope/internal/campaign"
	"heliotrope/internal/inventory"
	"heliotrope/internal/remote"
	"heliotrope/internal/storage"
	"heliotrope/internal/testbed"
	"heliotrope/internal/trial"
	"heliotrope/internal/witness"
)

// writer writes a ledger at site A, where the guest's disk is opened on the host
// itself: writes that get lost here are lost below the guest.
type writer struct {
	*testbed.Testbed
	ref    trial.Ref
	system storage.System
	disk   storage.Disk
	writes *recorded
	hears  *recorded // who is told of what was acknowledged
}

// write makes a disk and starts to write its ledger.
func write(ctx context.Context, t *testing.T, kind string) *writer {
	t.Helper()
	w := &writer{Testbed: open(t), ref: trial.Ref{Attempt: 1, DiskBytes: diskBytes, LedgerBytes: ledgerBytes,
		Trial: campaign.Trial{Sequence: 1, Seed: 4711, Cell: campaign.Cell{Storage: kind}}}}
	var err error
	w.system, err = w.Storage(kind, nil)
	must(t, err)
	w.disk, err = w.system.Provision(ctx, storage.Spec{Name: "disk", SizeBytes: diskBytes}, storage.SiteA)
	must(t, err)
	site := w.Site(storage.SiteA)
	install(ctx, t, w.Testbed, site.Name, w.Testbed.Site(storage.SiteB).Name)

	onHost, err := w.WitnessSetup(ctx, w.ref, site.Name)
	must(t, err)
	inGuest, err := w.WitnessSetup(ctx, w.ref, testbed.GuestName)
	must(t, err)
	writes, hears := inGuest.Guest, onHost.Host
	writes.Listen = netip.AddrPortFrom(site.Address, witness.Port+10) // the host itself stands in for the guest
	writes.Device, hears.Guest = w.disk.Device[storage.SiteA], writes.Listen
	host := w.Host(site.Name)
	hearing, err := witness.NewHost(host, onHost.Program, onHost.Dir, *hears)
	must(t, err)
	writing, err := witness.NewGuest(host, onHost.Program, w.RunDir(site.Name, "writer"), *writes)
	must(t, err)
	w.hears, w.writes = &recorded{name: "hears", Recording: hearing}, &recorded{name: "writes", Recording: writing}
	must(t, w.hears.Start(ctx))
	must(t, w.writes.Start(ctx))
	w.more(ctx, t)
	return w
}

// more waits for twenty more heartbeats, two seconds in which records are written.
func (w *writer) more(ctx context.Context, t *testing.T) {
	t.Helper()
	first, err := w.writes.Progress(ctx)
	must(t, err)
	pace := time.NewTicker(500 * time.Millisecond)
	defer pace.Stop()
	for last := first; last.Steps < first.Steps+20; {
		<-pace.C
		last, err = w.writes.Progress(ctx)
		must(t, err)
		if !last.Running {
			t.Fatalf("nothing is written any more: %s", last.Problem)
		}
	}
}

// check ends the writing and reads the ledger back: only the named copies may lack
// records.
func (w *writer) check(ctx context.Context, t *testing.T, copies []storage.Copy, broken ...string) {
	t.Helper()
	folder := t.TempDir()
	w.writes.collect(ctx, t, folder)
	w.hears.collect(ctx, t, folder)
	checkLedger(ctx, t, w.Testbed, w.ref, copies, acked(t, path.Join(folder, "hears")), broken)
}

func (w *writer) copies(ctx context.Context, t *testing.T, at storage.Site) []storage.Copy {
	t.Helper()
	copies, err := w.system.(storage.Copier).Copies(ctx, w.disk, at)
	must(t, err)
	return copies
}

// command runs a command on a machine.
func command(ctx context.Context, t *testing.T, tb *testbed.Testbed, machine *inventory.Machine, args ...string) string {
	t.Helper()
	result, err := tb.Host(machine.Name).Run(ctx, remote.Command{Args: args, Timeout: time.Minute})
	must(t, err)
	return strings.TrimSpace(string(result.Stdout))
}

// TestLabDroppedReplica: what is written while the replicas are cut apart is
// missing from the other one, and only from that.
func TestLabDroppedReplica(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	w := write(ctx, t, "drbd")
	site := w.Site(storage.SiteA)
	config := path.Join(site.DataDir, w.Name(), "drbd", "disk.res") // DRBD's settings on the host do not know ours
	command(ctx, t, w.Testbed, site, "drbdadm", "-c", config, "disconnect", w.Name()+".disk")
	w.more(ctx, t)
	w.check(ctx, t, w.copies(ctx, t, storage.SiteA), "replica-b")
}

// TestLabLostCache: a target whose disk is in an earlier state lacks what was
// written since. A target that acknowledges writes in its cache and then loses
// power is in that state. Both sites must read the loss.
func TestLabLostCache(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	w := write(ctx, t, "iscsi")
	store := w.Inventory.Store()
	image := path.Join(store.DataDir, w.Name(), "iscsi", "disk.img")
	saved := path.Join(path.Dir(image), "saved") // removed with the disk
	command(ctx, t, w.Testbed, store, "cp", image, saved)
	w.more(ctx, t)
	command(ctx, t, w.Testbed, store, "dd", "if="+saved, "of="+image, "bs=1M", "conv=notrunc,fsync")
	copies := append(w.copies(ctx, t, storage.SiteA), w.copies(ctx, t, storage.SiteB)...)
	w.check(ctx, t, copies, "site-a", "site-b")
}

// TestLabStalePages: a loop device without direct I/O at site B, over an image
// whose pages stay in the page cache, returns old contents; so would a hypervisor
// that opens the image through the page cache. Without the page cache the same
// file has everything, whether the testbed's hypervisor opens it itself or through
// a loop device.
func TestLabStalePages(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	w := write(ctx, t, "nfs")
	b := w.Site(storage.SiteB)
	const mounted = "/run/heliotrope-stale"
	run := func(args ...string) string {
		t.Helper()
		return command(ctx, t, w.Testbed, b, args...)
	}
	source := run("findmnt", "-n", "-o", "SOURCE", path.Join(b.DataDir, w.Name(), "nfs", "mnt"))
	run("mkdir", "-p", mounted)
	run("/sbin/mount.nfs4", source, mounted, "-o", "vers=4.2,ro,nosharecache,actimeo=3600")
	var loop string
	t.Cleanup(func() { // before the teardown of the disk
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		if loop != "" {
			command(ctx, t, w.Testbed, b, "/sbin/losetup", "-d", loop)
		}
		command(ctx, t, w.Testbed, b, "umount", mounted)
		command(ctx, t, w.Testbed, b, "rmdir", mounted)
	})
	loop = run("/sbin/losetup", "--find", "--show", "--read-only", path.Join(mounted, "disk.img"))
	region := testbed.LedgerRegion(w.ref)
	run("dd", "if="+loop, "of=/dev/null", "bs=4096", "iflag=direct",
		"skip="+strconv.FormatInt(region.OffsetBytes/4096, 10), "count="+strconv.FormatInt(region.SizeBytes/4096, 10))
	w.more(ctx, t)
	copies := append(w.copies(ctx, t, storage.SiteB), storage.Copy{Name: "stale", Host: b.Name, Path: loop})
	w.check(ctx, t, copies, "stale")
}

// TestLabUncopiedMirror: when a migration did not copy a private disk, the other
// site's disk has nothing of what was written at home.
func TestLabUncopiedMirror(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	w := write(ctx, t, "mirror")
	uncopied := storage.Copy{Name: "uncopied", Host: w.Site(storage.SiteB).Name, Path: w.disk.Device[storage.SiteB]}
	w.check(ctx, t, append(w.copies(ctx, t, storage.SiteA), uncopied), "uncopied")
}
