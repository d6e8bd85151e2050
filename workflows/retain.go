package workflows

import (
	"fmt"
	"time"

	"go.temporal.io/sdk/workflow"

	"heliotrope/activities"
	"heliotrope/internal/trial"
)

// retained is what is shown of an attempt whose setup is kept. It is no phase of the
// trial: nothing is measured.
const retained trial.Phase = "retained"

// retain keeps the setup of an attempt that the target has failed on the hosts, so that
// somebody can look at it: until limits.retain has passed, or the trial is cancelled. It
// is torn down then as ever; where no controller works at that time, the hosts
// themselves end what runs.
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
	_ = a.timer(ctx, length, "the setup stays until "+until).Get(ctx, nil) // or cancelled
}
