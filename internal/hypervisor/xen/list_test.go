package xen

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/internal/hypervisor"
	"heliotrope/internal/remote/remotetest"
)

// TestStrangersDisturbNobody: names may contain blanks, and our own label after
// one, and an unreadable line does not matter unless it is ours. The lines of
// other domains are made up.
func TestStrangersDisturbNobody(t *testing.T) {
	host, fake := fakeHost(t, "host-a")
	fake.On(lists, remotetest.Reply{Stdout: listHeader +
		"mail relay two                               7  1536     2     -b----      18.9 6f0dbb0e-2a9c-4c0b-9b5e-5b1f7f1d4c11        -                -\n" +
		"lab.guest of somebody else                   8  1536     2     -b----      18.9 6f0dbb0e-2a9c-4c0b-9b5e-5b1f7f1d4c12        -                -\n" +
		"old lab.guest 3 96 1 ------ 1.0              9  1536     2     -b----      18.9 6f0dbb0e-2a9c-4c0b-9b5e-5b1f7f1d4c13        -                -\n" +
		"half a line\n" +
		"(null)                                      88   640     1     --ps-d       9.7 6f0dbb0e-2a9c-4c0b-9b5e-5b1f7f1d4c14        -                -\n" +
		line("lab.guest", "5", "-b----", "40.2") + line("web", "10", "r-----", "1.0")})
	found, err := host.List(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []hypervisor.State{
		{Name: "lab.guest", ID: 5, MemoryMiB: 96, Status: hypervisor.Running, CPUTime: 40200 * time.Millisecond}}, found)
}

func TestUnreadableLinesOfOurs(t *testing.T) {
	for _, text := range []string{"lab.guest short\n", line("lab.guest", "id", "r-----", "1.0"), line("lab.guest", "1", "r-----", "soon"),
		line("lab.guest", "1", "-r----", "1.0"), "lab.guest 1 96 1 r----- 1.0\n"} {
		host, fake := fakeHost(t, "host-a")
		fake.On(lists, remotetest.Reply{Stdout: listHeader + text})
		_, err := host.List(t.Context())
		assert.ErrorContains(t, err, "unreadable line", text)
	}
}

// TestStatus: a shutdown by the watchdog counts as a crash, as in the watcher
// of domains.
func TestStatus(t *testing.T) {
	for letters, want := range map[string]hypervisor.Status{
		"r-----": hypervisor.Running,
		"-b----": hypervisor.Running,
		"------": hypervisor.Running,
		"--p---": hypervisor.Paused,
		"-bp---": hypervisor.Paused,
		"---s--": hypervisor.ShutDown,
		"---sr-": hypervisor.ShutDown,
		"---ss-": hypervisor.ShutDown,
		"--pss-": hypervisor.ShutDown,
		"---sS-": hypervisor.ShutDown,
		"---s?-": hypervisor.ShutDown,
		"---sc-": hypervisor.Crashed,
		"---sw-": hypervisor.Crashed,
		"--psw-": hypervisor.Crashed,
		"--ps-d": hypervisor.Dying,
		"---swd": hypervisor.Dying,
	} {
		got, err := status("lab.guest", letters)
		require.NoError(t, err)
		assert.Equal(t, want, got, letters)
	}
	for name, want := range map[string]hypervisor.Status{
		"lab.guest--incoming": hypervisor.Leftover, "lab.guest--migratedaway": hypervisor.Leftover, nameless: hypervisor.Dying,
	} {
		got, err := status(name, "--p---")
		require.NoError(t, err)
		assert.Equal(t, want, got, name)
	}
}
