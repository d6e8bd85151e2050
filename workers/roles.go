package workers

import (
	"context"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"heliotrope/activities"
	"heliotrope/activities/machine"
	"heliotrope/internal/record"
	"heliotrope/workflows"
)

// RegisterController registers everything that the controller runs.
func RegisterController(registry worker.Registry, options ControllerOptions) {
	testbeds := &pool{revive: options.Revive, testbeds: map[string]*pooled{}}
	registry.RegisterWorkflowWithOptions(workflows.Campaign, workflow.RegisterOptions{Name: workflows.CampaignName})
	registry.RegisterWorkflowWithOptions(workflows.Trial, workflow.RegisterOptions{Name: workflows.TrialName})
	for _, concern := range []any{
		&activities.Planner{},
		&activities.Testbed{Open: testbeds.open, RaiseLane: options.RaiseLane},
		&activities.Certifier{Open: testbeds.open},
		&activities.Migrator{Open: testbeds.open},
		&activities.Collector{Open: testbeds.open, Version: options.Version},
		&activities.Links{Open: testbeds.open, Binary: options.WorkerBinary, Namespace: options.Namespace,
			TemporalAddress: options.TemporalAddress, TLS: options.TLS, Log: options.Log},
		// What runs on a machine runs here when nothing may be installed there.
		&machine.Recordings{Find: testbeds.recording},
		&machine.Shaping{Find: testbeds.shaper},
	} {
		registry.RegisterActivityWithOptions(concern, activity.RegisterOptions{})
	}
}

// recording finds a machine's recording over SSH.
func (p *pool) recording(ctx context.Context, input machine.RecordingInput) (record.Recording, error) {
	bed, err := p.open(ctx, input.Lane, input.Ref)
	if err != nil {
		return nil, err
	}
	if input.Load {
		return bed.Load(input.Ref)
	}
	return bed.Witness(input.Ref, input.Machine)
}

// shaper finds the WAN over SSH.
func (p *pool) shaper(ctx context.Context, input machine.ShapingInput) (machine.Shaper, error) {
	bed, err := p.open(ctx, input.Lane, input.Ref)
	if err != nil {
		return nil, err
	}
	return bed.WAN(), nil
}
