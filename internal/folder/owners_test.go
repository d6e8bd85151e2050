package folder

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/internal/fault"
	"heliotrope/internal/remote"
	"heliotrope/internal/remote/remotetest"
)

// TestStranger: whoever could exchange a folder on the way is found.
func TestStranger(t *testing.T) {
	root := Step{Path: "/", Mode: 0o40755}
	for name, c := range map[string]struct {
		end   Step
		more  []Step
		at    string
		found string
	}{
		"root's":                {end: Step{Mode: 0o40755}},
		"the user's own":        {end: Step{Owner: 7, Group: 7, Mode: 0o40755}},
		"somebody's":            {end: Step{Owner: 8, Mode: 0o40755}, at: "/d", found: "it belongs to the user with the number 8"},
		"everybody's":           {end: Step{Mode: 0o41777}, at: "/d", found: "everybody may write to it"},
		"a group's":             {end: Step{Group: 50, Mode: 0o42775}, at: "/d", found: "the group with the number 50 may write to it"},
		"root's group's":        {end: Step{Mode: 0o40775}},
		"below a sticky folder": {end: Step{Mode: 0o40755}, more: []Step{{Path: "/tmp", Mode: 0o41777}}},
		"below a loose folder":  {end: Step{Mode: 0o40755}, more: []Step{{Path: "/tmp", Mode: 0o40777}}, at: "/tmp", found: "everybody may write to it"},
		"below somebody's":      {end: Step{Mode: 0o40755}, more: []Step{{Path: "/home/bob", Owner: 8, Mode: 0o40755}}, at: "/home/bob", found: "it belongs to the user with the number 8"},
		"a link of root's":      {end: Step{Mode: 0o120777}},
		"a link of somebody's":  {end: Step{Owner: 8, Mode: 0o120777}, at: "/d", found: "it belongs to the user with the number 8"},
	} {
		t.Run(name, func(t *testing.T) {
			c.end.Path, c.end.End = "/d", true
			at, found := Stranger(7, append([]Step{c.end}, append(c.more, root)...))
			assert.Equal(t, c.at, at)
			assert.Equal(t, c.found, found)
		})
	}
}

// TestCheckOwners has real shells look at real folders.
func TestCheckOwners(t *testing.T) {
	top := t.TempDir()
	own, loose := filepath.Join(top, "own"), filepath.Join(top, "loose")
	for _, folder := range []string{own, loose} {
		require.NoError(t, os.MkdirAll(filepath.Join(folder, "deeper"), 0o755))
	}
	require.NoError(t, os.Chmod(loose, 0o777))
	link := filepath.Join(top, "link")
	require.NoError(t, os.Symlink(filepath.Join(loose, "deeper"), link))
	here := remote.Local("here")
	for _, fine := range []string{own, own + "/deeper/not/there/yet"} {
		require.NoError(t, CheckOwners(t.Context(), here, fine))
	}
	for _, bad := range []string{loose, loose + "/deeper", loose + "/not/there", link, link + "/not/there"} {
		err := CheckOwners(t.Context(), here, bad)
		require.ErrorContains(t, err, "here: "+loose+": everybody may write to it, and Heliotrope's programs, which root starts", bad)
		assert.Equal(t, fault.BadInput, fault.Of(err))
	}
	for _, shell := range [][]string{{"dash"}, {"busybox", "sh"}, {"bash", "--posix"}} {
		output, err := exec.CommandContext(t.Context(), shell[0], append(shell[1:], "-c", Owners+`owners "$1"`, "owners", link+"/x")...).CombinedOutput()
		require.NoError(t, err, "%s: %s", shell, output)
		self, steps, err := parse(string(output))
		require.NoError(t, err, "%s", shell)
		assert.Equal(t, os.Getuid(), self)
		at, _ := Stranger(self, steps)
		assert.Equal(t, loose, at)
	}
	fake := remotetest.NewFake(t, "host-a")
	fake.On(remotetest.Prefix("sh"), remotetest.Reply{Stdout: "self 0\n"}, remotetest.Reply{Stdout: "end 0 0 41ed /\n"}, remotetest.Reply{Err: remote.ErrConnectionLost})
	require.ErrorContains(t, CheckOwners(t.Context(), fake, "/d"), "host-a: look whose /d is: the host did not say it")
	require.ErrorContains(t, CheckOwners(t.Context(), fake, "/d"), "host-a: look whose /d is: the host did not say it")
	require.ErrorIs(t, CheckOwners(t.Context(), fake, "/d"), remote.ErrConnectionLost)
}

// FuzzStep: whatever a host says about a folder, it is read or refused on one line.
func FuzzStep(f *testing.F) {
	f.Fuzz(func(t *testing.T, line string) {
		step, err := ParseStep(line)
		if err != nil {
			require.NotContains(t, err.Error(), "\n")
			return
		}
		require.GreaterOrEqual(t, min(step.Owner, step.Group), 0)
		require.True(t, filepath.IsAbs(step.Path))
	})
}
