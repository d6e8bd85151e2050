package drivers

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/internal/driver"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/inventory"
	"heliotrope/internal/onhost"
	"heliotrope/internal/remote"
	"heliotrope/internal/remote/remotetest"
	"heliotrope/internal/storage"
	"heliotrope/internal/witness"
)

// all are the drivers of testbeds whose machines do nothing: the storage systems by
// the hypervisor's name and their own.
func all(t *testing.T) map[string]driver.Facets {
	t.Helper()
	inv := &inventory.Inventory{Name: "lab", Sites: inventory.Sites{A: "host-a", B: "host-b"}, StoreName: "store"}
	machines := map[string]remote.Host{}
	for _, name := range []string{"host-a", "host-b", "store"} {
		inv.Machines = append(inv.Machines, inventory.Machine{Name: name, DataDir: "/var/lib/heliotrope", VCenter: &inventory.Managed{}})
		machines[name] = remotetest.NewFake(t, name)
	}
	drivers := map[string]driver.Facets{}
	for _, kind := range Hypervisors {
		made, err := kind.New(hypervisor.Setup{Label: inv.Name, Machine: *inv.SiteA(), Remote: machines["host-a"], VCenter: &inventory.VCenter{}})
		require.NoError(t, err)
		drivers[kind.Name] = made
		setup := storage.Setup{Inventory: inv, Machines: machines}
		if kind.Datastores {
			assert.Empty(t, made.Watcher(), "%s: no program of ours runs beside its domains", kind.Name)
			host := made.(hypervisor.Datastores)
			setup.Datastores = map[storage.Site]hypervisor.Datastores{storage.SiteA: host, storage.SiteB: host}
		} else {
			assert.NotNil(t, onhost.Watcher(made.Watcher()), "%s: nobody watches its domains", kind.Name)
		}
		for _, one := range StoragesOf(kind) {
			made, err := one.New(setup)
			require.NoError(t, err)
			drivers[kind.Name+" "+one.Name] = made
		}
	}
	return drivers
}

// TestClassesAreInTheDictionary: the data dictionary describes what the witness
// counts of a driver's traffic.
func TestClassesAreInTheDictionary(t *testing.T) {
	known := map[string]bool{}
	for _, counter := range onhost.Counters() {
		known[counter.Device+" "+counter.Name] = true
	}
	for name, one := range all(t) {
		for _, class := range one.Traffic() {
			assert.True(t, known[witness.WAN+" "+class.Name+witness.ToBBytes], "%s: class %s", name, class.Name)
		}
	}
}

func TestFound(t *testing.T) {
	for _, want := range Hypervisors {
		kind, err := Hypervisor(want.Name)
		require.NoError(t, err)
		assert.Equal(t, want.Name, kind.Name)
	}
	_, err := Hypervisor("floppy")
	assert.ErrorContains(t, err, `no hypervisor "floppy": there are xen`)
	for hypervisor, want := range map[string][]string{
		"xen": {"iscsi", "nfs", "drbd", "mirror"}, "kvm": {"iscsi", "nfs", "drbd", "mirror"}, "vsphere": {"nfs", "iscsi", "local"},
	} {
		kind, err := Hypervisor(hypervisor)
		require.NoError(t, err)
		var names []string
		for _, one := range StoragesOf(kind) {
			found, err := Storage(kind, one.Name)
			require.NoError(t, err)
			assert.Equal(t, kind.Datastores, found.Datastores)
			names = append(names, found.Name)
		}
		assert.Equal(t, want, names)
		_, err = Storage(kind, "floppy")
		assert.ErrorContains(t, err, `no storage system of `+hypervisor+` "floppy": there are `+strings.Join(want, ", "))
	}
}

// TestCheckInventory: an inventory with a mount that no storage system of the
// hypervisor can use is refused before a host is asked.
func TestCheckInventory(t *testing.T) {
	inv := &inventory.Inventory{Hypervisor: "vsphere", Mounts: map[string]inventory.Mount{"nfs": {Export: "/srv/vm"}}}
	require.NoError(t, CheckInventory(inv))
	inv.Mounts = map[string]inventory.Mount{"iscsi": {Export: "/srv/vm"}, "local": {Export: "/srv/vm"}, "drbd": {Export: "/srv/vm"}}
	err := CheckInventory(inv)
	for _, want := range []string{"mounts.iscsi: is made on a logical unit", "mounts.local: a disk of a host's own cannot be mounted",
		"mounts.drbd: vsphere has no such storage system: there are nfs, iscsi, local"} {
		require.ErrorContains(t, err, want)
	}
	require.ErrorContains(t, CheckInventory(&inventory.Inventory{Hypervisor: "hyper"}), `no hypervisor "hyper"`)
	inv.Hypervisor, inv.Guest.Operations = "kvm", &inventory.Operations{}
	err = CheckInventory(inv)
	require.ErrorContains(t, err, "guest.operations: kvm runs no commands in guests: give guest.ssh")
	require.ErrorContains(t, err, "mounts: kvm has no datastores")
}
