package inventory

import (
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const mounts = `mounts:
  nfs:
    server: 198.18.0.3
    export: /srv/vm
  iscsi:
    server: 198.18.0.3
    target: iqn.2026-11.net.example:lab-3.vm
    lun: 1
    device: naa.60014050000000000000000000000001
    size_bytes: 8589934592
guest:
`

// mounting is a file of two ESXi hosts whose datastores and template are made.
func mounting(t *testing.T) string {
	t.Helper()
	const template = "      template: /DC/vm/templates/guest\n"
	return strings.NewReplacer("guest:\n", mounts, "      datastores: {nfs: /DC/datastore/nfs}\n", "",
		template, template+"      import: {file: guest.ova, datastore: /DC/datastore/library}\n").Replace(shellless(t))
}

func TestMounts(t *testing.T) {
	inventory := parse(t, mounting(t))
	server := netip.MustParseAddr("198.18.0.3")
	require.Equal(t, map[string]Mount{
		"nfs":   {Server: server, Export: "/srv/vm"},
		"iscsi": {Server: server, Target: "iqn.2026-11.net.example:lab-3.vm", LUN: 1, Device: "naa.60014050000000000000000000000001", SizeBytes: 8 << 30},
	}, inventory.Mounts)
	folder, err := filepath.Abs(".")
	require.NoError(t, err)
	require.Equal(t, &Import{File: filepath.Join(folder, "guest.ova"), Datastore: "/DC/datastore/library"}, inventory.SiteB().VCenter.Import)

	requireSaved(t, inventory)
}

// requireProblem replaces a text in a file, which must then have exactly this
// problem.
func requireProblem(t *testing.T, text, old, put, want string) error {
	t.Helper()
	require.Contains(t, text, old)
	_, err := Parse([]byte(strings.Replace(text, old, put, 1)), "x.yaml")
	require.ErrorContains(t, err, want)
	require.NotContains(t, err.Error(), "\n", "one problem")
	return err
}

func TestMountsRefused(t *testing.T) {
	for _, test := range []struct{ name, old, put, want string }{
		{"both", "    export: /srv/vm\n", "    export: /srv/vm\n    target: iqn.2026-11.net.example:lab-3.vm\n", "mounts.nfs: want either export, a folder, or target"},
		{"neither", "    export: /srv/vm\n", "", "mounts.nfs: want either export, a folder, or target"},
		{"a folder that is none", "/srv/vm", "srv/vm", `mounts.nfs.export: "srv/vm" is not a plain absolute path`},
		{"a name for an address", "server: 198.18.0.3\n    export", "server: store\n    export", "mounts.nfs.server: "},
		{"an export with a LUN", "    export: /srv/vm\n", "    export: /srv/vm\n    lun: 1\n", "mounts.nfs.lun: is of a target, and export is given"},
		{"a target of another testbed", ":lab-3.vm", ":lab.vm", "mounts.iscsi.target: \"iqn.2026-11.net.example:lab.vm\" is no target of this testbed: want iqn.YEAR-MONTH.DOMAIN:lab-3.NAME"},
		{"a LUN that is none", "lun: 1", "lun: 1024", "mounts.iscsi.lun: 1024: want 0 to 1023"},
		{"no LUN", "    lun: 1\n", "", "mounts.iscsi.lun: is missing"},
		{"a host's own name", "naa.60014050000000000000000000000001", "mpx.vmhba1:C0:T0:L0", "mounts.iscsi.device: \"mpx.vmhba1:C0:T0:L0\" is no name"},
		{"no size", "    size_bytes: 8589934592\n", "", "mounts.iscsi.size_bytes: is missing"},
		{"a size that is none", "8589934592", "8589934591", "mounts.iscsi.size_bytes: 8589934591: want a multiple of 512"},
		{"a datastore beside it", "      host: /DC/host/cluster/esx-a\n", "      host: /DC/host/cluster/esx-a\n      datastores: {nfs: /DC/datastore/nfs}\n",
			"machines[0].vcenter.datastores.nfs: is given, and mounts.nfs is, too: want one of them"},
		{"a file of another kind", "import: {file: guest.ova", "import: {file: guest.vmdk", "import.file: "},
		{"a datastore's name", "datastore: /DC/datastore/library", "datastore: library", `import.datastore: "library" is no inventory path`},
	} {
		t.Run(test.name, func(t *testing.T) {
			_ = requireProblem(t, mounting(t), test.old, test.put, test.want)
		})
	}
	_, err := Parse([]byte(strings.Replace(good(t), "guest:\n", "mounts: {}\nguest:\n", 1)), "x.yaml")
	require.ErrorContains(t, err, "mounts: is for hosts that a vcenter manages")
}

// acrossVCenters gives site B's host a vCenter of its own.
func acrossVCenters(t *testing.T, text string) string {
	t.Helper()
	const second = "  - {name: vc-2, url: 'https://vcenter-2.example.org', user: me, password_from: env:PASSWORD}\n"
	before, after, found := strings.Cut(text, "esx-b\n")
	at := strings.LastIndex(before, "name: vc-1")
	require.True(t, found && at > 0)
	return strings.Replace(before[:at], "vcenters:\n", "vcenters:\n"+second, 1) + strings.Replace(before[at:], "vc-1", "vc-2", 1) + "esx-b\n" + after
}

// TestOneVCenterOnly: what only a single vCenter can do is refused when the sites'
// hosts have two.
func TestOneVCenterOnly(t *testing.T) {
	inventory := parse(t, acrossVCenters(t, shellless(t)))
	require.Equal(t, "vc-2", inventory.ManagerOf(inventory.SiteB()).Name, "which is allowed otherwise")
	for want, text := range map[string]string{
		"mounts: is for hosts of one vCenter, which mount one datastore, and the sites' hosts have two": mounting(t),
		"guest.operations: are asked of one vCenter, which loses the guest when that goes to the other": operating(t),
	} {
		_, err := Parse([]byte(acrossVCenters(t, text)), "x.yaml")
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "\n", "one problem")
	}
}

// shaping is a file of a path that a port group shapes.
func shaping(t *testing.T) string {
	t.Helper()
	return strings.Replace(shellless(t), "  host: store\n  device: eth2\n", "  portgroup: {vcenter: vc-1, path: /DC/network/site-b}\n", 1)
}

func TestPortgroup(t *testing.T) {
	inventory := parse(t, shaping(t))
	require.Equal(t, WAN{Portgroup: &Portgroup{VCenter: "vc-1", Path: "/DC/network/site-b"}, Ends: Sites{A: "helper-a", B: "helper-b"}}, inventory.WAN)
	requireSaved(t, inventory)
	for _, test := range []struct{ old, put, want string }{
		{"vcenter: vc-1, path", "vcenter: vc-2, path", `wan.portgroup.vcenter: "vc-2" is none of vcenters`},
		{"path: /DC/network/site-b", "path: site-b", `wan.portgroup.path: "site-b" is no inventory path`},
		{", path: /DC/network/site-b", "", "wan.portgroup.path: is missing"},
		{"  portgroup:", "  host: store\n  portgroup:", "wan.host: is given beside portgroup"},
	} {
		_ = requireProblem(t, shaping(t), test.old, test.put, test.want)
	}
}

// operating is a file for a guest that cannot be reached by SSH.
func operating(t *testing.T) string {
	t.Helper()
	text, _, found := strings.Cut(shellless(t), "  ssh:\n    user: root\n    key_file: keys/id\n    host_keys: [SHA256:wFO")
	require.True(t, found)
	return text + "  mode: agentless\n  operations:\n    user: root\n    password_from: file:keys/guest\n"
}

func TestOperations(t *testing.T) {
	inventory := parse(t, operating(t))
	folder, err := filepath.Abs(".")
	require.NoError(t, err)
	require.Equal(t, &Operations{User: "root", PasswordFrom: "file:" + filepath.Join(folder, "keys/guest")}, inventory.Guest.Operations)
	requireSaved(t, inventory)
	for _, test := range []struct{ old, put, want string }{
		{"file:keys/guest", "hunter2", "guest.operations.password_from: want file:PATH, env:VARIABLE, credential:NAME or askpass:PATH"},
		{"    user: root\n    password_from", "    password_from", "guest.operations.user: is missing"},
		{"  mode: agentless\n", "", "guest.operations: forwards no connection of a worker: want guest.mode: agentless"},
		{"  operations:\n", "  ssh: {user: root}\n  operations:\n", "guest.ssh: is given beside operations"},
	} {
		err := requireProblem(t, operating(t), test.old, test.put, test.want)
		require.NotContains(t, err.Error(), "hunter2")
	}
}
