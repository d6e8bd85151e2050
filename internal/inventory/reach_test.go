package inventory

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"heliotrope/internal/strict"
)

const reachFile = "testdata/reach.yaml"

func TestLoadReach(t *testing.T) {
	inventory, err := Load(reachFile)
	require.NoError(t, err)
	folder, err := filepath.Abs("testdata")
	require.NoError(t, err)
	known := filepath.Join(folder, "known_hosts")
	key := filepath.Join(folder, "keys/id.pub")

	host := inventory.SiteA().SSH
	require.Equal(t, SSH{Address: "10.0.0.2:22", Via: "inner", Login: Login{User: "heliotrope", KeyFile: key, KnownHosts: []string{known}},
		Root: Root{Become: Sudo, PasswordFrom: "askpass:" + filepath.Join(folder, "ask")}}, host)
	name, inner, is := inventory.JumpHost(host)
	require.True(t, is)
	require.Equal(t, "inner", name)
	name, outer, is := inventory.JumpHost(inner)
	require.True(t, is)
	require.Equal(t, "outer", name)
	require.Equal(t, SSH{Address: "gate.example.org:22", Login: Login{User: "jump", KeyFile: key, KnownHosts: []string{known, "/etc/ssh/ssh_known_hosts"}}}, outer)
	_, _, is = inventory.JumpHost(outer)
	require.False(t, is)

	name, gate, is := inventory.JumpHost(inventory.SiteB().SSH)
	require.True(t, is)
	require.Equal(t, "jump@gate-b.example.org:2222", name)
	require.Equal(t, SSH{Address: "gate-b.example.org:2222", Login: Login{User: "jump", KeyFile: key, KnownHosts: []string{known}}}, gate)
	name, _, is = inventory.JumpHost(inventory.Store().SSH)
	require.True(t, is)
	require.Equal(t, "host-a", name)

	// The same address behind two different jump hosts means two hosts.
	require.Equal(t, "10.0.0.2:22 via 10.0.0.1:22 via gate.example.org:22", inventory.PlaceOf(host))
	require.Equal(t, "10.0.0.2:22 via gate-b.example.org:2222", inventory.PlaceOf(inventory.SiteB().SSH))
	require.Equal(t, "[2001:db8::3]:22 via 10.0.0.2:22 via 10.0.0.1:22 via gate.example.org:22", inventory.PlaceOf(inventory.Store().SSH))
	require.Equal(t, "file:"+filepath.Join(folder, "guest-password"), inventory.Guest.SSH.PasswordFrom)
	requireSaved(t, inventory)
}

func TestReachIsChecked(t *testing.T) {
	data, err := os.ReadFile(reachFile)
	require.NoError(t, err)
	text := string(data)
	for _, test := range []struct{ name, old, new, want string }{
		{"bastion without a name", "  - name: outer\n    address", "  - address", `15:5: bastions[0].name: is missing
inventory.yaml:21:10: bastions[1].via: "outer" is neither one of bastions nor a machine, and not user@host:port`},
		{"bastion's name", "- name: outer", "- name: Outer", `15:11: bastions[0].name: "Outer" is no name: want 1 to 63 of a-z, 0-9 and -, not beginning with -
inventory.yaml:22:10: bastions[1].via: "outer" is neither one of bastions nor a machine, and not user@host:port`},
		{"bastion twice", "- name: inner", "- name: outer", `20:11: bastions[1].name: "outer" is bastions[0]'s already
inventory.yaml:30:12: machines[0].ssh.via: "inner" is neither one of bastions nor a machine, and not user@host:port`},
		{"bastion a machine", "- name: outer", "- name: store", `15:11: bastions[0].name: "store" is a machine's already
inventory.yaml:22:10: bastions[1].via: "outer" is neither one of bastions nor a machine, and not user@host:port`},
		{"bastion's address", "gate.example.org:22\n", "gate.example.org\n", `16:14: bastions[0].address: "gate.example.org" is not host:port`},
		{"bastion without a user", "    user: jump\n    key_file: keys/id.pub\n    known_hosts", "    key_file: keys/id.pub\n    known_hosts", `15:5: bastions[0].user: is missing`},
		{"bastion becomes root", "    via: outer\n", "    via: outer\n    become: sudo\n", `23:5: bastions[1].become: unknown setting (known: name, address, via, user, key_file, host_keys, known_hosts)`},
		{"bastion without keys", "    host_keys: [SHA256:LNyuqO5gdl6oy+KeQFlFwjoaRzPhcOx78Vag3GUXrlI]\n", "", `20:5: bastions[1].host_keys: is missing`},
		{"via unknown", "via: inner", "via: other", `30:12: machines[0].ssh.via: "other" is neither one of bastions nor a machine, and not user@host:port`},
		{"via itself", "via: inner", "via: host-a", `30:12: machines[0].ssh.via: leads round in a ring: host-a, host-a
inventory.yaml:53:12: machines[2].ssh.via: leads round in a ring: host-a, host-a`},
		{"via a ring", "via: inner", "via: store", `30:12: machines[0].ssh.via: leads round in a ring: store, host-a, store
inventory.yaml:53:12: machines[2].ssh.via: leads round in a ring: host-a, store, host-a`},
		{"via without a port", "jump@gate-b.example.org:2222", "jump@gate-b.example.org", `42:12: machines[1].ssh.via: "jump@gate-b.example.org" is not user@host:port`},
		{"via without known_hosts", "      known_hosts: [known_hosts]\n      become: sudo\n    address: 198.18.0.2\n", "      host_keys: [SHA256:FYZCFOpyWLUAfQ21vgXVvDm0+XC/F/oqULmCVA5Bdv4]\n    address: 198.18.0.2\n",
			`42:12: machines[1].ssh.via: "jump@gate-b.example.org:2222" can be verified by known_hosts only, which this host has not: give it, or make an entry of bastions`},
		{"one place twice", "via: jump@gate-b.example.org:2222", "via: inner", `41:16: machines[1].ssh.address: "10.0.0.2:22 via 10.0.0.1:22 via gate.example.org:22" is machines[0]'s already`},
		{"known_hosts empty", "[known_hosts, /etc/ssh/ssh_known_hosts]", "[]", `19:18: bastions[0].known_hosts: is empty: want the path of at least one file`},
		{"known_hosts text", "[known_hosts, /etc/ssh/ssh_known_hosts]", "known_hosts", `19:18: bastions[0].known_hosts: want a list`},
		{"known_hosts of home", "[known_hosts, /etc/ssh/ssh_known_hosts]", "[~/.ssh/known_hosts]", `19:19: bastions[0].known_hosts[0]: "~/.ssh/known_hosts" is no path (~ is not understood)`},
		{"known_hosts twice", "[known_hosts, /etc/ssh/ssh_known_hosts]", "[known_hosts, known_hosts]", `19:32: bastions[0].known_hosts[1]: "known_hosts" is given twice`},
		{"known_hosts beside host_keys", "    host_keys: [SHA256:LNy", "    known_hosts: [known_hosts]\n    host_keys: [SHA256:LNy", `26:16: bastions[1].host_keys: is given beside known_hosts: want one of them`},
		{"become", "become: sudo\n      sudo_password_from", "become: doas\n      sudo_password_from", `34:15: machines[0].ssh.become: "doas" is no way to become root: want sudo`},
		{"become of root", "      key_file: keys/id\n", "      key_file: keys/id\n      become: sudo\n", `56:15: machines[2].ssh.become: is for a user who is not root`},
		{"a password without sudo", "      become: sudo\n      sudo_password_from", "      sudo_password_from", `34:27: machines[0].ssh.sudo_password_from: is for become: sudo only`},
		{"a password itself", "askpass:ask", "hunter2", `35:27: machines[0].ssh.sudo_password_from: want file:PATH, env:VARIABLE, credential:NAME or askpass:PATH, which say where the password is`},
		{"the guest's", "file:guest-password", "hunter2", `70:25: guest.ssh.sudo_password_from: want file:PATH, env:VARIABLE, credential:NAME or askpass:PATH, which say where the password is`},
	} {
		t.Run(test.name, func(t *testing.T) {
			require.Contains(t, text, test.old)
			_, err := Parse([]byte(strings.Replace(text, test.old, test.new, 1)), "inventory.yaml")
			var invalid *strict.Error
			require.ErrorAs(t, err, &invalid)
			require.Equal(t, "inventory.yaml:"+test.want, invalid.Error())
		})
	}
}

func TestPassword(t *testing.T) {
	folder := t.TempDir()
	program := func(name, text string) string {
		path := filepath.Join(folder, name)
		require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o700))
		return "askpass:" + path
	}
	t.Setenv("HELIOTROPE_TEST_PASSWORD", "pass word")
	for _, from := range []string{
		"env:HELIOTROPE_TEST_PASSWORD",
		program("ask", `[ "$1" = "Password of root@host: " ] && printf 'pass word\r\nmore\n'`),
	} {
		password, err := Password(t.Context(), from, "root@host")
		require.NoError(t, err, from)
		require.Equal(t, "pass word", password, from)
	}
	for from, want := range map[string]string{
		program("cancel", "echo hunter2; echo was cancelled >&2; exit 1"): `the program gave none: exit status 1 ("was cancelled")`,
		program("empty", "echo"):          "it is empty",
		"askpass:" + folder + "/nowhere":  "no such file",
		"askpass:" + folder:               "permission denied",
		"env:HELIOTROPE_NO_SUCH_VARIABLE": "no such variable",
		"hunter2":                         "want file:PATH",
	} {
		_, err := Password(t.Context(), from, "root@host")
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, "the password of root@host")
		if from != "hunter2" {
			require.NotContains(t, err.Error(), "hunter2")
		}
	}
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	_, err := Password(ctx, program("slow", "exec sleep 1000"), "root@host")
	require.ErrorIs(t, err, context.Canceled)
}
