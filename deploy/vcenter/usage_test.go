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

// sampleAt makes the vCenter take a sample at a time.
func (w *world) sampleAt(at time.Time) {
	w.t.Helper()
	w.center.sample(w.t.Context(), func() time.Time { return at })
}

// counted asks for counters by their names, and returns their values by name, and the intervals
// that they are for.
func (w *world) counted(of types.ManagedObjectReference, from time.Time, instances map[string]string) (map[string][]int64, []types.PerfSampleInfo) {
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
	return values, answer.SampleInfo
}

// TestUsage: quick statistics and counters are what the guest and the hosts really used, and
// nothing is invented when that is not known.
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
	w.sampleAt(began)
	values, _ := w.counted(vm.Reference(), began.Add(-time.Hour), guestMetrics)
	require.Empty(t, values, "it was never started")

	w.powerOn(vm)
	first := began.Add(20 * time.Second)
	w.fake.use(kvm.Usage{CPU: time.Second, ResidentMiB: 70}, kvm.HostUsage{Busy: time.Second, All: 10 * time.Second})
	w.sampleAt(first)
	require.Zero(t, w.quickStats(vm).OverallCpuUsage, "one look tells nothing of a rate")
	w.fake.use(kvm.Usage{CPU: 6 * time.Second, ResidentMiB: 300, Reads: kvm.DiskUsage{Count: 200, Time: 3 * time.Second}},
		kvm.HostUsage{Busy: 6 * time.Second, All: 30 * time.Second, ReceivedBytes: 40_000_000, ReceivedDropped: 3})
	second := first.Add(20 * time.Second)
	w.sampleAt(second)

	quick := w.quickStats(vm)
	require.Equal(t, w.center.megahertz(storage.SiteA)/4, quick.OverallCpuUsage, "5 of 20 s")
	require.EqualValues(t, 300, quick.HostMemoryUsage)
	require.EqualValues(t, 128, quick.GuestMemoryUsage, "it has no more")
	require.InDelta(t, 40, quick.UptimeSeconds, 5)
	values, times := w.counted(vm.Reference(), began, guestMetrics)
	require.Equal(t, map[string][]int64{"virtualDisk.totalReadLatency.average": {15}, "virtualDisk.totalWriteLatency.average": {0},
		"virtualDisk.numberReadAveraged.average": {10}, "virtualDisk.numberWriteAveraged.average": {0}}, values)
	require.Len(t, times, 1)
	require.True(t, times[0].Timestamp.Equal(second), times[0])
	require.EqualValues(t, 20, times[0].Interval)
	values, _ = w.counted(hostA, began, hostMetrics)
	require.Equal(t, map[string][]int64{"cpu.usage.average": {2500}, "net.bytesRx.average": {2000}, "net.bytesTx.average": {0},
		"net.droppedRx.summation": {3}, "datastore.totalReadLatency.average": {15}}, values)
	values, _ = w.counted(hostB, began, hostMetrics)
	require.NotContains(t, values, "datastore.totalReadLatency.average", "no guest is there")
	require.Contains(t, values, "cpu.usage.average")
	values, _ = w.counted(hostA, second, hostMetrics)
	require.Empty(t, values, "the first moment is not in it")

	w.do(vm.PowerOff(ctx))
	quick = w.quickStats(vm)
	require.Equal(t, [4]int32{}, [4]int32{quick.OverallCpuUsage, quick.GuestMemoryUsage, quick.HostMemoryUsage, quick.UptimeSeconds})
	w.do(vm.Destroy(ctx))
	w.sampleAt(second.Add(time.Minute))
	require.Empty(t, w.center.meter.between(vm.Reference(), time.Time{}, second.Add(time.Hour)))
}

// TestUsageMoves: on the other host the guest is another QEMU process that counts from 0, and
// what it used before is not attributed to that host.
func TestUsageMoves(t *testing.T) {
	w := newWorld(t)
	vm := w.clone("host-a", place.NFS)
	metrics := map[string]string{"virtualDisk.numberReadAveraged.average": "scsi0:1"}
	w.powerOn(vm)
	began := time.Now().Truncate(time.Second)
	reads := int64(0)
	look := func(at time.Time) []int64 {
		w.t.Helper()
		reads += 400
		w.fake.use(kvm.Usage{CPU: time.Second, Reads: kvm.DiskUsage{Count: reads}}, kvm.HostUsage{})
		w.sampleAt(at)
		values, _ := w.counted(vm.Reference(), began, metrics)
		return values["virtualDisk.numberReadAveraged.average"]
	}
	require.Empty(t, look(began))
	require.Equal(t, []int64{20}, look(began.Add(20*time.Second)))
	w.do(w.relocate(vm, w.location("host-b", "")))
	values, _ := w.counted(vm.Reference(), began, metrics)
	require.Empty(t, values, "that was at the other host")
	require.Empty(t, look(began.Add(40*time.Second)), "one look tells nothing of a rate")
	require.Equal(t, []int64{10}, look(began.Add(80*time.Second)))
}

// TestSampleLength: if a pass takes longer, or a host does not answer, the samples cover a longer
// interval, and say so.
func TestSampleLength(t *testing.T) {
	w := newWorld(t)
	vm := w.clone("host-a", place.NFS)
	w.powerOn(vm)
	host := w.center.hosts[storage.SiteA].ref
	began := time.Now().Truncate(time.Second)
	for i, after := range []time.Duration{0, 20 * time.Second, 61 * time.Second, 61*time.Second + 300*time.Millisecond, 80 * time.Second} {
		used := int64(i) * 1000
		w.fake.use(kvm.Usage{CPU: time.Duration(i), Reads: kvm.DiskUsage{Count: used}},
			kvm.HostUsage{All: time.Duration(i + 1), ReceivedBytes: 1000 * used})
		w.sampleAt(began.Add(after))
	}
	for _, of := range []struct {
		entity types.ManagedObjectReference
		metric map[string]string
		name   string
	}{
		{vm.Reference(), map[string]string{"virtualDisk.numberReadAveraged.average": "scsi0:1"}, "virtualDisk.numberReadAveraged.average"},
		{host, map[string]string{"net.bytesRx.average": ""}, "net.bytesRx.average"},
	} {
		values, samples := w.counted(of.entity, began, of.metric)
		var lengths []int32
		for _, sample := range samples {
			lengths = append(lengths, sample.Interval)
		}
		require.Equal(t, []int32{20, 41, 19}, lengths, "seconds; nothing is told of 0.3 s")
		require.Equal(t, []int64{50, 24, 53}, values[of.name], "a second")
	}
}
