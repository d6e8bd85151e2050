package datastore

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"heliotrope/internal/fault"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/inventory"
	"heliotrope/internal/storage"
)

// host is a host with made-up datastores.
type host struct {
	name   string
	free   map[string]int64
	broken error
	asked  []string
}

func (h *host) Host() string { return h.name }

func (h *host) CheckDatastore(_ context.Context, path string) error {
	h.asked = append(h.asked, path)
	return h.broken
}

func (h *host) FreeBytes(_ context.Context, path string) (int64, error) {
	free, is := h.free[path]
	if !is {
		return 0, errors.New("no such datastore")
	}
	return free, nil
}

// DomainBytes is the size of the template's disks plus that of the swap file.
func (h *host) DomainBytes(_ context.Context, memoryMiB int) (int64, error) {
	return 200<<20 + int64(memoryMiB)<<20, nil
}

func (h *host) OpenDisk(context.Context, string) (hypervisor.DiskFile, error) {
	return nil, errors.ErrUnsupported
}

// bed is a testbed with all rows.
type bed struct {
	inv  *inventory.Inventory
	a, b *host
}

func newBed() *bed {
	named := func(local string) *inventory.Managed {
		return &inventory.Managed{Datastores: map[string]string{"nfs": "/DC/datastore/nfs", "iscsi": "/DC/datastore/iscsi", "local": "/DC/datastore/" + local}}
	}
	return &bed{
		inv: &inventory.Inventory{Name: "lab", Hypervisor: "vsphere", Guest: inventory.Guest{MemoryMiB: 128}, Sites: inventory.Sites{A: "host-a", B: "host-b"}, Machines: []inventory.Machine{
			{Name: "host-a", VCenter: named("local-a")}, {Name: "host-b", VCenter: named("local-b")}}},
		a: &host{name: "host-a", free: map[string]int64{"/DC/datastore/nfs": 1 << 30, "/DC/datastore/local-a": 1 << 30}},
		b: &host{name: "host-b", free: map[string]int64{"/DC/datastore/nfs": 1 << 30, "/DC/datastore/local-b": 1 << 30}},
	}
}

func (b *bed) system(t *testing.T, name string) storage.Driver {
	t.Helper()
	at := slices.IndexFunc(Kinds, func(kind storage.Kind) bool { return kind.Name == name })
	require.True(t, Kinds[at].Datastores)
	system, err := Kinds[at].New(storage.Setup{Inventory: b.inv, Datastores: map[storage.Site]hypervisor.Datastores{storage.SiteA: b.a, storage.SiteB: b.b}})
	require.NoError(t, err)
	require.Equal(t, name, system.Kind())
	return system
}

var spec = storage.Spec{Name: "disk", SizeBytes: 64 << 20}

// TestShared: both sites have the same disk, in the datastore that the inventory
// names.
func TestShared(t *testing.T) {
	b := newBed()
	system := b.system(t, "nfs")
	for range 2 {
		require.NoError(t, system.Check(t.Context()))
		disk, err := system.Provision(t.Context(), spec, storage.SiteB)
		require.NoError(t, err)
		require.Equal(t, hypervisor.Disk{Datastore: "/DC/datastore/nfs", SizeBytes: 64 << 20}, disk.At(storage.SiteA))
		require.Equal(t, disk.At(storage.SiteA), disk.At(storage.SiteB))
		b.b.asked = nil
		require.NoError(t, system.PrepareMigration(t.Context(), disk, storage.SiteA, storage.SiteB))
		require.Equal(t, []string{"/DC/datastore/nfs"}, b.b.asked)
		require.NoError(t, system.FinishMigration(t.Context(), disk, storage.SiteB))
		copies, err := system.(storage.Copier).Copies(t.Context(), disk, storage.SiteB)
		require.NoError(t, err)
		require.Equal(t, []storage.Copy{{Name: "site-b", Host: "host-b", Path: "/DC/datastore/nfs"}}, copies)
		require.NoError(t, system.Teardown(t.Context()))
	}
}

// TestPrivate: each site has a datastore of its own, and the disk is copied.
func TestPrivate(t *testing.T) {
	b := newBed()
	system := b.system(t, "local")
	require.NoError(t, system.Check(t.Context()))
	require.Equal(t, []string{"/DC/datastore/local-a"}, b.a.asked)
	require.Equal(t, []string{"/DC/datastore/local-b"}, b.b.asked)
	disk, err := system.Provision(t.Context(), spec, storage.SiteA)
	require.NoError(t, err)
	require.Equal(t, hypervisor.Disk{Datastore: "/DC/datastore/local-b", SizeBytes: 64 << 20, Copy: hypervisor.FullCopy}, disk.At(storage.SiteB))
	b.b.free["/DC/datastore/local-b"] = (200+128+64)<<20 - 1
	const full = "host-b: datastore /DC/datastore/local-b has 391 MiB of free space, and a guest of 128 MiB of memory wants 328 MiB there beside its disk of 64 MiB: make room there"
	for _, err := range []error{
		system.(storage.Roomer).CheckRoom(t.Context(), spec),
		system.PrepareMigration(t.Context(), disk, storage.SiteA, storage.SiteB),
		func() error { _, err := system.Provision(t.Context(), spec, storage.SiteA); return err }(),
	} {
		require.EqualError(t, err, full)
		require.Equal(t, fault.Infrastructure, fault.Of(err))
	}
	require.NoError(t, system.PrepareMigration(t.Context(), disk, storage.SiteB, storage.SiteA))
	require.NoError(t, b.system(t, "nfs").(storage.Roomer).CheckRoom(t.Context(), spec))

	// A cell's own guest memory counts when it gives one.
	b.b.free["/DC/datastore/local-b"]++
	require.NoError(t, system.(storage.Roomer).CheckRoom(t.Context(), spec))
	larger := spec
	larger.MemoryMiB = 129
	require.ErrorContains(t, system.(storage.Roomer).CheckRoom(t.Context(), larger), "a guest of 129 MiB of memory wants 329 MiB there")
	_, err = system.Provision(t.Context(), larger, storage.SiteA)
	require.ErrorContains(t, err, "host-b: datastore /DC/datastore/local-b has 392 MiB")
}

// TestTwoVCenters: paths in two vCenters may be the same or differ.
func TestTwoVCenters(t *testing.T) {
	b := newBed()
	managed := b.inv.SiteB().VCenter
	managed.VCenter, managed.Datastores["nfs"], managed.Datastores["local"] = "vc-2", "/DC/datastore/nfs-2", "/DC/datastore/local-a"
	b.b.free = map[string]int64{"/DC/datastore/nfs-2": 1 << 30, "/DC/datastore/local-a": 1 << 30}
	for _, name := range []string{"nfs", "local"} {
		system := b.system(t, name)
		require.NoError(t, system.Check(t.Context()))
		disk, err := system.Provision(t.Context(), spec, storage.SiteA)
		require.NoError(t, err)
		require.Equal(t, managed.Datastores[name], disk.At(storage.SiteB).Datastore)
		require.NoError(t, system.PrepareMigration(t.Context(), disk, storage.SiteA, storage.SiteB))
	}
}

// TestRefused: the inventory is checked before any host is asked.
func TestRefused(t *testing.T) {
	for name, test := range map[string]struct {
		system string
		change func(a, b *inventory.Managed)
		want   string
	}{
		"none": {"iscsi", func(_, b *inventory.Managed) { delete(b.Datastores, "iscsi") },
			"host-b: vcenter.datastores.iscsi: the inventory names no datastore for iscsi: name one in the machine's entry"},
		"two shared ones": {"nfs", func(_, b *inventory.Managed) { b.Datastores["nfs"] = "/DC/datastore/nfs-2" },
			"host-a, host-b: vcenter.datastores.nfs: the inventory names the datastores /DC/datastore/nfs and /DC/datastore/nfs-2: name the same one for both hosts"},
		"a private one that is shared": {"local", func(_, b *inventory.Managed) { b.Datastores["local"] = "/DC/datastore/local-a" },
			"host-a, host-b: vcenter.datastores.local: the inventory names the one datastore /DC/datastore/local-a for both: give each host one of its own"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed()
			test.change(b.inv.SiteA().VCenter, b.inv.SiteB().VCenter)
			system := b.system(t, test.system)
			_, err := system.Provision(t.Context(), spec, storage.SiteA)
			for _, err := range []error{err, system.Check(t.Context()), system.PrepareMigration(t.Context(), storage.Disk{}, storage.SiteA, storage.SiteB)} {
				require.EqualError(t, err, test.want)
				require.Equal(t, fault.BadInput, fault.Of(err))
			}
			require.Empty(t, b.a.asked)
		})
	}
	b := newBed()
	b.inv.SiteB().VCenter.Datastores["nsf"] = "/DC/datastore/nfs"
	require.EqualError(t, b.system(t, "nfs").Check(t.Context()), `host-b: vcenter.datastores.nsf: the inventory names a datastore for "nsf": there are only nfs, iscsi, local`)
	_, err := b.system(t, "nfs").Provision(t.Context(), storage.Spec{Name: "disk"}, storage.SiteA)
	require.Equal(t, fault.BadInput, fault.Of(err))

	_, err = Kinds[0].New(storage.Setup{Inventory: b.inv})
	require.ErrorContains(t, err, "makes no disks in datastores")
	_, err = Kinds[0].New(storage.Setup{Inventory: b.inv, Options: storage.Options{"copy": "full"}})
	require.ErrorContains(t, err, "nfs has none")
}

// TestFound: problems of the hosts are reported, and before a migration they are the
// infrastructure's.
func TestFound(t *testing.T) {
	b := newBed()
	system := b.system(t, "nfs")
	disk, err := system.Provision(t.Context(), spec, storage.SiteA)
	require.NoError(t, err)
	b.b.broken = fault.New(fault.BadInput, "it is not mounted")
	require.EqualError(t, system.Check(t.Context()), "it is not mounted")
	err = system.PrepareMigration(t.Context(), disk, storage.SiteA, storage.SiteB)
	require.EqualError(t, err, "it is not mounted")
	require.Equal(t, fault.Infrastructure, fault.Of(err))
	b.b.broken = nil
	_, err = b.system(t, "iscsi").Provision(t.Context(), spec, storage.SiteA)
	require.EqualError(t, err, "no such datastore")
	disk.Datastore = map[storage.Site]string{storage.SiteA: "/DC/datastore/old", storage.SiteB: "/DC/datastore/old"}
	require.ErrorContains(t, system.PrepareMigration(t.Context(), disk, storage.SiteA, storage.SiteB), "tear the testbed down and provide it again")
}

// mounting is a host that can be given datastores.
type mounting struct {
	*host
	mounted map[string]inventory.Mount // of both hosts
}

func (m *mounting) CheckMount(context.Context, string, inventory.Mount) error { return m.broken }

func (m *mounting) Mount(_ context.Context, system string, of inventory.Mount, other hypervisor.Datastores) (string, error) {
	m.mounted[system] = of
	return "/DC/datastore/lab." + system, other.CheckDatastore(context.Background(), system)
}

func (m *mounting) Unmount(_ context.Context, system string, _ inventory.Mount, _ hypervisor.Datastores) error {
	delete(m.mounted, system)
	return m.broken
}

func (m *mounting) Mounted(_ context.Context, system string) (string, error) {
	if _, is := m.mounted[system]; !is {
		return "", m.broken
	}
	return "/DC/datastore/lab." + system, m.broken
}

func (m *mounting) Made(context.Context) ([]string, error) { return nil, nil }

// TestMounts: Provision mounts what the inventory says a datastore is made from, and
// Teardown removes it; both may be called twice.
func TestMounts(t *testing.T) {
	b := newBed()
	b.inv.Mounts = map[string]inventory.Mount{"nfs": {Export: "/srv/vm"}, "iscsi": {Target: "iqn.2026-11.net.example:lab.vm", SizeBytes: 32 << 20}}
	delete(b.inv.SiteA().VCenter.Datastores, "nfs")
	mounted := map[string]inventory.Mount{}
	hosts := map[storage.Site]hypervisor.Datastores{storage.SiteA: &mounting{b.a, mounted}, storage.SiteB: &mounting{b.b, mounted}}
	system, err := newSystem(rows[0], storage.Setup{Inventory: b.inv, Datastores: hosts})
	require.NoError(t, err)
	b.a.free["/DC/datastore/lab.nfs"] = 1 << 30
	require.NoError(t, system.Check(t.Context()))
	require.NoError(t, system.(storage.Roomer).CheckRoom(t.Context(), spec))
	require.NoError(t, system.Teardown(t.Context()), "before it was made")
	disk, err := system.Provision(t.Context(), spec, storage.SiteA)
	require.NoError(t, err)
	again, err := system.Provision(t.Context(), spec, storage.SiteA)
	require.NoError(t, err)
	require.Equal(t, disk, again)
	require.Equal(t, hypervisor.Disk{Datastore: "/DC/datastore/lab.nfs", SizeBytes: 64 << 20}, disk.At(storage.SiteB))
	require.Equal(t, map[string]inventory.Mount{"nfs": {Export: "/srv/vm"}}, mounted)
	require.NoError(t, system.PrepareMigration(t.Context(), disk, storage.SiteA, storage.SiteB))
	for range 2 {
		require.NoError(t, system.Teardown(t.Context()))
	}
	require.Empty(t, mounted)
	require.ErrorContains(t, system.PrepareMigration(t.Context(), disk, storage.SiteA, storage.SiteB), "the datastore for nfs is not there")

	system, err = newSystem(rows[1], storage.Setup{Inventory: b.inv, Datastores: hosts})
	require.NoError(t, err)
	require.ErrorContains(t, system.(storage.Roomer).CheckRoom(t.Context(), spec), "its logical unit has 32 MiB, and the disk wants 64 MiB")
	b.a.broken = fault.New(fault.BadInput, "host-a: no right")
	require.ErrorContains(t, system.Check(t.Context()), "host-a: no right")
}

// TestMountsRefused: impossible mounts are refused without asking a host.
func TestMountsRefused(t *testing.T) {
	for name, test := range map[string]struct {
		mount inventory.Mount
		want  string
	}{
		"nfs":   {inventory.Mount{Target: "iqn.2026-11.net.example:lab.vm"}, "mounts.nfs: is made of a folder: give it export, and no target"},
		"iscsi": {inventory.Mount{Export: "/srv/vm"}, "mounts.iscsi: is made on a logical unit: give it target, lun, device and size_bytes, and no export"},
		"local": {inventory.Mount{Export: "/srv/vm"}, "mounts.local: a disk of a host's own cannot be mounted: name each host's datastore in its vcenter.datastores.local"},
	} {
		b := newBed()
		b.inv.Mounts = map[string]inventory.Mount{name: test.mount}
		for _, kind := range Kinds {
			err := kind.CheckInventory(b.inv)
			if kind.Name != name {
				require.NoError(t, err)
				continue
			}
			require.EqualError(t, err, test.want)
			require.Equal(t, fault.BadInput, fault.Of(err))
			require.EqualError(t, b.system(t, name).Check(t.Context()), test.want)
		}
	}
	b := newBed()
	b.inv.Mounts = map[string]inventory.Mount{"nfs": {Export: "/srv/vm"}}
	_, err := b.system(t, "nfs").Provision(t.Context(), spec, storage.SiteA)
	require.EqualError(t, err, "host-a: mounts.nfs: hypervisor vsphere makes no datastores: name one that is there")
}
