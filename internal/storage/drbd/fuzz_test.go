package drbd

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzProc: whatever /proc/drbd says, each device of it has a number, and what it tells can be.
func FuzzProc(f *testing.F) {
	f.Fuzz(func(t *testing.T, text string) {
		_, devices := ParseProc(text)
		for minor, status := range devices {
			require.GreaterOrEqual(t, minor, 0)
			require.NotEmpty(t, status.Connection)
			require.True(t, status.DonePercent >= 0 && status.DonePercent <= 100, status)
			for _, bytes := range []int64{status.OutOfSyncBytes, status.SentBytes, status.ReceivedBytes} {
				require.True(t, bytes >= Unknown && bytes <= mostKibibytes<<10, bytes)
			}
			if status.Healthy() {
				require.Equal(t, upToDate, status.PeerDisk)
			}
		}
	})
}

// FuzzConfigMinors: whatever stands in the host's resource files, and in what drbdsetup prints, a minor number is none
// below zero, and the one of a device's path is that of its device.
func FuzzConfigMinors(f *testing.F) {
	f.Fuzz(func(t *testing.T, text string) {
		for _, minor := range ConfigMinors(text) {
			require.GreaterOrEqual(t, minor, 0)
			again, err := minorOf(devicePath(minor))
			require.NoError(t, err)
			require.Equal(t, minor, again)
		}
		if minor, err := minorOf(text); err == nil {
			require.GreaterOrEqual(t, minor, 0)
		}
	})
}
