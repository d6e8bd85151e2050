package testbed

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/internal/fault"
	"heliotrope/internal/folder"
	"heliotrope/internal/remote/remotetest"
)

// TestProgramsAlone: only our programs and what is kept beside them is removed from their folder,
// and the folder only when nothing else is in it.
func TestProgramsAlone(t *testing.T) {
	const dir = "/srv/lab.programs"
	fake := remotetest.NewFake(t, "host-a")
	require.NoError(t, RemovePrograms(t.Context(), fake, dir), "there is no folder")
	require.NoError(t, fake.Memory().MkdirAll(dir+"/heliotrope-notes"))
	for _, file := range []string{"heliotrope-worker", "heliotrope-worker.sha256", "heliotrope-witness", "heliotrope-witness.sha256.71.part", "heliotrope-witness.71.part", "notes.txt"} {
		require.NoError(t, fake.Memory().WriteFile(dir+"/"+file, nil, 0o755))
	}
	for range 2 {
		require.ErrorContains(t, RemovePrograms(t.Context(), fake, dir), "remove "+dir+" from host-a: the folder stays, because it holds \"notes.txt\", which is not Heliotrope's")
		assert.Equal(t, []string{"/srv", dir, dir + "/heliotrope-notes", dir + "/notes.txt"}, fake.Memory().Paths())
	}
	require.NoError(t, fake.Memory().RemoveAll(dir+"/heliotrope-notes"))
	require.NoError(t, fake.Memory().Remove(dir+"/notes.txt"))
	require.NoError(t, fake.Memory().WriteFile(dir+"/heliotrope-worker", nil, 0o755))
	require.NoError(t, RemovePrograms(t.Context(), fake, dir))
	assert.Equal(t, []string{"/srv"}, fake.Memory().Paths())
}

// TestOthersFoldersAreProblems: on every machine, whatever a campaign needs of it.
func TestOthersFoldersAreProblems(t *testing.T) {
	tb, _ := served(t, "kvm")
	store := tb.Inventory.Store()
	uses := Uses{NoHypervisor: true, NoWAN: true, Busy: true}
	folders := []string{filepath.Join(store.DataDir, tb.Name()), RunDir(store, tb.Name(), WorkerFolder)}
	find := func() (found []string) {
		for _, p := range tb.Check(t.Context(), uses).Problems {
			if slices.Contains(folders, p.Tried) {
				assert.Equal(t, store.Name, p.Host)
				assert.False(t, p.Warning)
				found = append(found, p.Tried)
			}
		}
		return found
	}
	require.Empty(t, find())
	for _, place := range folders {
		require.NoError(t, os.MkdirAll(place, 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(place, "theirs"), nil, 0o600))
	}
	assert.ElementsMatch(t, folders, find())
	for _, place := range folders {
		require.NoError(t, os.WriteFile(filepath.Join(place, folder.Mark), nil, 0o600))
	}
	assert.Empty(t, find())
}

// TestOthersFolderStays: the teardown neither takes nor removes a folder of the testbed's name that is not
// marked as ours.
func TestOthersFolderStays(t *testing.T) {
	tb, _ := served(t, "kvm")
	host := tb.Inventory.SiteA()
	theirs := filepath.Join(host.DataDir, tb.Name(), "nfs", "d.img")
	require.NoError(t, os.MkdirAll(filepath.Dir(theirs), 0o755))
	require.NoError(t, os.WriteFile(theirs, nil, 0o600))
	err := tb.removeFolder(t.Context(), host)
	require.ErrorContains(t, err, host.Name+": "+filepath.Dir(filepath.Dir(theirs))+`: it holds "nfs" and has no file .heliotrope`)
	assert.Equal(t, fault.BadInput, fault.Of(err))
	assert.FileExists(t, theirs)
}
