package counters

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/internal/witness"
	"heliotrope/internal/witness/sampler"
)

// Written after the kernel's source (fs/nfs/super.c, net/sunrpc/stats.c), not
// captured.
const stats = `device /dev/root mounted on / with fstype ext4
device proc mounted on /proc with fstype proc
device 198.18.0.9:/srv mounted on /srv with fstype nfs4 statvers=1.1
	bytes:	1 2 3 4 512 1024 7 8
	per-op statistics
	        READ: 99 99 0 1 2 3 4 5 0
	       WRITE: 98 98 0 1 2 3 4 5 0
device 198.18.0.3:/var/lib/heliotrope/lab/nfs/export mounted on /var/lib/heliotrope/lab/nfs/mnt with fstype nfs4 statvers=1.1
	opts:	rw,vers=4.2,rsize=1048576,wsize=1048576,proto=tcp,timeo=600,retrans=2,sec=sys
	age:	75
	caps:	caps=0x3ffbffff,wtmult=512,dtsize=1048576,bsize=0,namlen=255
	events:	4 12 0 0 1 3 20 0 0 0 0 0 0 0 2 0 0 0 0 0 0 0 0 0 0 0 0
	bytes:	0 0 81920 40960 81920 40960 0 0
	RPC iostats version: 1.1  p/v: 100003/4 (nfs)
	xprt:	tcp 0 0 1 0 5 40 40 0 43 0 2 3 3
	per-op statistics
	        NULL: 1 1 0 44 24 0 0 0 0
	        READ: 20 20 0 4000 83200 1 120 123 0
	       WRITE: 10 11 0 43000 1760 2 80 84 0
	      COMMIT: 0 0 0 0 0 0 0 0 0

`

const place = "/var/lib/heliotrope/lab/nfs/mnt"

func TestParseMount(t *testing.T) {
	counts, found := parseMount([]byte(stats), place)
	require.True(t, found)
	assert.Equal(t, mountCounts{readBytes: 81920, writeBytes: 40960, reads: operationCount{20, 123}, writes: operationCount{10, 84}}, counts)
	for name, text := range map[string]string{
		"not mounted":         stats[:strings.Index(stats, "device 198.18.0.3")],
		"cut off":             stats[:strings.Index(stats, "	       WRITE: 10")],
		"unmounted from it":   strings.Replace(stats, place, "/elsewhere", 1),
		"another file system": strings.Replace(stats, place+" with fstype nfs4", place+" with fstype ext4", 1),
		"":                    "",
	} {
		_, found := parseMount([]byte(text), place)
		assert.False(t, found, name)
	}
}

// TestMountIsSampledAsADisk: the guest's disk is sampled ten times a second
// under the names of a disk, and a missing mount is left out.
func TestMountIsSampledAsADisk(t *testing.T) {
	proc := t.TempDir()
	file := filepath.Join(proc, "self/mountstats")
	require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
	// The file is longer than one piece.
	require.NoError(t, os.WriteFile(file, []byte(strings.Repeat("device none mounted on /x with fstype tmpfs\n", 1000)+stats), 0o644))
	reader := Part.Readers[MountReader](witness.Source{Role: witness.GuestDisk, Reader: MountReader, Device: place}, sampler.Roots{Proc: proc})
	defer reader.Close()
	read := func(frequent bool) string {
		sample := sampler.Sample{Role: witness.GuestDisk}
		reader.Read(&sample, frequent)
		return sample.Text()
	}
	assert.Equal(t, "guest-disk reads 20\nguest-disk writes 10\n", read(true))
	require.NoError(t, os.WriteFile(file, []byte(strings.Replace(stats, "READ: 20", "READ: 21", 1)), 0o644))
	assert.Equal(t, "guest-disk reads 21\nguest-disk writes 10\nguest-disk read_sectors 160\nguest-disk read_ms 123\n"+
		"guest-disk write_sectors 80\nguest-disk write_ms 84\n", read(false))
	require.NoError(t, os.WriteFile(file, nil, 0o644))
	assert.Empty(t, read(true))
}
