package main

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"heliotrope/activities"
	"heliotrope/analysis/dataset"
	"heliotrope/internal/poll"
	"heliotrope/internal/trial"
	"heliotrope/workflows"
)

// TestSteeredCampaign steers a campaign from the command line and through its lanes'
// updates, while it and its lanes continue as new again and again. Added trials are run,
// skipped ones are not, and ended ones are run again, each once; and the dataset has an
// event for each answer, and none for what was refused.
func TestSteeredCampaign(t *testing.T) {
	c := serveForCommands(t)
	file := writeCampaign(t, strings.NewReplacer("NAME", "steered", "REPETITIONS", "6").Replace(simulatedSpec))
	r, err := loadRequest(file, t.TempDir())
	require.NoError(t, err)
	input := r.input(simulatedLanes(r.spec.LaneCount()))
	input.MaxEvents = 40
	lane := input.Lanes[0].Name
	started, err := c.ExecuteWorkflow(t.Context(), workflows.StartOptions(input, workflows.DefaultQueue), workflows.CampaignName, input)
	require.NoError(t, err)
	awaitDone(t, c, "steered", 2)
	answered := 0
	steer := func(want string, args ...string) {
		t.Helper()
		code, stdout, stderr := run(t, append(args, "--why", "a test")...)
		require.Equal(t, 0, code, "%v: %s", args, stderr)
		require.Contains(t, stdout, want, "%v", args)
		answered++
	}
	refused := func(want string, args ...string) {
		t.Helper()
		code, stdout, stderr := run(t, append(args, "--why", "a test")...)
		require.Equal(t, exitBadInput, code, "%v: %s %s", args, stdout, stderr)
		require.Contains(t, stderr, want, "%v", args)
	}
	cell, last := r.trials[0].CellID, r.trials[len(r.trials)-1].Sequence
	steer("all lanes: paused now", "pause", "steered", "--now")
	steer("3 trials more: numbers", "repeat", "steered", cell, "--times", "3")
	skipped := strconv.Itoa(last)
	steer("is skipped", "skip", "steered", skipped)
	refused("trial "+skipped+" is done already, or skipped", "skip", "steered", skipped)
	refused("the plan has no cell", "repeat", "steered", "no-such-cell")
	refused("is past", "until", "steered", "2020-01-01T00:00:00Z")
	steer("all lanes: go on", "resume", "steered")
	for range 3 {
		steer("paused now", "pause", "steered", "--lane", lane, "--now")
		handle, err := c.UpdateWorkflow(t.Context(), client.UpdateWorkflowOptions{WorkflowID: workflows.CampaignID("steered"), UpdateName: "resume",
			Args: []any{activities.Steering{Why: "from the UI"}}, WaitForStage: client.WorkflowUpdateStageCompleted})
		require.NoError(t, err)
		var answer string
		require.NoError(t, handle.Get(t.Context(), &answer))
		require.Equal(t, "all lanes: go on", answer)
		answered++
	}
	var result workflows.CampaignResult
	require.NoError(t, started.Get(t.Context(), &result))
	require.Equal(t, map[trial.Verdict]int{trial.Valid: last + 3 - 1, trial.Skipped: 1}, result.Progress.Verdicts)
	refused("there is nothing to steer", "pause", "steered")

	folder := dataset.CampaignFolder(r.dataDir, "steered")
	rows, err := dataset.ReadAttempts(folder)
	require.NoError(t, err)
	counted := map[int32]int{}
	for _, row := range rows {
		if row.Verdict == string(trial.Valid) {
			counted[row.Sequence]++
		}
	}
	for sequence := 1; sequence <= last+3; sequence++ {
		want := 1
		if sequence == last {
			want = 0
		}
		require.Equal(t, want, counted[int32(sequence)], "trial %d", sequence)
	}
	events, err := dataset.ReadCampaignEvents(folder)
	require.NoError(t, err)
	// The first event is the campaign's beginning, the last one its end.
	require.Len(t, events, answered+2)
	require.Equal(t, dataset.EventRun, events[0].Name)
	require.Equal(t, dataset.EventEnded, events[answered+1].Name)
	for _, event := range events[1 : answered+1] {
		require.NotEmpty(t, event.By)
		require.NotEmpty(t, event.Why)
		require.NotEmpty(t, event.Detail)
	}
}

// TestSteeringOutlivesTheServer: what a campaign's lanes were told still holds when the
// campaign begins again on its folder and the server knows nothing of it. It comes back
// paused, with its lane in quarantine, its time limit and its plan; orders that were taken
// back before are gone, and each trial is run once.
func TestSteeringOutlivesTheServer(t *testing.T) {
	c := serveForCommands(t)
	file, data := writeCampaign(t, strings.NewReplacer("NAME", "steered", "REPETITIONS", "3").Replace(simulatedSpec)), t.TempDir()
	steer := func(args ...string) {
		t.Helper()
		wantRun(t, 0, "", append(args, "--why", "because of "+args[0])...)
	}
	begin := func(want string) string {
		t.Helper()
		return wantRun(t, 0, want, "run", file, "--data", data, "--detach")
	}
	begin("runs")
	steer("pause", "steered", "--now") // which waits until the campaign has its plan
	steer("drain", "steered", "--lane", "simulated-1")
	steer("resume", "steered", "--lane", "simulated-1")
	steer("quarantine", "steered", "simulated-2")
	steer("until", "steered", "1000h")
	steer("pause", "steered", "--lane", "simulated-1")
	terminateAll(t, c, "steered")

	standing := wantRun(t, 0, "", "resume", data)
	for _, want := range []string{"all other lanes: paused (because of pause)", "lane simulated-1: paused (because of pause)",
		"lane simulated-2: paused (because of pause); in quarantine (because of quarantine)", "no trial is begun after 20"} {
		require.Contains(t, standing, want)
	}
	begin("lane simulated-2: paused (because of pause); in quarantine (because of quarantine)")
	awaitStatus(t, c, "steered", func(status workflows.CampaignStatus) bool {
		one, two := status.Lanes[0], status.Lanes[1]
		return one.State == workflows.LanePaused && one.Why == "because of pause" && two.State == workflows.LaneQuarantined && two.Why == "because of quarantine"
	})
	steer("until", "steered", "none") // which is refused where no time is set
	steer("resume", "steered")
	steer("release", "steered", "simulated-2", "--force")
	var result workflows.CampaignResult
	require.NoError(t, c.GetWorkflow(t.Context(), workflows.CampaignID("steered"), "").Get(t.Context(), &result))
	require.Equal(t, map[trial.Verdict]int{trial.Valid: 18}, result.Progress.Verdicts)
}

// awaitStatus waits until the lanes of a campaign were started and a condition is true of its status, and returns that status.
// It fails at once when the campaign has ended without that.
func awaitStatus(t *testing.T, c client.Client, name string, is func(workflows.CampaignStatus) bool) (status workflows.CampaignStatus) {
	t.Helper()
	limited, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	late := 0
	err := poll.Until(limited, 20*time.Millisecond, func(ctx context.Context) (bool, error) {
		running := isRunning(t, c, name)
		answer, ok := askStatus(ctx, t, c, name)
		if !ok {
			late++
			return false, nil
		}
		status = answer
		met := len(status.Lanes) > 0 && is(status)
		require.True(t, running || met, "the campaign has ended: %+v", status)
		return met, nil
	})
	require.NoError(t, err, "%d answers were late, the last that came: %+v", late, status)
	return status
}

// isRunning says whether a campaign runs. When the server does not answer in time, it does.
func isRunning(t *testing.T, c client.Client, name string) bool {
	t.Helper()
	info, err := describe(t.Context(), c, workflows.CampaignID(name))
	if isTimeOut(err) {
		return true
	}
	require.NoError(t, err)
	return outcomeOf(info.GetStatus()) == outcomeRunning
}

// askStatus asks a campaign for its status. On a busy machine the answer may not come in time: ok tells whether it did.
func askStatus(ctx context.Context, t *testing.T, c client.Client, name string) (status workflows.CampaignStatus, ok bool) {
	t.Helper()
	err := query(ctx, c, workflows.CampaignID(name), &status)
	if isTimeOut(err) {
		return workflows.CampaignStatus{}, false
	}
	require.NoError(t, err)
	return status, true
}

// awaitDone waits until so many trials of a campaign are done.
func awaitDone(t *testing.T, c client.Client, name string, trials int) {
	t.Helper()
	awaitStatus(t, c, name, func(status workflows.CampaignStatus) bool { return status.Progress.Done() >= trials })
}

// terminateAll terminates everything that the server knows of a campaign, as if its
// database were lost.
func terminateAll(t *testing.T, c client.Client, name string) {
	t.Helper()
	page, err := c.ListWorkflow(t.Context(), &workflowservice.ListWorkflowExecutionsRequest{Query: workflows.RunningQuery(name)})
	require.NoError(t, err)
	require.NotEmpty(t, page.GetExecutions())
	for _, one := range page.GetExecutions() {
		err := c.TerminateWorkflow(t.Context(), one.GetExecution().GetWorkflowId(), "", "the database is lost")
		require.True(t, err == nil || activities.IsGone(err), "%v", err)
	}
}
