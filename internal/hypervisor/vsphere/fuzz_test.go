package vsphere

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzMachineLog: whatever a machine's log says, each stop of it has an end that is not before its beginning.
func FuzzMachineLog(f *testing.F) {
	f.Fuzz(func(t *testing.T, text string) {
		log, err := parseLog(strings.NewReader(text))
		if err != nil {
			require.NotContains(t, err.Error(), "\n")
			return
		}
		require.LessOrEqual(t, len(log.stops), strings.Count(text, "Checkpoint_Unstun: vm stopped"))
		for _, stop := range log.stops {
			require.False(t, stop.To.Before(stop.From), stop)
			require.LessOrEqual(t, stop.To.Sub(stop.From), maxStop)
			require.GreaterOrEqual(t, stop.Resolution, logResolution)
		}
	})
}
