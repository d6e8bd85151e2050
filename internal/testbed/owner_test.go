package testbed

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/internal/owner"
	"heliotrope/internal/record"
	"heliotrope/internal/remote"
)

// TestLeasesAreOfMachinesWithAShell: only those are leased, and each has its ending.
func TestLeasesAreOfMachinesWithAShell(t *testing.T) {
	tb := connected(t)
	var names []string
	for _, host := range tb.Leases() {
		names = append(names, host.Name())
		assert.Len(t, host.Args, 3)
		assert.Equal(t, tb.Name(), host.Args[0])
		assert.Equal(t, runDir(tb.Inventory.Machine(host.Name()), tb.Name()), host.Args[2])
		_, site := tb.siteOf(host.Name())
		assert.Equal(t, site, strings.Contains(host.Ending, "xl destroy"), host.Name())
		assert.Equal(t, site, strings.Contains(host.Ending, "/etc/iscsi/ifaces"), host.Name())
		assert.Contains(t, host.Ending, owner.GivingBack, host.Name())
		if site {
			assert.Greater(t, strings.Index(host.Ending, "xl destroy"), strings.Index(host.Ending, owner.GivingBack), "a toolstack may hang")
		}
	}
	assert.ElementsMatch(t, []string{"host-a", "host-b", "store"}, names)
	names = nil
	for _, host := range withoutShells(t).Leases() {
		names = append(names, host.Name())
	}
	assert.ElementsMatch(t, []string{"store", "helper-a", "helper-b"}, names)
}

// TestForgoneMachinesAreAway: on a machine that could not be leased nothing is done, and
// every operation says why.
func TestForgoneMachinesAreAway(t *testing.T) {
	tb := connected(t)
	away := map[string]error{}
	for _, host := range tb.Leases() {
		away[host.Name()] = fmt.Errorf("%s: no route to host", host.Name())
	}
	away["nowhere"] = errors.New("it is in no inventory")
	tb.Forgo(away)
	err := tb.Teardown(t.Context())
	for _, name := range []string{"host-a", "host-b", "store"} {
		require.ErrorContains(t, err, "nothing is done there without its lease: "+name+": no route to host")
		_, err := tb.Host(name).Run(t.Context(), remote.Command{Args: []string{"true"}})
		require.ErrorIs(t, err, remote.ErrUnreachable, name)
	}
}

// TestEndingEndsOurProcesses, by a real shell, and leaves others'.
func TestEndingEndsOurProcesses(t *testing.T) {
	tb, folder := connected(t), t.TempDir()
	ours := record.Process{Host: remote.Local("store"), Dir: filepath.Join(folder, "lab-1.run", "witness")}
	others := record.Process{Host: remote.Local("store"), Dir: filepath.Join(folder, "lab-2.run", "witness")}
	for _, process := range []record.Process{ours, others} {
		require.NoError(t, process.Start(t.Context(), "sleep", "600"))
		t.Cleanup(func() { _ = process.Remove(context.Background()) })
	}
	for range 2 {
		text := tb.ending(tb.Inventory.Store())
		output, err := exec.CommandContext(t.Context(), "/bin/sh", "-c", text, "sh", "lab-1", "uuid", filepath.Dir(ours.Dir)).CombinedOutput()
		require.NoError(t, err, string(output))
	}
	assert.NoDirExists(t, filepath.Dir(ours.Dir))
	alive, err := others.Alive(t.Context())
	require.NoError(t, err)
	assert.True(t, alive)
}
