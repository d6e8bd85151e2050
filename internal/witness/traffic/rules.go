package traffic

import (
	"fmt"

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

// matchesOf returns the rules of a class. A class with ports has one rule for the sender's port
// and one for the receiver's.
func matchesOf(class witness.Class, set *nftables.Set) [][]expr.Any {
	if class.Protocol == "arp" {
		return [][]expr.Any{ofEtherType(unix.ETH_P_ARP)}
	}
	var matches []expr.Any
	if set != nil {
		matches = betweenAddresses(set)
	}
	matches = append(matches,
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{protocols[class.Protocol]}})
	if class.FirstPort == 0 {
		return [][]expr.Any{matches}
	}
	const source, destination = 0, 2 // offsets of the ports in the headers of TCP and UDP
	var rules [][]expr.Any
	for _, offset := range []uint32{source, destination} {
		rules = append(rules, append(matches[:len(matches):len(matches)], withPort(offset, class.FirstPort, max(class.FirstPort, class.LastPort))...))
	}
	return rules
}

func ofEtherType(number uint16) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyPROTOCOL, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(number)},
	}
}

func withPort(offset uint32, first, last uint16) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: 2},
		&expr.Cmp{Op: expr.CmpOpGte, Register: 1, Data: binaryutil.BigEndian.PutUint16(first)},
		&expr.Cmp{Op: expr.CmpOpLte, Register: 1, Data: binaryutil.BigEndian.PutUint16(last)},
	}
}

// betweenAddresses matches packets that have both their addresses in the set.
func betweenAddresses(set *nftables.Set) []expr.Any {
	// RFC 791 and RFC 8200: the receiver's address directly follows the sender's.
	etherType, offset, length := uint16(unix.ETH_P_IP), uint32(12), uint32(4)
	if set.KeyType == nftables.TypeIP6Addr {
		etherType, offset, length = unix.ETH_P_IPV6, 8, 16
	}
	matches := ofEtherType(etherType)
	for _, at := range []uint32{offset, offset + length} {
		matches = append(matches,
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: at, Len: length},
			&expr.Lookup{SourceRegister: 1, SetName: set.Name, SetID: set.ID})
	}
	return matches
}
