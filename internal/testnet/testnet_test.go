package testnet

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFamilies(t *testing.T) {
	for text, want := range map[string]struct {
		family              Family
		name, bracketed     string
		headerBytes, minMTU int
	}{
		"198.18.0.1": {IPv4, "IPv4", "198.18.0.1", 20, 576},
		"fd00::1":    {IPv6, "IPv6", "[fd00::1]", 40, 1280},
	} {
		address := netip.MustParseAddr(text)
		family := FamilyOf(address)
		require.Equal(t, want.family, family)
		require.Equal(t, want.name, family.String())
		require.Equal(t, want.bracketed, Bracketed(address))
		require.Equal(t, want.headerBytes, family.HeaderBytes())
		require.Equal(t, want.minMTU, family.MinMTU())
	}
}

func TestCheck(t *testing.T) {
	for text, want := range map[string]string{
		"198.18.0.1":        "",
		"169.254.0.1":       "",
		"fd00:198:18::1":    "",
		"2001:db8::1":       "",
		"::ffff:198.18.0.1": "::ffff:198.18.0.1 is an IPv4 address written as IPv6: want 198.18.0.1",
		"fe80::1":           "fe80::1 is link-local, and means nothing without the name of an interface",
		"fe80::1%br0":       "fe80::1%br0 is link-local",
		"fd00::1%br0":       "fd00::1%br0 has a zone, the name of an interface on one machine",
		"::":                ":: is not the address of one host",
		"::1":               "::1 is not the address of one host",
		"ff02::1":           "ff02::1 is not the address of one host",
		"0.0.0.0":           "0.0.0.0 is not the address of one host",
		"127.0.0.1":         "127.0.0.1 is not the address of one host",
		"224.0.0.1":         "224.0.0.1 is not the address of one host",
	} {
		err := Check(netip.MustParseAddr(text))
		if want == "" {
			require.NoError(t, err)
			continue
		}
		require.ErrorContains(t, err, want)
	}
}
