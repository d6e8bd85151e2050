package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/rs/zerolog"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"heliotrope/internal/fault"
	"heliotrope/internal/fault/wire"
)

// failOrphans fails the activities that a controller's process was at when it was
// killed, so that they are tried again now, and not when they have been silent for
// as long as a living one may be. Nobody but the caller is that controller.
func failOrphans(ctx context.Context, c client.Client, namespace, id string, log zerolog.Logger) error {
	request := &workflowservice.ListWorkflowExecutionsRequest{
		Query: fmt.Sprintf("ExecutionStatus = 'Running' AND TaskQueue = '%s'", controllerQueue(id))}
	for {
		page, err := c.ListWorkflow(ctx, request)
		if err != nil {
			return fmt.Errorf("ask what the controller was at when it ended: %w", err)
		}
		for _, info := range page.GetExecutions() {
			if err := failOrphansOf(ctx, c, namespace, id, info, log); err != nil {
				return err
			}
		}
		if request.NextPageToken = page.GetNextPageToken(); len(request.NextPageToken) == 0 {
			return nil
		}
	}
}

func failOrphansOf(ctx context.Context, c client.Client, namespace, id string, info *workflowpb.WorkflowExecutionInfo, log zerolog.Logger) error {
	workflow, run := info.GetExecution().GetWorkflowId(), info.GetExecution().GetRunId()
	description, err := c.DescribeWorkflowExecution(ctx, workflow, run)
	if isGone(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("ask what %s was at when the controller ended: %w", workflow, err)
	}
	for _, activity := range description.GetPendingActivities() {
		was := parsePoller(activity.GetLastWorkerIdentity(), activity.GetLastStartedTime().AsTime())
		if activity.GetState() != enumspb.PENDING_ACTIVITY_STATE_STARTED || was.ID != id {
			continue
		}
		name := activity.GetActivityType().GetName()
		why := fault.New(fault.Infrastructure, "the controller was killed in the middle of it (process %d on %s)", was.process.PID, was.Host)
		err := c.CompleteActivityByID(ctx, namespace, workflow, run, activity.GetActivityId(), nil, wire.ToTemporal(why))
		if err != nil && !isGone(err) {
			return fmt.Errorf("have %s of %s tried again: %w", name, workflow, err)
		}
		log.Info().Str("workflow", workflow).Str("activity", name).Msg("the controller was killed in the middle of this: it is tried again")
	}
	return nil
}

func isGone(err error) bool {
	var missing *serviceerror.NotFound
	return errors.As(err, &missing)
}
