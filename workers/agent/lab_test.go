//go:build lab

package agent_test

import (
	"context"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"heliotrope/internal/guest"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/inventory"
	"heliotrope/internal/link"
	"heliotrope/internal/remote"
	"heliotrope/internal/storage"
	"heliotrope/internal/testbed"
)

// openLab connects to the testbed in HELIOTROPE_INVENTORY, and removes what is ours now and
// at the end.
func openLab(ctx context.Context, t *testing.T) *testbed.Testbed {
	t.Helper()
	path := os.Getenv("HELIOTROPE_INVENTORY")
	if path == "" {
		t.Fatal("HELIOTROPE_INVENTORY names no testbed: run `make test-lab`, or set it to an inventory")
	}
	inv, err := inventory.Load(path)
	must(t, err)
	tb, err := testbed.Connect(inv)
	must(t, err)
	t.Cleanup(func() {
		if err := tb.Teardown(context.Background()); err != nil {
			t.Errorf("final teardown: %v", err)
		}
		_ = tb.Close()
	})
	must(t, tb.Teardown(ctx))
	return tb
}

// TestSurvivesMigration: an activity in the measured guest goes on, and its heartbeats
// arrive, while the guest is migrated there and back and after the controller's SSH
// connections were cut. It is not started again.
func TestSurvivesMigration(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	binary, address := build(t, "./testdata/pulse"), startServer(t)
	tb := openLab(ctx, t)
	system, err := tb.Storage("iscsi", nil)
	must(t, err)
	disk, err := system.Provision(ctx, storage.Spec{Name: "disk", SizeBytes: 64 << 20}, storage.SiteA)
	must(t, err)
	measured := testbed.Guest{Disk: disk}
	_, err = tb.StartGuest(ctx, storage.SiteA, measured)
	must(t, err)
	started := time.Now()
	must(t, link.InstallWorker(ctx, tb.Guest(), binary, guest.ProgramDir, nil))
	t.Logf("installed after %s", time.Since(started).Round(100*time.Millisecond))

	through := &cutter{Dialer: tb.Host(tb.Inventory.StoreName)}
	stopLink := holdLink(t, guestThrough(t, tb.Inventory, through), link.Options{Dir: "/run/heliotrope/worker", Binary: link.BinaryPath(guest.ProgramDir),
		Queue: "guest", Role: "guest", Name: "guest"}, gatesTo(t, address), func() {})
	started = time.Now()
	heard := startPulse(ctx, t, address, "guest")
	heard.mustAdvance(ctx, t, 1)
	t.Logf("first heartbeat after %s", time.Since(started).Round(100*time.Millisecond))

	for _, from := range []storage.Site{storage.SiteA, storage.SiteB} {
		to := from.Other()
		must(t, system.PrepareMigration(ctx, disk, from, to))
		migration, err := tb.Hypervisor(from).Migrate(ctx, hypervisor.Order{
			Domain: tb.GuestAt(from, measured), AtTarget: tb.GuestAt(to, measured), Target: tb.Hypervisor(to)})
		must(t, err)
		must(t, system.FinishMigration(ctx, disk, to))
		heard.mustAdvance(ctx, t, 3)
		t.Logf("migrated from %s in %s, %d MiB; %d beats", from, migration.Duration().Round(100*time.Millisecond), migration.StreamBytes>>20, heard.last)
	}
	through.cut()
	started = time.Now()
	heard.mustAdvance(ctx, t, 5)
	t.Logf("%d beats, %s after the cut", heard.last, time.Since(started).Round(100*time.Millisecond))
	t.Log(memory(ctx, t, tb))

	heard.mustCancel(ctx, t)
	must(t, stopLink())
	left, err := tb.Guest().Run(ctx, remote.Command{Args: []string{"sh", "-c", "pidof heliotrope-worker || :"}})
	must(t, err)
	if len(left.Stdout) > 0 {
		t.Errorf("the worker still runs as %s", left.Stdout)
	}
}

// cutter dials through a host and can cut what it has dialled.
type cutter struct {
	remote.Dialer
	conns []net.Conn
}

func (c *cutter) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := c.Dialer.DialContext(ctx, network, address)
	if err == nil {
		c.conns = append(c.conns, conn)
	}
	return conn, err
}

func (c *cutter) cut() {
	for _, conn := range c.conns {
		_ = conn.Close()
	}
}

// guestThrough reaches the guest through a dialer.
func guestThrough(t *testing.T, inv *inventory.Inventory, via remote.Dialer) *remote.SSHHost {
	t.Helper()
	key, err := remote.LoadKey(inv.Guest.SSH.KeyFile, "")
	must(t, err)
	host, err := remote.SSH(remote.SSHConfig{Name: "guest", Address: netip.AddrPortFrom(inv.Guest.Address.Addr(), 22).String(),
		User: inv.Guest.SSH.User, Key: key, HostKeys: inv.Guest.SSH.HostKeys, Via: via})
	must(t, err)
	t.Cleanup(func() { _ = host.Close() })
	return host
}

// memory reports the memory that the worker uses in the guest, and what is left.
func memory(ctx context.Context, t *testing.T, tb *testbed.Testbed) string {
	t.Helper()
	result, err := tb.Guest().Run(ctx, remote.Command{Args: []string{"sh", "-c",
		`grep -hE '^(Vm(RSS|HWM)|Rss|Threads)' /proc/"$(pidof heliotrope-worker)"/status; grep -E '^(Mem|Shmem:|AnonPages)' /proc/meminfo`}})
	must(t, err)
	return "in the guest:\n" + string(result.Stdout)
}
