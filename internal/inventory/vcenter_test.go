package inventory

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	vcenters = `vcenters:
  - name: vc-1
    url: https://vcenter.example.org
    user: heliotrope@vsphere.local
    password_from: file:keys/vcenter
    ca_file: keys/ca.pem`
	managed = `    vcenter:
      name: vc-1
      host: /DC/host/cluster/esx-a
      datastores:
        nfs: /DC/datastore/nfs
        local: /DC/datastore/local-a
      network: /DC/network/guests
      folder: /DC/vm/heliotrope
      template: /DC/vm/templates/guest`
	thumbprint = "9B:2A:5B:29:28:8C:1F:0A:51:7B:35:0C:5B:49:C9:4A:42:8A:26:4A"
)

// managing is the good file with a machine of a vCenter: its guest is a clone, and
// has no kernel.
func managing(t *testing.T) string {
	t.Helper()
	const kernel = "  kernel: /usr/lib/heliotrope/vmlinuz\n  ramdisk: /usr/lib/heliotrope/initrd\n"
	text := with(t, "kind: hardware", vcenters, "  - name: host-a", managed)
	require.Contains(t, text, kernel)
	return strings.Replace(text, kernel, "", 1)
}

// TestVCenter: relative paths of a vCenter's files start at the inventory's
// folder, and a machine finds its vCenter.
func TestVCenter(t *testing.T) {
	inventory := parse(t, managing(t))
	folder, err := filepath.Abs(".")
	require.NoError(t, err)
	manager := inventory.ManagerOf(inventory.SiteA())
	require.Equal(t, &VCenter{Name: "vc-1", URL: "https://vcenter.example.org", User: "heliotrope@vsphere.local",
		PasswordFrom: "file:" + filepath.Join(folder, "keys/vcenter"), CAFile: filepath.Join(folder, "keys/ca.pem")}, manager)
	require.Equal(t, "/DC/vm/templates/guest", inventory.SiteA().VCenter.Template)
	require.Equal(t, map[string]string{"nfs": "/DC/datastore/nfs", "local": "/DC/datastore/local-a"}, inventory.SiteA().VCenter.Datastores)
	require.Nil(t, inventory.ManagerOf(inventory.SiteB()))
	require.True(t, inventory.StartsTemplates())
	require.False(t, parse(t, good(t)).StartsTemplates())

	requireSaved(t, inventory)
}

// TestTwoVCenters: each site's host may have a vCenter of its own.
func TestTwoVCenters(t *testing.T) {
	const second = "  - {name: vc-2, url: 'https://vcenter-2.example.org', user: me, password_from: env:PASSWORD, thumbprint: '" + thumbprint + "'}\n"
	text := strings.Replace(managing(t), "vcenters:\n", "vcenters:\n"+second, 1)
	other := strings.NewReplacer("name: vc-1", "name: vc-2", "/DC/", "/DC-2/", "esx-a", "esx-b").Replace(managed)
	require.Contains(t, text, "  - name: host-b\n")
	inventory := parse(t, strings.Replace(text, "  - name: host-b\n", "  - name: host-b\n"+other+"\n", 1))
	require.Equal(t, "vc-1", inventory.ManagerOf(inventory.SiteA()).Name)
	require.Equal(t, "https://vcenter-2.example.org", inventory.ManagerOf(inventory.SiteB()).URL)
	require.Equal(t, "/DC-2/vm/heliotrope", inventory.SiteB().VCenter.Folder)
}

func TestVCenterRefused(t *testing.T) {
	for _, test := range []struct{ name, old, put, want string }{
		{"no vCenter of that name", "name: vc-1\n      host", "name: vc-2\n      host", `machines[0].vcenter.name: "vc-2" is none of vcenters`},
		{"a machine's name", "- name: vc-1", "- name: host-a", `vcenters[0].name: "host-a" is a machine's already`},
		{"a password", "file:keys/vcenter", "hunter2", "vcenters[0].password_from: want file:PATH, env:VARIABLE, credential:NAME or askpass:PATH"},
		{"a password in the URL", "https://vcenter", "https://me:hunter2@vcenter", "vcenters[0].url: want https://host"},
		{"one server under two names", "vcenters:\n", "vcenters:\n  - {name: vc-2, url: 'https://VCENTER.example.org:443/sdk', user: me, password_from: env:PASSWORD}\n",
			"vcenters[1].url: vcenter.example.org:443 is vcenters[0]'s already: give it one name"},
		{"no encryption", "https://vcenter", "http://vcenter", "vcenters[0].url: want https://host"},
		{"no user", "    user: heliotrope@vsphere.local\n", "", "vcenters[0].user: is missing"},
		{"both", "ca_file: keys/ca.pem", "ca_file: keys/ca.pem\n    thumbprint: " + thumbprint, "vcenters[0].thumbprint: is given beside ca_file"},
		{"no thumbprint", "ca_file: keys/ca.pem", "thumbprint: \"9B:2A\"", "vcenters[0].thumbprint: \"9B:2A\" is no thumbprint"},
		{"a name for a path", "/DC/host/cluster/esx-a", "esx-a", `machines[0].vcenter.host: "esx-a" is no inventory path`},
		{"no datastores", "      datastores:\n        nfs: /DC/datastore/nfs\n        local: /DC/datastore/local-a\n", "", "machines[0].vcenter.datastores: is missing"},
		{"no datastore", "datastores:\n        nfs: /DC/datastore/nfs\n        local: /DC/datastore/local-a\n", "datastores: {}\n",
			"machines[0].vcenter.datastores: is empty: want the inventory path of a datastore for each storage system"},
		{"one datastore for all", "datastores:\n        nfs: /DC/datastore/nfs\n        local: /DC/datastore/local-a\n", "datastores: /DC/datastore/nfs\n",
			"machines[0].vcenter.datastores: want a mapping of names"},
		{"a datastore's name", "/DC/datastore/nfs", "nfs", `machines[0].vcenter.datastores.nfs: "nfs" is no inventory path`},
		{"no storage system", "        nfs:", "        NFS:", "machines[0].vcenter.datastores.NFS: is no storage system's name"},
		{"a kernel", "guest:\n", "guest:\n  kernel: /vmlinuz\n", "guest.kernel: is for a guest that is no clone of a template"},
		{"a ramdisk", "guest:\n", "guest:\n  ramdisk: /initrd\n", "guest.ramdisk: is for a guest that is no clone of a template"},
		{"no template", "      template: /DC/vm/templates/guest\n", "", "machines[0].vcenter.template: is missing"},
	} {
		t.Run(test.name, func(t *testing.T) {
			text := managing(t)
			require.Contains(t, text, test.old)
			_, err := Parse([]byte(strings.Replace(text, test.old, test.put, 1)), "x.yaml")
			require.ErrorContains(t, err, test.want)
			require.NotContains(t, err.Error(), "hunter2")
		})
	}
}

func TestThumbprint(t *testing.T) {
	require.True(t, isThumbprint(thumbprint))
	require.True(t, isThumbprint(strings.ToLower(thumbprint)+":00:11:22:33:44:55:66:77:88:99:aa:bb"))
	for _, wrong := range []string{"", "9B", strings.ReplaceAll(thumbprint, ":", ""), "SHA256:" + thumbprint, thumbprint + ":"} {
		require.False(t, isThumbprint(wrong), wrong)
	}
}
