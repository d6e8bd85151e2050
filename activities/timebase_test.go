package activities_test

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"heliotrope/internal/cause"
	"heliotrope/internal/simulated"
	"heliotrope/internal/trial"
	"heliotrope/internal/witness"
)

// TestHoleInTheWatch: where nobody watched the hypervisor, a step of the guest's clock does
// not count as a clock that was set: it is not known when the guest stood still.
func TestHoleInTheWatch(t *testing.T) {
	a := newAttempt(t, simulated.Faults{}).collected(t).torn(t, trial.Valid)
	path := a.raw("sim-1-a", witness.DomainsFile)
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Contains(t, string(text), witness.DomainSuspended)
	var kept strings.Builder
	for line := range strings.Lines(string(text)) {
		if !strings.Contains(line, witness.DomainSuspended) {
			kept.WriteString(line)
			continue
		}
		break // its watcher died
	}
	require.NoError(t, os.WriteFile(path, []byte(kept.String()), 0o600))
	concluded := a.conclude(t)
	require.Equal(t, trial.Invalid, concluded.Verdict)
	require.Equal(t, cause.WitnessDied, concluded.Cause, concluded.Reason)
	require.Contains(t, concluded.Reason, "nobody watched the domains of sim-1-a")
}
