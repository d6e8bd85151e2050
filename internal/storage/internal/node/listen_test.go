package node_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"heliotrope/internal/inventory"
	"heliotrope/internal/remote/remotetest"
	"heliotrope/internal/storage/internal/node"
)

// TestListeningPorts: a port counts where a program listens that takes connections to the machine's address.
func TestListeningPorts(t *testing.T) {
	fake := remotetest.NewFake(t, "store")
	require.NoError(t, fake.Memory().MkdirAll("/proc/net"))
	for file, text := range map[string]string{
		// 198.18.0.3, all IPv4 addresses, and 127.0.0.1, as the kernel prints them.
		"tcp": "0: 030012C6:0001 00000000:0000 0A 0\n1: 00000000:0002 00000000:0000 0A 0\n2: 0100007F:0009 00000000:0000 0A 0\n",
		// fd00:198:18::3, all IPv6 addresses, ::ffff:198.18.0.3, and ::1.
		"tcp6": "0: 980100FD000018000000000003000000:0003 00000000000000000000000000000000:0000 0A 0\n" +
			"1: 00000000000000000000000000000000:0004 00000000000000000000000000000000:0000 0A 0\n" +
			"2: 0000000000000000FFFF0000030012C6:0005 00000000000000000000000000000000:0000 0A 0\n" +
			"3: 00000000000000000000000001000000:0009 00000000000000000000000000000000:0000 0A 0\n",
	} {
		require.NoError(t, fake.Memory().WriteFile("/proc/net/"+file, []byte(text), 0o644))
	}
	for address, want := range map[string]map[uint16]bool{
		"198.18.0.3":     {1: true, 2: true, 4: true, 5: true},
		"fd00:198:18::3": {3: true, 4: true},
	} {
		n := node.New(setup(fake), &inventory.Machine{Name: "store", DataDir: data, Address: netip.MustParseAddr(address)})
		ports, err := n.ListeningPorts(t.Context())
		require.NoError(t, err)
		require.Equal(t, want, ports, address)
	}
}
