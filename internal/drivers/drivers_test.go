package drivers

import (
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

// all are the drivers of a testbed whose machines do nothing.
func all(t *testing.T) map[string]driver.Facets {
	t.Helper()
	inv := &inventory.Inventory{Name: "lab", Sites: inventory.Sites{A: "host-a", B: "host-b"}, StoreName: "store"}
	machines := map[string]remote.Host{}
	for _, name := range []string{"host-a", "host-b", "store"} {
		inv.Machines = append(inv.Machines, inventory.Machine{Name: name, DataDir: "/var/lib/heliotrope"})
		machines[name] = remotetest.NewFake(t, name)
	}
	drivers := map[string]driver.Facets{}
	for _, kind := range Hypervisors {
		made, err := kind.New(hypervisor.Setup{Label: inv.Name, Machine: *inv.SiteA(), Remote: machines["host-a"]})
		require.NoError(t, err)
		assert.NotNil(t, onhost.Watcher(made.Watcher()), "%s: nobody watches its domains", kind.Name)
		drivers[kind.Name] = made
	}
	for _, kind := range Storages {
		made, err := kind.New(storage.Setup{Inventory: inv, Machines: machines})
		require.NoError(t, err)
		drivers[kind.Name] = made
	}
	return drivers
}

// TestClassesAreInTheDictionary: what the witness counts of a driver's traffic
// can be read about.
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
	for _, want := range Storages {
		kind, err := Storage(want.Name)
		require.NoError(t, err)
		assert.Equal(t, want.Name, kind.Name)
	}
	_, err := Hypervisor("floppy")
	assert.ErrorContains(t, err, `no hypervisor "floppy": there are xen`)
	_, err = Storage("floppy")
	assert.ErrorContains(t, err, `no storage system "floppy": there are iscsi, nfs, drbd`)
}
