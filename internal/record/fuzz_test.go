package record

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzStatus: whatever the script on a host prints, a status has a state that is known, and a line for each file.
func FuzzStatus(f *testing.F) {
	f.Add([]byte("running\n1048576\n\n"), 2)
	f.Add([]byte("ended\nfio: terminating on signal 15\n"), 0)
	f.Fuzz(func(t *testing.T, text []byte, files int) {
		files = files & 7
		status, err := parseStatus(text, files)
		if err != nil {
			require.NotContains(t, err.Error(), "\n")
			return
		}
		require.Len(t, status.Lines, files)
		require.Contains(t, []State{None, Running, Stopped, Ended}, status.State)
		require.NotContains(t, status.Problem(), "\n")
	})
}
