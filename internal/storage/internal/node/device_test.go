package node_test

import (
	"io/fs"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDeviceBytes(t *testing.T) {
	n, fake := newNode(t)
	put := func(text string) {
		t.Helper()
		require.NoError(t, fake.Memory().MkdirAll("/sys/class/block/sdb"))
		require.NoError(t, fake.Memory().WriteFile("/sys/class/block/sdb/size", []byte(text), 0o444))
	}
	_, err := n.DeviceBytes(t.Context(), "sdb")
	require.ErrorIs(t, err, fs.ErrNotExist)
	put("2048\n")
	for _, device := range []string{"sdb", "/dev/sdb"} {
		size, err := n.DeviceBytes(t.Context(), device)
		require.NoError(t, err)
		require.Equal(t, int64(1<<20), size)
	}
	put("many\n")
	_, err = n.DeviceBytes(t.Context(), "sdb")
	require.EqualError(t, err, `host-a: /sys/class/block/sdb/size: "many" is no number of sectors`)
}

func TestHolders(t *testing.T) {
	n, fake := newNode(t)
	for _, device := range []string{"sdb", "/dev/sdb"} {
		holders, err := n.Holders(t.Context(), device)
		require.NoError(t, err)
		require.Empty(t, holders)
	}
	for _, holder := range []string{"dm-3", "md0"} {
		require.NoError(t, fake.Memory().MkdirAll("/sys/class/block/sdb/holders/"+holder))
	}
	require.NoError(t, fake.Memory().MkdirAll("/sys/class/block/dm-3/dm"))
	require.NoError(t, fake.Memory().WriteFile("/sys/class/block/dm-3/dm/name", []byte("mpatha\n"), 0o444))
	for _, device := range []string{"sdb", "/dev/sdb"} {
		holders, err := n.Holders(t.Context(), device)
		require.NoError(t, err)
		require.Equal(t, []string{"dm-3 (mpatha)", "md0"}, holders)
	}
}
