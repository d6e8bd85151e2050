package inventory

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"heliotrope/internal/strict"
)

// aliasText is the reach file whose store is reached by an alias.
func aliasText(t *testing.T, config, store string) (text, folder string) {
	t.Helper()
	data, err := os.ReadFile(reachFile)
	require.NoError(t, err)
	folder = t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(folder, "config"), []byte(config), 0o600))
	text = strings.Replace(string(data), "version: 2\n", "version: 2\nssh_config: config\n", 1)
	begin, end := strings.Index(text, "      address: \"[2001"), strings.Index(text, "    address: 198.18.0.3\n")
	return text[:begin] + store + text[end:], folder
}

func parseAlias(t *testing.T, config, store string) (*Inventory, error) {
	t.Helper()
	text, folder := aliasText(t, config, store)
	return Parse([]byte(text), filepath.Join(folder, "inventory.yaml"))
}

const aliases = `
Host store
    HostName %h.example.net
    User heliotrope
    Port 2222
    IdentityFile ~/.ssh/id_store
    ProxyJump near
Host near
    HostName 10.0.0.7
    ProxyJump jump@far.example.org:2200
Host two
    HostName 10.0.0.8
    ProxyJump far,near
Host *
    IdentityFile /etc/heliotrope/id
`

func TestAliases(t *testing.T) {
	t.Setenv("HOME", "/home/somebody")
	inventory, err := parseAlias(t, aliases, "      alias: store\n      known_hosts: [/etc/ssh/ssh_known_hosts]\n")
	require.NoError(t, err)
	host := inventory.Store().SSH
	require.Equal(t, "store.example.net:2222", host.Address)
	require.Equal(t, "heliotrope", host.User)
	require.Equal(t, "/home/somebody/.ssh/id_store", host.KeyFile)
	known := []string{"/etc/ssh/ssh_known_hosts"}
	name, near, is := inventory.JumpHost(host)
	require.True(t, is)
	require.Equal(t, "jump@far.example.org:2200,near", name)
	require.Equal(t, Login{User: "heliotrope", KeyFile: "/etc/heliotrope/id", KnownHosts: known}, near.Login)
	require.Equal(t, "10.0.0.7:22", near.Address)
	name, far, is := inventory.JumpHost(near)
	require.True(t, is)
	require.Equal(t, "jump@far.example.org:2200", name)
	require.Equal(t, SSH{Address: "far.example.org:2200", Login: Login{User: "jump", KeyFile: "/etc/heliotrope/id", KnownHosts: known}}, far)
	_, _, is = inventory.JumpHost(far)
	require.False(t, is)

	// The inventory's own values take precedence.
	inventory, err = parseAlias(t, aliases, "      alias: two\n      user: admin\n      key_file: id\n      address: 192.0.2.8:22\n      known_hosts: [known]\n")
	require.NoError(t, err)
	host = inventory.Store().SSH
	require.Equal(t, "192.0.2.8:22", host.Address)
	require.Equal(t, "admin", host.User)
	require.Equal(t, "id", filepath.Base(host.KeyFile))
	// Each jump host of a list is reached through the one before it, whatever
	// its own entry says.
	require.Equal(t, "192.0.2.8:22 via 10.0.0.7:22 via far:22", inventory.PlaceOf(host))
}

func TestAliasesAreChecked(t *testing.T) {
	const plain = "      alias: x\n      user: root\n      key_file: id\n      known_hosts: [known]\n"
	for _, test := range []struct{ name, config, store, want string }{
		{"no such host", "Host other\n  User root\n", plain, `53:14: machines[2].ssh.alias: "x" in FILE: no Host`},
		{"a command", "Host x\n  ProxyCommand nc %h %p\n", plain, `53:14: machines[2].ssh.alias: "x" in FILE: its ProxyCommand is not understood: use ProxyJump, or via`},
		{"a token", "Host x\n  HostName %n.example.org\n", plain, `53:14: machines[2].ssh.alias: "x" in FILE: "%n.example.org" has a token that is not understood: want %h only`},
		{"a relative key", "Host x\n  IdentityFile id\n", plain, `53:14: machines[2].ssh.alias: "x" in FILE: IdentityFile "id" is neither absolute nor in ~/`},
		{"a port", "Host x\n  Port 70000\n", plain, `53:14: machines[2].ssh.alias: "x" in FILE: "" and "x:70000" are not a user and host:port`},
		{"a ring", "Host x\n  ProxyJump y\nHost y\n  ProxyJump x\n", plain, `53:14: machines[2].ssh.alias: ProxyJump x leads round in a ring`},
		{"no user", "Host x\n  Port 22\n", "      alias: x\n      key_file: id\n      known_hosts: [known]\n", `53:7: machines[2].ssh.user: is missing`},
		{"no key", "Host x\n  User root\n", "      alias: x\n      known_hosts: [known]\n", `53:7: machines[2].ssh.key_file: is missing`},
		{"a jump without known_hosts", "Host x\n  ProxyJump y\n", "      alias: x\n      user: root\n      key_file: id\n      host_keys: [SHA256:FYZCFOpyWLUAfQ21vgXVvDm0+XC/F/oqULmCVA5Bdv4]\n",
			`53:14: machines[2].ssh.alias: "x" has a ProxyJump, whose key can be verified by known_hosts only, which this host has not`},
		{"become of root", "Host x\n  User root\n", "      alias: x\n      key_file: id\n      known_hosts: [known]\n      become: sudo\n", `56:15: machines[2].ssh.become: is for a user who is not root`},
	} {
		t.Run(test.name, func(t *testing.T) {
			text, folder := aliasText(t, test.config, test.store)
			name := filepath.Join(folder, "inventory.yaml")
			_, err := Parse([]byte(text), name)
			var invalid *strict.Error
			require.True(t, errors.As(err, &invalid), "%v", err)
			require.Equal(t, name+":"+strings.ReplaceAll(test.want, "FILE", filepath.Join(folder, "config")), invalid.Error())
		})
	}
	data, err := os.ReadFile(reachFile)
	require.NoError(t, err)
	_, err = Parse([]byte(strings.Replace(string(data), "via: host-a", "alias: x", 1)), "inventory.yaml")
	require.EqualError(t, err, "inventory.yaml:53:14: machines[2].ssh.alias: is one of a file that the setting ssh_config names: give that")
	_, err = Parse([]byte(strings.Replace(string(data), "version: 2\n", "version: 2\nssh_config: /nowhere/config\n", 1)), "inventory.yaml")
	require.EqualError(t, err, "inventory.yaml:4:13: ssh_config: open /nowhere/config: no such file or directory")
}
