//go:build lab

package vcenter

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/deploy/vcenter/place"
	"heliotrope/internal/hypervisor"
	vsphere "heliotrope/internal/hypervisor/vsphere/counters"
	"heliotrope/internal/poll"
	"heliotrope/internal/witness"
)

// TestLabUsage: what a real guest and its host have used is available through the API, as
// counters that the driver reads and as quick statistics.
func TestLabUsage(t *testing.T) {
	tb, bed := labBed(t)
	if bed == nil {
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	w := newWorldOf(t, bed)
	a := w.driver("host-a", map[string]string{"nfs": place.Datastore(place.NFS)})
	domain := labDomain(tb, place.NFS, "")
	startGuest(ctx, t, tb, a, domain)
	began := time.Now()
	w.center.sample(ctx, time.Now)
	var counts hypervisor.Counts
	// A sample covers at least one second.
	require.NoError(t, poll.Until(ctx, 0, func(ctx context.Context) (enough bool, err error) {
		inGuest(ctx, t, tb, `for i in 1 2 3 4 5 6 7 8; do dd if=/dev/zero of=/dev/vda bs=4096 count=8 oflag=direct 2>/dev/null; done`)
		w.center.sample(ctx, time.Now)
		counts, err = a.Counters(ctx, hypervisor.Counted{Domain: domain.Name, Storage: "nfs"}, began.Add(-time.Second), time.Now())
		return len(counts.Readings) > 0, err
	}))
	t.Logf("%+v", counts)
	value := func(device, name string) int64 {
		i := slices.IndexFunc(counts.Readings, func(r witness.Reading) bool { return r.Device == device && r.Name == name })
		require.GreaterOrEqual(t, i, 0, "%s %s", device, name)
		return counts.Readings[i].Value
	}
	assert.Positive(t, value(witness.GuestDisk, "write_rate"))
	assert.Positive(t, value(vsphere.Datastore, "write_rate"))
	assert.Positive(t, value(witness.CPU, "usage_basis_points"))
	assert.LessOrEqual(t, value(witness.CPU, "usage_basis_points"), int64(10000))
	value(witness.GuestDisk, "write_latency_ms")
	value(vsphere.HostNet, "tx_rate")
	assert.Positive(t, value(vsphere.Interval, "guest_s"))
	assert.LessOrEqual(t, value(vsphere.Interval, "guest_s"), int64(time.Since(began).Seconds()+1))

	vm, err := w.finder.VirtualMachine(ctx, place.Folder+"/"+domain.Name)
	require.NoError(t, err)
	quick := w.quickStats(vm)
	t.Logf("%+v", quick)
	assert.Positive(t, quick.OverallCpuUsage)
	assert.Positive(t, quick.GuestMemoryUsage)
	assert.LessOrEqual(t, quick.GuestMemoryUsage, int32(tb.Inventory.Guest.MemoryMiB))
	assert.Positive(t, quick.UptimeSeconds)
	require.NoError(t, a.Destroy(ctx, domain.Name))
}
