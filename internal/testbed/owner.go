package testbed

import (
	"fmt"
	"strings"

	"heliotrope/internal/hypervisor"
	"heliotrope/internal/inventory"
	"heliotrope/internal/owner"
	"heliotrope/internal/record"
	"heliotrope/internal/storage"
)

// Leases are the machines that a campaign leases while it runs: those with a shell. A
// site's host without a shell cannot be leased: whoever shares it between inventories
// must make sure himself that only one uses it.
func (t *Testbed) Leases() owner.Hosts {
	byAddress := map[string]owner.Host{}
	for _, host := range t.shells() {
		byAddress[t.Inventory.PlaceOf(host.SSH)] = owner.Host{Runner: t.hosts[host.Name], Ending: t.ending(host),
			Args: []string{t.Name(), hypervisor.UUID(t.DomainName(GuestName)).String(), runDir(host, t.Name())}}
	}
	return owner.Of(byAddress)
}

// Forgo refuses all further operations on machines that could not be leased. away has
// the reason by machine: operations there then fail as on a machine that cannot be
// reached.
func (t *Testbed) Forgo(away map[string]error) {
	for name, err := range away {
		if host := t.hosts[name]; host != nil {
			host.Refuse(fmt.Sprintf("nothing is done there without its lease: %s", err))
		}
	}
}

// ending is a text for sh(1) with which a host by itself ends what would otherwise go
// on for ever when its owner is gone: the guest with its load, and our processes, whose
// files would fill the host's disk. Before that, because a toolstack may hang, it
// removes what would disturb the work of others, and restores the settings that drivers
// have borrowed. Its arguments are the testbed's label, the guest's UUID, and the
// folder of the processes.
func (t *Testbed) ending(host *inventory.Machine) string {
	var parts []string
	for _, system := range t.storages {
		if ender, ends := system.(storage.Ender); ends {
			parts = append(parts, ender.Ending(host.Name))
		}
	}
	parts = append(parts, owner.GivingBack)
	if site, is := t.siteOf(host.Name); is {
		if ender, ends := t.hypervisors[site].(hypervisor.Ender); ends {
			parts = append(parts, ender.Ending())
		}
	}
	parts = append(parts, "set -- \"$3\"\n"+record.Sweeping)
	return "(\n" + strings.Join(parts, "\n:)\n(\n") + "\n:)"
}
