package vcenter

import (
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"

	"heliotrope/internal/storage"
)

// post posts an event of a machine with the given view.
func (m *machine) post(sim *simulator.Context, v view, of func(types.VmEvent) types.BaseEvent) {
	event := of(m.event(v))
	manager := sim.Map.EventManager()
	sim.WithLock(manager, func() { manager.PostEvent(sim, &types.PostEvent{EventToPost: event}) })
}

func (m *machine) event(v view) types.VmEvent {
	host := m.center.hostArgument(v.site)
	compute := types.ComputeResourceEventArgument{EntityEventArgument: types.EntityEventArgument{Name: m.center.cluster.name}, ComputeResource: m.center.cluster.ref}
	return types.VmEvent{Event: types.Event{
		Datacenter: m.center.datacenterArgument(), ComputeResource: &compute, Host: &host, Ds: m.center.datastoreArgument(v.datastore),
		Vm: &types.VmEventArgument{EntityEventArgument: types.EntityEventArgument{Name: v.name}, Vm: v.ref},
	}}
}

func (c *VCenter) datacenterArgument() *types.DatacenterEventArgument {
	return &types.DatacenterEventArgument{EntityEventArgument: types.EntityEventArgument{Name: c.datacenter.name}, Datacenter: c.datacenter.ref}
}

func (c *VCenter) datastoreArgument(name string) *types.DatastoreEventArgument {
	return &types.DatastoreEventArgument{EntityEventArgument: types.EntityEventArgument{Name: name}, Datastore: c.stores[name].ref}
}

func (c *VCenter) hostArgument(site storage.Site) types.HostEventArgument {
	host := c.hosts[site]
	return types.HostEventArgument{EntityEventArgument: types.EntityEventArgument{Name: host.name}, Host: host.ref}
}
