package main

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	sdktemporal "go.temporal.io/sdk/temporal"

	"heliotrope/workflows"
)

func carrierOf(c client.Client, log io.Writer) carrier {
	return carrier{client: c, queue: workflows.DefaultQueue, before: "0.9", limit: time.Minute, log: zerolog.New(log)}
}

// TestCarryRefusesAnotherShape: a controller whose workflows take another path than the
// running ones says which campaign it cannot carry on, before it asks for work, and gives
// that campaign up only when it is told to.
func TestCarryRefusesAnotherShape(t *testing.T) {
	c, stopController := serveStandIn(t)
	wantRun(t, 0, "runs", "run", writeCampaign(t, simulatedCampaign), "--data", t.TempDir(), "--detach")
	awaitBeats(t) // its trial runs
	stopController()

	var log bytes.Buffer
	err := carrierOf(c, &log).check(t.Context())
	require.ErrorContains(t, err, "campaign unit cannot be carried by this program (development): campaign went otherwise before: ")
	require.ErrorContains(t, err, "finish it with heliotrope 0.9")
	require.ErrorContains(t, err, "heliotrope serve --give-up unit")
	require.Equal(t, 1, strings.Count(err.Error(), "campaign unit cannot"), "once, whatever of it cannot be carried")

	options := serveOptions{stateDir: stateDirOf(t)}
	err = takeOver(t.Context(), c, workflows.DefaultQueue, options, zerolog.Nop())
	require.ErrorContains(t, err, "campaign unit cannot be carried")
	require.Equal(t, exitCannotCarry, report(io.Discard, err))

	options.giveUp = []string{"another"}
	err = takeOver(t.Context(), c, workflows.DefaultQueue, options, zerolog.Nop())
	require.ErrorContains(t, err, "--give-up another: no campaign of that name runs here")
	require.Equal(t, exitBadInput, report(io.Discard, err))

	taking := carrierOf(c, &log)
	require.NoError(t, taking.giveUp(t.Context(), []string{"unit"}))
	require.NoError(t, taking.check(t.Context()), "what was given up is no hindrance, listed or not")
	var terminated *sdktemporal.TerminatedError
	require.ErrorAs(t, c.GetWorkflow(t.Context(), workflows.CampaignID("unit"), "").Get(t.Context(), nil), &terminated)
	info, err := c.DescribeWorkflowExecution(t.Context(), "trial/unit", "")
	require.NoError(t, err)
	require.NotEqual(t, enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING, info.GetWorkflowExecutionInfo().GetStatus())
}

// TestCarryGoesOn: a campaign of this program can be carried on, wherever it is.
func TestCarryGoesOn(t *testing.T) {
	c := serveSimulated(t)
	file := writeCampaign(t, strings.NewReplacer("NAME", "carried", "REPETITIONS", "4").Replace(simulatedSpec))
	r, err := loadRequest(file, t.TempDir())
	require.NoError(t, err)
	input := r.input(simulatedLanes(r.spec.LaneCount()))
	run, err := c.ExecuteWorkflow(t.Context(), workflows.StartOptions(input, workflows.DefaultQueue), workflows.CampaignName, input)
	require.NoError(t, err)
	ended := make(chan error)
	go func() { ended <- run.Get(t.Context(), nil) }()
	for {
		select {
		case err := <-ended:
			require.NoError(t, err)
			return
		default:
			require.NoError(t, carrierOf(c, io.Discard).check(t.Context()))
		}
	}
}

// TestCarryInTime: workflows that were not checked in time are taken over, and that is
// logged.
func TestCarryInTime(t *testing.T) {
	c, stopController := serveStandIn(t)
	wantRun(t, 0, "runs", "run", writeCampaign(t, simulatedCampaign), "--data", t.TempDir(), "--detach")
	stopController()
	var log bytes.Buffer
	taking := carrierOf(c, &log)
	taking.limit = 0
	require.NoError(t, taking.check(t.Context()))
	require.Contains(t, log.String(), "one that it cannot stands still")
}

func TestPartOf(t *testing.T) {
	for id, want := range map[string][2]string{
		"campaign/thesis":      {"thesis", "campaign"},
		"lane/thesis/bench-1":  {"thesis", "lane bench-1"},
		"trial/thesis/00007":   {"thesis", "trial 00007"},
		"somebody's, not ours": {"somebody's, not ours", "its workflow"},
	} {
		campaign, part := partOf(id)
		require.Equal(t, want, [2]string{campaign, part}, id)
	}
}
