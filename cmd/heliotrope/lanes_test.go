package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/trial"
	"heliotrope/workflows"
)

// TestLanesThatDie: terminating lanes and trials in the middle of a campaign, while it and
// they continue as new again and again, loses no trial, and makes none count twice.
func TestLanesThatDie(t *testing.T) {
	c := serveSimulated(t)
	file := writeCampaign(t, strings.NewReplacer("NAME", "dying", "REPETITIONS", "4").Replace(simulatedSpec))
	r, err := loadRequest(file, t.TempDir())
	require.NoError(t, err)
	input := r.input(simulatedLanes(r.spec.LaneCount()))
	input.MaxEvents = 40
	run, err := c.ExecuteWorkflow(t.Context(), workflows.StartOptions(input, workflows.DefaultQueue), workflows.CampaignName, input)
	require.NoError(t, err)
	for killed := 0; killed < 5; {
		status := awaitStatus(t, c, "dying", func(status workflows.CampaignStatus) bool { return status.Progress.Done() >= 3*(killed+1) })
		require.Less(t, status.Progress.Done(), 24, "the campaign ended when %d were killed", killed)
		lane := workflows.LaneID("dying", input.Lanes[killed%2].Name)
		id := lane
		if killed >= 3 {
			id = runningTrial(t, c, lane)
		}
		if id != "" && c.TerminateWorkflow(t.Context(), id, "", "for a test") == nil { // it may just have ended
			killed++
		}
	}
	wantEachOnce(t, run, r, 24)
}

// runningTrial is the workflow of the trial that a lane runs, as the lane says itself: its campaign hears of it so late that a
// short trial has ended. It is "" when the lane runs none, or does not answer.
func runningTrial(t *testing.T, c client.Client, lane string) string {
	t.Helper()
	var report workflows.LaneReport
	if err := query(t.Context(), c, lane, &report); err != nil || report.Trial == nil {
		return ""
	}
	return report.Trial.WorkflowID
}

// TestStartedAgain: a campaign that was terminated, and started again while its lanes still
// run, goes on with what is left when these lanes have ended.
func TestStartedAgain(t *testing.T) {
	c := serveSimulated(t)
	file := writeCampaign(t, strings.NewReplacer("NAME", "again", "REPETITIONS", "4").Replace(simulatedSpec))
	r, err := loadRequest(file, t.TempDir())
	require.NoError(t, err)
	input := r.input(simulatedLanes(r.spec.LaneCount()))
	start := func() client.WorkflowRun {
		run, err := c.ExecuteWorkflow(t.Context(), workflows.StartOptions(input, workflows.DefaultQueue), workflows.CampaignName, input)
		require.NoError(t, err)
		return run
	}
	start()
	awaitDone(t, c, "again", 3)
	require.NoError(t, c.TerminateWorkflow(t.Context(), workflows.CampaignID("again"), "", "for a test"))
	wantEachOnce(t, start(), r, 24)
}

// TestCancelledAtOnce: a campaign that is cancelled while its lanes are being started
// leaves none behind.
func TestCancelledAtOnce(t *testing.T) {
	c := serveSimulated(t)
	file := writeCampaign(t, strings.NewReplacer("NAME", "regretted", "REPETITIONS", "50").Replace(simulatedSpec))
	r, err := loadRequest(file, t.TempDir())
	require.NoError(t, err)
	input := r.input(simulatedLanes(r.spec.LaneCount()))
	run, err := c.ExecuteWorkflow(t.Context(), workflows.StartOptions(input, workflows.DefaultQueue), workflows.CampaignName, input)
	require.NoError(t, err)
	limited, end := context.WithTimeout(t.Context(), time.Minute)
	defer end()
	for lanes := 0; lanes == 0; { // without a pause, in which it would start them
		require.NoError(t, limited.Err())
		status, _ := askStatus(limited, t, c, "regretted")
		lanes = len(status.Lanes)
	}
	require.NoError(t, c.CancelWorkflow(t.Context(), run.GetID(), ""))
	require.ErrorContains(t, run.Get(t.Context(), nil), "canceled")
	for _, lane := range input.Lanes {
		info, err := describe(t.Context(), c, workflows.LaneID("regretted", lane.Name))
		if err == nil {
			require.NotEqual(t, outcomeRunning, outcomeOf(info.GetStatus()))
		} else {
			require.ErrorIs(t, err, errNoCampaign)
		}
	}
}

// wantEachOnce checks that a campaign ends with one valid result of each of its trials.
func wantEachOnce(t *testing.T, run client.WorkflowRun, r *request, trials int) {
	t.Helper()
	var result workflows.CampaignResult
	require.NoError(t, run.Get(t.Context(), &result))
	require.Equal(t, map[trial.Verdict]int{trial.Valid: trials}, result.Progress.Verdicts)
	folder := dataset.CampaignFolder(r.dataDir, r.spec.Name)
	rows, err := dataset.ReadAttempts(folder)
	require.NoError(t, err)
	counted := map[int32]int{}
	for _, row := range rows {
		if row.Counted {
			counted[row.Sequence]++
			require.Equal(t, string(trial.Valid), row.Verdict)
		}
	}
	require.Len(t, counted, trials)
	for sequence, rows := range counted {
		require.Equal(t, 1, rows, "trial %d", sequence)
	}
	problems, err := dataset.Check(folder)
	require.NoError(t, err)
	require.Empty(t, problems)
}
