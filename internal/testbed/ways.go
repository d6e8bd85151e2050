package testbed

import (
	"net/netip"
	"slices"

	"heliotrope/internal/inventory"
	"heliotrope/internal/survey"
	"heliotrope/internal/wan"
	"heliotrope/internal/witness"
)

// ways are the TCP ports that machines must reach at each other for a campaign. They
// follow from the drivers' classes of traffic: the first and the last port of each class.
// A class without addresses is traffic of the storage server. UDP, and what the guest
// sends, cannot be tried beforehand.
func (t *Testbed) ways(uses Uses) []survey.Way {
	inv := t.Inventory
	a, b, store := inv.SiteA(), inv.SiteB(), inv.Store()
	var all []survey.Way
	add := func(from, to *inventory.Machine, class witness.Class) {
		for _, port := range slices.Compact([]uint16{class.FirstPort, max(class.FirstPort, class.LastPort)}) {
			way := survey.Way{From: from.Name, To: to.Name, At: netip.AddrPortFrom(to.Address, port), For: class.Name}
			if class.Protocol == "tcp" && !slices.Contains(all, way) {
				all = append(all, way)
			}
		}
	}
	if !uses.NoHypervisor {
		for _, site := range sites {
			for _, class := range t.hypervisors[site].Traffic() {
				add(a, b, class)
				add(b, a, class)
			}
		}
	}
	for _, system := range t.storages {
		if !slices.ContainsFunc(uses.Storages, func(use StorageUse) bool { return use.Name == system.Kind() }) {
			continue
		}
		for _, class := range system.Traffic() {
			if len(class.Between) > 0 {
				add(a, b, class)
				add(b, a, class)
				continue
			}
			add(a, store, class)
			add(b, store, class)
		}
	}
	if !uses.NoWAN {
		certificate := witness.Class{Name: "the WAN's certificate", Protocol: "tcp", FirstPort: wan.CertifyPort}
		add(inv.EndA(), inv.EndB(), certificate)
		add(inv.EndB(), inv.EndA(), certificate)
	}
	return all
}
