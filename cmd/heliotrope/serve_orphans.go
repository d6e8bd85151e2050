package main

import (
	"context"
	"fmt"
	"time"

	"github.com/rs/zerolog"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"heliotrope/activities"
	"heliotrope/internal/fault"
)

// failOrphans fails the activities that a controller's process was running when it was
// killed, so that they are retried now instead of after their heartbeat time-outs. The
// caller must be the only process of that controller.
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
	names, err := activities.FailLost(ctx, c, namespace, workflow, run, func(worker string, began time.Time) error {
		was := parsePoller(worker, began)
		if was.ID != id {
			return nil
		}
		return fault.New(fault.Infrastructure, "the controller was killed in the middle of it (process %d on %s)", was.process.PID, was.Host)
	})
	for _, name := range names {
		log.Info().Str("workflow", workflow).Str("activity", name).Msg("the controller was killed in the middle of this: it is tried again")
	}
	return err
}
