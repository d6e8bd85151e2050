package owner

import (
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/stretchr/testify/require"
)

// FuzzHeld: whatever a host says of its owner, the lease ends within a day, and the owner can be shown to people.
func FuzzHeld(f *testing.F) {
	f.Add("1740\n" + ours)
	f.Fuzz(func(t *testing.T, text string) {
		before := time.Now()
		held, err := parse("host-a", text)
		if err != nil {
			require.NotContains(t, err.Error(), "\n")
			return
		}
		require.False(t, held.Until.Before(before))
		require.False(t, held.Until.After(time.Now().Add(maxLease)))
		require.False(t, strings.ContainsFunc(held.Owner, unicode.IsControl), "%q", held.Owner)
	})
}
