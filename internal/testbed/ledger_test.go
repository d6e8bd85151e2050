package testbed

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"heliotrope/internal/campaign"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/inventory"
	"heliotrope/internal/ledger"
	"heliotrope/internal/storage"
	"heliotrope/internal/trial"
)

// diskHost is a host whose disks are read through it: the domain's disk is a file
// of the test.
type diskHost struct {
	hypervisor.Driver
	hypervisor.Datastores
	path   string
	opened string // the domain whose disk was
}

func (h *diskHost) Host() string { return "host-b" }

func (h *diskHost) OpenDisk(_ context.Context, name string) (hypervisor.DiskFile, error) {
	h.opened = name
	return os.Open(h.path)
}

// TestLedgerThroughTheHypervisor: on a host where no program of ours runs, the
// ledger is read with the same results, and losses are found too.
func TestLedgerThroughTheHypervisor(t *testing.T) {
	host := &diskHost{path: filepath.Join(t.TempDir(), "disk-flat.vmdk")}
	bed := &Testbed{kind: hypervisor.Kind{Datastores: true}, hypervisors: map[storage.Site]hypervisor.Driver{storage.SiteB: host},
		Inventory: &inventory.Inventory{Name: "lab", Sites: inventory.Sites{A: "host-a", B: "host-b"}}}
	ref := trial.Ref{Trial: campaign.Trial{Seed: 7}, Attempt: 1, DiskBytes: 1 << 20, LedgerBytes: 8 * ledger.RecordBytes}
	require.NoError(t, os.WriteFile(host.path, make([]byte, 1<<20), 0o600))
	w, err := ledger.OpenWriter(host.path, LedgerRegion(ref))
	require.NoError(t, err)
	for range 10 {
		require.NoError(t, w.Write())
	}
	require.NoError(t, w.Close())
	copied := storage.Copy{Name: "site-b", Host: "host-b", Path: "/DC/datastore/nfs"}
	report, err := bed.CheckLedger(t.Context(), ref, copied, 10)
	require.NoError(t, err)
	require.Equal(t, ledger.Report{Copy: "site-b", Host: "host-b", Acked: 10, Checked: 8, Found: 8, Newest: 10}, report)
	require.Equal(t, "lab.guest", host.opened)

	data, err := os.ReadFile(host.path)
	require.NoError(t, err)
	at := LedgerRegion(ref).OffsetBytes + 4*ledger.RecordBytes
	copy(data[at:], bytes.Repeat([]byte{0}, ledger.RecordBytes))
	require.NoError(t, os.WriteFile(host.path, data, 0o600))
	report, err = bed.CheckLedger(t.Context(), ref, copied, 10)
	require.NoError(t, err)
	require.Equal(t, []uint64{5}, report.Lost)

	require.NoError(t, os.WriteFile(host.path, data[:at], 0o600))
	_, err = bed.CheckLedger(t.Context(), ref, copied, 10)
	require.ErrorContains(t, err, "read the ledger from site-b")
	host.path = "/no/such/disk"
	_, err = bed.CheckLedger(t.Context(), ref, copied, 10)
	require.True(t, errors.Is(err, os.ErrNotExist))
}
