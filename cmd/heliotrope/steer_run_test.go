package main

import (
	"strings"
	"testing"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"

	"heliotrope/activities"
	"heliotrope/analysis/dataset"
	"heliotrope/internal/trial"
	"heliotrope/workflows"
)

// TestSteeredCampaign: a campaign that is steered from the command line and by its
// lanes' updates, while it and its lanes continue as new again and again, does what it
// was told: what was added is run, what was skipped is not, what was ended is run
// again, each once; and the dataset has an event for each answer, and for nothing that
// was refused.
func TestSteeredCampaign(t *testing.T) {
	c := serveLogging(t, zerolog.Nop())
	file := writeCampaign(t, strings.NewReplacer("NAME", "steered", "REPETITIONS", "12").Replace(simulatedSpec))
	r, err := loadRequest(file, t.TempDir())
	require.NoError(t, err)
	input := r.input(simulatedLanes(r.spec.LaneCount()))
	input.MaxEvents = 40
	lane := input.Lanes[0].Name
	started, err := c.ExecuteWorkflow(t.Context(), workflows.StartOptions(input, workflows.DefaultQueue), workflows.CampaignName, input)
	require.NoError(t, err)
	for campaignStatus(t, c, started.GetID()).Progress.Done() < 2 {
		require.NoError(t, t.Context().Err())
	}
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
	cell, last := r.trials[0].CellID, r.trials[len(r.trials)-1]
	steer("all lanes: paused now", "pause", "steered", "--now")
	steer("3 trials more: numbers", "repeat", "steered", cell, "--times", "3")
	steer("is skipped", "skip", "steered", "72")
	refused("trial 72 is done already, or skipped", "skip", "steered", "72")
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
	require.Equal(t, map[trial.Verdict]int{trial.Valid: last.Sequence + 3 - 1, trial.Skipped: 1}, result.Progress.Verdicts)
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
	for sequence := 1; sequence <= last.Sequence+3; sequence++ {
		want := 1
		if sequence == 72 {
			want = 0
		}
		require.Equal(t, want, counted[int32(sequence)], "trial %d", sequence)
	}
	events, err := dataset.ReadCampaignEvents(folder)
	require.NoError(t, err)
	// The first is that the campaign began, the last that it has ended.
	require.Len(t, events, answered+2)
	require.Equal(t, dataset.EventRun, events[0].Name)
	require.Equal(t, dataset.EventEnded, events[answered+1].Name)
	for _, event := range events[1 : answered+1] {
		require.NotEmpty(t, event.By)
		require.NotEmpty(t, event.Why)
		require.NotEmpty(t, event.Detail)
	}
}
