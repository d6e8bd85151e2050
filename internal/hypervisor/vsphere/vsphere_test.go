package vsphere

import (
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"

	"heliotrope/internal/fault"
	"heliotrope/internal/hypervisor"
)

// TestLife makes, pauses, moves and destroys a machine, all of it twice.
func TestLife(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	ctx := t.Context()
	require.NoError(t, s.a.Check(ctx))
	require.NoError(t, s.a.CheckMigration(ctx, guest, s.b), "before it is there")
	for range 2 {
		require.NoError(t, s.a.Create(ctx, guest))
		s.requireAt(s.a)
	}
	vm := s.find(guest.Name)
	require.Contains(t, vm.Config.Annotation, `testbed "lab"`)
	require.Equal(t, guest.UUID().String(), vm.Config.InstanceUuid)
	require.Equal(t, "lab", vm.CustomValue[0].(*types.CustomFieldStringValue).Value)
	card := object.VirtualDeviceList(vm.Config.Hardware.Device).SelectByType((*types.VirtualEthernetCard)(nil))[0]
	require.Equal(t, guest.MAC, card.(types.BaseVirtualEthernetCard).GetVirtualEthernetCard().MacAddress)

	for range 2 {
		require.NoError(t, s.a.Pause(ctx, guest.Name))
		states, err := s.a.List(ctx)
		require.NoError(t, err)
		require.Equal(t, hypervisor.Paused, states[0].Status)
	}
	_, err := s.a.Migrate(ctx, s.order())
	require.ErrorContains(t, err, "it is paused")
	require.ErrorIs(t, s.b.Pause(ctx, guest.Name), hypervisor.ErrNotFound)
	for range 2 {
		require.NoError(t, s.a.Unpause(ctx, guest.Name))
		s.requireAt(s.a)
	}
	require.NoError(t, s.a.CheckMigration(ctx, guest, s.b))
	account, err := s.a.Migrate(ctx, s.order())
	require.NoError(t, err)
	require.False(t, account.Started.IsZero())
	require.False(t, account.Finished.Before(account.Started))
	require.Nil(t, account.Downtime)
	require.Contains(t, account.Log, "the relocation ended: well")
	s.requireAt(s.b)

	account, err = s.a.Migrate(ctx, s.order())
	require.NoError(t, err)
	require.Zero(t, account.Duration())
	require.NoError(t, s.a.Destroy(ctx, guest.Name), "it is not there")
	s.requireAt(s.b)
	for range 2 {
		require.NoError(t, s.b.Destroy(ctx, guest.Name))
		require.Nil(t, s.find(guest.Name))
	}
	require.Equal(t, 1, s.count("RelocateVM_Task"))
	require.Equal(t, 1, s.count("Login"), "both hosts have one session")
}

func TestInfo(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	info, err := s.a.Info(t.Context())
	require.NoError(t, err)
	require.Equal(t, Name, info.Hypervisor)
	require.NotEmpty(t, info.Version)
	require.Positive(t, info.CPUs)
	require.Positive(t, info.MemoryMiB)
	require.LessOrEqual(t, info.FreeMemoryMiB, info.MemoryMiB)
}

// TestPrivateDisk: a private disk is moved to the target's own datastore, and a
// machine to the target's network.
func TestPrivateDisk(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	s.b.machine.VCenter.Network = "/DC0/network/DC0_DVPG1"
	s.create()
	order := s.order()
	order.Domain.Disk.Copy, order.AtTarget.Disk.Copy = hypervisor.FullCopy, hypervisor.FullCopy
	order.AtTarget.Disk.Datastore = "/DC0/datastore/LocalDS_1"
	require.NoError(t, s.a.CheckMigration(t.Context(), order.AtTarget, s.b))
	_, err := s.a.Migrate(t.Context(), order)
	require.NoError(t, err)
	s.requireAt(s.b)
	vm := s.find(guest.Name)
	require.Equal(t, "LocalDS_1", s.model.Map().Get(vm.Datastore[0]).(*simulator.Datastore).Name)
	card := object.VirtualDeviceList(vm.Config.Hardware.Device).SelectByType((*types.VirtualEthernetCard)(nil))[0]
	backing := card.GetVirtualDevice().Backing.(*types.VirtualEthernetCardDistributedVirtualPortBackingInfo)
	group := s.model.Map().Get(types.ManagedObjectReference{Type: "DistributedVirtualPortgroup", Value: backing.Port.PortgroupKey})
	require.Equal(t, "DC0_DVPG1", group.(*simulator.DistributedVirtualPortgroup).Name)
}

// TestForeign: a machine is ours by its name, UUID, notes and attribute together,
// and any other machine is never touched.
func TestForeign(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(s *sim, vm *simulator.VirtualMachine){
		"no notes":                func(_ *sim, vm *simulator.VirtualMachine) { vm.Config.Annotation = "mine" },
		"another testbed's notes": func(_ *sim, vm *simulator.VirtualMachine) { vm.Config.Annotation = annotationOf("lab-2") },
		"no attribute":            func(_ *sim, vm *simulator.VirtualMachine) { vm.CustomValue, vm.Value = nil, nil },
		"another testbed's attribute": func(_ *sim, vm *simulator.VirtualMachine) {
			vm.CustomValue[0].(*types.CustomFieldStringValue).Value = "lab-2"
		},
		"another UUID": func(_ *sim, vm *simulator.VirtualMachine) { vm.Config.InstanceUuid = hypervisor.UUID("other").String() },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSim(t)
			s.create()
			vm := s.find(guest.Name)
			was := *vm.Config
			values := []types.BaseCustomFieldValue{&types.CustomFieldStringValue{
				CustomFieldValue: *vm.CustomValue[0].GetCustomFieldValue(), Value: "lab"}}
			change(s, vm)
			t.Cleanup(func() { *vm.Config, vm.CustomValue = was, values }) // for the last look

			ctx := t.Context()
			states, err := s.a.List(ctx)
			require.NoError(t, err)
			require.Empty(t, states)
			for what, err := range map[string]error{
				"create": s.a.Create(ctx, guest), "destroy": s.a.Destroy(ctx, guest.Name),
				"pause": s.a.Pause(ctx, guest.Name), "unpause": s.a.Unpause(ctx, guest.Name),
				"migrate": func() error { _, err := s.a.Migrate(ctx, s.order()); return err }(),
			} {
				require.ErrorContains(t, err, "is not of this testbed", what)
				require.Equal(t, fault.BadInput, fault.Of(err), what)
			}
			_ = s.a.Teardown(ctx) // what it says of one that runs is no matter
			require.Same(t, vm, s.find(guest.Name))
			require.Equal(t, types.VirtualMachinePowerStatePoweredOn, vm.Runtime.PowerState)
			require.Zero(t, s.count("RelocateVM_Task")+s.count("Destroy_Task")+s.count("PowerOffVM_Task")+s.count("SuspendVM_Task"))
		})
	}
}

// TestHalfMade: a clone that was not labelled yet is made again.
func TestHalfMade(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	s.create()
	first := s.find(guest.Name)
	first.Config.Annotation, first.CustomValue, first.Value = "", nil, nil
	first.Runtime.PowerState = types.VirtualMachinePowerStatePoweredOff
	s.create()
	s.requireAt(s.a)
	require.NotEqual(t, first.Self, s.find(guest.Name).Self)
}

// TestRefused: what vSphere cannot do is refused before vCenter is asked.
func TestRefused(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	for want, change := range map[string]func(*hypervisor.Domain){
		"its name does not start with the testbed's": func(d *hypervisor.Domain) { d.Name = "vm" },
		"starts what the template's disk holds":      func(d *hypervisor.Domain) { d.Kernel = "/vmlinuz" },
		"time stamp counter":                         func(d *hypervisor.Domain) { d.NativeTSC = true },
		"opens no device or file of ours":            func(d *hypervisor.Domain) { d.Disk.Path = "/dev/sdb" },
		"want its size, and a datastore":             func(d *hypervisor.Domain) { d.Disk = hypervisor.Disk{} },
		"a disk of 0 bytes":                          func(d *hypervisor.Domain) { d.Disk.SizeBytes = 0 },
		"in its own way only, not synchronous":       func(d *hypervisor.Domain) { d.Disk.Copy = hypervisor.SynchronousCopy },
	} {
		domain := guest
		change(&domain)
		err := s.a.Create(t.Context(), domain)
		require.ErrorContains(t, err, want)
		require.Equal(t, fault.BadInput, fault.Of(err))
	}
	for want, change := range map[string]func(*hypervisor.Order){
		"post-copy":                    func(o *hypervisor.Order) { o.Mode = hypervisor.PostCopy },
		"slows a machine's processors": func(o *hypervisor.Order) { o.AutoConverge = true },
		"shape the path":               func(o *hypervisor.Order) { o.BandwidthMiBPerSecond = 10 },
		"plans its stop":               func(o *hypervisor.Order) { o.MaxDowntime = 1 },
		"both hosts want one": func(o *hypervisor.Order) {
			other := s.host("host-b", "DC0_C0_H1")
			other.machine.VCenter.Folder = "/DC0/vm/other"
			o.Target = other
		},
		"is to have":                          func(o *hypervisor.Order) { o.AtTarget.Name = "lab.other" },
		"its disks are not to be copied":      func(o *hypervisor.Order) { o.AtTarget.Disk.Datastore = "/DC0/datastore/LocalDS_1" },
		"no datastore of the target is named": func(o *hypervisor.Order) { o.Domain.Disk.Copy, o.AtTarget.Disk.Datastore = hypervisor.FullCopy, "" },
	} {
		order := s.order()
		change(&order)
		_, err := s.a.Migrate(t.Context(), order)
		require.ErrorContains(t, err, want)
		require.Equal(t, fault.BadInput, fault.Of(err))
	}
	require.Zero(t, s.count("CloneVM_Task")+s.count("RelocateVM_Task"))
	_, err := New(hypervisor.Setup{Label: "lab"})
	require.ErrorContains(t, err, "no vCenter manages it")
}
