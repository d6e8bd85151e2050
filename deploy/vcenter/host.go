package vcenter

import (
	"log"
	"slices"
	"strings"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"heliotrope/internal/poll"
	"heliotrope/internal/storage"
)

// asksForHosts reports whether a call reads summaries of hosts.
func asksForHosts(call types.AnyType) bool {
	var specs []types.PropertyFilterSpec
	switch call := call.(type) {
	case *types.RetrieveProperties:
		specs = call.SpecSet
	case *types.RetrievePropertiesEx:
		specs = call.SpecSet
	}
	for _, spec := range specs {
		for _, wanted := range spec.PropSet {
			summary := slices.ContainsFunc(wanted.PathSet, func(path string) bool { return strings.HasPrefix(path, "summary") })
			if wanted.Type == "HostSystem" && (summary || wanted.All != nil && *wanted.All) {
				return true
			}
		}
	}
	return false
}

// refreshHosts asks the real hosts how much of their memory is used now. A host that does not
// answer keeps its last value.
func (c *VCenter) refreshHosts(sim *simulator.Context) {
	for _, site := range bothSites {
		node, err := c.guests.Host(sim, site)
		if err != nil {
			log.Printf("ask the host at site %s: %v", site, err)
			continue
		}
		own, known := sim.Map.Get(c.hosts[site].ref).(*simulator.HostSystem)
		if !known {
			continue // it is still being made
		}
		sim.WithLock(own, func() {
			own.Summary.QuickStats.OverallMemoryUsage = int32(node.MemoryMiB - node.FreeMemoryMiB) //nolint:gosec // a node's
		})
	}
}

// dateTimeSystem returns the time of a host, which the simulator cannot do.
type dateTimeSystem struct {
	mo.HostDateTimeSystem
	center *VCenter
	site   storage.Site
}

// QueryDateTime returns the real host's time in the middle of the call, computed from our time
// and the offset of the host's clock. The call is made to last as long as the reading is
// uncertain, so that a client which takes the call's length as its uncertainty takes enough.
func (d *dateTimeSystem) QueryDateTime(*simulator.Context, *types.QueryDateTime) soap.HasFault {
	body := new(methods.QueryDateTimeBody)
	offset, err := d.center.guests.Clock(d.center.ctx, d.site)
	if err != nil {
		body.Fault_ = simulator.Fault(err.Error(), new(types.HostCommunication))
		return body
	}
	half := offset.Uncertainty/2 + 1
	err = poll.Pause(d.center.ctx, half)
	now := time.Now().Add(offset.Ahead).UTC()
	if err == nil {
		err = poll.Pause(d.center.ctx, half)
	}
	if err != nil {
		body.Fault_ = simulator.Fault(err.Error(), new(types.HostCommunication))
		return body
	}
	body.Res = &types.QueryDateTimeResponse{Returnval: now}
	return body
}
