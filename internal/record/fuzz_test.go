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

// FuzzUsage: whatever the script on a host prints, nothing of a process is negative.
func FuzzUsage(f *testing.F) {
	f.Add([]byte("4711 86400 27136 1234\n"))
	f.Add([]byte("1 2 3"))
	f.Add([]byte("1 99999999999999999999 3 4\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		usage, err := parseUsage(text)
		if err != nil {
			require.NotContains(t, err.Error(), "\n")
			return
		}
		require.False(t, usage.PID < 0 || usage.Running < 0 || usage.ResidentBytes < 0 || usage.CPU < 0, "%+v", usage)
	})
}
