package vcenter

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"heliotrope/deploy/vcenter/place"
	"heliotrope/internal/hypervisor/kvm"
	"heliotrope/internal/storage"
)

// usage is what the fake's guests and hosts have used.
type usage struct {
	mu    sync.Mutex
	guest kvm.Usage
	host  kvm.HostUsage
}

func (u *usage) use(guest kvm.Usage, host kvm.HostUsage) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.guest, u.host = guest, host
}

func (u *usage) HostUsage(context.Context, storage.Site) (kvm.HostUsage, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.host, nil
}

func (u *usage) Usage(context.Context, Guest, storage.Site) (kvm.Usage, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.guest, nil
}

func (w *world) quickStats(vm *object.VirtualMachine) types.VirtualMachineQuickStats {
	w.t.Helper()
	var at mo.VirtualMachine
	require.NoError(w.t, vm.Properties(w.t.Context(), vm.Reference(), []string{"summary.quickStats"}, &at))
	return at.Summary.QuickStats
}

// counted asks for counters by their names, and gives their values by them.
func (w *world) counted(of types.ManagedObjectReference, from time.Time, instances map[string]string) (map[string][]int64, []time.Time) {
	w.t.Helper()
	manager := *w.client.ServiceContent.PerfManager
	var all mo.PerformanceManager
	require.NoError(w.t, w.client.RetrieveOne(w.t.Context(), manager, []string{"perfCounter"}, &all))
	spec := types.PerfQuerySpec{Entity: of, IntervalId: 20, StartTime: &from, EndTime: types.NewTime(from.Add(time.Hour))}
	names := map[int32]string{}
	for _, c := range all.PerfCounter {
		name := c.Name()
		if instance, wanted := instances[name]; wanted {
			names[c.Key] = name
			spec.MetricId = append(spec.MetricId, types.PerfMetricId{CounterId: c.Key, Instance: instance})
		}
	}
	require.Len(w.t, names, len(instances))
	res, err := methods.QueryPerf(w.t.Context(), w.client.Client, &types.QueryPerf{This: manager, QuerySpec: []types.PerfQuerySpec{spec}})
	require.NoError(w.t, err)
	require.Len(w.t, res.Returnval, 1)
	answer := res.Returnval[0].(*types.PerfEntityMetric)
	values := map[string][]int64{}
	for _, series := range answer.Value {
		own := series.(*types.PerfMetricIntSeries)
		values[names[own.Id.CounterId]] = own.Value
	}
	var times []time.Time
	for _, sample := range answer.SampleInfo {
		require.EqualValues(w.t, 20, sample.Interval)
		times = append(times, sample.Timestamp)
	}
	return values, times
}

// TestUsage: quick statistics and counters are what the guest and the hosts have
// really used, and nothing is made up where that is not known.
func TestUsage(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	vm := w.clone("host-a", place.ISCSI)
	const disk = "scsi0:1" // behind the template's
	guestMetrics := map[string]string{"virtualDisk.totalReadLatency.average": disk, "virtualDisk.totalWriteLatency.average": disk,
		"virtualDisk.numberReadAveraged.average": disk, "virtualDisk.numberWriteAveraged.average": disk, "cpu.ready.summation": ""}
	volume := w.center.volume(place.ISCSI)
	hostMetrics := map[string]string{"cpu.usage.average": "", "net.bytesRx.average": "", "net.bytesTx.average": "", "net.droppedRx.summation": "",
		"datastore.totalReadLatency.average": volume}
	hostA, hostB := w.center.hosts[storage.SiteA].ref, w.center.hosts[storage.SiteB].ref
	began := time.Now().Truncate(time.Millisecond)
	w.center.sample(ctx, began)
	values, _ := w.counted(vm.Reference(), began.Add(-time.Hour), guestMetrics)
	require.Empty(t, values, "it was never started")

	w.powerOn(vm)
	first := began.Add(20 * time.Second)
	w.fake.use(kvm.Usage{CPU: time.Second, ResidentMiB: 70}, kvm.HostUsage{Busy: time.Second, All: 10 * time.Second})
	w.center.sample(ctx, first)
	require.Zero(t, w.quickStats(vm).OverallCpuUsage, "one look tells nothing of a rate")
	w.fake.use(kvm.Usage{CPU: 6 * time.Second, ResidentMiB: 300, Reads: kvm.DiskUsage{Count: 200, Time: 3 * time.Second}},
		kvm.HostUsage{Busy: 6 * time.Second, All: 30 * time.Second, ReceivedBytes: 40_000_000, ReceivedDropped: 3})
	second := first.Add(20 * time.Second)
	w.center.sample(ctx, second)

	quick := w.quickStats(vm)
	require.Equal(t, w.center.megahertz(storage.SiteA)/4, quick.OverallCpuUsage, "5 of 20 s")
	require.EqualValues(t, 300, quick.HostMemoryUsage)
	require.EqualValues(t, 128, quick.GuestMemoryUsage, "it has no more")
	require.InDelta(t, 40, quick.UptimeSeconds, 5)
	values, times := w.counted(vm.Reference(), began, guestMetrics)
	require.Equal(t, map[string][]int64{"virtualDisk.totalReadLatency.average": {15}, "virtualDisk.totalWriteLatency.average": {0},
		"virtualDisk.numberReadAveraged.average": {10}, "virtualDisk.numberWriteAveraged.average": {0}}, values)
	require.Len(t, times, 1)
	require.True(t, times[0].Equal(second), times[0])
	values, _ = w.counted(hostA, began, hostMetrics)
	require.Equal(t, map[string][]int64{"cpu.usage.average": {2500}, "net.bytesRx.average": {2000}, "net.bytesTx.average": {0},
		"net.droppedRx.summation": {3}, "datastore.totalReadLatency.average": {15}}, values)
	values, _ = w.counted(hostB, began, hostMetrics)
	require.NotContains(t, values, "datastore.totalReadLatency.average", "no guest is there")
	require.Contains(t, values, "cpu.usage.average")
	values, _ = w.counted(hostA, second, hostMetrics)
	require.Empty(t, values, "the first moment is not in it")

	// At the other host it is another QEMU, which has counted from 0.
	task, move := w.underWay(vm, "host-b")
	move.end <- nil
	require.NoError(t, task.Wait(ctx))
	w.center.sample(ctx, second.Add(20*time.Second))
	_, times = w.counted(vm.Reference(), began, guestMetrics)
	require.Len(t, times, 1)

	w.do(vm.PowerOff(ctx))
	quick = w.quickStats(vm)
	require.Equal(t, [4]int32{}, [4]int32{quick.OverallCpuUsage, quick.GuestMemoryUsage, quick.HostMemoryUsage, quick.UptimeSeconds})
	w.do(vm.Destroy(ctx))
	w.center.sample(ctx, second.Add(time.Minute))
	require.Empty(t, w.center.meter.between(vm.Reference(), time.Time{}, second.Add(time.Hour)))
}
