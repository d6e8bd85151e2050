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

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"heliotrope/internal/hypervisor"
	"heliotrope/internal/hypervisor/vsphere/counters"
	"heliotrope/internal/witness"
)

// Counted says what is counted on a host beside itself.
type Counted struct {
	Machine   string // the guest: "lab.vm"
	Disk      string // its disk under test, by controller and unit: "scsi0:1"
	Datastore string // the inventory path of the datastore of that disk
}

// Counters reads what vCenter has counted of the host, and of the guest where that
// is on this host, at its finest interval: samples after from and until to, in
// their order. What vCenter has no value of is left out.
//
// Times are those that vCenter gives the samples, on its own clock; a sample is of
// the interval that ends then, 20 s as a rule. A host keeps them for an hour, and
// what it has of a machine may be lost when that leaves: read before.
func (h *Host) Counters(ctx context.Context, of Counted, from, to time.Time) (readings []witness.Reading, err error) {
	err = h.with(ctx, "read vCenter's counters", func(s *site) error {
		readings, err = h.counters(ctx, s, of, from, to)
		return err
	})
	return readings, err
}

func (h *Host) counters(ctx context.Context, s *site, of Counted, from, to time.Time) ([]witness.Reading, error) {
	if s.client.ServiceContent.PerfManager == nil {
		return nil, errors.New("the vCenter has no performance manager")
	}
	volume, err := s.volumeOf(ctx, of.Datastore)
	if err != nil {
		return nil, err
	}
	entities := map[counters.Entity]types.ManagedObjectReference{counters.Host: s.host}
	guest, err := h.ours(ctx, s, of.Machine)
	if err != nil && !errors.Is(err, hypervisor.ErrNotFound) {
		return nil, err
	}
	if err == nil && guest.host == s.host {
		entities[counters.Machine] = guest.ref
	}
	keys, err := s.metricKeys(ctx)
	if err != nil {
		return nil, err
	}
	q := query{metrics: map[types.PerfMetricId]counters.Metric{}}
	for _, kind := range []counters.Entity{counters.Machine, counters.Host} {
		entity, there := entities[kind]
		if !there {
			continue
		}
		if err := q.add(ctx, s, kind, entity, keys, map[string]string{witness.GuestDisk: of.Disk, counters.Datastore: volume}); err != nil {
			return nil, err
		}
	}
	return q.read(ctx, s, from, to)
}

// query is what is asked of the performance manager, in one call.
type query struct {
	specs   []types.PerfQuerySpec
	metrics map[types.PerfMetricId]counters.Metric // of what is asked for
}

// add asks for an entity's metrics, each of the instance that its device names
// here, or of all together.
func (q *query) add(ctx context.Context, s *site, kind counters.Entity, entity types.ManagedObjectReference,
	keys map[string]int32, instances map[string]string) error {
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
		key, known := keys[metric.Name]
		if metric.Of != kind || !known {
			continue
		}
		id := types.PerfMetricId{CounterId: key, Instance: instances[metric.Device]}
		spec.MetricId = append(spec.MetricId, id)
		q.metrics[id] = metric
	}
	if len(spec.MetricId) > 0 {
		q.specs = append(q.specs, spec)
	}
	return nil
}

// read asks, and puts the answer into our words.
func (q *query) read(ctx context.Context, s *site, from, to time.Time) ([]witness.Reading, error) {
	if len(q.specs) == 0 {
		return nil, errors.New("vCenter knows none of the counters that are wanted")
	}
	for i := range q.specs {
		q.specs[i].StartTime, q.specs[i].EndTime = &from, &to
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
		for _, series := range entity.Value {
			values, is := series.(*types.PerfMetricIntSeries)
			if !is || len(values.Value) != len(entity.SampleInfo) {
				continue // nobody could say when what was
			}
			metric, asked := q.metrics[values.Id]
			if !asked {
				continue
			}
			for i, sample := range entity.SampleInfo {
				if value := values.Value[i]; value >= 0 && sample.Timestamp.After(from) && !sample.Timestamp.After(to) { // -1 is no value
					readings = append(readings, witness.Reading{At: sample.Timestamp.UTC(), Device: metric.Device, Name: metric.Counter.Name, Value: value})
				}
			}
		}
	}
	slices.SortStableFunc(readings, func(a, b witness.Reading) int {
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Device, b.Device), cmp.Compare(a.Name, b.Name))
	})
	return readings, nil
}

// metricKeys are vCenter's numbers of its counters, by "group.name.rollup". They
// differ from one vCenter to another.
func (s *site) metricKeys(ctx context.Context) (map[string]int32, error) {
	var manager mo.PerformanceManager
	if err := read(ctx, s.client, *s.client.ServiceContent.PerfManager, &manager, "perfCounter"); err != nil {
		return nil, fmt.Errorf("list vCenter's counters: %w", err)
	}
	keys := map[string]int32{}
	for _, c := range manager.PerfCounter {
		keys[c.GroupInfo.GetElementDescription().Key+"."+c.NameInfo.GetElementDescription().Key+"."+string(c.RollupType)] = c.Key
	}
	return keys, nil
}

// volumeOf is how counters name a datastore: by the last part of its URL,
// "ds:///vmfs/volumes/5f1…/".
func (s *site) volumeOf(ctx context.Context, datastore string) (string, error) {
	ref, err := s.find(ctx, "datastore", datastore, datastoreTypes)
	if err != nil {
		return "", err
	}
	var store mo.Datastore
	if err := read(ctx, s.client, ref, &store, "summary.url"); err != nil {
		return "", fmt.Errorf("look at datastore %s: %w", datastore, err)
	}
	return path.Base(strings.TrimRight(store.Summary.Url, "/")), nil
}
