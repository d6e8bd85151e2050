package activities

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"heliotrope/activities/machine"
	"heliotrope/analysis/dataset"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/simulated"
	"heliotrope/internal/storage"
	"heliotrope/internal/testbed"
	"heliotrope/internal/trial"
	"heliotrope/internal/witness"
)

// bare is a testbed with hosts on which nothing of ours runs.
type bare struct {
	*simulated.Bed
	host testbed.Hypervisor
}

func (b *bare) Hypervisor(storage.Site) testbed.Hypervisor { return b.host }

func (b *bare) Machines() []trial.Machine {
	return []trial.Machine{{Name: "a", Site: "a"}, {Name: "b", Site: "b"}, {Name: "store", Witness: true}}
}

type recording struct {
	testbed.Hypervisor
	hypervisor.Recorder
}

// TestAbsent: a witness is absent where nobody could observe, and present where somebody
// could.
func TestAbsent(t *testing.T) {
	full := simulated.Open("sim", trial.Ref{Now: time.Unix(1_800_000_000, 0)}, simulated.Faults{})
	setup := func(roles ...string) map[string]machine.RecordingSetup {
		config := &witness.HostConfig{}
		for _, role := range roles {
			config.Sources = append(config.Sources, witness.Source{Role: role, Device: "/dev/sda"})
		}
		return map[string]machine.RecordingSetup{"store": {Host: config}, trial.Guest: {}}
	}
	require.Empty(t, absent(full, setup(witness.GuestDisk)))
	require.Equal(t, []string{dataset.WitnessBackend}, absent(full, setup(witness.Target)))
	b := &bare{Bed: full, host: full.Hypervisor(storage.SiteA)}
	require.Equal(t, []string{dataset.WitnessHypervisor, dataset.WitnessBackend}, absent(b, setup()))
	require.Equal(t, []string{dataset.WitnessHypervisor}, absent(b, setup(witness.GuestDisk)))
	b.host = &recording{}
	require.Equal(t, []string{dataset.WitnessBackend}, absent(b, setup(witness.Target)))
}
