package testbed

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzFacts: whatever a host says of itself, it has a kernel, processors and memory, or is refused.
func FuzzFacts(f *testing.F) {
	f.Add("kernel 6.1.0-56-amd64\ncpus 1\nmemory_mib 1023\nqemu 7.2.22\n")
	f.Fuzz(func(t *testing.T, text string) {
		var facts hostFacts
		if err := facts.parse(text); err != nil {
			require.NotContains(t, err.Error(), "\n")
			return
		}
		require.NotEmpty(t, facts.Kernel)
		require.Positive(t, min(facts.CPUs, facts.MemoryMiB))
	})
}
