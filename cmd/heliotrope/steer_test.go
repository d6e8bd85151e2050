package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/mocks"

	"heliotrope/activities"
	"heliotrope/internal/campaign"
	"heliotrope/internal/fault"
	"heliotrope/internal/fault/wire"
	"heliotrope/workflows"
)

// steeredServer is a server on which campaign quick has this status.
func steeredServer(status enumspb.WorkflowExecutionStatus) *mocks.Client {
	server := &mocks.Client{}
	server.On("DescribeWorkflowExecution", mock.Anything, workflows.CampaignID("quick"), "").Return(
		&workflowservice.DescribeWorkflowExecutionResponse{WorkflowExecutionInfo: &workflowpb.WorkflowExecutionInfo{Status: status}}, nil)
	return server
}

func TestSteer(t *testing.T) {
	what := activities.Steering{Lane: "sim-1", By: "eva@ws1", Why: "lunch"}
	server, handle := steeredServer(enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING), &mocks.WorkflowUpdateHandle{}
	server.On("UpdateWorkflow", mock.Anything, client.UpdateWorkflowOptions{WorkflowID: "campaign/quick", UpdateName: "pause",
		Args: []any{what}, WaitForStage: client.WorkflowUpdateStageCompleted}).Return(handle, nil)
	handle.On("UpdateID").Return("u-1")
	handle.On("Get", mock.Anything, mock.Anything).Run(func(args mock.Arguments) {
		*args.Get(1).(*string) = "lane sim-1 pauses after its trial"
	}).Return(nil)
	answer, err := steer(t.Context(), server, "quick", "pause", what, io.Discard)
	require.NoError(t, err)
	assert.Equal(t, steered{Campaign: "quick", Update: "pause", UpdateID: "u-1", By: "eva@ws1", Why: "lunch",
		Answer: "lane sim-1 pauses after its trial"}, answer)
}

// TestSteerRefused: a refusal is one sentence, and bad input; an update that nobody
// answered is neither.
func TestSteerRefused(t *testing.T) {
	refusal := wire.ToTemporal(fault.New(fault.BadInput, "campaign quick has no lane \"a\": want sim-1"))
	for name, test := range map[string]struct {
		status enumspb.WorkflowExecutionStatus
		err    error
		code   int
		want   string
	}{
		"refused":       {enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING, refusal, exitBadInput, `campaign quick has no lane "a": want sim-1`},
		"finished":      {enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED, nil, exitBadInput, "campaign quick has finished: there is nothing to steer"},
		"cancelled":     {enumspb.WORKFLOW_EXECUTION_STATUS_CANCELED, nil, exitBadInput, "there is nothing to steer"},
		"ended by then": {enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING, serviceerror.NewNotFound("gone"), exitBadInput, "campaign quick has ended meanwhile: there is nothing to steer"},
		"nobody answers": {enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING, client.NewWorkflowUpdateServiceTimeoutOrCanceledError(context.DeadlineExceeded), exitFailure,
			"campaign quick did not answer within 30s, and may still take the pause: does a controller work? `heliotrope serve` is one"},
		"the server's own": {enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING, errors.New("too many updates"), exitFailure, "pause campaign quick: too many updates"},
	} {
		t.Run(name, func(t *testing.T) {
			server := steeredServer(test.status)
			server.On("UpdateWorkflow", mock.Anything, mock.Anything).Return(nil, test.err)
			_, err := steer(t.Context(), server, "quick", "pause", activities.Steering{Why: "lunch"}, io.Discard)
			require.Error(t, err)
			var out strings.Builder
			assert.Equal(t, test.code, report(&out, err))
			assert.Contains(t, out.String(), test.want)
			assert.Equal(t, 1, strings.Count(out.String(), "\n"))
		})
	}
}

// beingPlanned is a server on which campaign quick is planned for so long.
func beingPlanned(lasts time.Duration) *mocks.Client {
	server, handle, began := steeredServer(enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING), &mocks.WorkflowUpdateHandle{}, time.Now()
	handle.On("UpdateID").Return("u-1")
	get := handle.On("Get", mock.Anything, mock.Anything)
	get.Run(func(args mock.Arguments) {
		refusal := wire.ToTemporal(fault.Because(fault.BadInput, workflows.BeingPlanned, errors.New("campaign quick is just being planned")))
		if time.Since(began) >= lasts {
			*args.Get(1).(*string), refusal = "all lanes pause", nil
		}
		get.Return(refusal)
	})
	server.On("UpdateWorkflow", mock.Anything, mock.Anything).Return(handle, nil)
	return server
}

// TestSteerWaitsForThePlan: a campaign that was just started is steered when it has its plan. The command waits silently at
// first, says then what it waits for, and gives up after a minute.
func TestSteerWaitsForThePlan(t *testing.T) {
	why := activities.Steering{Why: "lunch"}
	for lasts, lines := range map[time.Duration]int{time.Second: 0, 5 * time.Second: 2} {
		synctest.Test(t, func(t *testing.T) {
			var progress strings.Builder
			answer, err := steer(t.Context(), beingPlanned(lasts), "quick", "pause", why, &progress)
			require.NoError(t, err)
			assert.Equal(t, "all lanes pause", answer.Answer)
			assert.Equal(t, lines, strings.Count(progress.String(), "campaign quick is just being planned: the pause has waited for that for "), progress.String())
		})
	}
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		_, err := steer(t.Context(), beingPlanned(time.Hour), "quick", "pause", why, io.Discard)
		require.ErrorContains(t, err, "campaign quick is just being planned")
		assert.Equal(t, exitBadInput, report(io.Discard, err))
		assert.LessOrEqual(t, time.Since(began), planLimit+time.Second)
	})
	synctest.Test(t, func(t *testing.T) {
		ctx, interrupt := context.WithTimeout(t.Context(), 3*time.Second)
		defer interrupt()
		_, err := steer(ctx, beingPlanned(time.Hour), "quick", "pause", why, io.Discard)
		require.ErrorContains(t, err, "interrupted: campaign quick was just being planned, and has not taken the pause")
	})
}

func TestSteerUnknownCampaign(t *testing.T) {
	server := &mocks.Client{}
	server.On("DescribeWorkflowExecution", mock.Anything, mock.Anything, "").Return(nil, serviceerror.NewNotFound("no"))
	_, err := steer(t.Context(), server, "typo", "resume", activities.Steering{Why: "lunch"}, io.Discard)
	assert.ErrorContains(t, err, `no campaign "typo" on this Temporal server`)
	assert.Equal(t, exitBadInput, report(&strings.Builder{}, err))
}

// TestSteeringCommands checks what each command line sends to the campaign. The commands
// have the names of the updates.
func TestSteeringCommands(t *testing.T) {
	file := filepath.Join(t.TempDir(), "more.yaml")
	require.NoError(t, os.WriteFile(file, []byte("include: []\n"), 0o600))
	for line, want := range map[string]activities.Steering{
		"pause":                       {},
		"pause --lane a --now":        {Lane: "a", Now: true},
		"resume --lane a":             {Lane: "a"},
		"drain --lane a --force":      {Lane: "a", Force: true},
		"quarantine a":                {Lane: "a"},
		"release a --force":           {Lane: "a", Force: true},
		"skip 17":                     {Trial: 17},
		"skip xen-nfs":                {Cell: "xen-nfs"},
		"repeat xen-nfs":              {Cell: "xen-nfs", Times: 1},
		"repeat xen-nfs --times 5":    {Cell: "xen-nfs", Times: 5},
		"add " + file + " --times -2": {Cells: "include: []\n", Times: -2},
		"stop-rule none":              {None: true},
		"stop-rule new --metric io_lost_s --relative-ci-percent 5 --max 40": {Stop: &campaign.Stop{Metric: "io_lost_s", RelativeCIPercent: 5, Max: 40}},
		"until none":                      {None: true},
		"until 2026-12-24T06:00:00+01:00": {Until: time.Date(2026, 12, 24, 5, 0, 0, 0, time.UTC)},
	} {
		t.Run(line, func(t *testing.T) {
			words := strings.Fields(line)
			got, err := readSteering(t, words[0], words[1:])
			require.NoError(t, err)
			assert.Equal(t, want.Until.UTC(), got.Until.UTC())
			got.Until, want.Until = time.Time{}, time.Time{}
			assert.Equal(t, want, got)
		})
	}
}

// readSteering is the update that a command line sends.
func readSteering(t *testing.T, update string, words []string) (activities.Steering, error) {
	t.Helper()
	for _, group := range [][]steering{laneSteering, planSteering, endSteering} {
		for _, one := range group {
			if one.update != update {
				continue
			}
			what, cmd := activities.Steering{Why: "lunch"}, &cobra.Command{}
			if one.flags != nil {
				one.flags(cmd, &what)
			}
			require.NoError(t, cmd.ParseFlags(words))
			err := one.read(cmd.Flags().Args(), &what)
			what.Why = ""
			return what, err
		}
	}
	t.Fatalf("no command %s", update)
	return activities.Steering{}, nil
}

func TestSteeringBadInput(t *testing.T) {
	ownHome(t)
	for line, want := range map[string]string{
		"pause quick":                                        "--why is missing",
		"pause --why x":                                      "accepts 1 arg(s)",
		"quarantine quick --why x":                           "accepts 2 arg(s)",
		"skip quick 0 --why x":                               `"0" is no number of a trial`,
		"repeat quick cell --times many --why x":             "--times",
		"add quick /nowhere/more.yaml --why x":               "cells: open /nowhere/more.yaml",
		"stop-rule quick fast --why x":                       `"fast" is no rule: want new, with its settings, or none`,
		"stop-rule quick none --max 5 --why x":               "none takes no settings of a rule",
		"stop-rule quick new --why x":                        "a new rule wants --metric",
		"until quick tomorrow --why x":                       `"tomorrow" is no time`,
		"until quick 2026-12-24T06:00:00+01:00 --why " + " ": "--why",
	} {
		t.Run(line, func(t *testing.T) {
			code, stdout, stderr := run(t, strings.Fields(line)...)
			assert.Equal(t, exitBadInput, code)
			assert.Contains(t, stderr, want)
			assert.Empty(t, stdout)
		})
	}
}

func TestTimeOf(t *testing.T) {
	berlin := time.FixedZone("CET", 3600)
	now := time.Date(2026, 12, 1, 8, 0, 0, 0, berlin)
	for text, want := range map[string]time.Time{
		"2026-12-24T06:00:00Z": time.Date(2026, 12, 24, 6, 0, 0, 0, time.UTC),
		"2026-12-24 06:00":     time.Date(2026, 12, 24, 6, 0, 0, 0, berlin),
		"2026-12-24 06:00:30":  time.Date(2026, 12, 24, 6, 0, 30, 0, berlin),
		"36h":                  now.Add(36 * time.Hour),
	} {
		got, err := timeOf(text, now)
		require.NoError(t, err, text)
		assert.True(t, want.Equal(got), "%s: %s", text, got)
	}
}

func TestSteeringAnswerAsJSON(t *testing.T) {
	text, err := json.Marshal(steered{Campaign: "quick", Update: "pause", UpdateID: "u-1", By: "eva@ws1", Why: "lunch", Answer: "done"})
	require.NoError(t, err)
	assert.JSONEq(t, `{"campaign": "quick", "update": "pause", "update_id": "u-1", "by": "eva@ws1", "why": "lunch", "answer": "done"}`, string(text))
}
