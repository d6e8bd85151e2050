package testbed

import (
	"crypto/ed25519"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"heliotrope/internal/inventory"
	"heliotrope/internal/remote"
	"heliotrope/internal/remote/remotetest"
)

// TestConnections reaches hosts in the ways of inventories: through both kinds of jump
// hosts, each of which is connected to once, with known_hosts, and with sudo.
func TestConnections(t *testing.T) {
	_, private, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	block, err := ssh.MarshalPrivateKey(private, "")
	require.NoError(t, err)
	key, err := ssh.NewSignerFromKey(private)
	require.NoError(t, err)
	folder := t.TempDir()
	keyFile, known := filepath.Join(folder, "key"), filepath.Join(folder, "known_hosts")
	require.NoError(t, os.WriteFile(keyFile, pem.EncodeToMemory(block), 0o600))
	outer, inner, host := remotetest.NewServer(t), remotetest.NewServer(t), remotetest.NewServer(t)
	var lines string
	for _, server := range []*remotetest.Server{outer, inner, host} {
		server.Accept(key.PublicKey())
		lines += knownhosts.Line([]string{server.Address()}, server.PublicKey()) + "\n"
	}
	require.NoError(t, os.WriteFile(known, []byte(lines), 0o600))
	user := "tester"
	var root inventory.Root
	if remotetest.CanPlayUser() {
		user, root = remotetest.User, inventory.Root{Become: inventory.Sudo, PasswordFrom: "env:HELIOTROPE_TEST_PASSWORD"}
		t.Setenv("HELIOTROPE_TEST_PASSWORD", remotetest.UserPassword)
		host.PlayUser(t, remotetest.User+" ALL=(root) ALL\n")
	}
	login := inventory.Login{User: user, KeyFile: keyFile, KnownHosts: []string{known}}
	inv := &inventory.Inventory{
		Bastions: []inventory.Bastion{
			{Name: "outer", Address: outer.Address(), Login: login},
			{Name: "inner", Address: inner.Address(), Via: "outer", Login: login},
		},
		Machines: []inventory.Machine{
			{Name: "host-a", SSH: inventory.SSH{Address: host.Address(), Via: "inner", Login: login, Root: root}},
			{Name: "host-b", SSH: inventory.SSH{Address: host.Address(), Via: "jump@" + inner.Address(), Login: login, Root: root}},
			{Name: "store", SSH: inventory.SSH{Address: host.Address(), Via: "outer", Login: login, Root: root}},
		},
	}
	w := newConnections(inv)
	defer func() { require.NoError(t, w.close()) }()
	for i := range inv.Machines {
		connected, err := w.to(inv.Machines[i].Name, inv.Machines[i].SSH)
		require.NoError(t, err)
		result, err := connected.Run(t.Context(), remote.Command{Args: []string{"id", "-un"}})
		require.NoError(t, err)
		if remotetest.CanPlayUser() {
			require.Equal(t, "root\n", string(result.Stdout))
		}
	}
	require.Equal(t, 1, outer.Connections(), "the bastion of two")
	require.Equal(t, 2, inner.Connections(), "of the list, and user@host:port")

	inv.Bastions[0].KeyFile = filepath.Join(folder, "nowhere")
	_, err = newConnections(inv).to("store", inv.Machines[2].SSH)
	require.ErrorContains(t, err, "the jump host of store: outer: private key: open "+inv.Bastions[0].KeyFile)
}
