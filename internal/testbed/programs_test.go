package testbed

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/internal/fault"
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
