package main

import (
	"testing"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"heliotrope/deploy/temporal"
	"heliotrope/workflows"
)

// TestEstimateOfACampaignThatContinued: only the first run of a campaign has its file.
func TestEstimateOfACampaignThatContinued(t *testing.T) {
	again := func(ctx workflow.Context, input workflows.CampaignInput) error {
		if input.SpecYAML != "" {
			input.SpecYAML = ""
			return workflow.NewContinueAsNewError(ctx, workflows.CampaignName, input)
		}
		workflow.GetSignalChannel(ctx, finishSignal).Receive(ctx, nil)
		return nil
	}
	c, _ := serveWith(t, zerolog.Nop(), func(c client.Client, _ temporal.Settings) worker.Worker {
		w := worker.New(c, workflows.DefaultQueue, worker.Options{})
		w.RegisterWorkflowWithOptions(again, workflow.RegisterOptions{Name: workflows.CampaignName})
		return w
	})
	input := workflows.CampaignInput{Name: "unit", SpecYAML: simulatedCampaign, DataDir: t.TempDir()}
	first, err := c.ExecuteWorkflow(t.Context(), workflows.StartOptions(input, workflows.DefaultQueue), workflows.CampaignName, input)
	require.NoError(t, err)
	for t.Context().Err() == nil {
		info, err := describe(t.Context(), c, first.GetID())
		require.NoError(t, err)
		if info.GetExecution().GetRunId() != first.GetRunID() {
			break
		}
	}
	read, err := campaignInput(t.Context(), c, "unit")
	require.NoError(t, err)
	require.Equal(t, simulatedCampaign, read.SpecYAML)
	require.Positive(t, trialEstimate(read))
}
