package vcenter

import (
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"heliotrope/internal/poll"
	"heliotrope/internal/storage"
)

// dateTimeSystem tells the time of a host, which the simulator cannot.
type dateTimeSystem struct {
	mo.HostDateTimeSystem
	center *VCenter
	site   storage.Site
}

// QueryDateTime is the real host's time: ours, and how far its clock is ahead. The
// answer waits for as long as that is uncertain: whoever takes the whole call for
// uncertain, as one must with a vCenter, has it covered.
func (d *dateTimeSystem) QueryDateTime(*simulator.Context, *types.QueryDateTime) soap.HasFault {
	body := new(methods.QueryDateTimeBody)
	offset, err := d.center.guests.Clock(d.center.ctx, d.site)
	if err != nil {
		body.Fault_ = simulator.Fault(err.Error(), new(types.HostCommunication))
		return body
	}
	if err := poll.Pause(d.center.ctx, offset.Uncertainty); err != nil {
		body.Fault_ = simulator.Fault(err.Error(), new(types.HostCommunication))
		return body
	}
	body.Res = &types.QueryDateTimeResponse{Returnval: time.Now().Add(offset.Ahead).UTC()}
	return body
}

// counters is the simulator's manager of counters, which takes every machine
// for its own type.
type counters struct {
	*simulator.PerformanceManager
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
