package testbed

import (
	"context"

	"heliotrope/internal/inventory"
	"heliotrope/internal/trial"
	"heliotrope/internal/wan"
)

// Certify measures the path between the WAN's ends in both directions, against the
// profile of the trial's cell, while nothing else uses it. InstallWitness must
// have been called for both ends.
func (t *Testbed) Certify(ctx context.Context, ref trial.Ref) (wan.Certificate, error) {
	inv := t.Inventory
	profile, err := wan.ParseProfile(ref.Trial.Cell.WAN)
	if err != nil {
		return wan.Certificate{}, err
	}
	request := wan.CertifyRequest{A: t.wanSite(inv.EndA()), B: t.wanSite(inv.EndB()), Shaper: t.Shaper(), Profile: profile}
	if bridge := inv.Machine(inv.WAN.Host); bridge != nil && !inv.IsEnd(bridge.Name) {
		request.Bridge = bridge.Address
	}
	return wan.Certify(ctx, request)
}

func (t *Testbed) wanSite(host *inventory.Machine) wan.Site {
	return wan.Site{Host: t.hosts[host.Name], Address: host.Address, Witness: t.witnessProgram(host.Name)}
}
