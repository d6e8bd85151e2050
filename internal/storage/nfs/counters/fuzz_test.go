package counters

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzMount: whatever /proc/self/mountstats says, no count is negative, and what is not mounted has none.
func FuzzMount(f *testing.F) {
	f.Add([]byte(stats))
	f.Fuzz(func(t *testing.T, text []byte) {
		counts, _ := parseMount(text, place)
		require.GreaterOrEqual(t, min(counts.readBytes, counts.writeBytes, counts.reads.done, counts.reads.ms, counts.writes.done, counts.writes.ms), int64(0))
		_, found := parseMount(text, "")
		require.False(t, found)
	})
}

// FuzzServer: whatever /proc/net/rpc/nfsd says, no count is negative.
func FuzzServer(f *testing.F) {
	f.Add([]byte(serverText()))
	f.Fuzz(func(t *testing.T, text []byte) {
		reads, writes := operationsOf(text)
		require.GreaterOrEqual(t, min(reads, writes), int64(0))
	})
}
