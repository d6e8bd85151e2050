package dataset

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/internal/fault"
)

// TestSharedFileSystems: a folder to which another machine may write is refused, whatever
// its file system is called.
func TestSharedFileSystems(t *testing.T) {
	for magic, want := range map[uint32]string{
		0x6969: "NFS", 0xFF534D42: "CIFS", 0xFE534D42: "SMB", 0x00C36400: "Ceph", 0x01021997: "9P", 0x0BD00BD0: "Lustre",
		0xEF53: "", 0x58465342: "", 0x9123683E: "", 0x01021994: "", // ext4, XFS, Btrfs, tmpfs
	} {
		assert.Equal(t, want, sharedFileSystems[magic], "%#x", magic)
	}
	assert.Contains(t, sharedFileSystems[0x65735546], "FUSE")
	name, err := SharedFileSystem("/proc")
	require.NoError(t, err)
	assert.Empty(t, name)
	_, err = SharedFileSystem("/nowhere")
	require.Error(t, err)

	folder := CampaignFolder(t.TempDir(), "test")
	before := sharedFileSystem
	sharedFileSystem = func(string) (string, error) { return "SMB", nil }
	defer func() { sharedFileSystem = before }()
	_, err = Create(t.Context(), folder, Identity{Campaign: "test", TestbedKind: "simulated"}, Frozen{})
	assert.Equal(t, fault.BadInput, fault.Of(err))
	assert.ErrorContains(t, err, "(SMB)")
}
