package activities

import (
	"errors"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"heliotrope/internal/fault"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/inventory"
	"heliotrope/internal/simulated"
	"heliotrope/internal/trial"
)

// TestBegunAgain: a migration that failed before anything of the guest was sent is tried
// again. A migration that had begun is not, and the next try says how it ended.
func TestBegunAgain(t *testing.T) {
	full := errors.New("host-b: no space left")
	for name, test := range map[string]struct {
		sent bool
		err  error
		says string // by the next try; "" when that may migrate
	}{
		"nothing was sent":               {false, full, ""},
		"some of it was sent":            {true, full, "no space left"},
		"it had begun, without bytes":    {false, errors.Join(full, hypervisor.ErrBegun), "no space left"},
		"nobody knows where it is":       {false, errors.Join(full, hypervisor.ErrUnknown), "no space left"},
		"the target failed, a result":    {false, fault.As(fault.TargetFailed, full), "no space left"},
		"whoever watched it was stopped": {false, fault.As(fault.Cancelled, full), "no space left"},
	} {
		target := Target{DataDir: t.TempDir(), Lane: trial.Lane{Name: "sim", Kind: inventory.Simulated},
			Ref: trial.Ref{Campaign: "unit", Attempt: 1, Now: time.Unix(1_800_000_000, 0)}}
		require.NoError(t, os.MkdirAll(target.WorkFolder(), 0o700), name)
		bed := simulated.Open("sim", target.Ref, simulated.Faults{})
		require.NoError(t, begin(target, bed), name)
		require.NoError(t, unbegin(target, test.sent, test.err), name)
		err := begin(target, bed)
		if test.says == "" {
			require.NoError(t, err, name)
			require.ErrorContains(t, begin(target, bed), "whoever watched the migration was lost", name)
			continue
		}
		require.ErrorContains(t, err, test.says, name)
		require.Equal(t, fault.Invalid, fault.Of(err), name)
	}
}
