package vcenter

import (
	"context"
	"errors"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"

	"heliotrope/internal/poll"
)

// findPause is between two questions of where a lost guest is.
const findPause = 5 * time.Second

// lose shows a machine as one whose host is not connected: where it runs, nobody knows.
// It is refused to all others, and asked for, until somebody does. What is known of the
// guest's stops is written to its logs then.
func (m *machine) lose(sim *simulator.Context, v view, wanted move, stuns []Stun) {
	m.setLost(true)
	m.setConnection(sim, types.VirtualMachineConnectionStateDisconnected)
	m.center.working.Go(func() {
		// It ends with the vCenter at the latest, and then there is nobody to be told.
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
