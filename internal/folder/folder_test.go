package folder

import (
	"path"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/internal/fault"
	"heliotrope/internal/remote/remotetest"
)

const lab = "/srv/lab"

// TestMarkTellsWhose: a folder of ours, one that is empty and one that is not there may be used;
// somebody's folder may not, and nothing is changed in it.
func TestMarkTellsWhose(t *testing.T) {
	for name, c := range map[string]struct {
		there  []string // files
		empty  bool     // the folder is there, and nothing is in it
		theirs bool
	}{
		"not there":                     {},
		"empty":                         {empty: true},
		"ours":                          {there: []string{lab + "/" + Mark, lab + "/nfs/export/d0.img"}},
		"somebody's":                    {there: []string{lab + "/xen/db.cfg"}, theirs: true},
		"somebody's with a mark inside": {there: []string{lab + "/xen/" + Mark}, theirs: true},
	} {
		t.Run(name, func(t *testing.T) {
			files := remotetest.NewMemoryFiles("host-a")
			for _, file := range c.there {
				require.NoError(t, files.MkdirAll(path.Dir(file)))
				require.NoError(t, files.WriteFile(file, nil, 0o600))
			}
			if c.empty {
				require.NoError(t, files.MkdirAll(lab))
			}
			before := files.Paths()
			err := Check(files, "host-a", lab)
			assert.Equal(t, before, files.Paths())
			if c.theirs {
				require.ErrorContains(t, err, `host-a: /srv/lab: it holds "xen" and has no file .heliotrope, so it is not known to be Heliotrope's`)
				require.ErrorContains(t, err, "choose another data_dir or another name of the testbed")
				assert.Equal(t, fault.BadInput, fault.Of(err))
				require.Error(t, Make(files, "host-a", lab))
				left, err := RemoveEmpty(files, lab)
				require.NoError(t, err)
				assert.Equal(t, "xen", left)
				assert.Equal(t, before, files.Paths())
				return
			}
			require.NoError(t, err)
			for range 2 {
				require.NoError(t, Make(files, "host-a", lab))
			}
			assert.Contains(t, files.Paths(), lab+"/"+Mark)
			require.NoError(t, files.RemoveAll(lab+"/nfs"))
			for range 2 {
				left, err := RemoveEmpty(files, lab)
				require.NoError(t, err)
				assert.Empty(t, left)
			}
			assert.NotContains(t, files.Paths(), lab)
		})
	}
}

// TestCannotBeAsked: a host that cannot be asked has no folder of ours.
func TestCannotBeAsked(t *testing.T) {
	files := remotetest.NewMemoryFiles("host-a")
	require.NoError(t, files.MkdirAll("/srv"))
	require.NoError(t, files.WriteFile(lab, nil, 0o600)) // a file
	require.Error(t, Check(files, "host-a", lab))
	require.Error(t, Make(files, "host-a", lab))
	_, err := RemoveEmpty(files, lab)
	require.Error(t, err)
	assert.Contains(t, files.Paths(), lab)
}
