// Package workflows decides what a campaign does next: Campaign runs the trials
// of a plan on lanes, and Trial the steps of one trial.
//
// It promises that the workflows are deterministic and hold counters, facts and
// references only; that whatever happens to a trial, its testbed is torn down,
// its row is written, and its verdict is counted once; and that what was begun
// by an older binary goes on as it began (see testdata/histories).
//
// Dangerous: a change of the order in which activities, timers, side effects or
// children are started breaks running campaigns, as does a rename.
package workflows

import (
	"errors"
	"fmt"
	"slices"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"heliotrope/activities"
	"heliotrope/internal/campaign"
	"heliotrope/internal/cause"
	"heliotrope/internal/fault"
	"heliotrope/internal/fault/wire"
	"heliotrope/internal/inventory"
	"heliotrope/internal/trial"
)

// DefaultTrialsPerRun keeps a campaign's history far below the 4,096 events at
// which the server suggests to continue as new: a trial adds about ten.
const DefaultTrialsPerRun = 200

// CampaignResult is how a campaign ended.
type CampaignResult struct {
	Progress Progress `json:"progress"`
	Summary  string   `json:"summary"` // path of summary.md on the controller
}

// runner is one run of a campaign.
type runner struct {
	input   CampaignInput
	planned activities.Planned
	status  CampaignStatus
	trials  []campaign.Trial // of this run, in the plan's order
	next    int              // index into trials
	failed  error            // the first thing that ends the campaign early
}

// Campaign runs the trials of a plan, one at a time on each lane, and writes
// the summary. It carries counters and references only.
func Campaign(ctx workflow.Context, input CampaignInput) (CampaignResult, error) {
	r := &runner{input: input, status: CampaignStatus{Name: input.Name, SpecSHA256: input.SpecSHA256,
		DataDir: input.DataDir, State: "planning", Progress: input.State, Running: []RunningTrial{}}}
	if len(input.Lanes) == 0 {
		return CampaignResult{}, wire.ToTemporal(fault.New(fault.BadInput, "campaign %s has no lane to run on", input.Name))
	}
	r.status.Kind = input.Lanes[0].Kind
	err := workflow.SetQueryHandler(ctx, StatusQuery, func() (CampaignStatus, error) { return r.status, nil })
	if err == nil {
		err = r.plan(ctx)
	}
	if err == nil {
		err = r.run(ctx)
	}
	again := err == nil && ctx.Err() == nil && !r.status.Progress.Enough && r.status.Progress.Next <= r.status.Progress.Total
	if again {
		err = r.summarise(ctx, &CampaignResult{})
	}
	if again && err == nil && ctx.Err() == nil {
		next := input
		next.State = r.status.Progress
		return CampaignResult{}, workflow.NewContinueAsNewError(ctx, CampaignName, next)
	}
	return r.finish(ctx, errors.Join(err, ctx.Err()))
}

// finish writes the summary, of a cancelled campaign too.
func (r *runner) finish(ctx workflow.Context, failed error) (CampaignResult, error) {
	r.show(ctx, "finishing")
	detached, _ := workflow.NewDisconnectedContext(ctx)
	result := CampaignResult{Progress: r.status.Progress}
	if err := r.leave(detached); err != nil {
		// The campaign's results are none the worse for a host that is away.
		workflow.GetLogger(ctx).Warn("programs of ours stay on a host", "error", err.Error())
	}
	if err := r.summarise(detached, &result); err != nil {
		return result, errors.Join(failed, err)
	}
	switch {
	case failed != nil && wire.Of(failed) == fault.Cancelled:
		r.show(detached, "cancelled")
		return result, temporal.NewCanceledError(result)
	case failed != nil:
		return result, failed
	}
	r.show(detached, "finished")
	return result, nil
}

// leave takes our programs off the hosts.
func (r *runner) leave(ctx workflow.Context) error {
	var errs []error
	for _, lane := range r.input.Lanes {
		// Testbeds that take turns are emulated, and all but one are down.
		if !lane.Programs() || len(lane.Others) > 0 {
			continue
		}
		options := workflow.WithActivityOptions(ctx, onTestbed("remove our programs from the hosts of "+lane.Name))
		target := activities.Target{Lane: lane, DataDir: r.input.DataDir, Ref: trial.Ref{Campaign: r.input.Name}}
		errs = append(errs, workflow.ExecuteActivity(options, links.Remove, target).Get(options, nil))
	}
	return errors.Join(errs...)
}

// plan makes the plan in the first run, and reads this run's piece of it.
func (r *runner) plan(ctx workflow.Context) error {
	progress := &r.status.Progress
	options := workflow.WithActivityOptions(ctx, onController("expand the plan"))
	input := activities.PlanInput{Campaign: r.input.Name, SpecYAML: r.input.SpecYAML, Files: r.input.Files,
		DataDir: r.input.DataDir, SHA256: progress.PlanSHA256}
	if err := workflow.ExecuteActivity(options, planner.Expand, input).Get(options, &r.planned); err != nil {
		return err
	}
	if progress.Next == 0 {
		*progress = Progress{Started: workflow.Now(ctx), Total: r.planned.Trials, Next: 1, PlanSHA256: r.planned.SHA256}
	}
	if progress.Verdicts == nil {
		progress.Verdicts = map[trial.Verdict]int{}
	}
	options = workflow.WithActivityOptions(ctx, onController("read the next trials"))
	piece := activities.TrialsInput{Campaign: r.input.Name, DataDir: r.input.DataDir, SHA256: progress.PlanSHA256,
		First: progress.Next, Count: r.trialsPerRun()}
	return workflow.ExecuteActivity(options, planner.Trials, piece).Get(options, &r.trials)
}

func (r *runner) trialsPerRun() int {
	if r.input.TrialsPerRun > 0 {
		return r.input.TrialsPerRun
	}
	return DefaultTrialsPerRun
}

// run runs this run's trials, each lane taking the next one when it is free.
func (r *runner) run(ctx workflow.Context) error {
	r.show(ctx, "running")
	lanes := workflow.NewWaitGroup(ctx)
	for _, lane := range r.input.Lanes {
		lanes.Add(1)
		workflow.Go(ctx, func(ctx workflow.Context) {
			defer lanes.Done()
			r.lane(ctx, lane)
		})
	}
	lanes.Wait(ctx)
	// A cancelled wait returns early; the lanes end by themselves.
	detached, _ := workflow.NewDisconnectedContext(ctx)
	if err := workflow.Await(detached, func() bool { return len(r.status.Running) == 0 }); err != nil {
		return err
	}
	return r.failed
}

// brokenTrials is how many trials in a row may end without a verdict, as one
// does that somebody terminates, before the campaign gives up.
const brokenTrials = 3

// lane runs trials on a lane until there are no more.
func (r *runner) lane(ctx workflow.Context, lane Lane) {
	broken := 0
	for r.failed == nil && ctx.Err() == nil && r.next < len(r.trials) {
		planned := r.trials[r.next]
		if err := r.isEnough(ctx, planned); err != nil {
			r.failed = err
			return
		}
		if r.status.Progress.Enough {
			return
		}
		if r.next == len(r.trials) || r.trials[r.next].Sequence != planned.Sequence {
			continue // another lane took it meanwhile
		}
		r.next++
		r.status.Progress.Next = planned.Sequence + 1
		err := r.trial(ctx, lane, planned)
		if err == nil {
			broken = 0
			continue
		}
		if broken++; broken == brokenTrials {
			r.failed = fmt.Errorf("the last %d trials on lane %s ended without a verdict: %w", broken, lane.Name, err)
		}
	}
}

// isEnough asks, before the first trial of a block, whether the blocks before
// have made the results precise enough. Trials that other lanes still run are
// not among them.
func (r *runner) isEnough(ctx workflow.Context, next campaign.Trial) error {
	stop, progress := r.planned.Stop, &r.status.Progress
	if stop == nil || progress.Enough || next.Block <= max(stop.Min, progress.Judged) {
		return nil
	}
	progress.Judged, progress.JudgedDone = next.Block, progress.Done()
	options := workflow.WithActivityOptions(ctx, onDataset(fmt.Sprintf("how precise is %s after %d blocks?", stop.Metric, next.Block-1)))
	input := activities.PreciseInput{Campaign: r.input.Name, DataDir: r.input.DataDir, SpecSHA256: r.input.SpecSHA256,
		Kind: r.status.Kind, Stop: *stop, Blocks: next.Block - 1, TrialsPerBlock: float64(next.Sequence-1) / float64(next.Block-1)}
	var precise activities.Precise
	if err := workflow.ExecuteActivity(options, collector.Precise, input).Get(options, &precise); err != nil {
		return err
	}
	progress.Precise, progress.Enough = &precise, precise.Enough
	r.show(ctx, "running")
	return nil
}

// trial runs one trial on a lane and counts its verdict. The error is why it
// has none.
func (r *runner) trial(ctx workflow.Context, lane Lane, planned campaign.Trial) error {
	cell := planned.Cell
	bed, found := lane.For(cell.Hypervisor)
	if !found {
		return fault.New(fault.BadInput, "trial %s: lane %s has no testbed with hypervisor %s", sequenceText(planned.Sequence), lane.Name, cell.Hypervisor)
	}
	lane = bed
	id := TrialID(r.input.Name, planned.Sequence)
	r.status.Running = append(r.status.Running, RunningTrial{Lane: lane.Name, WorkflowID: id,
		Sequence: planned.Sequence, CellID: planned.CellID, Started: workflow.Now(ctx)})
	r.show(ctx, "running")
	child := workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{
		WorkflowID: id, TaskQueue: ControllerQueue,
		WorkflowIDReusePolicy: enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
		ParentClosePolicy:     enumspb.PARENT_CLOSE_POLICY_REQUEST_CANCEL,
		WaitForCancellation:   true,
		StaticSummary:         fmt.Sprintf("%s on %s, RTT %g ms, %s", cell.Storage, lane.Name, cell.RTTMs, cell.Access.Name),
		TypedSearchAttributes: temporal.NewSearchAttributes(attrCampaign.ValueSet(r.input.Name), attrCell.ValueSet(planned.CellID),
			attrStorage.ValueSet(cell.Storage), attrLane.ValueSet(lane.Name), attrRTTMs.ValueSet(cell.RTTMs)),
	})
	input := TrialInput{Campaign: r.input.Name, SpecSHA256: r.input.SpecSHA256, DataDir: r.input.DataDir,
		Lane: lane, Trial: planned, Settings: r.planned.Settings}
	if lane.Kind == inventory.Simulated {
		// An hour for each trial: simulated trials never overlap.
		input.Began = r.status.Progress.Started.Add(time.Duration(planned.Sequence) * time.Hour)
	}
	var result TrialResult
	err := workflow.ExecuteChildWorkflow(child, TrialName, input).Get(child, &result)
	err = r.count(planned.Sequence, result, err)
	r.show(ctx, "running")
	return err
}

// count takes a trial's end into the campaign's progress.
func (r *runner) count(sequence int, result TrialResult, err error) error {
	r.status.Running = slices.DeleteFunc(r.status.Running, func(running RunningTrial) bool { return running.Sequence == sequence })
	progress := &r.status.Progress
	switch {
	case err != nil && wire.Of(err) == fault.Cancelled:
		progress.Verdicts[trial.Skipped]++
		return nil
	case err != nil:
		// The trial's own failures are verdicts; this one has none.
		progress.Verdicts[trial.Invalid]++
		return fmt.Errorf("trial %s: %w", sequenceText(sequence), err)
	}
	progress.Verdicts[result.Verdict]++
	if result.Cause != "" {
		if progress.Causes == nil {
			progress.Causes = map[cause.Code]int{}
		}
		progress.Causes[result.Cause]++
	}
	progress.Retried += result.Attempts - 1
	progress.TrialSeconds += result.Seconds
	return nil
}

// summarise merges the trials' rows and writes the summary.
func (r *runner) summarise(ctx workflow.Context, result *CampaignResult) error {
	options := workflow.WithActivityOptions(ctx, onDataset("write the summary"))
	input := activities.SummariseInput{Campaign: r.input.Name, DataDir: r.input.DataDir, SpecSHA256: r.input.SpecSHA256, Kind: r.status.Kind}
	var summarised activities.Summarised
	if err := workflow.ExecuteActivity(options, collector.Summarise, input).Get(options, &summarised); err != nil {
		return err
	}
	result.Summary = summarised.Path
	r.status.Controls = summarised.Controls
	return nil
}
