package inventory

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"heliotrope/internal/testnet"
)

// CheckGuestNetwork says what is wrong with the address and the MTU (bytes) of a guest's
// interface on the test network, as Load does for an inventory's guest.
func CheckGuestNetwork(address netip.Prefix, mtu int) error {
	var problems []error
	if !address.IsValid() || testnet.Check(address.Addr()) != nil || address.Addr() == address.Masked().Addr() {
		problems = append(problems, fmt.Errorf("%s is not the address of one host with its network's prefix length, such as 198.18.0.9/24 or fd00::9/64", address))
	}
	if least := max(minMTU, testnet.FamilyOf(address.Addr()).MinMTU()); mtu < least || mtu > maxMTU {
		problems = append(problems, fmt.Errorf("MTU %d: want %d to %d", mtu, least, maxMTU))
	}
	return errors.Join(problems...)
}

// address checks the address of one machine on the test network.
func (c checker) address(setting string, address netip.Addr) {
	if !c.Need(setting) {
		return
	}
	if err := testnet.Check(address); err != nil {
		c.Report(setting, "%s", err)
	}
}

// family checks that all addresses of the test network are of one family, the guest's: nothing
// translates between the two.
func (c checker) family(inventory *Inventory) {
	first, family := "", testnet.Family(0)
	same := func(setting string, address netip.Addr) {
		switch is := testnet.FamilyOf(address); {
		case !c.Given(setting) || !c.Clean(setting):
		case first == "":
			first, family = setting, is
		default:
			c.Check(setting, is == family, "%s is %s, and %s is %s: want one of the two for the whole test network", address, is, first, family)
		}
	}
	same("guest.address", inventory.Guest.Address.Addr())
	for i := range inventory.Machines {
		same(fmt.Sprintf("machines[%d].address", i), inventory.Machines[i].Address)
	}
	for _, system := range slices.Sorted(maps.Keys(inventory.Mounts)) {
		same("mounts."+system+".server", inventory.Mounts[system].Server)
	}
}

// network checks that the guest's network is that of the machines, because nothing routes
// between two networks, and that its MTU is large enough for the network's family.
func (c checker) network(inventory *Inventory) {
	if !c.Given("guest.address") || !c.Clean("guest.address") {
		return
	}
	guest := inventory.Guest.Address
	if family := testnet.FamilyOf(guest.Addr()); c.Clean("guest.mtu") {
		c.Check("guest.mtu", inventory.Guest.MTU >= family.MinMTU(), "%d: want at least %d with %s", inventory.Guest.MTU, family.MinMTU(), family)
	}
	for i := range inventory.Machines {
		host, at := &inventory.Machines[i], fmt.Sprintf("machines[%d]", i)
		if !c.Given(at+".address") || !c.Clean(at+".address") {
			continue
		}
		c.Check("guest.address", guest.Contains(host.Address), "%s is not in one network with %s.address %s", guest, at, host.Address)
		c.Check("guest.address", guest.Addr() != host.Address, "%s is %s's already", guest.Addr(), at)
	}
}
