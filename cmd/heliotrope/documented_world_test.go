package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/deploy/temporal"
	"heliotrope/internal/inventory"
	"heliotrope/internal/owner"
	"heliotrope/internal/poll"
	"heliotrope/internal/testbed"
)

// world is where documented commands run: folders with the files that they name, and one Temporal server and one state folder
// for all of them. The hosts of the inventory are SSH servers of the test, so this machine plays them.
type world struct {
	t        *testing.T
	programs string // the folder with heliotrope and the programs beside it
	model    string // the folder of which each document gets a copy
	stateDir string
	serving  *foreground
}

// foreground is a command that runs until it is ended.
type foreground struct {
	command *exec.Cmd
	says    *syncBuffer // on standard error
	ended   chan error
}

func newWorld(t *testing.T) *world {
	t.Helper()
	useServer(t)
	w := &world{t: t, programs: t.TempDir(), model: t.TempDir(), stateDir: stateDirOf(t)}
	require.NoError(t, os.Link(ownProgram(t), filepath.Join(w.programs, "heliotrope")))
	for name, text := range map[string]string{
		"heliotrope-worker": "the worker", "heliotrope-witness": "the witness",
		"xdg-open": "#!/bin/sh\nexec test -s \"$1\"\n", // the browser
	} {
		require.NoError(t, os.WriteFile(filepath.Join(w.programs, name), []byte(text), 0o755))
	}
	t.Setenv(commandLineEnv, "1")
	t.Setenv("PATH", w.programs+":"+os.Getenv("PATH"))
	w.startTemporal()
	w.furnish()
	t.Cleanup(func() {
		w.endServing()
		_, err := stopServe(context.Background(), w.stateDir, time.Minute)
		assert.NoError(t, err)
	})
	return w
}

// startTemporal starts the server that all commands find by the environment.
func (w *world) startTemporal() {
	settings, err := temporal.LoadSettings()
	require.NoError(w.t, err)
	settings.Address = anyPort
	server, err := temporal.Ensure(w.t.Context(), temporal.ServerOptions{Settings: settings, StateDir: w.t.TempDir(), UIAddress: anyPort,
		Synchronous: "NORMAL", Log: zerolog.Nop()})
	require.NoError(w.t, err)
	w.t.Cleanup(func() { assert.NoError(w.t, server.Stop(context.Background())) })
	w.t.Setenv("TEMPORAL_ADDRESS", server.Settings.Address)
	w.shell(w.model, 0, "heliotrope temporal setup")
}

// simulatedFile is a campaign file of that name with four cells.
func simulatedFile(name, repetitions string) string {
	return "version: 1\nname: " + name + "\nseed: 1\ntestbed: simulated\nlanes: 2\nmatrix:\n  storage: [iscsi, nfs]\n  wan: [lan, transatlantic]\n  access: [database]\n" +
		"repetitions: " + repetitions + "\nphases: {warm_up: 1s, before: 3s, after: 3s}\n"
}

// furnish writes the files that the documents' commands name.
func (w *world) furnish() {
	for _, folder := range []string{"inventories", "results", "srv", "etc"} {
		require.NoError(w.t, os.MkdirAll(filepath.Join(w.model, folder), 0o755))
	}
	require.NoError(w.t, os.CopyFS(filepath.Join(w.model, "examples"), os.DirFS("../../examples")))
	example := func(name string) string {
		text, err := os.ReadFile(filepath.Join("../../examples", name))
		require.NoError(w.t, err)
		return string(text)
	}
	files := map[string]string{
		"campaign.yaml": simulatedFile("campaign", "1"),
		"thesis.yaml":   simulatedFile("thesis", "1"),
		"steered.yaml":  simulatedFile("steered", "60"),
		"night.yaml":    simulatedFile("night", "20"),
		"day.yaml":      simulatedFile("day", "20"),
		"more.yaml":     "include:\n- {storage: nfs, wan: transpacific}\n",
		"strict.yaml":   "clock_uncertainty_ms: 5\n",
		// fio(1), "LOG FILE FORMATS": ms, response time in ns, direction, size, offset.
		"results/job_lat.1.log": strings.Repeat("1, 200000, 0, 4096, 0\n2, 300000, 1, 4096, 4096\n", 500),
		"examples/quick.yaml":   strings.Replace(example("quick.yaml"), "\ntestbed: emulated\n", "\ntestbed: simulated\n", 1),
		"hosts.yaml":            strings.Replace(example("hosts.yaml"), "hypervisor: [kvm]", "hypervisor: [xen]", 1), // as newSSHHosts' inventory
		"mail.icf":              example("office.icf"),
	}
	newSSHHosts(w.t, filepath.Join(w.model, "inventories"))
	for name, text := range files {
		require.NoError(w.t, os.WriteFile(filepath.Join(w.model, name), []byte(text), 0o600))
	}
	w.shell(w.model, 0, "heliotrope run examples/quick.yaml && cp -r data data-2 && mv data-2 data/2")
	w.shell(w.model, 0, "heliotrope run thesis.yaml --data srv/thesis")
}

// folder makes a document's folder, with a copy of everything.
func (w *world) folder() string {
	folder := filepath.Join(w.t.TempDir(), "here")
	out, err := exec.Command("cp", "-r", w.model, folder).CombinedOutput()
	require.NoError(w.t, err, "%s", out)
	require.NoError(w.t, os.Symlink(w.programs, filepath.Join(folder, "bin")))
	return folder
}

// documentedLine is a documented line, to be run in a folder by a shell to which a pipe fails when a part of it fails. The lines are
// those of the repository's own documents.
func documentedLine(ctx context.Context, folder, line string) *exec.Cmd {
	shell := exec.CommandContext(ctx, "bash", "-o", "pipefail", "-c", line)
	shell.Dir = folder
	return shell
}

// shell runs a line in a folder, and fails the test when it, or what is piped into another program, ends with another
// exit code.
func (w *world) shell(folder string, code int, line string) (output string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 3*time.Minute) // of one that hangs
	defer cancel()
	command := documentedLine(ctx, folder, line)
	command.WaitDelay = time.Second
	out, err := command.CombinedOutput()
	var failed *exec.ExitError
	if err != nil && !errors.As(err, &failed) {
		assert.NoError(w.t, err, line)
	}
	want := []int{code}
	if code == ofThisMachine {
		want = []int{0, exitFailure}
	}
	assert.Contains(w.t, want, command.ProcessState.ExitCode(), "%s:\n%s", line, out)
	return string(out)
}

// lease leases the hosts of a folder's inventory to a campaign, until release.
func (w *world) lease(folder string) (release func()) {
	w.t.Helper()
	const holder = "campaign night of controller 0123456789ab"
	inv, err := inventory.Load(filepath.Join(folder, "inventories/lab-1.yaml"))
	require.NoError(w.t, err)
	bed, err := testbed.Connect(inv)
	require.NoError(w.t, err)
	require.NoError(w.t, bed.Leases().Take(w.t.Context(), holder, owner.Lease))
	return func() {
		assert.NoError(w.t, bed.Leases().Release(w.t.Context(), holder))
		assert.NoError(w.t, bed.Close())
	}
}

// start starts a line that stays in the foreground, and waits until it says that it is ready.
func (w *world) start(folder, line, ready string) {
	w.t.Helper()
	w.endServing()
	out := &syncBuffer{}
	command := documentedLine(context.WithoutCancel(w.t.Context()), folder, line) // endServing ends it
	command.Stdout, command.Stderr = io.Discard, out
	require.NoError(w.t, command.Start(), line)
	serving := &foreground{command: command, says: out, ended: make(chan error, 1)}
	w.serving = serving
	go func() { serving.ended <- command.Wait() }()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	assert.NoError(w.t, poll.Until(ctx, 20*time.Millisecond, func(context.Context) (bool, error) {
		return strings.Contains(out.String(), ready) || len(serving.ended) > 0, nil
	}), line)
	assert.Contains(w.t, out.String(), ready, line)
}

// endServing ends what start has started, with SIGTERM as a service manager does.
func (w *world) endServing() {
	if w.serving == nil {
		return
	}
	_ = w.serving.command.Process.Signal(syscall.SIGTERM) // it may have ended
	assert.NoError(w.t, <-w.serving.ended, "%s:\n%s", w.serving.command.Args, w.serving.says)
	w.serving = nil
}
