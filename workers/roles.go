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

// RegisterWorkflows registers the workflows with a worker, or with a replayer of histories.
func RegisterWorkflows(registry worker.WorkflowRegistry) {
	registry.RegisterWorkflowWithOptions(workflows.Campaign, workflow.RegisterOptions{Name: workflows.CampaignName})
	registry.RegisterWorkflowWithOptions(workflows.RunLane, workflow.RegisterOptions{Name: workflows.LaneName})
	registry.RegisterWorkflowWithOptions(workflows.Trial, workflow.RegisterOptions{Name: workflows.TrialName})
}

// RegisterController registers everything that the controller runs.
func RegisterController(registry worker.Registry, options ControllerOptions) {
	records := &activities.Records{}
	testbeds := &pool{revive: options.Revive, testbeds: map[string]*pooled{}}
	RegisterWorkflows(registry)
	for _, concern := range []any{
		&activities.Planner{Records: records, Version: options.Version},
		&activities.Testbed{Open: testbeds.open, Records: records, RaiseLane: options.RaiseLane},
		&activities.Certifier{Open: testbeds.open, Records: records},
		&activities.Migrator{Open: testbeds.open, Records: records},
		&activities.Collector{Open: testbeds.open, Records: records, Version: options.Version},
		&activities.Links{Open: testbeds.open, Binary: options.WorkerBinary, Gate: options.Gate, Log: options.Log},
		// A machine's activities run here when no worker may be installed on the machine.
		&machine.Recordings{Find: testbeds.recording},
		&machine.Shaping{Find: testbeds.shaper},
		&activities.Hooks{To: options.Hooks},
	} {
		registry.RegisterActivityWithOptions(concern, activity.RegisterOptions{})
	}
}

// recording finds a recording on a machine over SSH.
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
