package clock

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzTime: a text that is accepted as a time is the same when it is written and read again.
func FuzzTime(f *testing.F) {
	f.Add("1795374199.532000000")
	f.Add("1795374199.5")
	f.Fuzz(func(t *testing.T, text string) {
		first, err := parseTime(text)
		if err != nil {
			require.NotContains(t, err.Error(), "\n")
			return
		}
		again, err := parseTime(fmt.Sprintf("%d.%09d", first.Unix(), first.Nanosecond()))
		require.NoError(t, err)
		require.True(t, again.Equal(first), "%s, then %s", first, again)
	})
}
