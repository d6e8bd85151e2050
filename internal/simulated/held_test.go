package simulated

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/internal/poll"
	"heliotrope/internal/remote"
	"heliotrope/internal/storage"
	"heliotrope/internal/testbed"
	"heliotrope/internal/trial"
)

// heldAt returns a trial in a phase, and what holds it.
func heldAt(t *testing.T, phase trial.Phase) (trial.Ref, *Held) {
	t.Helper()
	ref := reference(cell(iscsi, "lan", 50, 1))
	ref.Timeline = trial.Timeline{{Phase: phase, At: ref.Now}}
	held := &Held{Phase: phase, File: filepath.Join(t.TempDir(), "held")}
	require.NoError(t, os.WriteFile(held.File, nil, 0o600))
	return ref, held
}

// awaitNote waits until a call other than the previous one is held.
func awaitNote(t *testing.T, path, before string) string {
	t.Helper()
	note := ""
	require.NoError(t, poll.Until(t.Context(), holdPause, func(context.Context) (bool, error) {
		text, err := os.ReadFile(path)
		note = string(text)
		return note != "" && note != before, err
	}))
	return note
}

func TestHeld(t *testing.T) {
	ref, held := heldAt(t, trial.Attest)
	calls := make(chan error)
	bed := Open(lane, ref, Faults{Held: held})
	go func() {
		for range 3 {
			_, err := bed.Facts(t.Context())
			calls <- err
		}
	}()
	first := awaitNote(t, held.File, "")
	assert.Contains(t, first, "trial "+ref.Key()+", phase attest, process ")
	require.NoError(t, os.Truncate(held.File, 0))
	require.NoError(t, <-calls)
	awaitNote(t, held.File, first) // the second call
	require.NoError(t, os.Remove(held.File))
	require.NoError(t, <-calls)
	require.NoError(t, <-calls)
	// Another phase is never held.
	ref, held = heldAt(t, trial.Attest)
	ref.Timeline = append(ref.Timeline, trial.Mark{Phase: trial.WarmUp, At: ref.Now})
	_, err := Open(lane, ref, Faults{Held: held}).Facts(t.Context())
	require.NoError(t, err)
}

// TestHeldEnds: an activity that is cancelled or loses its worker leaves no waiting call behind.
func TestHeldEnds(t *testing.T) {
	ref, held := heldAt(t, trial.Provision)
	ctx, cancel := context.WithCancel(t.Context())
	call := make(chan error)
	go func() {
		_, err := Open(lane, ref, Faults{Held: held}).Facts(ctx)
		call <- err
	}()
	awaitNote(t, held.File, "")
	cancel()
	assert.ErrorIs(t, <-call, context.Canceled)
}

func TestAwayAndLost(t *testing.T) {
	ref, held := heldAt(t, trial.Collect)
	held.Away = "simulated-1-b"
	away := Open(lane, ref, Faults{Held: held})
	for range 2 {
		_, err := away.Facts(t.Context())
		assert.ErrorIs(t, err, remote.ErrUnreachable)
		assert.ErrorContains(t, err, "simulated-1-b: ")
	}
	require.NoError(t, os.Remove(held.File))
	_, err := away.Facts(t.Context())
	require.NoError(t, err)

	ref, held = heldAt(t, trial.Migrate)
	held.Lost = true
	call := make(chan error)
	go func() {
		_, err := Open(lane, ref, Faults{Held: held}).Facts(t.Context())
		call <- err
	}()
	awaitNote(t, held.File, "")
	require.NoError(t, os.Remove(held.File))
	assert.ErrorIs(t, <-call, remote.ErrConnectionLost)
}

// TestHosts: what is made on the model's hosts exists until the teardown, whichever process does
// that; a teardown that is asked to leaves something behind.
func TestHosts(t *testing.T) {
	ref := reference(cell(iscsi, "lan", 50, 1))
	ref.Timeline = trial.Timeline{{Phase: trial.Provision, At: ref.Now}}
	faults := Faults{Hosts: t.TempDir(), Leaves: 1}
	open := func() *Bed { return Open(lane, ref, faults) }
	lines := func() string {
		snapshot, err := open().Snapshot(t.Context())
		require.NoError(t, err)
		var all []string
		for _, host := range open().HostNames() {
			for _, line := range snapshot[host].Ours {
				all = append(all, strings.TrimPrefix(host, lane)+" "+line)
			}
		}
		return strings.Join(all, ", ")
	}
	assert.Empty(t, lines())
	system, err := open().Storage(iscsi, nil)
	require.NoError(t, err)
	_, err = system.Provision(t.Context(), storage.Spec{Name: "disk", SizeBytes: 64 << 20}, storage.SiteA)
	require.NoError(t, err)
	_, err = open().StartGuest(t.Context(), storage.SiteA, testbed.Guest{})
	require.NoError(t, err)
	assert.Equal(t, "-a simulated guest, -store simulated disk", lines())
	p := play(t, ref, faults)
	assert.Equal(t, "-b simulated guest, -store simulated disk", lines())
	ref.Timeline = append(p.ref.Timeline, trial.Mark{Phase: trial.Teardown, At: ref.Now})
	require.NoError(t, open().Teardown(t.Context()))
	assert.Equal(t, "-store simulated forgotten", lines())
	ref.Attempt = 2
	require.NoError(t, open().Teardown(t.Context()))
	assert.Empty(t, lines())
}
