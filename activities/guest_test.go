package activities

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"heliotrope/activities/pulse/pulsetest"
	"heliotrope/internal/campaign"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/simulated"
	"heliotrope/internal/storage"
	"heliotrope/internal/testbed"
	"heliotrope/internal/trial"
)

// notingBed notes which guest it is to start, and starts none.
type notingBed struct {
	testbed.Bed
	started *testbed.Guest
}

func (b notingBed) StartGuest(_ context.Context, _ storage.Site, guest testbed.Guest) (hypervisor.Domain, error) {
	*b.started = guest
	return hypervisor.Domain{}, errors.New("it was noted")
}

// TestGuestOfACell: the guest that is started, the one that migrates and the one for which
// the hosts are looked at are what the cell says.
func TestGuestOfACell(t *testing.T) {
	for name, cell := range map[string]campaign.Cell{
		"both factors": {Storage: "nfs", WAN: "lan", GuestMemoryMiB: 256, GuestVCPUs: 4},
		"neither":      {Storage: "nfs", WAN: "lan"},
	} {
		t.Run(name, func(t *testing.T) {
			target := night(t)
			target.Ref.Trial.Cell = cell
			var started testbed.Guest
			testbeds := &Testbed{Open: func(_ context.Context, lane trial.Lane, ref trial.Ref) (testbed.Bed, error) {
				return notingBed{simulated.Open(lane.Name, ref, simulated.Faults{}), &started}, nil
			}}
			_, err := pulsetest.Run(t.Context(), func(ctx context.Context) error {
				_, err := testbeds.Provision(ctx, ProvisionInput{Target: target, DiskMiB: 64})
				return err
			})
			require.ErrorContains(t, err, "it was noted")
			require.Equal(t, []int{cell.GuestMemoryMiB, cell.GuestVCPUs}, []int{started.MemoryMiB, started.VCPUs})
			require.Equal(t, started, MigrateInput{Target: target, Disk: started.Disk}.guest())
			uses := ReadyInput{Target: target}.uses()
			require.Equal(t, []int{cell.GuestMemoryMiB, cell.GuestVCPUs}, []int{uses.MemoryMiB, uses.VCPUs})
		})
	}
}

// TestRowSaysWhatTheGuestWas: a guest of which nothing was asked had one processor, and what
// memory it had nobody knows.
func TestRowSaysWhatTheGuestWas(t *testing.T) {
	row := rowOf(campaign.Cell{GuestMemoryMiB: 256, GuestVCPUs: 4}, Migrated{})
	require.Equal(t, []int32{256, 4}, []int32{*row.GuestMemoryMiB, *row.GuestVCPUs})
	row = rowOf(campaign.Cell{}, Migrated{})
	require.Equal(t, int32(1), *row.GuestVCPUs)
	require.Nil(t, row.GuestMemoryMiB)
}
