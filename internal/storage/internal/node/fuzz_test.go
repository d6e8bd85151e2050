package node

import (
	"path"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"heliotrope/internal/remote/remotetest"
)

// FuzzLoops: whatever losetup prints, what is taken for a loop device can be an argument of a command.
func FuzzLoops(f *testing.F) {
	f.Fuzz(func(t *testing.T, text string) {
		loops, err := ParseLoops(text)
		if err != nil {
			require.NotContains(t, err.Error(), "\n")
			return
		}
		for _, loop := range loops {
			require.Regexp(t, `^/dev/loop[0-9]+$`, loop.Device)
		}
	})
}

// FuzzMounts: whatever /proc/mounts says, only what is in our folder is taken for ours.
func FuzzMounts(f *testing.F) {
	const ours = "/var/lib/heliotrope/lab"
	f.Fuzz(func(t *testing.T, text string) {
		for _, mount := range parseMounts(text, ours) {
			require.True(t, path.Clean(mount.Place) == ours || strings.HasPrefix(path.Clean(mount.Place), ours+"/"), mount.Place)
		}
	})
}

// FuzzListener: whatever a line of /proc/net/tcp is, who listens has an address.
func FuzzListener(f *testing.F) {
	f.Fuzz(func(t *testing.T, line string) {
		if address, listens := parseListener(line); listens {
			require.True(t, address.IsValid(), line)
		}
	})
}

// FuzzFree: whatever stat and du print, free space is no negative number.
func FuzzFree(f *testing.F) {
	n := at(remotetest.NewFake(f, "host-a"), "/d")
	f.Fuzz(func(t *testing.T, text string) {
		bytes, err := n.sumFree("/d", text)
		if err != nil {
			require.NotContains(t, err.Error(), "\n")
			return
		}
		require.GreaterOrEqual(t, bytes, int64(0))
	})
}
