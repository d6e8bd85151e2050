package lab

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/deploy/lab/image"
	"heliotrope/internal/inventory"
)

// TestNetworks: the seeds of the nodes and their inventory have the addresses of the family that was asked for.
func TestNetworks(t *testing.T) {
	for prefix, test := range map[string]struct {
		ipv6 bool
		bits string
	}{"198.18.0.": {false, "/24"}, "fd00:198:18::": {true, "/64"}} {
		t.Run(prefix, func(t *testing.T) {
			l := testLab(t)
			l.Options.Hypervisor, l.Options.IPv6 = image.KVM, test.ipv6
			require.NoError(t, l.Options.Check())
			ring, err := l.keys()
			require.NoError(t, err)
			files, err := l.seedFiles(Store, ring, image.Image{})
			require.NoError(t, err)
			contents := map[string]string{}
			for _, file := range files {
				contents[file.path] = string(file.content)
			}
			assert.Contains(t, contents["etc/heliotrope/node.conf"], "\nADDRESS="+prefix+"3"+test.bits+"\n")
			assert.Contains(t, contents["etc/hosts"], "\n"+prefix+"2 host-b\n")
			assert.Contains(t, contents["etc/ssh/ssh_known_hosts"], "host-b,"+prefix+"2 ssh-ed25519 ")
			require.NoError(t, l.writeInventory(ring, map[string]int{HostA: 1, HostB: 2, Store: 3}))
			inv, err := inventory.Load(l.InventoryPath())
			require.NoError(t, err)
			assert.Equal(t, prefix+"1", inv.SiteA().Address.String())
			assert.Equal(t, prefix+"10"+test.bits, inv.Guest.Address.String())
			assert.Equal(t, prefix+"3", l.nodeStatus(t.Context(), Store).Address)
		})
	}
}
