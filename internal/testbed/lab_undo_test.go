//go:build lab

package testbed_test

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"heliotrope/internal/inventory"
	"heliotrope/internal/poll"
	"heliotrope/internal/remote"
	"heliotrope/internal/storage"
	"heliotrope/internal/testbed"
)

const (
	undoOwner = "TestLabHostsUndo"
	// undoLease outlasts one renewal on busy emulated hosts.
	undoLease = 45 * time.Second
	helper    = "/sys/module/drbd/parameters/usermode_helper"
	noHelper  = "/bin/true"
	theirs    = "/usr/local/sbin/theirs"
)

// undone is a testbed whose hosts by themselves undo what would disturb others.
type undone struct {
	*testbed.Testbed
	hosts map[storage.Site]remote.Host
}

func connectUndone(t *testing.T) undone {
	t.Helper()
	inv, err := inventory.Load(os.Getenv("HELIOTROPE_INVENTORY"))
	must(t, err)
	tb, err := testbed.Connect(inv)
	must(t, err)
	t.Cleanup(func() { _ = tb.Close() })
	return undone{tb, map[storage.Site]remote.Host{storage.SiteA: tb.Host(inv.Sites.A), storage.SiteB: tb.Host(inv.Sites.B)}}
}

// at runs a text for sh(1) at a site; $1 is the testbed's label.
func (u undone) at(ctx context.Context, t *testing.T, site storage.Site, text string) string {
	t.Helper()
	result, err := u.hosts[site].Run(ctx, remote.Command{Args: []string{"/bin/sh", "-c", text, "sh", u.Name()}})
	must(t, err)
	return strings.TrimSpace(string(result.Stdout))
}

// has lists what a site has that would disturb others: the number of our interface records,
// and DRBD's helper program.
func (u undone) has(ctx context.Context, t *testing.T, site storage.Site) string {
	t.Helper()
	return u.at(ctx, t, site, `ls -d /etc/iscsi/ifaces/heliotrope."$1" /var/lib/iscsi/ifaces/heliotrope."$1" 2> /dev/null | wc -l; cat `+helper)
}

// TestLabHostsUndo: when the lease runs out nobody is connected, and the hosts themselves
// remove our initiator's name and restore DRBD's helper program, unless somebody else has set
// it meanwhile. Everything else can still be torn down as usual.
func TestLabHostsUndo(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	u := connectUndone(t)
	must(t, u.Teardown(ctx))
	former := map[storage.Site]string{}
	for _, site := range []storage.Site{storage.SiteA, storage.SiteB} {
		former[site] = u.at(ctx, t, site, "/sbin/modprobe drbd && cat "+helper)
	}
	before, err := u.Snapshot(ctx)
	must(t, err)
	must(t, u.Leases().Take(ctx, undoOwner, undoLease))
	renewing := u.renewing(ctx)
	u.provideTwo(ctx, t)
	for site := range u.hosts {
		if got, want := u.has(ctx, t, site), "1\n"+noHelper; got != want {
			t.Errorf("while the lease lasts, site %s has %q, want %q", site, got, want)
		}
	}
	listed, err := u.Ours(ctx)
	must(t, err)
	if want := "file /run/heliotrope/borrowed-" + u.Name() + ".drbd/:sys:module:drbd:parameters:usermode_helper"; !slices.Contains(listed[u.Site(storage.SiteA).Name], want) {
		t.Errorf("a sweep would not list %q: %q", want, listed)
	}
	u.at(ctx, t, storage.SiteB, "printf %s "+theirs+" > "+helper)
	renewing()
	must(t, u.Leases().Renew(ctx, undoOwner, undoLease))
	renewed := time.Now()
	must(t, u.Close())

	// Nobody is connected now. That is what the test is about, so nothing can be polled.
	<-time.After(time.Until(renewed.Add(undoLease + 5*time.Second)))
	again := connectUndone(t)
	must(t, poll.Until(ctx, time.Second, func(ctx context.Context) (bool, error) {
		return again.at(ctx, t, storage.SiteA, "ls -d /run/heliotrope/owner 2> /dev/null; true")+
			again.at(ctx, t, storage.SiteB, "ls -d /run/heliotrope/owner 2> /dev/null; true") == "", nil
	}))
	now := map[storage.Site]string{storage.SiteA: former[storage.SiteA], storage.SiteB: theirs}
	again.wantAll(ctx, t, "after the lease", now)
	t.Logf("site A's kernel says:\n%s", again.at(ctx, t, storage.SiteA, "dmesg | grep heliotrope | tail -n 3"))
	for range 2 {
		must(t, again.Teardown(ctx))
	}
	again.wantAll(ctx, t, "after the teardown", now)
	again.at(ctx, t, storage.SiteB, "printf %s "+former[storage.SiteB]+" > "+helper)
	after, err := again.Snapshot(ctx)
	must(t, err)
	if changes := before.Diff(after); len(changes) > 0 {
		t.Errorf("the hosts are not as before:\n%s", strings.Join(changes, "\n"))
	}
}

// renewing renews the leases until the returned function is called.
func (u undone) renewing(ctx context.Context) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		// When a lease is lost, the last renewal reports it.
		_ = poll.Until(ctx, 5*time.Second, func(ctx context.Context) (bool, error) {
			return false, u.Leases().Renew(ctx, undoOwner, undoLease)
		})
	}()
	return func() {
		cancel()
		<-done
	}
}

// provideTwo makes a disk with each of the two storage systems that change settings of the
// host.
func (u undone) provideTwo(ctx context.Context, t *testing.T) {
	t.Helper()
	for kind, disk := range map[string]string{"iscsi": "undo-i", "drbd": "undo-d"} {
		system, err := u.Storage(kind, nil)
		must(t, err)
		_, err = system.Provision(ctx, storage.Spec{Name: disk, SizeBytes: 16 << 20}, storage.SiteA)
		must(t, err)
	}
}

// wantAll requires that neither site has an interface record of ours, that DRBD has the given
// programs, and that nothing is still borrowed.
func (u undone) wantAll(ctx context.Context, t *testing.T, when string, programs map[storage.Site]string) {
	t.Helper()
	for site, program := range programs {
		if got, want := u.has(ctx, t, site), "0\n"+program; got != want {
			t.Errorf("%s, site %s has %q, want %q", when, site, got, want)
		}
		if left := u.at(ctx, t, site, `ls -d /run/heliotrope/borrowed-* 2> /dev/null; true`); left != "" {
			t.Errorf("%s, site %s is still to give back %s", when, site, left)
		}
	}
}
