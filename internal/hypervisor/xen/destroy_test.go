package xen

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/internal/hypervisor"
	"heliotrope/internal/remote/remotetest"
)

// zombie is a domain after `xl destroy`: it has lost its name in xenstore. The
// line is made up.
func zombie(name string) string {
	return withUUID(nameless, "88", "--ps-d", "9.7", hypervisor.UUID(name))
}

// TestDestroyWaits: a domain is gone when its ID is no longer listed.
func TestDestroyWaits(t *testing.T) {
	host, fake := fakeHost(t, "host-a")
	host.goneLimit = time.Minute
	fake.On(lists, remotetest.Reply{Stdout: listHeader + line("lab.guest", "88", "r-----", "9.7")},
		remotetest.Reply{Stdout: listHeader + zombie("lab.guest")}, remotetest.Reply{Stdout: listHeader + zombie("lab.guest")},
		remotetest.Reply{Stdout: listHeader})
	fake.On(remotetest.Exactly("xl", "destroy", "88"))
	require.NoError(t, host.write(t.Context(), "/data/lab/xen/lab.guest.cfg", "", 0o644))
	require.NoError(t, host.Destroy(t.Context(), "lab.guest"))
	looks := 0
	for _, args := range fake.Commands() {
		if args[1] == "list" {
			looks++
		}
	}
	assert.Equal(t, 4, looks)
	_, err := fake.Memory().Stat("/data/lab/xen/lab.guest.cfg")
	assert.Error(t, err, "its configuration is still there")
}

// TestZombieStays: the error has the domain's ID, and what holds it. The files
// that identify the domain stay, so that the next teardown finds it again.
func TestZombieStays(t *testing.T) {
	for name, end := range map[string]func(*Host, context.Context) error{
		"destroy":  func(h *Host, ctx context.Context) error { return h.Destroy(ctx, "lab.guest") },
		"teardown": (*Host).Teardown,
		"create":   func(h *Host, ctx context.Context) error { return h.Create(ctx, guest) },
	} {
		host, fake := fakeHost(t, "host-a")
		fake.On(lists, remotetest.Reply{Stdout: listHeader + zombie("lab.guest")})
		fake.On(remotetest.Exactly("sh", "-c", holders, "sh", "88"), remotetest.Reply{Stdout: "thread 88.xvda-0\nvbd 88/51712\n"})
		require.NoError(t, host.write(t.Context(), "/data/lab/xen/lab.guest.cfg", "", 0o644))
		for range 2 {
			err := end(host, t.Context())
			assert.ErrorContains(t, err, "id 88", name)
			assert.ErrorContains(t, err, "thread 88.xvda-0, vbd 88/51712", name)
		}
	}
}

func TestTeardownTakesOnlyOurs(t *testing.T) {
	host, fake := fakeHost(t, "host-a")
	stranger := line("web", "6", "-b----", "1.0")
	fake.On(lists, remotetest.Reply{Stdout: listHeader + line("lab.guest--incoming", "4", "--p---", "0.0") + line("lab.other", "5", "-b----", "1.0") + stranger},
		remotetest.Reply{Stdout: listHeader + stranger})
	fake.On(remotetest.Prefix("xl", "destroy"))
	require.NoError(t, host.write(t.Context(), "/data/lab/xen/lab.other.cfg", "", 0o644))
	require.NoError(t, host.Teardown(t.Context()))
	var destroyed []string
	for _, args := range fake.Commands() {
		if args[1] == "destroy" {
			destroyed = append(destroyed, args[2])
		}
	}
	assert.Equal(t, []string{"4", "5"}, destroyed)
	assert.True(t, ran(fake, "sh", "-c", removeLogs, "sh", "lab.guest", "lab.other"))
	assert.Equal(t, []string{"/data"}, fake.Memory().Paths())
}

// TestDestroyOfOneThatHasEnded: what List shows afterwards decides, not what xl
// says about a domain that ended by itself meanwhile.
func TestDestroyOfOneThatHasEnded(t *testing.T) {
	host, fake := fakeHost(t, "host-a")
	fake.On(lists, remotetest.Reply{Stdout: listHeader + line("lab.guest", "4", "-b----", "1.0")}, remotetest.Reply{Stdout: listHeader})
	fake.On(remotetest.Prefix("xl", "destroy"), remotetest.Reply{ExitCode: 1, Stderr: "libxl: error: no such domain\n"})
	require.NoError(t, host.Destroy(t.Context(), "lab.guest"))
}
