package traffic

import (
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"heliotrope/internal/witness"
)

// protocols maps protocols to their numbers in an IP header.
var protocols = map[string]byte{"icmp": unix.IPPROTO_ICMP, "icmpv6": unix.IPPROTO_ICMPV6, "tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP}

// onOtherDevice matches packets that do not pass through the device. The kernel compares the
// whole field, padded with zeros.
func onOtherDevice(key expr.MetaKey, device string) []expr.Any {
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, device)
	return []expr.Any{
		&expr.Meta{Key: key, Register: 1},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: name},
	}
}

// addSet adds the set of a class's addresses, or returns nil when the class has none.
func (c *Counting) addSet(number int, class witness.Class) (*nftables.Set, error) {
	if len(class.Between) == 0 {
		return nil, nil
	}
	set := &nftables.Set{Table: c.table, Name: fmt.Sprintf("between-%d", number), KeyType: nftables.TypeIPAddr}
	if class.Between[0].Is6() {
		set.KeyType = nftables.TypeIP6Addr
	}
	var elements []nftables.SetElement
	for _, address := range class.Between {
		elements = append(elements, nftables.SetElement{Key: address.AsSlice()})
	}
	return set, c.connection.AddSet(set, elements)
}

// matchesOf returns the rules of a class, which is of either version of IP when it has no
// addresses. A class with ports has one rule for the sender's port and one for the receiver's.
func matchesOf(class witness.Class, set *nftables.Set) [][]expr.Any {
	if class.Protocol == "arp" {
		return [][]expr.Any{ofEtherType(unix.ETH_P_ARP)}
	}
	var rules [][]expr.Any
	if class.Protocol != "icmpv6" && (set == nil || set.KeyType == nftables.TypeIPAddr) {
		rules = overIPv4(class, set)
	}
	if class.Protocol != "icmp" && (set == nil || set.KeyType == nftables.TypeIP6Addr) {
		rules = append(rules, overIPv6(class, set)...)
	}
	return rules
}

// overIPv4 returns the rules for packets of IPv4 (RFC 791, section 3.1).
func overIPv4(class witness.Class, set *nftables.Set) [][]expr.Any {
	return withPorts(class, expr.PayloadBaseTransportHeader, 0, slices.Concat(ofEtherType(unix.ETH_P_IP), betweenAddresses(set, 12, 4), []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{protocols[class.Protocol]}}}))
}

// overIPv6 returns the rules for packets of IPv6 (RFC 8200, section 3). They find everything by
// its offset from the beginning of the IPv6 header. They do not use the kernel's own search for the
// protocol (ipv6_find_hdr in net/ipv6/exthdrs_core.c, Linux 6.1 and 6.18): it reads the header from
// the packet's linear part, where a long packet from a virtio card has only the Ethernet header, so
// that such a packet matches by chance. Packets of TCP and UDP with extension headers, which none
// of the measured programs sends, match no class.
func overIPv6(class witness.Class, set *nftables.Set) [][]expr.Any {
	const nextHeader, end = 6, 40
	matches := slices.Concat(ofEtherType(unix.ETH_P_IPV6), betweenAddresses(set, 8, 16))
	rules := withPorts(class, expr.PayloadBaseNetworkHeader, end, slices.Concat(matches, withByte(nextHeader, protocols[class.Protocol])))
	if class.Protocol == "icmpv6" { // group memberships are reported behind a header with options (RFC 3810, section 5)
		rules = append(rules, slices.Concat(matches, withByte(nextHeader, unix.IPPROTO_HOPOPTS), withByte(end, unix.IPPROTO_ICMPV6)))
	}
	return rules
}

// withByte matches packets that have the byte at the offset from the beginning of the IP header.
func withByte(offset uint32, value byte) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{value}},
	}
}

// withPorts adds the class's ports to the matches. The headers of TCP and UDP begin at the offset
// from the base.
func withPorts(class witness.Class, base expr.PayloadBase, offset uint32, matches []expr.Any) [][]expr.Any {
	if class.FirstPort == 0 {
		return [][]expr.Any{matches}
	}
	const source, destination = 0, 2 // offsets of the ports in the headers of TCP and UDP
	var rules [][]expr.Any
	for _, port := range []uint32{source, destination} {
		rules = append(rules, slices.Concat(matches, []expr.Any{
			&expr.Payload{DestRegister: 1, Base: base, Offset: offset + port, Len: 2},
			&expr.Cmp{Op: expr.CmpOpGte, Register: 1, Data: binaryutil.BigEndian.PutUint16(class.FirstPort)},
			&expr.Cmp{Op: expr.CmpOpLte, Register: 1, Data: binaryutil.BigEndian.PutUint16(max(class.FirstPort, class.LastPort))},
		}))
	}
	return rules
}

func ofEtherType(number uint16) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyPROTOCOL, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(number)},
	}
}

// betweenAddresses matches packets that have both their addresses in the set, if there is one. The
// sender's address is at the offset in the IP header, and the receiver's directly follows it.
func betweenAddresses(set *nftables.Set, offset, length uint32) []expr.Any {
	if set == nil {
		return nil
	}
	var matches []expr.Any
	for _, at := range []uint32{offset, offset + length} {
		matches = append(matches,
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: at, Len: length},
			&expr.Lookup{SourceRegister: 1, SetName: set.Name, SetID: set.ID})
	}
	return matches
}
