package vsphere

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"heliotrope/internal/hypervisor"
	"heliotrope/internal/hypervisor/vsphere/counters"
	"heliotrope/internal/witness"
)

var _ hypervisor.Meter = (*Host)(nil)

// Counters reads what vCenter has counted of the host and, if it is on this host, of
// the guest, at vCenter's finest interval: samples after from and until to. Each sample
// is of the interval that ends at its time, as a rule 20 s, so there is no sample of
// the last moments.
//
// Samples of the guest from before it came to this host, according to vCenter's events,
// are left out: they were counted on the other host, and a vCenter that keeps them
// would return them for both. A guest without such an event is assumed to have been
// here all the time.
//
// The times are vCenter's, and are assumed to be on its own clock. A host keeps samples
// for an hour, and may lose those of a machine when the machine leaves: call Counters
// before.
func (h *Host) Counters(ctx context.Context, of hypervisor.Counted, from, to time.Time) (counts hypervisor.Counts, err error) {
	if err := h.checkName(of.Domain); err != nil {
		return counts, err
	}
	err = h.with(ctx, "read vCenter's counters", func(s *site) error {
		counts.Source = h.vcenter.at.Name
		if counts.Clock, err = s.centerClock(ctx); err != nil {
			return err
		}
		counts.Readings, err = h.counters(ctx, s, of, from.Add(counts.Clock.Ahead), to.Add(counts.Clock.Ahead))
		return err
	})
	return counts, err
}

func (h *Host) counters(ctx context.Context, s *site, of hypervisor.Counted, from, to time.Time) ([]witness.Reading, error) {
	keys, err := s.metricKeys(ctx)
	if err != nil {
		return nil, err
	}
	guest, err := h.ours(ctx, s, of.Domain)
	there := err == nil
	if !there && !errors.Is(err, hypervisor.ErrNotFound) {
		return nil, err
	}
	q := newQuery()
	if there && guest.host == s.host {
		if err := q.addGuest(ctx, s, guest, keys, from, to); err != nil {
			return nil, err
		}
	}
	instances := map[string]string{witness.CPU: ofAll, counters.HostNet: ofAll}
	var store types.ManagedObjectReference
	if path := h.machine.VCenter.Datastores[of.Storage]; path != "" {
		if store, err = s.datastore(ctx, path); err != nil {
			return nil, err
		}
	} else if there { // in a datastore that both hosts have and that the inventory does not name
		disk, err := s.diskOf(ctx, guest)
		if err != nil {
			return nil, err
		}
		store = disk.datastore
	}
	if store.Value != "" {
		if instances[counters.Datastore], err = s.volumeOf(ctx, store); err != nil {
			return nil, err
		}
	}
	if err := q.add(ctx, s, counters.Host, s.host, keys, instances); err != nil {
		return nil, err
	}
	return q.read(ctx, s, from, to)
}

// addGuest asks for the guest's metrics from when the guest came to this host, unless
// that was after the end of the requested time.
func (q *query) addGuest(ctx context.Context, s *site, guest machine, keys map[string]known, from, to time.Time) error {
	since, err := s.arrival(ctx, guest, from)
	if err != nil || !since.Before(to) {
		return err
	}
	devices, err := s.devices(ctx, guest.ref)
	if err != nil {
		return err
	}
	disk, err := DiskInstance(devices)
	if err != nil {
		return err
	}
	q.since[guest.ref] = since
	return q.add(ctx, s, counters.Machine, guest.ref, keys, map[string]string{witness.GuestDisk: disk})
}

// arrival is when a machine came to this host, or from when it came earlier; both on
// vCenter's clock.
func (s *site) arrival(ctx context.Context, m machine, from time.Time) (time.Time, error) {
	events, err := s.events(ctx, m, types.EventFilterSpecByTime{BeginTime: &from})
	if err != nil {
		return from, fmt.Errorf("ask when %s came to the host: %w", m.name, err)
	}
	for _, one := range events {
		var left types.ManagedObjectReference
		switch event := one.(type) {
		case types.BaseVmMigratedEvent:
			left = event.GetVmMigratedEvent().SourceHost.Host
		case *types.VmRelocatedEvent: // also moves the disk
			left = event.SourceHost.Host
		default:
			continue
		}
		if at := one.GetEvent().CreatedTime; left != s.host && at.After(from) {
			from = at
		}
	}
	return from, nil
}

// DiskInstance is the name of a machine's last disk in counters: its bus and its place
// there, "scsi0:1".
func DiskInstance(devices object.VirtualDeviceList) (string, error) {
	disk := LastDisk(devices)
	if disk == nil {
		return "", errors.New("it has no disk")
	}
	bus := ""
	switch controller := devices.FindByKey(disk.ControllerKey).(type) {
	case types.BaseVirtualSCSIController:
		bus = fmt.Sprint("scsi", controller.GetVirtualSCSIController().BusNumber)
	case types.BaseVirtualSATAController:
		bus = fmt.Sprint("sata", controller.GetVirtualSATAController().BusNumber)
	case *types.VirtualNVMEController:
		bus = fmt.Sprint("nvme", controller.BusNumber)
	case *types.VirtualIDEController:
		bus = fmt.Sprint("ide", controller.BusNumber)
	default:
		return "", fmt.Errorf("its disk is on a %T, of which counters have no name", controller)
	}
	return fmt.Sprintf("%s:%d", bus, *disk.UnitNumber), nil
}

// checkCounters checks whether vCenter counts for the host what we expect.
func (h *Host) checkCounters(ctx context.Context, s *site) ([]error, error) {
	keys, err := s.metricKeys(ctx)
	if err != nil {
		return nil, err
	}
	q := newQuery()
	return nil, q.add(ctx, s, counters.Host, s.host, keys, map[string]string{witness.CPU: ofAll, counters.HostNet: ofAll, counters.Datastore: ofAll})
}

// query is a query to the performance manager, in one call.
type query struct {
	specs   []types.PerfQuerySpec
	metrics map[types.PerfMetricId]counters.Metric // what is asked for
	// since is from when an entity's samples are wanted. For an entity that is not in
	// it, they are wanted from the beginning.
	since map[types.ManagedObjectReference]time.Time
}

func newQuery() query {
	return query{metrics: map[types.PerfMetricId]counters.Metric{}, since: map[types.ManagedObjectReference]time.Time{}}
}

// from is the time from which an entity's samples are wanted.
func (q *query) from(of types.ManagedObjectReference, beginning time.Time) time.Time {
	if since, known := q.since[of]; known {
		return since
	}
	return beginning
}

// ofAll is the instance of a counter that sums up all devices of its kind.
const ofAll = ""

// add adds an entity's metrics, for the devices whose instance is in instances.
func (q *query) add(ctx context.Context, s *site, kind counters.Entity, entity types.ManagedObjectReference,
	keys map[string]known, instances map[string]string) error {
	provider, err := methods.QueryPerfProviderSummary(ctx, s.client, &types.QueryPerfProviderSummary{This: *s.client.ServiceContent.PerfManager, Entity: entity})
	if err != nil {
		return fmt.Errorf("ask how often %s is counted: %w", entity.Value, err)
	}
	interval := provider.Returnval.RefreshRate
	if !provider.Returnval.CurrentSupported || interval <= 0 {
		return fmt.Errorf("vCenter counts nothing of %s in real time", entity.Value)
	}
	spec := types.PerfQuerySpec{Entity: entity, IntervalId: interval, Format: string(types.PerfFormatNormal)}
	for _, metric := range counters.Metrics {
		their, is := keys[metric.Name]
		instance, wanted := instances[metric.Device]
		if metric.Of != kind || !is || !wanted {
			continue
		}
		if their.unit != metric.In {
			return fmt.Errorf("vCenter counts %s in the unit %q, and %q is what is known of it", metric.Name, their.unit, metric.In)
		}
		id := types.PerfMetricId{CounterId: their.key, Instance: instance}
		spec.MetricId = append(spec.MetricId, id)
		q.metrics[id] = metric
	}
	if len(spec.MetricId) > 0 {
		q.specs = append(q.specs, spec)
	}
	return nil
}

// read makes the query, and returns the answer as readings.
func (q *query) read(ctx context.Context, s *site, from, to time.Time) ([]witness.Reading, error) {
	if len(q.specs) == 0 {
		return nil, errors.New("vCenter knows none of the counters that are wanted")
	}
	for i := range q.specs {
		spec := &q.specs[i]
		spec.StartTime, spec.EndTime = types.NewTime(q.from(spec.Entity, from)), &to
	}
	res, err := methods.QueryPerf(ctx, s.client, &types.QueryPerf{This: *s.client.ServiceContent.PerfManager, QuerySpec: q.specs})
	if err != nil {
		return nil, err
	}
	var readings []witness.Reading
	for _, answer := range res.Returnval {
		entity, is := answer.(*types.PerfEntityMetric)
		if !is {
			return nil, fmt.Errorf("vCenter answers with %T", answer)
		}
		from := q.from(entity.Entity, from)
		told := map[time.Time]int32{} // the intervals, in seconds
		for _, series := range entity.Value {
			values, is := series.(*types.PerfMetricIntSeries)
			if !is || len(values.Value) != len(entity.SampleInfo) {
				continue // its values cannot be assigned to times
			}
			metric, asked := q.metrics[values.Id]
			if !asked {
				continue
			}
			for i, sample := range entity.SampleInfo {
				at := sample.Timestamp.UTC()
				if value := values.Value[i]; value >= 0 && at.After(from) && !at.After(to) { // -1 means that there is no value
					readings = append(readings, witness.Reading{At: at, Device: metric.Device, Name: metric.Counter.Name, Value: value})
					told[at] = sample.Interval
				}
			}
		}
		interval := counters.Intervals[counters.Entity(entity.Entity.Type)]
		for at, seconds := range told {
			readings = append(readings, witness.Reading{At: at, Device: interval.Device, Name: interval.Name, Value: int64(seconds)})
		}
	}
	slices.SortStableFunc(readings, func(a, b witness.Reading) int {
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Device, b.Device), cmp.Compare(a.Name, b.Name))
	})
	return readings, nil
}

// known is a counter that a vCenter has.
type known struct {
	key  int32
	unit string
}

// metricKeys are vCenter's numbers of its counters, by "group.name.rollup". They differ
// between vCenters.
func (s *site) metricKeys(ctx context.Context) (map[string]known, error) {
	if s.client.ServiceContent.PerfManager == nil {
		return nil, errors.New("the vCenter has no performance manager")
	}
	var manager mo.PerformanceManager
	if err := read(ctx, s.client, *s.client.ServiceContent.PerfManager, &manager, "perfCounter"); err != nil {
		return nil, fmt.Errorf("list vCenter's counters: %w", err)
	}
	keys := map[string]known{}
	for _, c := range manager.PerfCounter {
		keys[CounterName(&c)] = known{c.Key, c.UnitInfo.GetElementDescription().Key}
	}
	return keys, nil
}

// CounterName is the name that identifies a counter: "group.name.rollup".
func CounterName(c *types.PerfCounterInfo) string {
	return c.GroupInfo.GetElementDescription().Key + "." + c.NameInfo.GetElementDescription().Key + "." + string(c.RollupType)
}

// VolumeInstance is the name of a datastore in counters: the last part of its URL,
// "ds:///vmfs/volumes/5f1…/".
func VolumeInstance(url string) string { return path.Base(strings.TrimRight(url, "/")) }

// volumeOf is the VolumeInstance of a datastore.
func (s *site) volumeOf(ctx context.Context, ref types.ManagedObjectReference) (string, error) {
	var store mo.Datastore
	if err := read(ctx, s.client, ref, &store, "summary.url"); err != nil {
		return "", fmt.Errorf("ask what a datastore's counters are called: %w", err)
	}
	return VolumeInstance(store.Summary.Url), nil
}
