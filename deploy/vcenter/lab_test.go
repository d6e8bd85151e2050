//go:build lab

package vcenter

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/deploy/vcenter/place"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/hypervisor/kvm"
	"heliotrope/internal/hypervisor/vsphere"
	"heliotrope/internal/inventory"
	"heliotrope/internal/remote"
	"heliotrope/internal/storage"
	"heliotrope/internal/testbed"
)

// labBed is the testbed of HELIOTROPE_INVENTORY.
func labBed(t *testing.T) (*testbed.Testbed, *Bed) {
	t.Helper()
	inv, err := inventory.Load(os.Getenv("HELIOTROPE_INVENTORY"))
	require.NoError(t, err)
	tb, err := testbed.Connect(inv)
	require.NoError(t, err)
	t.Cleanup(func() { _ = tb.Close() })
	bed, err := NewBed(tb)
	if inv.Hypervisor != kvm.Name {
		require.ErrorContains(t, err, "those of kvm")
		return tb, nil
	}
	require.NoError(t, err)
	require.NoError(t, tb.Teardown(t.Context()))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
		defer cancel()
		assert.NoError(t, tb.Teardown(ctx))
	})
	return tb, bed
}

// labDiskBytes is the size of the disk under test.
const labDiskBytes = 32 << 20

// labDomain is the guest with its disk in a datastore.
func labDomain(tb *testbed.Testbed, datastore string, copied hypervisor.Copy) hypervisor.Domain {
	return hypervisor.Domain{Name: "lab.vm", MemoryMiB: tb.Inventory.Guest.MemoryMiB, VCPUs: 1,
		Disk: hypervisor.Disk{Datastore: place.Datastore(datastore), SizeBytes: labDiskBytes, Copy: copied}}
}

// startGuest makes the guest on a host, and waits until the guest answers and has its disk.
func startGuest(ctx context.Context, t *testing.T, tb *testbed.Testbed, on *vsphere.Host, domain hypervisor.Domain) {
	t.Helper()
	require.NoError(t, on.Create(ctx, domain))
	require.NoError(t, remote.WaitReady(ctx, tb.Guest(), "test", "-b", tb.GuestDevices().Disk))
}

// inGuest runs a shell script in the guest.
func inGuest(ctx context.Context, t *testing.T, tb *testbed.Testbed, text string) string {
	t.Helper()
	result, err := tb.Guest().Run(ctx, remote.Command{Args: []string{"sh", "-c", text}, Timeout: time.Minute})
	require.NoError(t, err)
	return strings.TrimSpace(string(result.Stdout))
}

var unstun = regexp.MustCompile(`(?m)^(\S+) In\(05\) vcpu-0 - Checkpoint_Unstun: vm stopped for (\d+) us$`)

// TestLabRelocate relocates a real guest with the driver, through the API: with a disk that both
// hosts share, and with one that is copied.
func TestLabRelocate(t *testing.T) {
	tb, bed := labBed(t)
	if bed == nil {
		return
	}
	for name, tt := range map[string]struct {
		a, b string // the sites' datastores
		copy hypervisor.Copy
	}{
		"nfs":   {place.NFS, place.NFS, ""},
		"iscsi": {place.ISCSI, place.ISCSI, ""},
		"local": {place.LocalA, place.LocalB, hypervisor.FullCopy},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			before, err := tb.Snapshot(ctx)
			require.NoError(t, err)
			w := newWorldOf(t, bed)
			a := w.driver("host-a", map[string]string{name: place.Datastore(tt.a)})
			b := w.driver("host-b", map[string]string{name: place.Datastore(tt.b)})
			require.NoError(t, a.Check(ctx))
			domain, atTarget := labDomain(tb, tt.a, tt.copy), labDomain(tb, tt.b, tt.copy)
			startGuest(ctx, t, tb, a, domain)
			written := inGuest(ctx, t, tb, `head -c 1048576 /dev/urandom >/tmp/block && dd if=/tmp/block of=/dev/vda bs=65536 seek=16 conv=fsync 2>/dev/null &&
				sha256sum /tmp/block | cut -d " " -f 1`)
			boot := inGuest(ctx, t, tb, "cat /proc/sys/kernel/random/boot_id")
			require.NoError(t, a.CheckMigration(ctx, atTarget, b))

			var phases []string
			migration, err := a.Migrate(ctx, hypervisor.Order{Domain: domain, AtTarget: atTarget, Target: b,
				Progress: func(p hypervisor.Progress) { phases = append(phases, p.Phase) }})
			require.NoError(t, err)
			assert.Greater(t, len(phases), 2, "the real one's progress: %v", phases)
			states, err := b.List(ctx)
			require.NoError(t, err)
			require.Len(t, states, 1)
			assert.Equal(t, boot, inGuest(ctx, t, tb, "cat /proc/sys/kernel/random/boot_id"), "it is the same guest, and runs")
			real, err := tb.Hypervisor(storage.SiteB).List(ctx)
			require.NoError(t, err)
			require.Len(t, real, 1)
			assert.Equal(t, hypervisor.Running, real[0].Status)
			w.checkStun(ctx, tb, tt.b, migration)

			disk, err := b.OpenDisk(ctx, domain.Name)
			require.NoError(t, err)
			read := make([]byte, 1<<20)
			_, err = disk.ReadAt(read, 1<<20)
			require.NoError(t, err)
			assert.Equal(t, written, fmt.Sprintf("%x", sha256.Sum256(read)))
			_, err = disk.ReadAt(read, labDiskBytes)
			assert.ErrorIs(t, err, io.EOF, "it is as long as it was made")
			require.NoError(t, disk.Close())

			require.NoError(t, b.Destroy(ctx, domain.Name))
			require.NoError(t, a.Teardown(ctx))
			after, err := tb.Snapshot(ctx)
			require.NoError(t, err)
			assert.Empty(t, before.Diff(after), "the hosts are as before")
		})
	}
}

// checkStun looks for the only stop in the machine's log, which must be within the migration by
// the target's clock.
func (w *world) checkStun(ctx context.Context, tb *testbed.Testbed, datastore string, migration hypervisor.Migration) {
	w.t.Helper()
	status, text := w.get(w.client, datastore, "lab.vm/vmware.log")
	require.Equal(w.t, 200, status)
	w.t.Logf("moved in %s\n%s", migration.Duration(), text)
	found := unstun.FindAllSubmatch(text, -1)
	require.Len(w.t, found, 1)
	end, err := time.Parse(time.RFC3339Nano, string(found[0][1]))
	require.NoError(w.t, err)
	us, err := strconv.ParseInt(string(found[0][2]), 10, 64)
	require.NoError(w.t, err)
	offset, err := tb.Clock(ctx, tb.Inventory.Sites.B)
	require.NoError(w.t, err)
	ours := offset.Ours(end)
	assert.WithinRange(w.t, ours, migration.Started.Add(-time.Second), migration.Finished.Add(time.Second))
	assert.Greater(w.t, us, int64(0))
	assert.Less(w.t, time.Duration(us)*time.Microsecond, migration.Duration())
}

// TestLabCancel: cancelling a real migration cancels it.
func TestLabCancel(t *testing.T) {
	tb, bed := labBed(t)
	if bed == nil {
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	w := newWorldOf(t, bed)
	a := w.driver("host-a", map[string]string{"local": place.Datastore(place.LocalA)})
	b := w.driver("host-b", map[string]string{"local": place.Datastore(place.LocalB)})
	domain, atTarget := labDomain(tb, place.LocalA, hypervisor.FullCopy), labDomain(tb, place.LocalB, hypervisor.FullCopy)
	startGuest(ctx, t, tb, a, domain)
	moving, stop := context.WithCancel(ctx)
	_, err := a.Migrate(moving, hypervisor.Order{Domain: domain, AtTarget: atTarget, Target: b, Progress: func(p hypervisor.Progress) {
		if !strings.HasSuffix(p.Phase, " 0 %") {
			stop()
		}
	}})
	stop()
	require.ErrorIs(t, err, context.Canceled)
	states, err := a.List(ctx)
	require.NoError(t, err)
	require.Len(t, states, 1)
	inGuest(ctx, t, tb, "true")
	require.NoError(t, a.Pause(ctx, domain.Name))
	real, err := tb.Hypervisor(storage.SiteA).List(ctx)
	require.NoError(t, err)
	require.Len(t, real, 1)
	assert.Equal(t, hypervisor.Paused, real[0].Status)
	require.NoError(t, a.Unpause(ctx, domain.Name))
	inGuest(ctx, t, tb, "true")
	require.NoError(t, a.Destroy(ctx, domain.Name))
}
