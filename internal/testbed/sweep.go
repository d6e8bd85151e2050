package testbed

import (
	"context"
	"errors"
	"slices"

	"heliotrope/internal/gather"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/inventory"
)

// Ours lists what belongs to the testbed on its machines, by machine, a line for
// each thing. It goes by the labels alone, changes nothing, and goes on past
// machines that cannot be asked.
func (t *Testbed) Ours(ctx context.Context) (map[string][]string, error) {
	snapshot, err := t.seen(ctx)
	all := map[string][]string{}
	for machine, found := range snapshot {
		if len(found.Ours) > 0 {
			all[machine] = slices.Compact(found.Ours) // a file may be listed twice
		}
	}
	if _, told := t.Shaper().(hypervisor.Maker); told {
		return all, err
	}
	state, pathErr := t.Shaper().State(ctx)
	if pathErr == nil && (state.ToA != nil || state.ToB != nil || state.LeaseHeld) {
		place := t.Inventory.WAN.Host
		all[place] = append(all[place], "shaping of "+t.Inventory.WAN.Device)
	}
	return all, errors.Join(err, pathErr)
}

// Sweep is Teardown, and also removes our programs from the machines.
func (t *Testbed) Sweep(ctx context.Context) error {
	return errors.Join(t.Teardown(ctx), gather.Each(t.shells(), func(host *inventory.Machine) error {
		return RemovePrograms(ctx, t.hosts[host.Name], t.ProgramDir(host.Name))
	}))
}
