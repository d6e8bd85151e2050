package workflows

import (
	"slices"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"heliotrope/activities"
	"heliotrope/internal/campaign"
	"heliotrope/internal/fault"
	"heliotrope/internal/fault/wire"
	"heliotrope/internal/hooks"
	"heliotrope/internal/trial"
)

var hookActivities *activities.Hooks // stays nil, as the others do

// teller has hooks told of a workflow's events. Only the controller knows which hooks there
// are; no workflow does.
type teller struct{ telling []workflow.Future }

// tell has hooks told of an event, also while the workflow is being cancelled, and does not
// wait for it.
func (t *teller) tell(ctx workflow.Context, event hooks.Event) {
	event.When = workflow.Now(ctx)
	detached, _ := workflow.NewDisconnectedContext(ctx)
	options := workflow.WithActivityOptions(detached, telling("tell of "+string(event.Kind)))
	t.telling = slices.DeleteFunc(t.telling, func(told workflow.Future) bool { return told.IsReady() })
	t.telling = append(t.telling, workflow.ExecuteActivity(options, hookActivities.Tell, event))
}

// wait waits until hooks have been told of all events, or cannot be. Events that are
// pending when a workflow ends or continues as new are lost.
func (t *teller) wait(ctx workflow.Context) {
	detached, _ := workflow.NewDisconnectedContext(ctx)
	for len(t.telling) > 0 {
		told := t.telling[0]
		t.telling = t.telling[1:]
		_ = told.Get(detached, nil) // the controller has logged the reason
	}
}

// tellFailed has hooks told of an attempt that has ended without a valid measurement.
func (l *laneRun) tellFailed(ctx workflow.Context, planned campaign.Trial, result TrialResult, err error) {
	switch {
	case temporal.IsWorkflowExecutionAlreadyStartedError(err), err != nil && wire.Of(err) == fault.Cancelled:
		return
	case err != nil:
		result = TrialResult{Verdict: trial.Invalid, Cause: wire.CauseOf(err), Reason: wire.Reason(err)}
	case result.Verdict == trial.Valid, result.Verdict == trial.Skipped:
		return
	}
	l.teller.tell(ctx, hooks.Event{Kind: hooks.TrialFailed, Campaign: l.input.Campaign, Lane: l.input.Lane.Name,
		Trial: sequenceText(planned.Sequence), Attempt: result.Attempt, Cell: planned.CellID,
		State: string(result.Verdict), Cause: string(result.Cause), Reason: result.Reason})
}

// tellQuarantine has hooks told of the lane's quarantine.
func (l *laneRun) tellQuarantine(ctx workflow.Context, q Quarantine) {
	l.teller.tell(ctx, hooks.Event{Kind: hooks.LaneQuarantined, Campaign: l.input.Campaign, Lane: l.input.Lane.Name,
		Cause: string(q.Cause), Reason: q.Reason})
}

// tellEnd has hooks told of the campaign's end, however it ended, and waits for that.
func (c *campaignRun) tellEnd(ctx workflow.Context, failed error) {
	event := hooks.Event{Kind: hooks.CampaignEnded, Campaign: c.input.Name, State: "finished", Trials: map[string]int{}}
	switch {
	case failed == nil:
	case wire.Of(failed) == fault.Cancelled:
		event.State = "cancelled"
	default:
		event.State, event.Cause, event.Reason = "failed", string(wire.CauseOf(failed)), wire.Reason(failed)
	}
	verdicts := c.state.Progress.Verdicts
	for _, verdict := range workflow.DeterministicKeys(verdicts) {
		event.Trials[string(verdict)] = verdicts[verdict]
	}
	var told teller
	told.tell(ctx, event)
	told.wait(ctx)
}
