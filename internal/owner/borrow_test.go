package owner

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/internal/poll"
)

// setting is a file that stands for a kernel setting of a machine.
type setting string

func newSetting(t *testing.T, value string) setting {
	t.Helper()
	s := setting(filepath.Join(t.TempDir(), "usermode_helper"))
	s.set(t, value)
	return s
}

func (s setting) set(t *testing.T, value string) {
	t.Helper()
	require.NoError(t, os.WriteFile(string(s), []byte(value+"\n"), 0o644))
}

func (s setting) is(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(string(s))
	require.NoError(t, err)
	return strings.TrimSuffix(string(text), "\n")
}

// root is the machine's folder of Heliotrope.
func (h Host) root() string { return filepath.Dir(h.Runner.(machine).folder) }

// ending is GivingBack for the machine's folder.
func (h Host) ending() string { return strings.ReplaceAll(GivingBack, root, h.root()) }

// end runs the ending as the watchdog does, which has the lock.
func (h Host) end(t *testing.T, label string) {
	t.Helper()
	text := SharedScript + "folder=" + filepath.Join(h.root(), "owner") + "\nlock\n(\n" + h.ending() + "\n)\n"
	output, err := exec.CommandContext(t.Context(), "/bin/sh", "-c", text, "sh", label).CombinedOutput()
	require.NoError(t, err, string(output))
}

// records are the files in which the machine remembers former values.
func (h Host) records(t *testing.T) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(h.root(), "borrowed-*", "*"))
	require.NoError(t, err)
	return found
}

const label, name = "lab", "lab.drbd"

// TestBorrowedIsGivenBack: the first to do it restores the former value, and only once.
func TestBorrowedIsGivenBack(t *testing.T) {
	for who, giveBack := range map[string]func(*testing.T, Host){
		"the teardown": func(t *testing.T, host Host) { require.NoError(t, GiveBack(t.Context(), host, name)) },
		"the host":     func(t *testing.T, host Host) { host.end(t, label) },
	} {
		t.Run(who, func(t *testing.T) {
			host, helper := newMachine(t, "host-a"), newSetting(t, "/sbin/drbdadm")
			for range 2 {
				require.NoError(t, Borrow(t.Context(), host, name, string(helper), "/bin/true"))
				assert.Equal(t, "/bin/true", helper.is(t))
				assert.Len(t, host.records(t), 1)
			}
			giveBack(t, host)
			assert.Equal(t, "/sbin/drbdadm", helper.is(t))
			assert.NoDirExists(t, host.root(), "nothing is left")
			helper.set(t, "/bin/true") // by somebody else, later
			giveBack(t, host)
			assert.Equal(t, "/bin/true", helper.is(t))
			giveBack(t, host)
		})
	}
}

// TestForeignChangeStays: a value that somebody else has set meanwhile stays, and the
// next borrower restores that value.
func TestForeignChangeStays(t *testing.T) {
	host, helper := newMachine(t, "host-a"), newSetting(t, "/sbin/drbdadm")
	require.NoError(t, Borrow(t.Context(), host, name, string(helper), "/bin/true"))
	helper.set(t, "/usr/local/bin/theirs")
	host.end(t, label)
	assert.Equal(t, "/usr/local/bin/theirs", helper.is(t))
	assert.Empty(t, host.records(t))

	require.NoError(t, Borrow(t.Context(), host, name, string(helper), "/bin/true"))
	helper.set(t, "/usr/local/bin/newer")
	require.NoError(t, Borrow(t.Context(), host, name, string(helper), "/bin/true"))
	require.NoError(t, GiveBack(t.Context(), host, name))
	assert.Equal(t, "/usr/local/bin/newer", helper.is(t))
}

// TestOtherValueBorrowed: the former value is the one from before the first borrowing.
func TestOtherValueBorrowed(t *testing.T) {
	host, helper := newMachine(t, "host-a"), newSetting(t, "/sbin/drbdadm")
	require.NoError(t, Borrow(t.Context(), host, name, string(helper), "/bin/true"))
	require.NoError(t, Borrow(t.Context(), host, name, string(helper), "/bin/false"))
	assert.Equal(t, "/bin/false", helper.is(t))
	host.end(t, label)
	assert.Equal(t, "/sbin/drbdadm", helper.is(t))
}

// TestNothingToBorrow where the value is as it is wanted: it stays so.
func TestNothingToBorrow(t *testing.T) {
	host, helper := newMachine(t, "host-a"), newSetting(t, "/bin/true")
	require.NoError(t, Borrow(t.Context(), host, name, string(helper), "/bin/true"))
	assert.NoDirExists(t, host.root())
}

// TestRecordCutOff: a record that was written only partly, up to any byte, does not
// count; neither does one that was not yet moved to its place.
func TestRecordCutOff(t *testing.T) {
	host, helper := newMachine(t, "host-a"), newSetting(t, "/sbin/drbdadm")
	require.NoError(t, Borrow(t.Context(), host, name, string(helper), "/bin/true"))
	record := host.records(t)[0]
	whole, err := os.ReadFile(record)
	require.NoError(t, err)
	content := strings.TrimSuffix(string(whole), "\n")
	for _, file := range []string{record, record + ".new"} {
		for length := range len(content) {
			require.NoError(t, os.MkdirAll(filepath.Dir(record), 0o755))
			require.NoError(t, os.WriteFile(file, whole[:length], 0o644))
			helper.set(t, "/bin/true")
			host.end(t, label)
			require.Equal(t, "/bin/true", helper.is(t), "of the record there is %q", whole[:length])
			require.NoDirExists(t, host.root())
		}
	}
	require.NoError(t, os.MkdirAll(filepath.Dir(record), 0o755))
	require.NoError(t, os.WriteFile(record+".new", whole, 0o644))
	host.end(t, label)
	assert.Equal(t, "/bin/true", helper.is(t), "a record that is not in its place")
	require.NoError(t, os.MkdirAll(filepath.Dir(record), 0o755))
	require.NoError(t, os.WriteFile(record, whole, 0o644))
	host.end(t, label)
	assert.Equal(t, "/sbin/drbdadm", helper.is(t), "a whole one")
}

// TestCutOffBeforeTheChange: a change that was recorded and never made is not undone.
func TestCutOffBeforeTheChange(t *testing.T) {
	host, helper := newMachine(t, "host-a"), newSetting(t, "/sbin/drbdadm")
	require.NoError(t, Borrow(t.Context(), host, name, string(helper), "/bin/true"))
	helper.set(t, "/sbin/drbdadm")
	host.end(t, label)
	assert.Equal(t, "/sbin/drbdadm", helper.is(t))
	assert.NoDirExists(t, host.root())

	require.NoError(t, Borrow(t.Context(), host, name, string(helper), "/bin/true"))
	require.NoError(t, os.Remove(string(helper))) // its module was unloaded
	require.NoError(t, GiveBack(t.Context(), host, name))
	assert.NoFileExists(t, string(helper))
	assert.NoDirExists(t, host.root())
}

// TestOthersBorrowingsStay: settings that another testbed or another driver has borrowed
// stay.
func TestOthersBorrowingsStay(t *testing.T) {
	host, ours, theirs := newMachine(t, "host-a"), newSetting(t, "1"), newSetting(t, "1")
	require.NoError(t, Borrow(t.Context(), host, name, string(ours), "2"))
	require.NoError(t, Borrow(t.Context(), host, "lab-2.drbd", string(theirs), "2"))
	host.end(t, label)
	require.NoError(t, GiveBack(t.Context(), host, "lab-2.other"))
	assert.Equal(t, "1", ours.is(t))
	assert.Equal(t, "2", theirs.is(t))
	assert.Len(t, host.records(t), 1)
}

// TestWatchdogGivesBack when nobody renews the lease, without any controller.
func TestWatchdogGivesBack(t *testing.T) {
	host, helper, foreign := newMachine(t, "host-a"), newSetting(t, "/sbin/drbdadm"), newSetting(t, "8")
	host.Ending, host.Args = host.ending(), []string{label}
	require.NoError(t, Borrow(t.Context(), host, name, string(helper), "/bin/true"))
	require.NoError(t, Borrow(t.Context(), host, name, string(foreign), "16"))
	foreign.set(t, "32")
	require.NoError(t, Hosts{host}.Take(t.Context(), ours, time.Second))
	require.NoError(t, poll.Until(t.Context(), 50*time.Millisecond, func(context.Context) (bool, error) {
		_, err := os.Stat(host.root())
		return errors.Is(err, fs.ErrNotExist), nil
	}))
	assert.Equal(t, "/sbin/drbdadm", helper.is(t))
	assert.Equal(t, "32", foreign.is(t))
}

// TestGivenBackBeforeAnother owner has the host, when its watchdog was killed.
func TestGivenBackBeforeAnother(t *testing.T) {
	host, helper := newMachine(t, "host-a"), newSetting(t, "/sbin/drbdadm")
	host.Ending, host.Args = host.ending(), []string{label}
	require.NoError(t, Borrow(t.Context(), host, name, string(helper), "/bin/true"))
	host.writes(t, thisBoot(t), -time.Second, ours)
	require.NoError(t, Hosts{host}.Take(t.Context(), theirs, Lease))
	assert.Equal(t, "/sbin/drbdadm", helper.is(t))
}

// TestBorrowRefuses what could not be given back, and changes nothing.
func TestBorrowRefuses(t *testing.T) {
	host := newMachine(t, "host-a")
	for _, former := range []string{"", "two\nlines"} {
		helper := newSetting(t, former)
		require.ErrorContains(t, Borrow(t.Context(), host, name, string(helper), "/bin/true"), "cannot be given back", "%q", former)
		assert.Equal(t, former, helper.is(t))
	}
	require.ErrorContains(t, Borrow(t.Context(), host, name, filepath.Join(t.TempDir(), "none"), "1"), "there is no setting")
	for _, bad := range [][2]string{{"relative", "1"}, {"/a:b", "1"}, {"/a\nb", "1"}, {"/a/../b", "1"}, {"/a", ""}, {"/a", "1\n2"}} {
		require.ErrorContains(t, Borrow(t.Context(), host, name, bad[0], bad[1]), "borrow", "%q", bad)
	}
	for _, bad := range []string{"", "lab", "a/b.c", "../x.y"} {
		require.ErrorContains(t, Borrow(t.Context(), host, bad, "/a", "1"), "borrow", "%q", bad)
		require.ErrorContains(t, GiveBack(t.Context(), host, bad), "want LABEL.KIND", "%q", bad)
	}
	assert.NoDirExists(t, host.root())
}

// TestCannotBeGivenBack: a setting that refuses its former value keeps its record.
func TestCannotBeGivenBack(t *testing.T) {
	host, helper, other := newMachine(t, "host-a"), newSetting(t, "1"), newSetting(t, "1")
	require.NoError(t, Borrow(t.Context(), host, name, string(helper), "2"))
	record := host.records(t)[0]
	require.NoError(t, Borrow(t.Context(), host, name, string(other), "2"))
	// /proc/version can be read, and cannot be written even by root.
	version, err := os.ReadFile("/proc/version")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(record, []byte("/proc/version\n1\n"+string(version)+"end\n"), 0o644))
	require.ErrorContains(t, GiveBack(t.Context(), host, name), "/proc/version")
	assert.Equal(t, "1", other.is(t), "the others are given back")
	assert.Equal(t, []string{record}, host.records(t))
}
