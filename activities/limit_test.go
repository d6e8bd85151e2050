package activities

import (
	"testing"

	"github.com/stretchr/testify/require"

	"heliotrope/internal/cause"
	"heliotrope/internal/hypervisor"
)

// TestTooSlowIsNoNonConvergence: a migration that was still in its first round at its limit
// never had to send what the guest wrote meanwhile.
func TestTooSlowIsNoNonConvergence(t *testing.T) {
	for want, progress := range map[cause.Code]hypervisor.Progress{
		cause.TooSlow:        {SentBytes: 128<<20 - 1, MemoryBytes: 128 << 20},
		cause.NonConvergence: {SentBytes: 128 << 20, MemoryBytes: 128 << 20},
	} {
		require.Equal(t, want, causeAtLimit(progress))
	}
	require.Equal(t, cause.NonConvergence, causeAtLimit(hypervisor.Progress{SentBytes: 5}), "the memory is not known")
	require.Equal(t, cause.TimeOut, causeAtLimit(hypervisor.Progress{MemoryBytes: 128 << 20, Phase: "running 40 %"}), "neither bytes nor rounds are told")
}
