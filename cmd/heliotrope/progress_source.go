package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"

	"heliotrope/internal/fault/wire"
	"heliotrope/internal/gather"
	"heliotrope/internal/record"
	"heliotrope/workflows"
)

// askLimit is how long one question to the server may take. When there is no worker, a
// query waits until this ends.
const askLimit = 5 * time.Second

// errNoCampaign says that the server knows no campaign with that name.
var errNoCampaign = errors.New("no such campaign")

// campaignSource asks a Temporal server about one campaign.
type campaignSource struct {
	client    client.Client
	name      string
	laneCount int
	estimate  time.Duration // of one trial
	last      workflows.CampaignStatus
}

// source asks about a campaign that was started with this input.
func (s *session) source(input workflows.CampaignInput) *campaignSource {
	return &campaignSource{client: s.client, name: input.Name, laneCount: len(input.Lanes), estimate: trialEstimate(input)}
}

// snapshot asks for everything that is shown. The error is errNoCampaign, or an error of
// the connection, which may be gone at the next try.
func (s *campaignSource) snapshot(ctx context.Context) (snapshot, error) {
	id := workflows.CampaignID(s.name)
	shot := snapshot{WorkflowID: id, Outcome: outcomeRunning, EstimateSeconds: s.estimate.Seconds(), LaneCount: s.laneCount}
	info, err := describe(ctx, s.client, id)
	if err != nil {
		return shot, err
	}
	shot.Outcome = outcomeOf(info.GetStatus())
	if shot.Outcome == outcomeFailed || shot.Outcome == outcomeTerminated {
		shot.Failure = s.failure(ctx, info)
	}
	var status workflows.CampaignStatus
	if err := query(ctx, s.client, id, &status); err == nil {
		s.last = status
	} else if shot.Unanswered = s.unanswered(ctx, info, err); shot.Outcome == outcomeCompleted {
		s.last.Progress = s.final(ctx, info, s.last.Progress)
	}
	if s.last.Name == "" {
		s.last.Name = s.name
	}
	shot.Status = s.last
	if shot.Outcome == outcomeRunning && shot.Unanswered == "" {
		shot.Lanes = append(s.lanes(ctx, status.Running), idle(status.Lanes)...)
	}
	shot.At = time.Now()
	return shot, nil
}

// unanswered says why a campaign did not answer: no controller works for its queue, or one
// does but could not answer.
func (s *campaignSource) unanswered(ctx context.Context, info *workflowpb.WorkflowExecutionInfo, why error) string {
	living, err := workingFor(ctx, s.client, info.GetTaskQueue(), enumspb.TASK_QUEUE_TYPE_WORKFLOW)
	switch {
	case err != nil:
		return "the Temporal server does not say whether a controller works (" + err.Error() + ")"
	case len(living) == 0:
		return "no controller answers, so nothing gets on; " + hint(ctx, "serve") + " is one"
	}
	return fmt.Sprintf("the controller (%s) works, but campaign %s did not answer: %v; its log, serve.log in the state folder, says more", living[0], s.name, why)
}

// lanes asks about all running trials at the same time.
func (s *campaignSource) lanes(ctx context.Context, running []workflows.RunningTrial) []laneSnapshot {
	return gather.Values(running, func(one workflows.RunningTrial) laneSnapshot { return s.lane(ctx, one) })
}

// idle are the lanes that run no trial and report a reason.
func idle(lanes []workflows.LaneReport) []laneSnapshot {
	var all []laneSnapshot
	for _, lane := range lanes {
		if lane.Trial == nil && lane.Why != "" {
			all = append(all, laneSnapshot{RunningTrial: workflows.RunningTrial{Lane: lane.Lane, Started: lane.Since}, State: lane.State, Why: lane.Why})
		}
	}
	return all
}

// lane leaves out what cannot be queried: a trial may end at any moment.
func (s *campaignSource) lane(ctx context.Context, running workflows.RunningTrial) laneSnapshot {
	lane := laneSnapshot{RunningTrial: running}
	var status workflows.TrialStatus
	if query(ctx, s.client, running.WorkflowID, &status) == nil {
		lane.Trial = &status
	}
	limited, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	description, err := s.client.DescribeWorkflowExecution(limited, running.WorkflowID, "")
	if err != nil {
		return lane
	}
	for _, activity := range description.GetPendingActivities() {
		lane.take(activity)
	}
	return lane
}

// followLoadActivity is the activity that heartbeats a record.Progress. All others
// heartbeat steps and bytes, or something that is not shown.
const followLoadActivity = "FollowLoad"

// beat has the fields that activities heartbeat; each activity sets some of them.
type beat struct {
	Step string `json:"step"`
	migrationProgress
}

// take keeps what a pending activity reported in its last heartbeat. It leaves out details
// with an unexpected form: another version wrote them.
func (l *laneSnapshot) take(activity *workflowpb.PendingActivityInfo) {
	if waits, failed := waitOf(activity, time.Now()); failed {
		l.Waits = append(l.Waits, waits)
	}
	details := activity.GetHeartbeatDetails()
	if activity.GetActivityType().GetName() == followLoadActivity {
		l.Load = decode[record.Progress](details)
		return
	}
	told := decode[beat](details)
	if told == nil {
		return
	}
	if told.Step != "" {
		l.Step = told.Step
	}
	if told.MemoryBytes > 0 {
		l.Migration = &told.migrationProgress
	}
}

func decode[T any](details *commonpb.Payloads) *T {
	value := new(T)
	if len(details.GetPayloads()) == 0 || converter.GetDefaultDataConverter().FromPayloads(details, value) != nil {
		return nil
	}
	return value
}

// failure is the reason why a campaign's workflow did not complete.
func (s *campaignSource) failure(ctx context.Context, info *workflowpb.WorkflowExecutionInfo) string {
	return wire.Reason(s.ended(ctx, info, nil))
}

// final is the progress that a completed campaign returned, for which no controller is
// needed; otherwise what was known before.
func (s *campaignSource) final(ctx context.Context, info *workflowpb.WorkflowExecutionInfo, before workflows.Progress) workflows.Progress {
	var returned workflows.CampaignResult
	if s.ended(ctx, info, &returned) != nil {
		return before
	}
	return returned.Progress
}

// ended reads the result of a campaign's workflow that has ended.
func (s *campaignSource) ended(ctx context.Context, info *workflowpb.WorkflowExecutionInfo, returned any) error {
	limited, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	return s.client.GetWorkflow(limited, info.GetExecution().GetWorkflowId(), info.GetExecution().GetRunId()).Get(limited, returned)
}

// describe asks the server for the newest run of a campaign.
func describe(ctx context.Context, c client.Client, id string) (*workflowpb.WorkflowExecutionInfo, error) {
	limited, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	description, err := c.DescribeWorkflowExecution(limited, id, "")
	var missing *serviceerror.NotFound
	if errors.As(err, &missing) {
		return nil, errNoCampaign
	}
	if err != nil {
		return nil, err
	}
	return description.GetWorkflowExecutionInfo(), nil
}

// query asks a workflow for its status.
func query(ctx context.Context, c client.Client, id string, status any) error {
	limited, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	value, err := c.QueryWorkflow(limited, id, "", workflows.StatusQuery)
	if err != nil {
		return err
	}
	return value.Get(status)
}

// campaignInput reads the input of a campaign's newest run, and the campaign file from the
// input of its first run, which alone has it. It needs no worker.
func campaignInput(ctx context.Context, c client.Client, name string) (workflows.CampaignInput, error) {
	input, firstRun, err := startedWith(ctx, c, name, "")
	if err != nil || input.SpecYAML != "" {
		return input, err
	}
	if first, _, err := startedWith(ctx, c, name, firstRun); err == nil { // fails when the server has forgotten that run
		input.SpecYAML, input.Files = first.SpecYAML, first.Files
	}
	return input, nil
}

// startedWith reads the input of a campaign's run, and which run was its first; a run of ""
// stands for the newest.
func startedWith(ctx context.Context, c client.Client, name, run string) (input workflows.CampaignInput, firstRun string, err error) {
	limited, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	history := c.GetWorkflowHistory(limited, workflows.CampaignID(name), run, false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	if !history.HasNext() {
		return input, "", errNoCampaign
	}
	event, err := history.Next()
	var missing *serviceerror.NotFound
	if errors.As(err, &missing) {
		return input, "", errNoCampaign
	}
	if err != nil {
		return input, "", err
	}
	started := event.GetWorkflowExecutionStartedEventAttributes()
	err = converter.GetDefaultDataConverter().FromPayloads(started.GetInput(), &input)
	return input, started.GetFirstExecutionRunId(), err
}

func outcomeOf(status enumspb.WorkflowExecutionStatus) outcome {
	switch status {
	case enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED:
		return outcomeCompleted
	case enumspb.WORKFLOW_EXECUTION_STATUS_FAILED:
		return outcomeFailed
	case enumspb.WORKFLOW_EXECUTION_STATUS_CANCELED:
		return outcomeCancelled
	case enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED:
		return outcomeTerminated
	case enumspb.WORKFLOW_EXECUTION_STATUS_TIMED_OUT:
		return outcomeTimedOut
	}
	return outcomeRunning // also while it continues as new
}
