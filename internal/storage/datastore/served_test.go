package datastore

import (
	"path"
	"testing"

	"github.com/stretchr/testify/require"

	"heliotrope/internal/driver"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/inventory"
	"heliotrope/internal/remote"
	"heliotrope/internal/remote/remotetest"
	"heliotrope/internal/storage"
	iscsi "heliotrope/internal/storage/iscsi/counters"
	nfs "heliotrope/internal/storage/nfs/counters"
	"heliotrope/internal/witness"
)

// served is a testbed whose storage server is one of our machines.
func served(t *testing.T, name string) (driver.Facets, *remotetest.Fake) {
	t.Helper()
	b := newBed()
	b.inv.StoreName = "store"
	b.inv.Machines = append(b.inv.Machines, inventory.Machine{Name: "store"})
	store := remotetest.NewFake(t, "store")
	for _, kind := range Kinds {
		if kind.Name == name {
			system, err := kind.New(storage.Setup{Inventory: b.inv, Machines: map[string]remote.Host{"store": store},
				Datastores: map[storage.Site]hypervisor.Datastores{storage.SiteA: b.a, storage.SiteB: b.b}})
			require.NoError(t, err)
			return system, store
		}
	}
	t.Fatal("there is no " + name)
	return nil, nil
}

func put(t *testing.T, fake *remotetest.Fake, name, text string) {
	t.Helper()
	require.NoError(t, fake.Memory().MkdirAll(path.Dir(name)))
	require.NoError(t, fake.Memory().WriteFile(name, []byte(text), 0o644))
}

func sources(t *testing.T, of driver.Facets, machine string) []witness.Source {
	t.Helper()
	found, err := of.Sources(t.Context(), machine)
	require.NoError(t, err)
	return found
}

// TestServedByNFS: the storage server counts when it serves NFS.
func TestServedByNFS(t *testing.T) {
	system, store := served(t, "nfs")
	require.Empty(t, sources(t, system, "store"), "it has no NFS server")
	put(t, store, nfsThreads, "0\n")
	require.Empty(t, sources(t, system, "store"), "its NFS server is stopped")
	put(t, store, nfsThreads, "8\n")
	require.Equal(t, []witness.Source{{Role: witness.GuestDisk, Reader: nfs.ServedReader, Device: "nfsd"},
		{Role: witness.Target, Reader: nfs.ServerReader, Device: "nfsd"}}, sources(t, system, "store"))
	require.Empty(t, sources(t, system, "host-a"))

	private, store := served(t, "local")
	put(t, store, nfsThreads, "8\n")
	require.Empty(t, sources(t, private, "store"), "no private datastore is served by it")
	require.Empty(t, sources(t, newBed().system(t, "nfs"), "store"), "there is no storage server")
}

// TestServedByISCSI: the storage server's counters are used when it has one LUN;
// when it has several, it is not known which one the datastore is on.
func TestServedByISCSI(t *testing.T) {
	system, store := served(t, "iscsi")
	require.Empty(t, sources(t, system, "store"), "it has no target")
	const one = lioTargets + "/iqn.2026-01.org.example:a/tpgt_1/lun/lun_0"
	put(t, store, lioTargets+"/discovery_auth/userid", "")
	put(t, store, one+"/alua_tg_pt_gp", "")
	require.Equal(t, []witness.Source{{Role: witness.GuestDisk, Reader: iscsi.ServedReader, Device: one},
		{Role: witness.Target, Reader: iscsi.Reader, Device: one}}, sources(t, system, "store"))
	put(t, store, lioTargets+"/iqn.2026-01.org.example:b/tpgt_2/lun/lun_7/alua_tg_pt_gp", "")
	require.Empty(t, sources(t, system, "store"))
}
