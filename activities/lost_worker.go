package activities

import (
	"context"
	"errors"
	"fmt"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"

	"heliotrope/internal/fault/wire"
)

// FailLost fails those activities of a workflow's run whose worker is gone, so that they
// are tried again now instead of after the whole heartbeat time-out. For a worker's
// identity and the time at which it began an activity, lost returns the reason why the
// activity is lost, or nil when it is not. FailLost returns the names of the activities
// that it failed; none when the workflow is gone.
func FailLost(ctx context.Context, c client.Client, namespace, workflow, run string, lost func(worker string, began time.Time) error) ([]string, error) {
	description, err := c.DescribeWorkflowExecution(ctx, workflow, run)
	if IsGone(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("ask what %s was at: %w", workflow, err)
	}
	var names []string
	for _, activity := range description.GetPendingActivities() {
		if activity.GetState() != enumspb.PENDING_ACTIVITY_STATE_STARTED && activity.GetState() != enumspb.PENDING_ACTIVITY_STATE_CANCEL_REQUESTED {
			continue
		}
		why := lost(activity.GetLastWorkerIdentity(), activity.GetLastStartedTime().AsTime())
		if why == nil {
			continue
		}
		name := activity.GetActivityType().GetName()
		err := c.CompleteActivityByID(ctx, namespace, workflow, run, activity.GetActivityId(), nil, wire.ToTemporal(why))
		if IsGone(err) {
			continue
		}
		if err != nil {
			return names, fmt.Errorf("have %s of %s tried again: %w", name, workflow, err)
		}
		names = append(names, name)
	}
	return names, nil
}

// IsGone says whether the server does not know what it was asked about.
func IsGone(err error) bool {
	var missing *serviceerror.NotFound
	return errors.As(err, &missing)
}
