package node

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/internal/fault"
	"heliotrope/internal/inventory"
	"heliotrope/internal/remote"
	"heliotrope/internal/remote/remotetest"
	"heliotrope/internal/storage"
)

// at is a host as the storage systems of testbed "lab" see it.
func at(host remote.Host, dataDir string) *Node {
	return New(storage.Setup{Inventory: &inventory.Inventory{Name: "lab"}, Machines: map[string]remote.Host{host.Name(): host}},
		&inventory.Machine{Name: host.Name(), DataDir: dataDir})
}

// TestCheckRoomCountsWhatIsOurs: disks of every storage system are removed before
// a trial makes its own; programs are installed before it, or are there already.
func TestCheckRoomCountsWhatIsOurs(t *testing.T) {
	const (
		disk   = 64 << 20
		ours   = "65536\t/d/lab\n"
		worker = "26624\t/d/lab.programs\n"
	)
	for name, c := range map[string]struct {
		freeMiB int
		folders string
		want    string
	}{
		"an empty host":                {92, "", ""},
		"no room for the programs":     {91, "", "host-a: /d/lab: it has 91 MiB of free space, and the disk and Heliotrope's own programs want 92 MiB: make room there or choose another data_dir"},
		"another system's disk":        {28, ours, ""},
		"programs that are installed":  {66, worker, ""},
		"both, and not enough":         {1, ours + worker, "host-a: /d/lab: it has 91 MiB of free space"},
		"what du(1) says is no number": {92, "many\n", `host-a: free space of /d/lab: `},
	} {
		t.Run(name, func(t *testing.T) {
			fake := remotetest.NewFake(t, "host-a")
			fake.On(remotetest.Exactly("readlink", "-f", "/d"), remotetest.Reply{Stdout: "/d\n"})
			fake.On(remotetest.Exactly("sh", "-c", freeText, "free", "/d/lab"), remotetest.Reply{Stdout: fmt.Sprintf("%d 4096\n%s", c.freeMiB<<8, c.folders)})
			err := at(fake, "/d").CheckRoom(t.Context(), disk, storage.Spec{})
			if c.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, c.want)
			assert.NotContains(t, err.Error(), "\n")
		})
	}
}

// TestRoomIsBadInput: trying again does not make room.
func TestRoomIsBadInput(t *testing.T) {
	here := at(remote.Local("here"), t.TempDir())
	require.NoError(t, here.CheckRoom(t.Context(), 1<<20, storage.Spec{}))
	require.Equal(t, fault.BadInput, fault.Of(here.CheckRoom(t.Context(), 1<<60, storage.Spec{})))
	err := here.Image(t.Context(), filepath.Join(here.dataDir, "lab/iscsi/d0.img"), 1<<60)
	require.ErrorContains(t, err, "the disk wants")
	require.Equal(t, fault.BadInput, fault.Of(err))
}

// TestFreeText runs the script with the shells that hosts have.
func TestFreeText(t *testing.T) {
	root := t.TempDir()
	fill := func(name string) {
		file := filepath.Join(root, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
		require.NoError(t, os.WriteFile(file, make([]byte, 1<<20), 0o600))
	}
	fill("lab-2/iscsi/d0.img") // another testbed's
	label := filepath.Join(root, "lab")
	for _, shell := range [][]string{{"sh"}, {"busybox", "sh"}} {
		print := func(folder string) []string {
			command := exec.CommandContext(t.Context(), shell[0], append(shell[1:], "-c", freeText, "free", folder)...)
			output, err := command.CombinedOutput()
			require.NoError(t, err, "%s", output)
			var blocks, blockBytes int64
			lines := strings.Split(strings.TrimSpace(string(output)), "\n")
			_, err = fmt.Sscan(lines[0], &blocks, &blockBytes)
			require.NoError(t, err, "%s", output)
			require.Positive(t, blocks*blockBytes)
			return lines[1:]
		}
		require.NoError(t, os.RemoveAll(label))
		require.NoError(t, os.RemoveAll(label+".programs"))
		require.Empty(t, print(filepath.Join(label, "not/there")))
		require.Empty(t, print(label))
		fill("lab/iscsi/d0.img")
		fill("lab/nfs/export/d0.img")
		fill("lab.programs/heliotrope-worker")
		lines := print(label)
		require.Len(t, lines, 2)
		for i, want := range []struct {
			folder string
			leastK int
		}{{label, 2048}, {label + ".programs", 1024}} {
			var kib int
			var folder string
			_, err := fmt.Sscan(lines[i], &kib, &folder)
			require.NoError(t, err, lines)
			assert.Equal(t, want.folder, folder)
			assert.GreaterOrEqual(t, kib, want.leastK)
			assert.Less(t, kib, want.leastK+512)
		}
	}
}
