package lab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/deploy/lab/image"
	"heliotrope/deploy/vcenter/place"
	"heliotrope/internal/inventory"
)

// managedLab is a testbed behind a vCenter whose nodes have inventories.
func managedLab(t *testing.T, ipv6 bool) *Lab {
	t.Helper()
	l := testLab(t)
	l.Options.Hypervisor, l.Options.IPv6 = VSphere, ipv6
	require.NoError(t, os.MkdirAll(l.node(VCenter).dir(), 0o700))
	ring, err := l.keys()
	require.NoError(t, err)
	require.NoError(t, l.writeInventory(ring, map[string]int{HostA: 4001, HostB: 4002, Store: 4003}))
	return l
}

// TestManagedInventory: the vCenter drives KVM's hosts; all others see hosts without a shell, and
// helpers beside them.
func TestManagedInventory(t *testing.T) {
	for _, ipv6 := range []bool{false, true} {
		t.Run(fmt.Sprintf("IPv6 %t", ipv6), func(t *testing.T) { testManagedInventory(t, managedLab(t, ipv6)) })
	}
}

func testManagedInventory(t *testing.T, l *Lab) {
	t.Helper()
	nodes, err := inventory.Load(l.nodesPath())
	require.NoError(t, err)
	assert.Equal(t, image.KVM, nodes.Hypervisor)
	assert.Equal(t, inventory.Emulated, nodes.Kind)
	assert.False(t, namePattern.MatchString(nodes.Name), "no testbed has the label of what the vCenter makes")
	host, err := l.inventoryHost(HostA)
	require.NoError(t, err)
	assert.Equal(t, "127.0.0.1:4001", host.SSH.Address)
	_, err = l.inventoryHost(VCenter)
	assert.ErrorIs(t, err, ErrBadInput)

	require.NoError(t, l.writeManaged("127.0.0.1:4711"))
	inv, err := l.Inventory()
	require.NoError(t, err)
	assert.Equal(t, []any{"unit", inventory.VCenterSimulator, VSphere}, []any{inv.Name, inv.Kind, inv.Hypervisor})
	assert.Equal(t, nodes.Hypervisor, inv.Behind, "its bytes are on the WAN")
	for _, host := range []*inventory.Machine{inv.SiteA(), inv.SiteB()} {
		assert.Empty(t, host.Can)
		assert.Equal(t, place.Host(host.Name), host.VCenter.Host)
		assert.Equal(t, place.Datastore(place.NFS), host.VCenter.Datastores["nfs"])
	}
	assert.Equal(t, place.Datastore(place.LocalA), inv.SiteA().VCenter.Datastores["local"])
	assert.Equal(t, place.Datastore(place.LocalB), inv.SiteB().VCenter.Datastores["local"])
	for end, node := range map[string]string{HelperA: "127.0.0.1:4001", HelperB: "127.0.0.1:4002"} {
		helper := inv.Machine(end)
		assert.True(t, inv.Guest.Address.Contains(helper.Address), "%s has %s", end, helper.Address)
		assert.Equal(t, node, helper.SSH.Address)
		assert.True(t, helper.Has(inventory.Witness) && helper.Has(inventory.Beats) && !helper.Has(inventory.Worker))
		assert.NotEqual(t, nodes.SiteA().DataDir, helper.DataDir)
	}
	assert.Equal(t, inventory.Sites{A: HelperA, B: HelperB}, inv.WAN.Ends)
	vcenter := inv.ManagerOf(inv.SiteA())
	assert.Equal(t, "https://127.0.0.1:4711", vcenter.URL)
	assert.Equal(t, l.vcenterFile(place.Certificate), vcenter.CAFile)
	assert.Equal(t, inventory.PasswordFile+l.vcenterFile(place.Password), vcenter.PasswordFrom)
}

// TestVCenterKeepsItsAddress: inventories that others hold stay valid.
func TestVCenterKeepsItsAddress(t *testing.T) {
	l := managedLab(t, false)
	assert.Equal(t, "127.0.0.1:0", l.vcenterListen())
	l.Options.FirstPort = 5000
	assert.Equal(t, "127.0.0.1:5003", l.vcenterListen())
	require.NoError(t, os.WriteFile(l.vcenterFile(place.Address), []byte("127.0.0.1:4711"), 0o600))
	assert.Equal(t, "127.0.0.1:4711", l.vcenterListen())
	_, err := l.vcenterArgs()
	assert.ErrorContains(t, err, place.Program, "it is not beside the tests")
}

// startScript starts a shell script in the place of the vCenter.
func startScript(t *testing.T, l *Lab, text string) <-chan error {
	t.Helper()
	script := filepath.Join(t.TempDir(), "vcenter")
	require.NoError(t, os.WriteFile(script, []byte("#!/bin/sh\n"+text+"\n"), 0o755))
	ended, err := l.node(VCenter).start([]string{script, "-name", l.node(VCenter).title(), "-more"})
	require.NoError(t, err)
	return ended
}

// TestVCenterIsAwaited: the vCenter is ready once its address is there; if it ends before, its
// output is reported.
func TestVCenterIsAwaited(t *testing.T) {
	l := managedLab(t, false)
	_, err := l.awaitVCenter(t.Context(), startScript(t, l, "echo the port is taken >&2; exit 1"))
	assert.ErrorContains(t, err, "the port is taken")

	ended := startScript(t, l, "echo -n 127.0.0.1:4711 >"+place.Address+"; sleep 1000")
	address, err := l.awaitVCenter(t.Context(), ended)
	require.NoError(t, err)
	assert.Equal(t, "127.0.0.1:4711", address)
	assert.True(t, l.hasVCenter())
	status := l.vcenterStatus(t.Context())
	assert.True(t, status.Running && !status.Ready, "%+v", status)
	assert.Equal(t, "https://127.0.0.1:4711", status.URL)

	other := managedLab(t, false) // the same name, in another folder
	startScript(t, other, "sleep 1000")
	t.Cleanup(func() { assert.NoError(t, other.Down(context.Background())) })
	require.NoError(t, l.Down(t.Context()))
	assert.Error(t, <-ended)
	assert.False(t, l.hasVCenter())
	for !other.hasVCenter() { // its shell may not have begun yet
		require.NoError(t, t.Context().Err())
	}
	assert.Equal(t, NodeStatus{Name: VCenter, Console: l.node(VCenter).log()}, l.vcenterStatus(t.Context()))
}
