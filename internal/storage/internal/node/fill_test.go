package node

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/internal/fault"
	"heliotrope/internal/inventory"
	"heliotrope/internal/remote"
	"heliotrope/internal/storage"
	"heliotrope/internal/witness"
)

// programs are the testbed's programs on this machine.
type programs struct{ dir, script string }

func (p programs) InstallWitness(context.Context, string) error {
	return os.WriteFile(filepath.Join(p.dir, witness.Program), []byte("#!/bin/sh\n"+p.script), 0o755)
}
func (p programs) ProgramDir(string) string     { return p.dir }
func (p programs) RunDir(_, name string) string { return filepath.Join(p.dir, "run", name) }

// fills writes data that no disk has by itself, and records how it was called.
const fills = `
echo "$@" >> "${0%/*}/calls"
tr '\0' x < /dev/zero | dd of="$2" bs=1M iflag=fullblock oflag=seek_bytes conv=notrunc seek="$3" count=$((($4 - $3) / 1048576)) 2> /dev/null
echo "$4" > progress
echo "$4 1500"
`

// fullOnce writes a MiB, and then nothing more.
const fullOnce = `
echo "$@" >> "${0%/*}/calls"
echo $(($3 + 1048576)) > progress
echo "write 262144 bytes: no space left on device" >&2
exit 1
`

const mebibyte = 1 << 20

// filler is a host where the witness's program is the given script.
func filler(t *testing.T, script string, can ...inventory.Capability) (*Node, programs) {
	t.Helper()
	p := programs{dir: t.TempDir(), script: script}
	machine := &inventory.Machine{Name: "here", DataDir: t.TempDir(), Can: can}
	setup := storage.Setup{Inventory: &inventory.Inventory{Name: "lab"}, Machines: map[string]remote.Host{"here": remote.Local("here")}, Programs: p}
	n := New(setup, machine)
	t.Cleanup(func() { require.NoError(t, n.endFilling(context.WithoutCancel(t.Context()), "iscsi")) })
	return n, p
}

func (p programs) calls(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(p.dir, "calls"))
	require.NoError(t, err)
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

var disk = storage.Spec{Name: "d0", SizeBytes: 4 * mebibyte, Fill: storage.Fill{Seed: 1<<64 - 1, Bytes: 3 * mebibyte}}

// TestFilledImage: the disk has no hole. The part for the load is filled, the ledger's
// part has zeros, and what follows the disk in the image is not written.
func TestFilledImage(t *testing.T) {
	n, p := filler(t, fills, inventory.Shell, inventory.Witness)
	image := filepath.Join(n.dataDir, "lab/iscsi/d0.img")
	for range 2 { // the second time, nothing is to be done
		require.NoError(t, n.FilledImage(t.Context(), "iscsi", image, 6*mebibyte, disk))
		filled, err := n.Filled(t.Context(), image, disk)
		require.NoError(t, err)
		assert.Equal(t, storage.Filled{Bytes: 3 * mebibyte, Took: 1500e6}, filled)
	}
	assert.Equal(t, []string{"fill " + image + " 0 3145728 18446744073709551615"}, p.calls(t))
	content, err := os.ReadFile(image)
	require.NoError(t, err)
	assert.Len(t, content, 6*mebibyte)
	assert.Equal(t, strings.Repeat("x", 3*mebibyte), string(content[:3*mebibyte]))
	assert.Equal(t, make([]byte, 3*mebibyte), content[3*mebibyte:])
	info, err := os.Stat(image)
	require.NoError(t, err)
	held := info.Sys().(*syscall.Stat_t).Blocks * 512
	assert.GreaterOrEqual(t, held, int64(4*mebibyte), "the disk has holes")
	assert.Less(t, held, int64(5*mebibyte), "what is behind the disk was written")

	other := disk
	other.Fill.Seed = 2
	require.ErrorContains(t, n.FilledImage(t.Context(), "iscsi", image, 6*mebibyte, other), "was filled otherwise: tear the testbed's disks down first")
	require.NoError(t, n.RemoveDir(t.Context(), "iscsi"))
	assert.NoDirExists(t, filepath.Join(p.dir, "run"))
}

// TestImageThatWasRemoved: the record beside an image that was removed does not apply to
// the next image.
func TestImageThatWasRemoved(t *testing.T) {
	n, p := filler(t, fills, inventory.Shell, inventory.Witness)
	image := filepath.Join(n.dataDir, "lab/iscsi/d0.img")
	for range 2 {
		require.NoError(t, n.FilledImage(t.Context(), "iscsi", image, 4*mebibyte, disk))
		content, err := os.ReadFile(image)
		require.NoError(t, err)
		assert.Equal(t, strings.Repeat("x", 3*mebibyte), string(content[:3*mebibyte]))
		require.NoError(t, os.Remove(image))
	}
	assert.Len(t, p.calls(t), 2)
}

func TestImageThatIsNotFilled(t *testing.T) {
	n, _ := filler(t, "", inventory.Shell)
	image := filepath.Join(n.dataDir, "lab/iscsi/d0.img")
	blank := storage.Spec{Name: "d0", SizeBytes: mebibyte}
	require.NoError(t, n.FilledImage(t.Context(), "iscsi", image, mebibyte, blank))
	filled, err := n.Filled(t.Context(), image, blank)
	require.NoError(t, err)
	assert.Zero(t, filled)
	// The witness's program may not run there.
	err = n.FilledImage(t.Context(), "iscsi", filepath.Join(n.dataDir, "lab/iscsi/d1.img"), 4*mebibyte, disk)
	require.ErrorContains(t, err, "here: the inventory says that our witness's program may not run there")
	require.Equal(t, fault.BadInput, fault.Of(err))
}

// TestFillGoesOn: a full file system is an error of the infrastructure, and what was
// written before is not written again.
func TestFillGoesOn(t *testing.T) {
	n, p := filler(t, fullOnce, inventory.Shell, inventory.Witness)
	image := filepath.Join(n.dataDir, "lab/iscsi/d0.img")
	err := n.FilledImage(t.Context(), "iscsi", image, 4*mebibyte, disk)
	require.ErrorContains(t, err, "here: fill "+image+": write 262144 bytes: no space left on device")
	require.Equal(t, fault.Infrastructure, fault.Of(err))
	p.script = fills
	n.programs = p
	require.NoError(t, n.FilledImage(t.Context(), "iscsi", image, 4*mebibyte, disk))
	assert.Equal(t, []string{"fill " + image + " 0 3145728 18446744073709551615", "fill " + image + " 1048576 3145728 18446744073709551615"}, p.calls(t))
}

// TestRemoveDirEndsFilling: the process that fills a disk must not outlive it.
func TestRemoveDirEndsFilling(t *testing.T) {
	n, p := filler(t, "echo 1048576 > progress\nexec sleep 600", inventory.Shell, inventory.Witness)
	image := filepath.Join(n.dataDir, "lab/iscsi/d0.img")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- n.FilledImage(ctx, "iscsi", image, 4*mebibyte, disk) }()
	process := n.filler("iscsi")
	for running := false; !running; {
		var err error
		running, err = process.Alive(t.Context())
		require.NoError(t, err)
	}
	cancel()
	require.Error(t, <-ended)
	require.NoError(t, n.RemoveDir(t.Context(), "iscsi"))
	running, err := process.Alive(t.Context())
	require.NoError(t, err)
	assert.False(t, running)
	assert.NoDirExists(t, filepath.Join(p.dir, "run"))
}
