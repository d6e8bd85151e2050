package workflows

import (
	"fmt"
	"time"

	"go.temporal.io/sdk/workflow"

	"heliotrope/activities"
	"heliotrope/internal/trial"
)

// retained is the phase that is shown while an attempt's setup is kept. It is not a phase
// of the trial: nothing is measured.
const retained trial.Phase = "retained"

// retain keeps the setup on the hosts of an attempt in which the target failed, so that
// people can look at it, until limits.retain has passed or the trial is cancelled. Then it
// is torn down as usual; when no controller works at that time, the hosts themselves end
// what runs.
func (a *attempt) retain(ctx workflow.Context, concluded activities.Concluded) {
	length := a.input.Limits.Retain
	if length == 0 || concluded.Verdict != trial.TargetFailed {
		return
	}
	input := activities.RetainInput{Target: a.brief(), Length: length}
	options := onTestbed(fmt.Sprintf("keep the setup for %s", length))
	if err := a.call(ctx, options, testbedActivities.Retain, input).Get(ctx, nil); err != nil {
		workflow.GetLogger(ctx).Warn("the setup is not kept", "error", err.Error())
		return
	}
	a.status.Phase, a.status.Since = retained, workflow.Now(ctx)
	workflow.SetCurrentDetails(ctx, a.details())
	until := workflow.Now(ctx).Add(length).Format(time.DateTime)
	_ = a.timer(ctx, length, "the setup stays until "+until).Get(ctx, nil) // the time has passed, or the trial was cancelled
}
