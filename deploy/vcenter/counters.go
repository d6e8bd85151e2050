package vcenter

import (
	"math"
	"strconv"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"heliotrope/internal/hypervisor/vsphere"
)

// counters replaces the simulator's performance manager, which expects every machine to have the
// simulator's own type, and whose values are invented.
type counters struct {
	*simulator.PerformanceManager
	center *VCenter
}

// QueryPerf returns what the real machines and hosts have used in each interval in which a guest
// ran. Counters that are not sampled have no values. For all other entities it calls the
// simulator.
func (p *counters) QueryPerf(ctx *simulator.Context, req *types.QueryPerf) soap.HasFault {
	body := &methods.QueryPerfBody{Res: new(types.QueryPerfResponse)}
	for _, spec := range req.QuerySpec {
		if spec.Entity.Type != "VirtualMachine" && spec.Entity.Type != "HostSystem" {
			other := p.PerformanceManager.QueryPerf(ctx, &types.QueryPerf{This: req.This, QuerySpec: []types.PerfQuerySpec{spec}})
			if other.Fault() != nil {
				return other
			}
			body.Res.Returnval = append(body.Res.Returnval, other.(*methods.QueryPerfBody).Res.Returnval...)
			continue
		}
		if spec.Format == string(types.PerfFormatCsv) || spec.IntervalId > int32(sampleInterval/time.Second) {
			return &methods.QueryPerfBody{Fault_: simulator.Fault("values of the finest interval are told, and not as CSV", new(types.NotSupported))}
		}
		body.Res.Returnval = append(body.Res.Returnval, p.metricsOf(spec))
	}
	return body
}

// PerfMetricIntSeries takes the place of govmomi's type of this name, which leaves out all values
// of 0 when it is encoded. The name is that of the type on the wire.
type PerfMetricIntSeries struct {
	types.PerfMetricSeries
	Value []string `xml:"value"`
}

// metricsOf returns an entity's samples in the requested time, each with the real length of its
// interval, in whole seconds.
func (p *counters) metricsOf(spec types.PerfQuerySpec) *types.PerfEntityMetric {
	from, to := time.Time{}, time.Now()
	if spec.StartTime != nil {
		from = *spec.StartTime
	}
	if spec.EndTime != nil {
		to = *spec.EndTime
	}
	samples := p.center.meter.between(spec.Entity, from, to)
	if newest := int(spec.MaxSample); newest > 0 && newest < len(samples) {
		samples = samples[len(samples)-newest:]
	}
	metrics := &types.PerfEntityMetric{PerfEntityMetricBase: types.PerfEntityMetricBase{Entity: spec.Entity}}
	for _, one := range samples {
		metrics.SampleInfo = append(metrics.SampleInfo, types.PerfSampleInfo{Timestamp: one.at, Interval: int32(math.Round(one.length.Seconds()))})
	}
	for _, id := range spec.MetricId {
		series := &PerfMetricIntSeries{PerfMetricSeries: types.PerfMetricSeries{Id: id}}
		known := false
		for _, one := range samples {
			value, is := one.values[metric{p.nameOf(id.CounterId), id.Instance}]
			if !is {
				value = -1 // this is how a vCenter reports a missing value
			}
			known = known || is
			series.Value = append(series.Value, strconv.FormatInt(value, 10))
		}
		if known {
			metrics.Value = append(metrics.Value, series)
		}
	}
	return metrics
}

// nameOf returns the name of a counter, "group.name.rollup"; "" when there is none.
func (p *counters) nameOf(key int32) string {
	for i := range p.PerfCounter {
		if c := &p.PerfCounter[i]; c.Key == key {
			return vsphere.CounterName(c)
		}
	}
	return ""
}

// QueryAvailablePerfMetric shows the simulator a machine of its own type.
func (p *counters) QueryAvailablePerfMetric(ctx *simulator.Context, req *types.QueryAvailablePerfMetric) soap.HasFault {
	m, ours := ctx.Map.Get(req.Entity).(*machine)
	if !ours {
		return p.PerformanceManager.QueryAvailablePerfMetric(ctx, req)
	}
	plain := &simulator.VirtualMachine{}
	ctx.WithLock(m.VirtualMachine, func() {
		plain.Self, plain.Datastore, plain.Summary.Config.NumCpu = m.Self, m.Datastore, m.Summary.Config.NumCpu
	})
	own := *ctx
	own.Map = simulator.NewRegistry()
	own.Map.Put(plain)
	return p.PerformanceManager.QueryAvailablePerfMetric(&own, req)
}
