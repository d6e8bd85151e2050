package xen

import (
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"

	"heliotrope/internal/hypervisor"
)

// FuzzList: whatever xl list prints, what is taken of it for ours has our label and the UUID that follows from its name, what is
// taken for a stranger's has not, and numbers can be.
func FuzzList(f *testing.F) {
	host := newHost(hypervisor.Setup{Label: "lab"})
	f.Fuzz(func(t *testing.T, text string) {
		all, err := host.parseList(text)
		if err != nil {
			require.NotContains(t, err.Error(), "\n")
			return
		}
		for _, domain := range all.ours {
			require.True(t, host.isLabelled(domain.Name) && domain.uuid == hypervisor.UUID(domain.plain()), "%q", domain.Name)
		}
		for _, domain := range all.strangers {
			require.True(t, host.isLabelled(domain.Name) && domain.uuid != hypervisor.UUID(domain.plain()), "%q", domain.Name)
		}
		for _, domain := range slices.Concat(all.ours, all.nameless, all.strangers) {
			require.False(t, strings.ContainsFunc(domain.Name, unicode.IsSpace) || strings.ContainsFunc(domain.Name, unicode.IsControl), "%q", domain.Name)
			require.NotEmpty(t, domain.Status)
			require.GreaterOrEqual(t, min(domain.ID, domain.MemoryMiB), 0)
			require.GreaterOrEqual(t, domain.CPUTime.Nanoseconds(), int64(0))
		}
	})
}

// FuzzInfo: whatever xl info prints, a host has a version and numbers that can be, and lacks nothing that it has itself.
func FuzzInfo(f *testing.F) {
	f.Fuzz(func(t *testing.T, text string) {
		found, err := parseInfo(text)
		if err != nil {
			require.NotContains(t, err.Error(), "\n")
			return
		}
		require.NotEmpty(t, found.Version)
		require.GreaterOrEqual(t, min(found.CPUs, found.MemoryMiB, found.FreeMemoryMiB), 0)
		require.Empty(t, found.lacks(found))
		require.False(t, isOlder(found.Version, found.Version))
	})
}
