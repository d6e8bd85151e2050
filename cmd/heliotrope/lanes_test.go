package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"

	"heliotrope/activities"
	"heliotrope/analysis/dataset"
	"heliotrope/internal/poll"
	"heliotrope/internal/simulated"
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
	held := simulated.Held{Phase: trial.Migrate, File: filepath.Join(t.TempDir(), "held")}
	faults, err := json.Marshal(simulated.Faults{Held: &held})
	require.NoError(t, err)
	for i := range input.Lanes {
		input.Lanes[i].Faults = faults
	}
	run, err := c.ExecuteWorkflow(t.Context(), workflows.StartOptions(input, workflows.DefaultQueue), workflows.CampaignName, input)
	require.NoError(t, err)
	for killed := 0; killed < 5; {
		awaitDone(t, c, "dying", 3*(killed+1))
		id, release := holdTrial(t, c, "dying", held.File)
		if killed < 3 {
			info, err := describe(t.Context(), c, id)
			require.NoError(t, err)
			id = info.GetParentExecution().GetWorkflowId()
		}
		err := c.TerminateWorkflow(t.Context(), id, "", "for a test")
		if err == nil {
			killed++
		} else {
			require.True(t, activities.IsGone(err), "%v", err) // the trial was one that a killed lane had left
		}
		release()
	}
	wantEachOnce(t, run, r, 24)
}

// holdTrial holds the trial of a campaign that next comes to where a file holds it, and others behind it, until it is released.
func holdTrial(t *testing.T, c client.Client, name, file string) (id string, release func()) {
	t.Helper()
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	var sequence, attempt int
	limited, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	require.NoError(t, poll.Until(limited, 20*time.Millisecond, func(context.Context) (bool, error) {
		note, err := os.ReadFile(file)
		read, _ := fmt.Sscanf(string(note), "trial %d.%d,", &sequence, &attempt)
		require.True(t, read == 2 || isRunning(t, c, name), "the campaign has ended, and no trial was held")
		return read == 2, err
	}))
	return workflows.TrialID(name, sequence), func() { require.NoError(t, os.Remove(file)) }
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
