package vcenter

import (
	"context"
	"errors"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"

	"heliotrope/internal/poll"
)

// findPause is the pause between two attempts to find a lost guest.
const findPause = 5 * time.Second

// lose shows a machine as one whose host is disconnected, because it is not known where its guest
// runs. Until that is known, other calls on the machine are refused, and the guest is searched
// for. Then what is known of the guest's stops is written to its logs.
func (m *machine) lose(sim *simulator.Context, v view, wanted move, stuns []Stun) {
	m.setLost(true)
	m.setConnection(sim, types.VirtualMachineConnectionStateDisconnected)
	m.center.working.Go(func() {
		// It ends with the vCenter at the latest; then nobody needs the result.
		_ = poll.Until(m.center.ctx, m.center.findPause, func(ctx context.Context) (bool, error) {
			at, err := m.center.guests.Find(ctx, v.guest, wanted.from)
			switch {
			case errors.Is(err, errGone):
				m.setPower(sim, types.VirtualMachinePowerStatePoweredOff)
			case err != nil:
				m.center.note(v, err)
				return false, nil
			default:
				m.center.note(v, m.found(sim, v, wanted, at, stuns))
			}
			m.setConnection(sim, types.VirtualMachineConnectionStateConnected)
			m.setLost(false)
			return true, nil
		})
	})
}

func (m *machine) setLost(lost bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lost = lost
}

// setConnection tells whether the machine's host is connected.
func (m *machine) setConnection(sim *simulator.Context, state types.VirtualMachineConnectionState) {
	sim.Map.AtomicUpdate(sim, m.VirtualMachine, []types.PropertyChange{
		{Name: "runtime.connectionState", Val: state}, {Name: "summary.runtime.connectionState", Val: state},
	})
}
