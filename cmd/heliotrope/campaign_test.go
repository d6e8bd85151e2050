package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
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
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"heliotrope/analysis/dataset"
	"heliotrope/deploy/lab"
	"heliotrope/deploy/temporal"
	"heliotrope/internal/poll"
	"heliotrope/internal/procs"
	"heliotrope/internal/record"
	"heliotrope/internal/trial"
	"heliotrope/workflows"
)

// finishSignal ends a stand-in campaign.
const finishSignal = "finish"

// mute is the name of a stand-in campaign that continues as new once, and does not answer.
const mute = "mute"

// standInCampaign answers like a campaign that runs its second trial of four, until it is
// signalled or cancelled.
func standInCampaign(ctx workflow.Context, input workflows.CampaignInput) (workflows.CampaignResult, error) {
	status := workflows.CampaignStatus{Name: input.Name, SpecSHA256: input.SpecSHA256, DataDir: input.DataDir, State: "running",
		Progress: workflows.Progress{Total: 4, Verdicts: map[trial.Verdict]int{trial.Valid: 1}, TrialSeconds: 60},
		Running:  []workflows.RunningTrial{{Lane: input.Lanes[0].Name, WorkflowID: "trial/" + input.Name, Sequence: 2, CellID: "a-cell", Started: workflow.Now(ctx)}}}
	if err := workflow.SetQueryHandler(ctx, workflows.StatusQuery, func() (workflows.CampaignStatus, error) {
		if input.Name == mute {
			return status, errors.New("I would rather not say")
		}
		return status, nil
	}); err != nil {
		return workflows.CampaignResult{}, err
	}
	if input.Name == mute && workflow.GetInfo(ctx).ContinuedExecutionRunID == "" {
		return workflows.CampaignResult{}, workflow.NewContinueAsNewError(ctx, workflows.CampaignName, input)
	}
	child := workflow.ExecuteChildWorkflow(workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{
		WorkflowID: "trial/" + input.Name, WaitForCancellation: true}), workflows.TrialName)
	selector := workflow.NewSelector(ctx)
	selector.AddReceive(workflow.GetSignalChannel(ctx, finishSignal), func(c workflow.ReceiveChannel, _ bool) { c.Receive(ctx, nil) })
	selector.AddReceive(ctx.Done(), func(workflow.ReceiveChannel, bool) {})
	selector.Select(ctx)
	if ctx.Err() != nil {
		_ = child.Get(ctx, nil)
		return workflows.CampaignResult{}, ctx.Err()
	}
	status.Progress.Verdicts[trial.Valid], status.Running = 4, nil
	return workflows.CampaignResult{Progress: status.Progress}, nil
}

// standInTrial is in phase before, ahead of a migration, until it is cancelled.
func standInTrial(ctx workflow.Context) error {
	status := workflows.TrialStatus{Phase: trial.Before, Since: workflow.Now(ctx), Attempt: 1, Attempts: 3}
	if err := workflow.SetQueryHandler(ctx, workflows.StatusQuery, func() (workflows.TrialStatus, error) { return status, nil }); err != nil {
		return err
	}
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Hour, HeartbeatTimeout: time.Minute, WaitForCancellation: true})
	load, migration := workflow.ExecuteActivity(ctx, followLoadActivity), workflow.ExecuteActivity(ctx, "Migrate")
	_ = load.Get(ctx, nil)
	return migration.Get(ctx, nil)
}

// beating heartbeats details until its activity is cancelled.
func beating(details any) func(context.Context) error {
	return func(ctx context.Context) error {
		beat := time.NewTicker(50 * time.Millisecond)
		defer beat.Stop()
		for {
			activity.RecordHeartbeat(ctx, details)
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-activity.GetWorkerStopChannel(ctx):
				return nil
			case <-beat.C:
			}
		}
	}
}

// usersServer are the variables that may name a server of the user.
var usersServer = []string{"TEMPORAL_ADDRESS", "TEMPORAL_NAMESPACE", "TEMPORAL_PROFILE", "TEMPORAL_API_KEY", temporal.CodecEnv}

// hideUsersServer names the embedded server's program, and hides the user's own server from all tests.
func hideUsersServer() error {
	here, err := os.Getwd()
	if err != nil {
		return err
	}
	variables := map[string]string{"TEMPORAL_CONFIG_FILE": filepath.Join(here, "none.toml")}
	for _, name := range usersServer {
		variables[name] = ""
	}
	if os.Getenv(serverEnv) == "" {
		variables[serverEnv] = filepath.Join(here, "../../bin/heliotrope-server")
	}
	for name, value := range variables {
		err = errors.Join(err, os.Setenv(name, value))
	}
	return err
}

// serverEnv names the embedded server's program.
const serverEnv = "HELIOTROPE_SERVER"

// useServer is for tests that need the embedded server, and that run the command line. It hides the user's own home.
func useServer(t *testing.T) {
	t.Helper()
	needServer(t)
	ownHome(t)
}

func needServer(t *testing.T) {
	t.Helper()
	if _, err := os.Stat(os.Getenv(serverEnv)); err != nil {
		t.Fatalf("this test needs the embedded server: run `make server` (%v)", err)
	}
}

// serveStandIn runs an embedded server with a stand-in controller in this
// process, and makes the command line find them.
func serveStandIn(t *testing.T) (c client.Client, stopController func()) {
	t.Helper()
	return serveWith(t, zerolog.Nop(), func(c client.Client, _ temporal.Settings) worker.Worker {
		w := worker.New(c, workflows.DefaultQueue, worker.Options{MaxHeartbeatThrottleInterval: 50 * time.Millisecond})
		w.RegisterWorkflowWithOptions(standInCampaign, workflow.RegisterOptions{Name: workflows.CampaignName})
		w.RegisterWorkflowWithOptions(standInTrial, workflow.RegisterOptions{Name: workflows.TrialName})
		w.RegisterActivityWithOptions(beating(record.Progress{Running: true, IOPS: 321, MeanLatencyMs: 4.5}), activity.RegisterOptions{Name: followLoadActivity})
		w.RegisterActivityWithOptions(beating(migrationProgress{SentBytes: 1 << 20, MemoryBytes: 4 << 20}), activity.RegisterOptions{Name: "Migrate"})
		return w
	})
}

// serveWith runs an embedded server, and a controller in this process, whose
// client logs to log. The command line finds them.
func serveWith(t *testing.T, log zerolog.Logger, controller func(client.Client, temporal.Settings) worker.Worker) (c client.Client, stopController func()) {
	t.Helper()
	useServer(t)
	return serveIn(t, stateDirOf(t), log, controller)
}

// serveIn does the same in a state folder.
func serveIn(t *testing.T, stateDir string, log zerolog.Logger, controller func(client.Client, temporal.Settings) worker.Worker) (c client.Client, stopController func()) {
	t.Helper()
	needServer(t)
	settings, err := temporal.LoadSettings()
	if err != nil {
		t.Fatal(err)
	}
	settings.Address = anyPort
	ctx := t.Context()
	unlock, err := lockServe(ctx, stateDir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(unlock)
	server, err := temporal.Ensure(ctx, temporal.ServerOptions{Settings: settings, StateDir: stateDir,
		UIAddress: anyPort, Synchronous: "NORMAL", Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	settings = server.Settings
	t.Cleanup(func() {
		if err := server.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	session, err := dial(ctx, settings, stateDir, server.UIURL, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(session.client.Close)
	if err := temporal.RegisterSearchAttributes(ctx, session.client, settings.Namespace, workflows.SearchAttributes); err != nil {
		t.Fatal(err)
	}
	w := controller(session.client, settings)
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	if err := announce(stateDir, "", settings, server.UIURL); err != nil {
		t.Fatal(err)
	}
	return session.client, w.Stop
}

// anyPort lets a server take any free port.
const anyPort = "127.0.0.1:0"

// wantRun runs the command line and checks everything that it printed.
func wantRun(t *testing.T, code int, want string, args ...string) string {
	t.Helper()
	got, stdout, stderr := run(t, args...)
	if got != code || !strings.Contains(stdout+stderr, want) {
		t.Errorf("%v: exit code %d, want %d and %q in:\n%s%s", args, got, code, want, stdout, stderr)
	}
	return stdout
}

func TestCampaignCommands(t *testing.T) {
	c, _ := serveStandIn(t)
	file, data := writeCampaign(t, simulatedCampaign), t.TempDir()
	wantRun(t, 0, "no campaigns yet", "status")
	wantRun(t, exitBadInput, `no campaign "unit"`, "status", "unit")
	wantRun(t, exitBadInput, `no campaign "unit"`, "watch", "unit")
	wantRun(t, exitBadInput, `no campaign "unit"`, "cancel", "unit")

	wantRun(t, 0, "heliotrope watch unit", "run", file, "--data", data, "--detach")
	wantRun(t, 0, "runs already", "run", file, "--data", data, "--detach")
	wantRun(t, 0, "runs already", "run", file, "--detach")
	link := filepath.Join(t.TempDir(), "link")
	require.NoError(t, os.Symlink(data, link))
	wantRun(t, 0, "runs already", "run", file, "--data", link, "--detach")
	wantRun(t, exitBadInput, "its data go to "+data, "run", file, "--data", t.TempDir(), "--detach")
	other := writeCampaign(t, strings.Replace(simulatedCampaign, "seed: 1", "seed: 2", 1))
	wantRun(t, exitBadInput, "another name", "run", other, "--data", data, "--detach")

	shot := awaitBeats(t)
	if lane := shot.Lanes[0]; lane.Load.IOPS != 321 || lane.Migration.SentBytes != 1<<20 || lane.Trial == nil || lane.Trial.Phase != trial.Before || lane.Lane != "simulated-1" {
		t.Errorf("%+v", lane)
	}
	if shot.Status.DataDir != data || shot.EstimateSeconds <= 0 || shot.Outcome != outcomeRunning {
		t.Errorf("%+v", shot)
	}
	wantRun(t, 0, "321 IOPS, 4.5 ms", "status", "unit")
	detach(t, "watch", "unit")
	detach(t, "run", file, "--data", data)
	wantRun(t, 0, "1 of 4 trials done (1 valid), about", "status", "unit")

	if err := c.SignalWorkflow(t.Context(), workflows.CampaignID("unit"), "", finishSignal, nil); err != nil {
		t.Fatal(err)
	}
	var ended result
	if err := json.Unmarshal([]byte(wantRun(t, 0, "4 of 4 trials done (4 valid)", "watch", "unit", "--json")), &ended); err != nil || ended.Outcome != outcomeCompleted || ended.UI == "" {
		t.Errorf("%v: %+v", err, ended)
	}
	wantRun(t, exitFailure, "it has finished", "cancel", "unit")

	// The same name again, cancelled this time.
	wantRun(t, 0, "runs", "run", file, "--data", data, "--detach")
	wantRun(t, 0, "torn down", "cancel", "unit", "--wait")
	wantRun(t, exitFailure, "unit: cancelled", "watch", "unit")
	wantRun(t, exitFailure, "it was cancelled", "cancel", "unit")
	var listed []listedCampaign
	if err := json.Unmarshal([]byte(wantRun(t, 0, "", "status", "--json")), &listed); err != nil || len(listed) == 0 || listed[0].Name != "unit" {
		t.Errorf("%v: %+v", err, listed)
	}
}

// TestACampaignThatDoesNotAnswer: a query that failed does not mean that no controller
// works.
func TestACampaignThatDoesNotAnswer(t *testing.T) {
	c, _ := serveStandIn(t)
	wantRun(t, 0, "runs", "run", writeCampaign(t, strings.Replace(simulatedCampaign, "name: unit", "name: "+mute, 1)), "--data", t.TempDir(), "--detach")
	answer := wantRun(t, 0, "works, but campaign mute did not answer: I would rather not say", "status", mute)
	assert.NotContains(t, answer, "no controller")
	assert.Contains(t, answer, "mute: running, and how far it is nobody says")

	// The campaign's start is the start of its first run.
	info, err := describe(t.Context(), c, workflows.CampaignID(mute))
	require.NoError(t, err)
	var listed []listedCampaign
	require.NoError(t, json.Unmarshal([]byte(wantRun(t, 0, "", "status", "--json")), &listed))
	require.Len(t, listed, 1)
	assert.True(t, listed[0].Started.Before(info.GetStartTime().AsTime()), "%s, the last run %s", listed[0].Started, info.GetStartTime().AsTime())

	input := workflows.CampaignInput{Name: "alone", Lanes: []workflows.Lane{{Name: "lab-1"}}}
	_, err = c.ExecuteWorkflow(t.Context(), workflows.StartOptions(input, "heliotrope.nobody"), workflows.CampaignName, input)
	require.NoError(t, err)
	wantRun(t, 0, "no controller answers, so nothing gets on", "status", input.Name)
}

func stateDirOf(t *testing.T) string {
	t.Helper()
	stateDir, err := temporal.DefaultDir()
	if err != nil {
		t.Fatal(err)
	}
	return stateDir
}

// detach runs the command line and presses Ctrl-C when it shows something of
// the campaign.
func detach(t *testing.T, args ...string) {
	t.Helper()
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	var stdout, stderr bytes.Buffer
	root := newRoot(&stdout, writerFunc(func(text []byte) (int, error) {
		if bytes.Contains(text, []byte("trials done")) {
			interrupt()
		}
		return stderr.Write(text)
	}))
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if code := report(&stderr, err); code != exitDetached || stdout.Len() != 0 ||
		!strings.Contains(stderr.String(), "heliotrope watch unit") || !strings.Contains(stderr.String(), "heliotrope cancel unit") {
		t.Errorf("%v: exit code %d, stdout %q, stderr %q", args, code, stdout.String(), stderr.String())
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(text []byte) (int, error) { return f(text) }

// TestFinishedWithoutAController checks that the outcome of a campaign can be shown when no
// controller answers.
func TestFinishedWithoutAController(t *testing.T) {
	c, stopController := serveStandIn(t)
	wantRun(t, 0, "runs", "run", writeCampaign(t, simulatedCampaign), "--data", t.TempDir(), "--detach")
	if err := c.SignalWorkflow(t.Context(), workflows.CampaignID("unit"), "", finishSignal, nil); err != nil {
		t.Fatal(err)
	}
	if err := c.GetWorkflow(t.Context(), workflows.CampaignID("unit"), "").Get(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	stopController()
	wantRun(t, 0, "unit: completed, 4 of 4 trials done (4 valid)", "watch", "unit")
}

// awaitBeats asks for the status until the activities' heartbeats are in it.
func awaitBeats(t *testing.T) snapshot {
	t.Helper()
	for ctx := t.Context(); ctx.Err() == nil; {
		var shot snapshot
		if err := json.Unmarshal([]byte(wantRun(t, 0, "", "status", "unit", "--json")), &shot); err != nil {
			t.Fatal(err)
		}
		if len(shot.Lanes) == 1 && shot.Lanes[0].Load != nil && shot.Lanes[0].Migration != nil {
			return shot
		}
	}
	return snapshot{}
}

// TestTestbedInUse checks that no campaign is started on a testbed that another one uses,
// and that such a testbed is not ended by mistake.
func TestTestbedInUse(t *testing.T) {
	c, _ := serveStandIn(t)
	input := workflows.CampaignInput{Name: "first", Lanes: []workflows.Lane{{Name: "lab-1", Inventory: "/x/lab-1.yaml"}}}
	s := &session{client: c, queue: controllerQueue("")}
	if err := s.startCampaign(t.Context(), input); err != nil {
		t.Fatal(err)
	}
	if err := s.startCampaign(t.Context(), input); err == nil || !strings.Contains(err.Error(), "heliotrope watch first") {
		t.Errorf("started twice: %v", err)
	}
	err := s.checkFree(t.Context(), "second", []string{"/x/lab-1.yaml"})
	var found findings
	found.add(err)
	if len(found.bad) != 1 || !strings.Contains(err.Error(), "in use by campaign first") {
		t.Errorf("%v", err)
	}
	used, unused := &lab.Lab{Dir: "/x/used"}, &lab.Lab{Dir: "/x/unused"}
	input = workflows.CampaignInput{Name: "on-a-lab", Lanes: []workflows.Lane{{Name: "used", Inventory: used.InventoryPath()}}}
	if err := s.startCampaign(t.Context(), input); err != nil {
		t.Fatal(err)
	}
	err = s.refuseUsed(t.Context(), used)
	if err == nil || !strings.Contains(err.Error(), "testbed used is in use by campaign on-a-lab") || !strings.Contains(err.Error(), "--force") {
		t.Errorf("a testbed in use may end: %v", err)
	}
	if err := s.refuseUsed(t.Context(), unused); err != nil {
		t.Errorf("a testbed that nobody uses may not end: %v", err)
	}
	for name, test := range map[string][]string{"first": {"/x/lab-1.yaml"}, "second": {"/x/lab-2.yaml"}, "simulated": nil} {
		if err := s.checkFree(t.Context(), name, test); err != nil {
			t.Errorf("%s on %v: %v", name, test, err)
		}
	}
}

// killServer kills the server of a serve, and waits until a new one runs.
func killServer(t *testing.T, stateDir, address string) {
	t.Helper()
	settings := temporal.Settings{Address: address, Namespace: temporal.DefaultNamespace}
	before, err := temporal.Find(t.Context(), settings, stateDir)
	if err != nil || before.PID == 0 {
		t.Fatalf("%+v, %v", before, err)
	}
	if err := syscall.Kill(before.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for ctx := t.Context(); ctx.Err() == nil; {
		after, err := temporal.Find(ctx, settings, stateDir)
		if err == nil && after.PID != 0 && after.PID != before.PID {
			if after.UIURL != before.UIURL {
				t.Errorf("the UI moved from %s to %s", before.UIURL, after.UIURL)
			}
			return
		}
	}
}

// TestServe runs the real program, with its server, as a process.
func TestServe(t *testing.T) {
	useServer(t)
	stateDir := t.TempDir()
	t.Setenv(commandLineEnv, "1")
	if err := startServe(t.Context(), stateDir, []string{ownProgram(t), "serve", "--state-dir", stateDir, "--address", anyPort, "--ui-address", anyPort}); err != nil {
		t.Fatal(err)
	}
	state, err := runningServe(stateDir)
	if err != nil || state == nil {
		t.Fatalf("%+v, %v", state, err)
	}
	address, uiAddress := state.Address, strings.TrimPrefix(state.UI, "http://")
	t.Cleanup(func() {
		if _, err := stopServe(context.Background(), stateDir, time.Minute); err != nil {
			t.Error(err)
		}
		if _, err := temporal.StopEmbedded(context.Background(), stateDir); err != nil {
			t.Error(err)
		}
	})
	if session, err := ensureController(t.Context(), stateDir, func(text string) { t.Errorf("there is one, but: %s", text) }); err != nil {
		t.Error(err)
	} else {
		session.client.Close()
	}
	wantRun(t, 0, "no campaigns yet", "status", "--state-dir", stateDir)
	killServer(t, stateDir, address)
	wantRun(t, 0, "no campaigns yet", "status", "--state-dir", stateDir)
	second := exec.Command(ownProgram(t), "serve", "--state-dir", stateDir)
	if text, err := second.CombinedOutput(); err == nil || !strings.Contains(string(text), "already serving") {
		t.Errorf("a second serve: %v, %s", err, text)
	}
	wantRun(t, 0, "has ended", "stop", "--state-dir", stateDir)
	wantRun(t, 0, "no controller runs", "stop", "--state-dir", stateDir)
	wantRun(t, exitFailure, "heliotrope serve", "status", "--state-dir", stateDir)
	if conn, err := net.Dial("tcp", address); err == nil {
		_ = conn.Close()
		t.Error("the server goes on after its serve")
	}
	// The next serve uses the addresses of the last one.
	options := serveOptions{stateDir: stateDir}
	if settings, err := options.settings(); err != nil || settings.Address != address || options.wantedUI() != uiAddress {
		t.Errorf("the next server is at %s, its UI at %s, %v", settings.Address, options.wantedUI(), err)
	}
	options.address, options.uiAddress = "127.0.0.1:1", "127.0.0.1:2"
	if settings, err := options.settings(); err != nil || settings.Address != "127.0.0.1:1" || options.wantedUI() != "127.0.0.1:2" {
		t.Errorf("the next server is at %s, its UI at %s, %v", settings.Address, options.wantedUI(), err)
	}
	t.Setenv("TEMPORAL_ADDRESS", "temporal.example:7233")
	wantRun(t, exitBadInput, "give one of both", "serve", "--state-dir", stateDir, "--address", address)
}

// startOwnServe starts the real program, with its server, as a process, and ends both when
// the test ends.
func startOwnServe(t *testing.T, stateDir string) *serveState {
	t.Helper()
	t.Setenv(commandLineEnv, "1")
	t.Cleanup(func() {
		pid, err := stopServe(context.Background(), stateDir, time.Minute)
		require.NoError(t, err)
		awaitEnd(t, pid)
		_, err = temporal.StopEmbedded(context.Background(), stateDir)
		require.NoError(t, err)
	})
	require.NoError(t, startServe(t.Context(), stateDir, []string{ownProgram(t), "serve", "--state-dir", stateDir,
		"--address", anyPort, "--ui-address", anyPort}))
	state, err := runningServe(stateDir)
	require.NoError(t, err)
	require.NotNil(t, state)
	return state
}

// awaitEnd waits for the end of a process that was stopped: it gives up its lock a moment before that.
func awaitEnd(t *testing.T, pid int) {
	t.Helper()
	limited, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	require.NoError(t, poll.Until(limited, 20*time.Millisecond, func(context.Context) (bool, error) { return !procs.Runs(pid), nil }))
}

// TestATwinIsRefused: a copied state folder is the same controller, and two of
// one would take each other's work. One that was killed is none, whatever the
// server remembers.
func TestATwinIsRefused(t *testing.T) {
	useServer(t)
	first, copied := t.TempDir(), t.TempDir()
	state := startOwnServe(t, first)
	for _, name := range []string{controllerFile, serveStateFile} {
		text, err := os.ReadFile(filepath.Join(first, name))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(copied, name), text, 0o600))
	}
	twin := []string{ownProgram(t), "serve", "--state-dir", copied}
	text, err := exec.CommandContext(t.Context(), twin[0], twin[1:]...).CombinedOutput()
	require.Error(t, err)
	host, err := os.Hostname()
	require.NoError(t, err)
	assert.Contains(t, string(text), fmt.Sprintf("already serving: the controller of the state folder %s lives elsewhere (%s, process %d on %s)",
		copied, state.Controller, state.PID, host))

	// A command that names the server finds its controller, and that controller's queue.
	t.Setenv("TEMPORAL_ADDRESS", state.Address)
	found, err := foreignController(t.Context())
	require.NoError(t, err)
	require.NotNil(t, found)
	found.client.Close()
	assert.Equal(t, "heliotrope."+state.Controller, found.queue)
	t.Setenv("TEMPORAL_ADDRESS", "")

	require.NoError(t, syscall.Kill(state.PID, syscall.SIGKILL))
	require.NoError(t, startServe(t.Context(), copied, twin))
	_, err = stopServe(t.Context(), copied, time.Minute)
	require.NoError(t, err)
}

// TestRunGoesOn: after the controller was stopped, or everything was killed, the same
// command goes on with the campaign. Nobody reaps the first controller, as in a container
// without an init: it stays as a zombie.
func TestRunGoesOn(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, stateDir string, state *serveState){
		"stopped": func(t *testing.T, stateDir string, _ *serveState) {
			wantRun(t, 0, "has ended", "stop", "--state-dir", stateDir)
		},
		"killed": func(t *testing.T, stateDir string, state *serveState) {
			settings := temporal.Settings{Address: state.Address, Namespace: state.Namespace}
			server, err := temporal.Find(t.Context(), settings, stateDir)
			if err != nil {
				t.Fatal(err)
			}
			for _, pid := range []int{state.PID, server.PID} {
				if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			useServer(t)
			t.Setenv(commandLineEnv, "1")
			stateDir, data := t.TempDir(), t.TempDir()
			first := exec.Command(ownProgram(t), "serve", "--state-dir", stateDir, "--address", anyPort, "--ui-address", anyPort)
			if err := first.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { // after the stop below
				_ = first.Process.Kill()
				_ = first.Wait()
			})
			t.Cleanup(func() { wantRun(t, 0, "", "stop", "--state-dir", stateDir) })
			if err := awaitServe(t.Context(), stateDir, make(chan error)); err != nil {
				t.Fatal(err)
			}
			file := writeCampaign(t, strings.NewReplacer("NAME", "unit", "REPETITIONS", "1000").Replace(simulatedSpec))
			command := []string{"run", file, "--data", data, "--state-dir", stateDir, "--detach"}
			wantRun(t, 0, "campaign unit runs", command...)
			folder := dataset.CampaignFolder(data, "unit")
			if err := poll.Until(t.Context(), 50*time.Millisecond, func(context.Context) (bool, error) {
				_, err := os.Stat(folder)
				return err == nil, nil
			}); err != nil {
				t.Fatalf("no trial has ended: %v", err)
			}
			state, err := runningServe(stateDir)
			if err != nil || state == nil || state.PID != first.Process.Pid {
				t.Fatalf("%+v, %v", state, err)
			}
			end(t, stateDir, state)
			wantRun(t, 0, "campaign unit runs already", command...)
		})
	}
}
