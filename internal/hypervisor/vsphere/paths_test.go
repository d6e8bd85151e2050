package vsphere

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"heliotrope/internal/fault"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/inventory"
)

// TestPaths: the error for an object that is not found has its path, and what is there
// instead.
func TestPaths(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	for name, test := range map[string]struct {
		change func(*inventory.Managed)
		want   string
	}{
		"datacenter": {func(m *inventory.Managed) { m.Host = "/DC9/host/DC0_C0/DC0_C0_H0" },
			`host /DC9/host/DC0_C0/DC0_C0_H0: there is no "DC9" in /, which is a Folder: there are DC0`},
		"host": {func(m *inventory.Managed) { m.Host = "/DC0/host/DC0_C0/esx-9" },
			`there is no "esx-9" in /DC0/host/DC0_C0/, which is a ClusterComputeResource: there are DC0_C0_H0, DC0_C0_H1, Resources`},
		"a cluster for a host": {func(m *inventory.Managed) { m.Host = "/DC0/host/DC0_C0" },
			"it is a ClusterComputeResource, not a HostSystem: below it there are DC0_C0_H0, DC0_C0_H1, Resources"},
		"network":                 {func(m *inventory.Managed) { m.Network = "/DC0/network/guests" }, `network /DC0/network/guests: there is no "guests"`},
		"folder":                  {func(m *inventory.Managed) { m.Folder = "/DC0/vm/ours" }, `folder /DC0/vm/ours: there is no "ours"`},
		"template":                {func(m *inventory.Managed) { m.Template = "/DC0/vm/debian" }, "there are DC0_C0_RP0_VM0"},
		"pool":                    {func(m *inventory.Managed) { m.Pool = "/DC0/host/DC0_C0/Resources/ours" }, "which is a ResourcePool: it is empty"},
		"a template for a folder": {func(m *inventory.Managed) { m.Folder = m.Template }, "it is a VirtualMachine, not a Folder"},
		"below a machine":         {func(m *inventory.Managed) { m.Template += "/x" }, `there is no "x" in /DC0/vm/DC0_C0_RP0_VM0/, which is a VirtualMachine: it is empty`},
	} {
		t.Run(name, func(t *testing.T) {
			h := s.host("host-a", "DC0_C0_H0")
			test.change(h.machine.VCenter)
			err := h.Check(t.Context())
			require.ErrorContains(t, err, test.want)
			require.ErrorContains(t, err, "host-a: ")
			require.Equal(t, fault.BadInput, fault.Of(err))
		})
	}
	h := s.host("host-a", "esx-9")
	h.machine.VCenter.Folder = "/DC0/vm/ours"
	err := h.Check(t.Context())
	require.ErrorContains(t, err, "esx-9")
	require.ErrorContains(t, err, "/DC0/vm/ours", "all of it is told at once")
	h.machine.VCenter.Host, h.machine.VCenter.Folder = "/DC0/host/DC0_C0/DC0_C0_H0", "/DC0/vm"
	h.machine.VCenter.Pool = "/DC0/host/DC0_C0/Resources"
	require.NoError(t, h.Check(t.Context()))
}

// TestDatacenter: a host's datacenter follows from the host's own path, and a file's from
// that of its datastore, wherever the inventory's other paths lead.
func TestDatacenter(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	made, err := object.NewRootFolder(s.inside()).CreateDatacenter(t.Context(), "DC9")
	require.NoError(t, err)
	at := func(ref types.ManagedObjectReference) *simulator.Folder {
		datacenter := s.model.Map().Get(ref).(*simulator.Datacenter)
		return s.model.Map().Get(datacenter.DatastoreFolder).(*simulator.Folder)
	}
	near, far, store := at(s.ref("Datacenter", "DC0")), at(made.Reference()), s.ref("Datastore", "LocalDS_1")
	was := near.ChildEntity
	near.ChildEntity = slices.DeleteFunc(slices.Clone(was), func(ref types.ManagedObjectReference) bool { return ref == store })
	far.ChildEntity = []types.ManagedObjectReference{store}
	t.Cleanup(func() { near.ChildEntity, far.ChildEntity = was, nil })

	h := s.host("host-a", "DC0_C0_H0")
	h.machine.VCenter.Folder, h.machine.VCenter.Template = "/DC9/vm", ""
	h.machine.VCenter.Datastores["local"] = "/DC9/datastore/LocalDS_1"
	for name, want := range map[string]string{"[LocalDS_0] lab.vm/vmware.log": "DC0", "[LocalDS_1] lab.vm/vmware.log": "DC9", "[lab.nfs] lab.vm/vmware.log": "DC0"} {
		file, err := h.OpenFile(t.Context(), name)
		require.NoError(t, err)
		require.Equal(t, want, file.query.Get("dcPath"), name)
		require.NoError(t, file.Close())
	}
}

// TestAmbiguous: a name that two objects share is refused.
func TestAmbiguous(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	store := s.datastore("LocalDS_1")
	store.Name = "LocalDS_0"
	t.Cleanup(func() { store.Name = "LocalDS_1" })
	err := s.a.CheckDatastore(t.Context(), "/DC0/datastore/LocalDS_0")
	require.ErrorContains(t, err, `"LocalDS_0" in /DC0/datastore/ is the name of 2 objects (Datastore `)
	require.Equal(t, fault.BadInput, fault.Of(err))

	second := s.model.Map().Get(s.ref("DistributedVirtualPortgroup", "DC0_DVPG1")).(*simulator.DistributedVirtualPortgroup)
	second.Name = "DC0_DVPG0"
	t.Cleanup(func() { second.Name = "DC0_DVPG1" })
	err = s.a.Check(t.Context())
	require.ErrorContains(t, err, `"DC0_DVPG0" in /DC0/network/ is the name of 2 objects (DistributedVirtualPortgroup dvportgroup-`)
	require.Equal(t, fault.BadInput, fault.Of(err))
}

// TestUnknownDatastore: nothing is made or moved when the datastore does not exist.
func TestUnknownDatastore(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	const want = `datastore /DC0/datastore/nowhere: there is no "nowhere" in /DC0/datastore/, which is a Folder: there are LocalDS_0, LocalDS_1`
	err := s.a.Create(t.Context(), domainIn("/DC0/datastore/nowhere"))
	require.ErrorContains(t, err, want)
	require.Equal(t, fault.BadInput, fault.Of(err))
	s.create()
	order := s.order()
	order.Domain.Disk.Copy, order.AtTarget.Disk.Copy = hypervisor.FullCopy, hypervisor.FullCopy
	order.AtTarget.Disk.Datastore = "/DC0/datastore/nowhere"
	_, err = s.a.Migrate(t.Context(), order)
	require.ErrorContains(t, err, want)
	require.Equal(t, fault.BadInput, fault.Of(err))
	require.Zero(t, s.count("RelocateVM_Task"))
	s.requireAt(s.a)
}

// rights grants all privileges but one.
type rights struct {
	*simulator.AuthorizationManager
	denied string
}

func (m *rights) HasUserPrivilegeOnEntities(req *types.HasUserPrivilegeOnEntities) *methods.HasUserPrivilegeOnEntitiesBody {
	body := m.AuthorizationManager.HasUserPrivilegeOnEntities(req).(*methods.HasUserPrivilegeOnEntitiesBody)
	for _, entity := range body.Res.Returnval {
		for i, privilege := range entity.PrivAvailability {
			entity.PrivAvailability[i].IsGranted = privilege.PrivId != m.denied
		}
	}
	return body
}

// TestCheck finds everything that would make a trial fail, all at once.
func TestCheck(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	host := s.model.Map().Get(s.ref("HostSystem", "DC0_C0_H1")).(*simulator.HostSystem)
	host.Runtime.InMaintenanceMode = true
	host.Summary.Config.VmotionEnabled = false
	cluster := s.model.Map().Get(s.ref("ClusterComputeResource", "DC0_C0")).(*simulator.ClusterComputeResource)
	cluster.ConfigurationEx.(*types.ClusterConfigInfoEx).DrsConfig.DefaultVmBehavior = types.DrsBehaviorFullyAutomated
	manager := s.model.Map().Get(*s.inside().ServiceContent.AuthorizationManager).(*simulator.AuthorizationManager)
	s.model.Map().Put(&rights{manager, "Resource.HotMigrate"})
	s.template().Config.Hardware.Device = nil
	err := s.b.Check(t.Context())
	for _, want := range []string{"is in maintenance mode: end that", "has no vMotion", "DRS that moves machines by itself", account + " may not Resource.HotMigrate on /DC0/vm", "has no disk to start from", "has no network interface"} {
		require.ErrorContains(t, err, want)
	}
	require.Equal(t, fault.BadInput, fault.Of(err))
	err = s.a.CheckMigration(t.Context(), guest, s.b)
	require.ErrorContains(t, err, "host-b: runtime.inMaintenanceMode: host /DC0/host/DC0_C0/DC0_C0_H1 is in maintenance mode")
	require.Equal(t, fault.BadInput, fault.Of(err))

	networks := host.Network
	t.Cleanup(func() { host.Network = networks })
	host.Network = nil
	require.ErrorContains(t, s.b.Check(t.Context()), "host-b: network: network /DC0/network/DC0_DVPG0 is not on host /DC0/host/DC0_C0/DC0_C0_H1")

	big := guest
	host.Runtime.InMaintenanceMode, host.Summary.Config.VmotionEnabled = false, true
	big.MemoryMiB = 1 << 20
	require.ErrorContains(t, s.a.CheckMigration(t.Context(), big, s.b), "host-b: ")
}
