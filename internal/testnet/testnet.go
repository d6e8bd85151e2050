// Package testnet has the rules for addresses on the test network: which addresses its machines
// may have, and how the programs that use the network expect them to be written.
//
// It promises that every part of Heliotrope treats the versions of IP in the same way: what
// differs between them follows from Family. All addresses of one testbed are of one family; package
// inventory checks that.
//
// Sources: RFC 791 (IPv4), RFC 8200 (IPv6), RFC 4291 (IPv6 addresses), RFC 3986 (brackets).
package testnet

import (
	"fmt"
	"net/netip"
)

// Family is a version of IP: 4 or 6.
type Family uint8

// The versions of IP.
const (
	IPv4 Family = 4
	IPv6 Family = 6
)

// FamilyOf is the family of a valid address.
func FamilyOf(address netip.Addr) Family {
	if address.Is4() {
		return IPv4
	}
	return IPv6
}

// String is "IPv4" or "IPv6".
func (f Family) String() string { return fmt.Sprintf("IPv%d", uint8(f)) }

// HeaderBytes is the length of a packet's IP header, without options and extension headers (RFC
// 791, section 3.1; RFC 8200, section 3).
func (f Family) HeaderBytes() int {
	if f == IPv4 {
		return 20
	}
	return 40
}

// MinMTU is the smallest MTU of a network interface, in bytes. For IPv4 it is the length of the
// packets that every host accepts (RFC 791, section 3.1). With less than the 1280 bytes of RFC
// 8200, section 5, Linux removes the IPv6 addresses of an interface.
func (f Family) MinMTU() int {
	if f == IPv4 {
		return 576
	}
	return 1280
}

// Check returns what keeps a machine from having the address on the test network; nil when nothing
// does.
func Check(address netip.Addr) error {
	switch {
	case address.Is4In6():
		return fmt.Errorf("%s is an IPv4 address written as IPv6: want %s", address, address.Unmap())
	case address.Is6() && address.IsLinkLocalUnicast():
		return fmt.Errorf("%s is link-local, and means nothing without the name of an interface: want a global address or a unique local one, such as fd00::1", address)
	case address.Zone() != "":
		return fmt.Errorf("%s has a zone, the name of an interface on one machine: want an address that is the same on all machines", address)
	case address.IsUnspecified() || address.IsMulticast() || address.IsLoopback():
		return fmt.Errorf("%s is not the address of one host", address)
	}
	return nil
}

// Bracketed is an address as it is written before a colon that something else follows, such as a
// path: 198.18.0.3, [fd00::3] (RFC 3986, section 3.2.2). For an address with a port use
// netip.AddrPort.
func Bracketed(address netip.Addr) string {
	if FamilyOf(address) == IPv4 {
		return address.String()
	}
	return "[" + address.String() + "]"
}
