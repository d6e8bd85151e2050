package inventory

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// overIPv6 is a file with IPv6 addresses on the test network.
func overIPv6(text string) string {
	return strings.NewReplacer("198.18.0.9/24", "fd00:198:18::9/64", "198.18.0.", "fd00:198:18::").Replace(text)
}

func TestIPv6(t *testing.T) {
	for _, text := range []string{overIPv6(good(t)), overIPv6(shellless(t)), overIPv6(mounting(t))} {
		inventory := parse(t, text)
		require.Equal(t, netip.MustParseAddr("fd00:198:18::1"), inventory.SiteA().Address)
		require.Equal(t, netip.MustParsePrefix("fd00:198:18::9/64"), inventory.Guest.Address)
		requireSaved(t, inventory)
	}
}

func TestIPv6Refused(t *testing.T) {
	for _, test := range []struct{ old, put, want string }{
		{"address: fd00:198:18::1\n", "address: 198.18.0.1\n", "x.yaml:22:14: machines[0].address: 198.18.0.1 is IPv4, and guest.address is IPv6: want one of the two for the whole test network"},
		{"address: fd00:198:18::1\n", "address: fd00:198:19::1\n", "x.yaml:48:12: guest.address: fd00:198:18::9/64 is not in one network with machines[0].address fd00:198:19::1"},
		{"address: fd00:198:18::1\n", "address: fd00:198:18:0:0:0:0:2\n", `x.yaml:32:14: machines[1].address: "fd00:198:18::2" is machines[0]'s already`},
		{"fd00:198:18::9/64", "fe80::9/64", "x.yaml:48:12: guest.address: fe80::9 is link-local"},
		{"fd00:198:18::9/64", "fd00:198:18::/64", "x.yaml:48:12: guest.address: fd00:198:18::/64 is not the address of one host"},
		{"fd00:198:18::9/64", "fd00:198:18::2/64", "x.yaml:48:12: guest.address: fd00:198:18::2 is machines[1]'s already"},
		{"mtu: 1500", "mtu: 1279", "x.yaml:49:8: guest.mtu: 1279: want at least 1280 with IPv6"},
	} {
		_ = requireProblem(t, overIPv6(good(t)), test.old, test.put, test.want)
	}
	_ = requireProblem(t, mounting(t), "server: 198.18.0.3\n    export", "server: fd00:198:18::3\n    export", "mounts.nfs.server: fd00:198:18::3 is IPv6, and guest.address is IPv4")
}
