package vsphere

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"heliotrope/internal/hypervisor"
	"heliotrope/internal/hypervisor/vsphere/counters"
	"heliotrope/internal/witness"
)

var counted = hypervisor.Counted{Domain: guest.Name, Storage: "nfs"}

// counting is a performance manager that returns what a test wants.
type counting struct {
	*simulator.PerformanceManager
	asked  []types.PerfQuerySpec
	values func(spec types.PerfQuerySpec, id types.PerfMetricId) []int64
	at     []time.Time
}

func (c *counting) QueryPerf(req *types.QueryPerf) soap.HasFault {
	c.asked = req.QuerySpec
	res := &types.QueryPerfResponse{}
	for _, spec := range req.QuerySpec {
		metric := &types.PerfEntityMetric{PerfEntityMetricBase: types.PerfEntityMetricBase{Entity: spec.Entity}}
		for _, at := range c.at {
			metric.SampleInfo = append(metric.SampleInfo, types.PerfSampleInfo{Timestamp: at, Interval: spec.IntervalId})
		}
		for _, id := range spec.MetricId {
			if values := c.values(spec, id); values != nil {
				metric.Value = append(metric.Value, &types.PerfMetricIntSeries{PerfMetricSeries: types.PerfMetricSeries{Id: id}, Value: values})
			}
		}
		res.Returnval = append(res.Returnval, metric)
	}
	return &methods.QueryPerfBody{Res: res}
}

func newCounting(s *sim) *counting {
	c := &counting{PerformanceManager: s.model.Map().Get(*s.inside().ServiceContent.PerfManager).(*simulator.PerformanceManager)}
	s.model.Map().Put(c)
	return c
}

// TestCounters: vCenter's counters become ours, in the order of their times; those
// without a value are left out, and one call asks for all.
func TestCounters(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	s.create()
	c := newCounting(s)
	from := time.Date(2026, 1, 2, 3, 4, 0, 0, time.UTC)
	c.at = []time.Time{from.Add(40 * time.Second), from.Add(20 * time.Second), from.Add(-time.Second)} // in no order
	c.values = func(spec types.PerfQuerySpec, id types.PerfMetricId) []int64 {
		switch {
		case id.CounterId == 175: // virtualDisk.totalReadLatency.average
			return []int64{7, 5, 3}
		case id.CounterId == 2 && spec.Entity.Type == "HostSystem": // cpu.usage.average
			return []int64{-1, 1234, 99}
		}
		return nil
	}
	asked := time.Now()
	counts, err := s.a.Counters(t.Context(), counted, from, from.Add(time.Minute))
	require.NoError(t, err)
	require.Equal(t, "vc-1", counts.Source)
	require.WithinRange(t, counts.Clock.At, asked, time.Now())
	require.Positive(t, counts.Clock.Uncertainty)
	require.Less(t, counts.Clock.Ahead.Abs(), counts.Clock.Uncertainty, "it is this machine's")
	readings := counts.Readings
	require.Equal(t, []witness.Reading{
		{At: from.Add(20 * time.Second), Device: witness.CPU, Name: "usage_basis_points", Value: 1234},
		{At: from.Add(20 * time.Second), Device: witness.GuestDisk, Name: "read_latency_ms", Value: 5},
		{At: from.Add(20 * time.Second), Device: counters.Interval, Name: "guest_s", Value: 20},
		{At: from.Add(20 * time.Second), Device: counters.Interval, Name: "host_s", Value: 20},
		{At: from.Add(40 * time.Second), Device: witness.GuestDisk, Name: "read_latency_ms", Value: 7},
		{At: from.Add(40 * time.Second), Device: counters.Interval, Name: "guest_s", Value: 20},
	}, readings)
	require.Equal(t, 1, s.count("QueryPerf"))
	require.Len(t, c.asked, 2)
	for _, spec := range c.asked {
		require.EqualValues(t, 20, spec.IntervalId, "the finest interval")
		require.WithinDuration(t, from, *spec.StartTime, time.Second)
	}
	require.Contains(t, c.asked[0].MetricId, types.PerfMetricId{CounterId: 175, Instance: "scsi0:1"})
	volume := s.model.Map().Get(s.ref("Datastore", "LocalDS_0")).(*simulator.Datastore).Summary.Url
	ofDatastore := func() bool {
		return slices.ContainsFunc(c.asked[1].MetricId, func(id types.PerfMetricId) bool {
			return id.CounterId == 182 && bytes.HasSuffix([]byte(volume), []byte("/"+id.Instance))
		})
	}
	require.True(t, ofDatastore(), "datastore.totalReadLatency.average of the datastore")
	require.Contains(t, c.asked[1].MetricId, types.PerfMetricId{CounterId: 462}, "net.bytesRx.average of all interfaces")

	unnamed := counted
	unnamed.Storage = "iscsi"
	_, err = s.a.Counters(t.Context(), unnamed, from, from.Add(time.Minute))
	require.NoError(t, err)
	require.True(t, ofDatastore(), "one that the inventory does not name is that of the guest's disk")

	var file bytes.Buffer
	require.NoError(t, witness.WriteCounters(&file, slices.Values(readings)))
	var again []witness.Reading
	require.NoError(t, witness.ReadCounters(&file, func(r witness.Reading) error { again = append(again, r); return nil }))
	require.Equal(t, readings, again, "they are readings as any other")
}

// TestCountersAfterAMove: a vCenter that keeps what a machine has used on the former
// host reports it for the host that the machine is on now. It is left out there, so
// that each value counts once; the host's own values of that time stay.
func TestCountersAfterAMove(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	s.create()
	c := newCounting(s)
	from := time.Now().Add(-time.Minute).UTC().Truncate(time.Second)
	c.values = func(_ types.PerfQuerySpec, id types.PerfMetricId) []int64 {
		if id.CounterId == 175 || id.CounterId == 2 { // virtualDisk.totalReadLatency.average, cpu.usage.average
			return []int64{5, 7}
		}
		return nil
	}
	c.at = []time.Time{from.Add(20 * time.Second), from.Add(40 * time.Second)}
	// of returns the times of a device's values.
	of := func(readings []witness.Reading, device string) (times []time.Time) {
		for _, r := range readings {
			if r.Device == device && r.Name != "host_s" {
				times = append(times, r.At)
			}
		}
		return times
	}
	before, err := s.a.Counters(t.Context(), counted, from, time.Now())
	require.NoError(t, err)
	require.Equal(t, c.at, of(before.Readings, witness.GuestDisk))

	_, err = s.a.Migrate(t.Context(), s.order())
	require.NoError(t, err)
	late := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	c.at[1] = late
	after, err := s.b.Counters(t.Context(), counted, from, late.Add(time.Minute))
	require.NoError(t, err)
	require.Equal(t, []time.Time{late}, of(after.Readings, witness.GuestDisk))
	require.Equal(t, []time.Time{late}, of(after.Readings, counters.Interval))
	require.Equal(t, c.at, of(after.Readings, witness.CPU), "the host was there")

	// All of the requested time is before the move: nothing is asked about the guest.
	after, err = s.b.Counters(t.Context(), counted, from, from.Add(30*time.Second))
	require.NoError(t, err)
	require.Len(t, c.asked, 1)
	require.Empty(t, of(after.Readings, witness.GuestDisk))
	require.NotEmpty(t, of(after.Readings, witness.CPU))
}

// TestCountersOfTheSimulator: vCenter knows all of our metrics, and its own numbers
// are read. The simulator's series lack their zeros: such series are left out.
func TestCountersOfTheSimulator(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	s.create()
	to := time.Now()
	counts, err := s.a.Counters(t.Context(), counted, to.Add(-5*time.Minute), to)
	require.NoError(t, err)
	readings := counts.Readings
	require.NotEmpty(t, readings)
	require.True(t, slices.IsSortedFunc(readings, func(a, b witness.Reading) int { return a.At.Compare(b.At) }))
	for _, r := range readings {
		require.GreaterOrEqual(t, r.Value, int64(0))
	}
	require.NoError(t, s.a.with(t.Context(), "test", func(at *site) error {
		keys, err := at.metricKeys(t.Context())
		for _, metric := range counters.Metrics {
			require.Contains(t, keys, metric.Name)
			require.Equal(t, metric.In, keys[metric.Name].unit, metric.Name)
		}
		return err
	}))

	// The other host has no machine, and returns only its own counters.
	counts, err = s.b.Counters(t.Context(), counted, to.Add(-5*time.Minute), to)
	require.NoError(t, err)
	require.NotEmpty(t, counts.Readings)
	require.False(t, slices.ContainsFunc(counts.Readings, func(r witness.Reading) bool { return r.Device == witness.GuestDisk }))

	wrong := counted
	wrong.Domain = "other.guest"
	_, err = s.a.Counters(t.Context(), wrong, to, to)
	require.ErrorContains(t, err, `its name does not start with the testbed's`)
}

// TestCountersUnit: a counter in another unit than ours is refused, rather than read
// in ours.
func TestCountersUnit(t *testing.T) {
	s := newSim(t)
	s.create()
	manager := s.model.Map().Get(*s.inside().ServiceContent.PerfManager).(*simulator.PerformanceManager)
	manager.PerfCounter = slices.Clone(manager.PerfCounter)
	i := slices.IndexFunc(manager.PerfCounter, func(c types.PerfCounterInfo) bool { return c.Key == 182 })
	manager.PerfCounter[i].UnitInfo = &types.ElementDescription{Key: "microsecond"}
	require.ErrorContains(t, s.a.Check(t.Context()), "host-a: look at it: vCenter counts datastore.totalReadLatency.average in the unit")
	_, err := s.a.Counters(t.Context(), counted, time.Now().Add(-time.Minute), time.Now())
	require.ErrorContains(t, err, `vCenter counts datastore.totalReadLatency.average in the unit "microsecond", and "millisecond" is what is known of it`)
}
