package vsphere

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"

	"heliotrope/internal/fault"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/inventory"
	"heliotrope/internal/storage"
	"heliotrope/internal/storage/datastore"
)

// mounts are those of mount_test.go in the form of an inventory.
var mounts = map[string]inventory.Mount{
	"nfs": {Server: netip.MustParseAddr("10.0.0.1"), Export: "/srv/vm"},
	"iscsi": {Server: netip.MustParseAddr("10.0.0.1"), Target: portal.IQN, LUN: int(lun.Number), Device: lun.Name,
		SizeBytes: int(lun.SizeBytes)},
}

// system is the driver of a storage system whose datastore is made for a trial.
func (s *sim) system(name string) storage.Driver {
	s.t.Helper()
	inv := &inventory.Inventory{Name: "lab", Hypervisor: Name, Sites: inventory.Sites{A: "host-a", B: "host-b"}, Mounts: mounts,
		Machines: []inventory.Machine{s.a.machine, s.b.machine}}
	for _, kind := range datastore.Kinds {
		if kind.Name == name {
			require.NoError(s.t, kind.CheckInventory(inv))
			system, err := kind.New(storage.Setup{Inventory: inv, Datastores: map[storage.Site]hypervisor.Datastores{storage.SiteA: s.a, storage.SiteB: s.b}})
			require.NoError(s.t, err)
			return system
		}
	}
	s.t.Fatalf("no storage system %s", name)
	return nil
}

// requireMade asks both hosts what was made.
func (s *sim) requireMade(want ...string) {
	s.t.Helper()
	for _, h := range []*Host{s.a, s.b} {
		made, err := h.Made(s.t.Context())
		require.NoError(s.t, err)
		require.Equal(s.t, want, made, h.Host())
	}
}

// TestMadeDatastores: a guest runs and moves in a datastore that was made for it,
// twice: the second datastore is another object in vCenter.
func TestMadeDatastores(t *testing.T) {
	for _, name := range []string{"nfs", "iscsi"} {
		t.Run(name, func(t *testing.T) {
			s := newSim(t)
			n := newSAN(s)
			n.disks = n.disks[:1] // the portal has no targets of others
			system, ctx := s.system(name), t.Context()
			require.NoError(t, system.Check(ctx))
			require.NoError(t, system.Teardown(ctx), "before anything was made")
			for range 2 {
				s.requireMade()
				spec := storage.Spec{Name: "disk", SizeBytes: 1 << 20}
				disk, err := system.Provision(ctx, spec, storage.SiteA)
				require.NoError(t, err)
				again, err := system.Provision(ctx, spec, storage.SiteA)
				require.NoError(t, err)
				require.Equal(t, disk, again)
				require.Equal(t, "/DC0/datastore/lab."+name, disk.At(storage.SiteB).Datastore)
				made := []string{"datastore lab." + name}
				if name == "iscsi" {
					made = append(made, "portal 10.0.0.1:3260")
				}
				s.requireMade(made...)

				domain := guest
				domain.Disk = disk.At(storage.SiteA)
				require.NoError(t, s.a.Create(ctx, domain))
				require.NoError(t, system.PrepareMigration(ctx, disk, storage.SiteA, storage.SiteB))
				store := s.model.Map().Get(s.ref("Datastore", "lab."+name)).(*simulator.Datastore)
				store.Vm = []types.ManagedObjectReference{s.find(guest.Name).Self}
				require.ErrorContains(t, system.Teardown(ctx), "machines are on it: destroy them first")
				store.Vm = nil
				require.NoError(t, s.a.Teardown(ctx))
				for range 2 {
					require.NoError(t, system.Teardown(ctx))
				}
			}
		})
	}
}

// TestMadeOfOthers: a datastore of that name that is somebody else's is found
// beforehand, and neither used nor removed.
func TestMadeOfOthers(t *testing.T) {
	s := newSim(t)
	newSAN(s)
	system, ctx := s.system("nfs"), t.Context()
	other := Export{Server: "10.0.0.1", Path: "/srv/others"}
	require.NoError(t, MountNFS(ctx, nfsName, other, s.a, s.b))
	_, provision := system.Provision(ctx, storage.Spec{Name: "disk", SizeBytes: 1 << 20}, storage.SiteA)
	for what, err := range map[string]error{"check": system.Check(ctx), "provision": provision, "teardown": system.Teardown(ctx)} {
		require.ErrorContains(t, err, "is 10.0.0.1:/srv/others, and not ours", what)
		require.Equal(t, fault.BadInput, fault.Of(err), what)
	}
	require.NoError(t, UnmountNFS(ctx, nfsName, other, s.a, s.b))
	_, err := s.a.Mount(ctx, "nfs", mounts["nfs"], s.another(s.b))
	require.ErrorContains(t, err, "host-b is no host of the same vCenter")
}

// TestMadeTemplate: a guest is a clone of what the inventory's file describes, and
// the template is removed with the testbed.
func TestMadeTemplate(t *testing.T) {
	s := newSim(t)
	file := ovaOf(t, "disk.vmdk", "data")
	for _, h := range []*Host{s.a, s.b} {
		h.machine.VCenter.Template = "/DC0/vm/" + templateName
		h.machine.VCenter.Import = &inventory.Import{File: file, Datastore: templateStore}
	}
	ctx := t.Context()
	for range 2 {
		require.NoError(t, s.a.Check(ctx))
		require.NoError(t, s.b.Check(ctx))
		s.requireMade()
		s.create()
		s.create()
		s.requireAt(s.a)
		require.True(t, s.find(templateName).Config.Template)
		s.requireMade("template /DC0/vm/" + templateName)
		_, err := s.a.Migrate(ctx, s.order())
		require.NoError(t, err)
		for _, h := range []*Host{s.b, s.a, s.b} {
			require.NoError(t, h.Teardown(ctx))
		}
		require.Nil(t, s.find(templateName))
	}
	require.Equal(t, 2, s.count("ImportVApp"))

	for want, change := range map[string]func(*inventory.Managed){
		"host-a: template: /nowhere/guest.ova": func(m *inventory.Managed) { m.Import.File = "/nowhere/guest.ova" },
		"there is no \"nowhere\"":              func(m *inventory.Managed) { m.Import.Datastore = "/DC0/datastore/nowhere" },
		"was not imported for this testbed":    func(m *inventory.Managed) { m.Template = "/DC0/vm/DC0_C0_RP0_VM0" },
		"as those of the testbed's guests do":  func(m *inventory.Managed) { m.Template = "/DC0/vm/lab.template" },
	} {
		h := s.host("host-a", "DC0_C0_H0")
		h.machine.VCenter.Template, h.machine.VCenter.Import = "/DC0/vm/"+templateName, &inventory.Import{File: file, Datastore: templateStore}
		change(h.machine.VCenter)
		err := h.Check(ctx)
		require.ErrorContains(t, err, want)
		require.Equal(t, fault.BadInput, fault.Of(err), want)
	}
}
