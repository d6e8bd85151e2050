package xen

import (
	"errors"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/internal/fault"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/remote/remotetest"
)

// stranger is a domain of somebody else, with a name that carries our label.
func stranger(name, id string) string { return withUUID(name, id, "-b----", "9.5", uuid.Max) }

// strange is a host with a domain of ours, lab.guest, and domains of somebody else.
func strange(t *testing.T, names ...string) (*Host, *remotetest.Fake) {
	t.Helper()
	host, fake := fakeHost(t, "host-a")
	theirs := ""
	for _, name := range names {
		theirs += stranger(name, "9")
	}
	ours := line("lab.guest", "5", "-b----", "1.0")
	fake.On(lists, remotetest.Reply{Stdout: listHeader + theirs + ours}, remotetest.Reply{Stdout: listHeader + theirs})
	fake.On(remotetest.Exactly("xl", "destroy", "5"))
	return host, fake
}

// TestOthersDomainsStay: a domain whose name carries our label and whose UUID does not follow from
// its name is somebody else's. It is not listed and not destroyed, its logs stay, and everybody who
// asks for it is told whose it is.
func TestOthersDomainsStay(t *testing.T) {
	host, _ := strange(t, "lab.prod", "lab.vm", "lab.prod--incoming", "lab.guest--migratedaway.old")
	found, err := host.List(t.Context())
	require.NoError(t, err)
	require.Len(t, found, 1)
	assert.Equal(t, "lab.guest", found[0].Name)

	host, fake := strange(t, "lab.prod", "lab.prod--incoming")
	require.NoError(t, host.Teardown(t.Context()))
	assert.True(t, ran(fake, "xl", "destroy", "5"))
	assert.False(t, ran(fake, "xl", "destroy", "9"))
	assert.True(t, ran(fake, "sh", "-c", removeLogs, "sh", "lab.guest"), "%q", fake.Commands())

	host, fake = fakeHost(t, "host-a")
	fake.On(lists, remotetest.Reply{Stdout: listHeader + stranger("lab.guest", "9")})
	require.NoError(t, host.Teardown(t.Context()))
	for _, args := range fake.Commands() {
		assert.Equal(t, []string{"xl", "list", "-v"}, args, "not even its logs are removed")
	}

	host, fake = strange(t, "lab.prod")
	require.NoError(t, host.Destroy(t.Context(), "lab.prod"))
	for _, args := range fake.Commands() {
		assert.Equal(t, []string{"xl", "list", "-v"}, args)
	}
}

// TestOthersDomainIsInTheWay: nothing is done with a name of ours that somebody else's domain has.
func TestOthersDomainIsInTheWay(t *testing.T) {
	const told = "host-a: domain lab.prod: its UUID is ffffffff-ffff-ffff-ffff-ffffffffffff, so it is not this testbed's, and in its way: rename the testbed, or end that domain"
	wanted := guest
	wanted.Name = "lab.prod"
	for what, do := range map[string]func(*Host) error{
		"create":  func(h *Host) error { return h.Create(t.Context(), wanted) },
		"pause":   func(h *Host) error { return h.Pause(t.Context(), "lab.prod") },
		"unpause": func(h *Host) error { return h.Unpause(t.Context(), "lab.prod") },
		"check":   func(h *Host) error { return h.checkStrangers(t.Context()) },
	} {
		host, fake := strange(t, "lab.prod")
		err := do(host)
		require.ErrorContains(t, err, told, what)
		assert.Equal(t, fault.BadInput, fault.Of(err), what)
		for _, args := range fake.Commands() {
			assert.Equal(t, []string{"xl", "list", "-v"}, args, what)
		}
		assert.Empty(t, fake.Memory().Paths(), what)
	}
	for _, name := range []string{"lab.guest", "lab.guest--incoming"} {
		p := newPair(t)
		p.fakeTo.On(lists, remotetest.Reply{Stdout: listHeader + stranger(name, "9")})
		_, err := p.from.Migrate(t.Context(), p.order())
		require.ErrorContains(t, err, "not begun: host-b: domain "+name+": its UUID is")
		var failed *hypervisor.MigrationError
		assert.False(t, errors.As(err, &failed), "nothing was tried")
	}
}

// TestOthersFolderStays: a folder of the testbed's name that is not marked as ours is neither
// written to nor removed.
func TestOthersFolderStays(t *testing.T) {
	const theirs = "/data/lab/xen/lab.guest.cfg"
	for what, do := range map[string]func(*Host) error{
		"create":   func(h *Host) error { return h.Create(t.Context(), guest) },
		"destroy":  func(h *Host) error { return h.Destroy(t.Context(), "lab.guest") },
		"teardown": func(h *Host) error { return h.Teardown(t.Context()) },
		"check":    func(h *Host) error { return h.checkFolder(t.Context()) },
	} {
		host, fake := fakeHost(t, "host-a")
		require.NoError(t, fake.Memory().MkdirAll(path.Dir(theirs)))
		require.NoError(t, fake.Memory().WriteFile(theirs, []byte("somebody's"), 0o600))
		before := fake.Memory().Paths()
		require.ErrorContains(t, do(host), "host-a: /data/lab: it holds \"xen\" and has no file .heliotrope", what)
		assert.Equal(t, before, fake.Memory().Paths(), what)
		assert.Equal(t, "somebody's", content(t, fake, theirs), what)
		assert.False(t, ran(fake, "sh", "-c", removeLogs, "sh", "lab.guest"), what)
	}
}

// TestLogsOfOurs has a real shell remove the logs, and tells which ones are left over.
func TestLogsOfOurs(t *testing.T) {
	root := t.TempDir()
	inRoot := func(text string) string { return strings.ReplaceAll(text, "/var/log/xen", root) }
	ours := []string{"xl-lab.guest.log", "xl-lab.guest.log.1", "xl-lab.guest.log.10", "xl-lab.guest--incoming.log", "guest-lab.guest.log", "console/guest-lab.guest.log"}
	theirs := []string{"xl-lab.guest.log.txt", "xl-lab.guest2.log", "xl-lab.guest.prod.log", "xl-lab.prod.log", "guest-lab-2.vm.log", "xen-hotplug.log"}
	require.NoError(t, os.Mkdir(filepath.Join(root, "console"), 0o755))
	for _, file := range append(ours, theirs...) {
		require.NoError(t, os.WriteFile(filepath.Join(root, file), nil, 0o600))
	}
	var listed []string
	for line := range strings.Lines(script(t, "", inRoot(leftovers), "lab", root)) {
		listed = append(listed, strings.TrimPrefix(strings.TrimSpace(line), "ours file "+root+"/"))
	}
	assert.ElementsMatch(t, ours, listed)
	output, err := exec.CommandContext(t.Context(), "sh", "-c", inRoot(removeLogs), "sh", "lab.guest").CombinedOutput()
	require.NoError(t, err, string(output))
	for _, file := range ours {
		assert.NoFileExists(t, filepath.Join(root, file))
	}
	for _, file := range theirs {
		assert.FileExists(t, filepath.Join(root, file))
	}
}
