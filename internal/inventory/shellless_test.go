package inventory

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func shellless(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("testdata/shellless.yaml")
	require.NoError(t, err)
	return string(text)
}

// TestShellless: hosts without capabilities are driven through their vCenter, and
// other machines are the WAN's ends.
func TestShellless(t *testing.T) {
	inventory := parse(t, shellless(t))
	for _, host := range []*Machine{inventory.SiteA(), inventory.SiteB()} {
		for _, capability := range Capabilities {
			require.False(t, host.Has(capability), "%s %s", host.Name, capability)
		}
		require.False(t, inventory.IsEnd(host.Name))
		require.Empty(t, host.SSH.KeyFile, "no folder is taken for one")
	}
	require.Equal(t, "helper-a", inventory.EndA().Name)
	require.Equal(t, "helper-b", inventory.EndB().Name)
	require.True(t, inventory.IsEnd("helper-b"))

	requireSaved(t, inventory)
}

// TestEndsAreTheSites when the inventory names no ends.
func TestEndsAreTheSites(t *testing.T) {
	inventory := parse(t, good(t))
	require.Equal(t, inventory.SiteA(), inventory.EndA())
	require.Equal(t, inventory.SiteB(), inventory.EndB())
	require.True(t, inventory.IsEnd("host-b"))
	require.False(t, inventory.IsEnd("store"))
	inventory = parse(t, with(t, "  device: eth2", "  ends: {a: store, b: host-b}"))
	require.Equal(t, "store", inventory.EndA().Name)
	require.Equal(t, inventory.SiteB(), inventory.EndB())
}

func TestKinds(t *testing.T) {
	for _, kind := range []Kind{Emulated, Hardware, VCenterSimulator} {
		behind := ""
		if kind == VCenterSimulator {
			behind = "\nbehind: kvm"
		}
		inventory := parse(t, strings.Replace(good(t), "kind: hardware", "kind: "+string(kind)+behind, 1))
		require.Equal(t, kind, inventory.Kind)
		require.Equal(t, kind == VCenterSimulator, inventory.Behind != "")
		require.Equal(t, kind != Hardware, kind.IsLab())
	}
	require.False(t, Simulated.IsLab())
	_, err := Parse([]byte(strings.Replace(good(t), "kind: hardware", "kind: simulated", 1)), "x.yaml")
	require.ErrorContains(t, err, `kind: "simulated" is no kind of a testbed`)
}

func TestShelllessRefused(t *testing.T) {
	const ends = "  ends:\n    a: helper-a\n    b: helper-b\n"
	for _, test := range []struct{ name, old, put, want string }{
		{"no ends", ends, "", "wan.ends: is missing: a site's host has no shell"},
		{"half of the ends", "    b: helper-b\n", "", "wan.ends.b: is missing"},
		{"an end that is nobody", "a: helper-a", "a: helper-x", `wan.ends.a: "helper-x" is none of the machines`},
		{"one end twice", "b: helper-b", "b: helper-a", `wan.ends.b: "helper-a" is the end a already`},
		{"an end without a shell", "a: helper-a", "a: host-a", `machines[0].can: has no "shell": the machine host-a must have it`},
		{"the other site's host", "b: helper-b", "b: host-a", `wan.ends.b: "host-a" is the host of site a`},
		{"a deaf end", "  - name: helper-a\n    can: [shell, witness, clock, beats]", "  - name: helper-a\n    can: [shell, witness, clock]",
			`machines[3].can: has no "beats": the machine helper-a must have it`},
		{"nobody runs a guest", "    vcenter:\n      name: vc-1\n      host: /DC/host/cluster/esx-a\n      datastores: {nfs: /DC/datastore/nfs}\n" +
			"      network: /DC/network/guests\n      folder: /DC/vm/heliotrope\n      template: /DC/vm/templates/guest\n", "",
			"machines[0].can: is empty, and no vcenter manages host-a"},
		{"a bridge", "    address: 198.18.0.1\n", "    address: 198.18.0.1\n    bridge: br0\n", "machines[0].bridge: is for hosts with a shell only"},
		{"a transport", "    address: 198.18.0.1\n", "    address: 198.18.0.1\n    transport: ssh\n", "machines[0].transport: is for hosts with a shell only"},
		{"a bad data folder", "    address: 198.18.0.1\n", "    address: 198.18.0.1\n    data_dir: x\n", `machines[0].data_dir: "x" is not a plain absolute path`},
		{"a kernel", "  disk: /dev/sdb\n", "  kernel: /boot/vmlinuz\n", "guest.kernel: is for a guest that is no clone of a template"},
	} {
		t.Run(test.name, func(t *testing.T) {
			text := shellless(t)
			require.Contains(t, text, test.old)
			_, err := Parse([]byte(strings.Replace(text, test.old, test.put, 1)), "x.yaml")
			require.ErrorContains(t, err, test.want)
			require.NotContains(t, err.Error(), "\n", "one problem")
		})
	}
}
