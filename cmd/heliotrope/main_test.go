package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/deploy/lab"
	"heliotrope/deploy/temporal"
	"heliotrope/internal/freeport"
)

// run runs the command line with a home of its own, and returns the exit code.
func run(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	root := newRoot(&out, &errs)
	root.SetArgs(args)
	if err := root.ExecuteContext(context.Background()); err != nil {
		code = report(&errs, err)
	}
	return code, out.String(), errs.String()
}

// ownHome hides the user's home, and every Temporal server of the user: those that the environment names, and one at the
// default address. Commands look for a server where the last controller had one, which is an address that nobody listens on.
func ownHome(t *testing.T) {
	t.Helper()
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	for _, name := range usersServer {
		t.Setenv(name, "")
	}
	t.Setenv("TEMPORAL_CONFIG_FILE", filepath.Join(t.TempDir(), "none.toml"))
	stateDir := stateDirOf(t)
	require.NoError(t, os.MkdirAll(stateDir, 0o700))
	last := serveState{Embedded: true, Address: freeport.Loopback(t).String(), UI: "http://" + freeport.Loopback(t).String(), Namespace: temporal.DefaultNamespace}
	require.NoError(t, last.write(stateDir))
}

// TestOwnHome: with its own home, a test finds no server that may run on this machine.
func TestOwnHome(t *testing.T) {
	t.Setenv("TEMPORAL_ADDRESS", temporal.DefaultAddress)
	ownHome(t)
	settings, _, err := settingsOf(stateDirOf(t))
	require.NoError(t, err)
	assert.NotEqual(t, temporal.DefaultAddress, settings.Address)
	assert.False(t, settings.Configured())
	_, err = (&campaignCommand{}).open(t.Context())
	require.ErrorIs(t, err, temporal.ErrNotRunning)
}

func TestBadInputIsOneLineAndExitCode2(t *testing.T) {
	ownHome(t)
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"unknown command":     {[]string{"frobnicate"}, "frobnicate"},
		"unknown flag":        {[]string{"lab", "up", "--frobnicate"}, "--help"},
		"no node":             {[]string{"lab", "logs"}, "--help"},
		"a bad name":          {[]string{"lab", "down", "--name", "../x"}, "testbed name"},
		"a bad acceleration":  {[]string{"lab", "up", "--accel", "magic"}, "kvm or tcg"},
		"a bad hypervisor":    {[]string{"lab", "up", "--hypervisor", "vmm"}, "xen, kvm or vsphere"},
		"an unknown profile":  {[]string{"lab", "wan", "interplanetary"}, "transpacific"},
		"a delay below zero":  {[]string{"lab", "wan", "rtt=-5ms"}, "rtt"},
		"too little memory":   {[]string{"lab", "up", "--memory", "5"}, "768 MiB"},
		"a flag of no number": {[]string{"lab", "up", "--mtu", "big"}, "--mtu"},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := run(t, test.args...)
			if code != exitBadInput || !strings.Contains(stderr, test.want) || stdout != "" {
				t.Errorf("exit code %d, stdout %q, stderr %q", code, stdout, stderr)
			}
		})
	}
}

func TestNoTestbed(t *testing.T) {
	ownHome(t)
	for _, args := range [][]string{{"lab", "status"}, {"lab", "down"}, {"lab", "ssh", "host-a"}, {"lab", "logs", "store"}} {
		code, _, stderr := run(t, args...)
		if code != exitFailure || !strings.Contains(stderr, "heliotrope lab up") || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%v: exit code %d, stderr %q", args, code, stderr)
		}
	}
	if code, _, stderr := run(t, "lab", "destroy"); code != 0 {
		t.Errorf("destroying nothing: exit code %d, %s", code, stderr)
	}
}

// TestHelp checks that every command explains itself.
func TestHelp(t *testing.T) {
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.Short == "" {
			t.Errorf("%s says nothing about itself", cmd.CommandPath())
		}
		for _, child := range cmd.Commands() {
			walk(child)
		}
	}
	walk(newRoot(nil, nil))
	if code, stdout, _ := run(t, "lab", "up", "--help"); code != 0 || !strings.Contains(stdout, "Examples:") {
		t.Errorf("exit code %d, help %q", code, stdout)
	}
}

func TestStatusTable(t *testing.T) {
	var out bytes.Buffer
	status := lab.Status{Name: "unit", Accel: lab.AccelTCG, Inventory: "/x/inventory.yaml", Nodes: []lab.NodeStatus{
		{Name: lab.HostA, Ready: true, Running: true, PID: 7, SSH: "127.0.0.1:1"},
		{Name: lab.HostB, Running: true, Problem: "ssh does not answer"}, {Name: lab.Store}}}
	if err := statusTable(&out, status); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"ready", "not ready: ssh does not answer", "down", "/x/inventory.yaml"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, out.String())
		}
	}
	if _, err := json.Marshal(status); err != nil {
		t.Error(err)
	}
}

func TestExitCodeOfACommandIsPassedOn(t *testing.T) {
	var errs bytes.Buffer
	if code := report(&errs, exitCode(42)); code != 42 || errs.Len() != 0 {
		t.Errorf("exit code %d, %q", code, errs.String())
	}
	if code := report(&errs, errors.New("broken")); code != exitFailure || errs.String() != "heliotrope: broken\n" {
		t.Errorf("exit code %d, %q", code, errs.String())
	}
}
