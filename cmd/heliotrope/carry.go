package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"golang.org/x/sync/errgroup"

	"heliotrope/internal/poll"
	"heliotrope/internal/sdklog"
	"heliotrope/workers"
)

// carryLimit is how long a controller checks the workflows that it takes over. It takes
// over unchecked what it has not seen by then, because those who wait for a controller wait
// only for serveReadyLimit.
const carryLimit = time.Minute

// carryQuiet is how long it checks without a message.
const carryQuiet = 2 * time.Second

// carrier checks whether this program can go on with workflows that another program began,
// before it takes them over. A workflow that took another path before would stand still,
// and only its history would say so.
type carrier struct {
	client client.Client
	queue  string // the controller's queue
	before string // version of the previous controller; "" when it is not known
	limit  time.Duration
	log    zerolog.Logger
}

// takeOver gives up the campaigns that it is told to give up, and checks that this program
// can carry on the others, before it asks for work. queue is this controller's.
func takeOver(ctx context.Context, c client.Client, queue string, options serveOptions, log zerolog.Logger) error {
	taking := carrier{client: c, queue: queue, limit: carryLimit, log: log}
	if last := lastServe(options.stateDir); last != nil {
		taking.before = last.Version
	}
	if err := taking.giveUp(ctx, options.giveUp); err != nil {
		return err
	}
	return taking.check(ctx)
}

// check replays the running workflows. The error has a line for each campaign that this
// program cannot carry on.
func (c carrier) check(ctx context.Context) error {
	running, err := c.running(ctx)
	if err != nil {
		return fmt.Errorf("ask what runs on this controller's queue: %w", err)
	}
	limited, cancel := context.WithTimeout(ctx, c.limit)
	defer cancel()
	var looked atomic.Int32
	defer c.progress(&looked, len(running))()
	reasons := make([]string, len(running))
	group, limited := errgroup.WithContext(limited)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, execution := range running {
		group.Go(func() (err error) {
			reasons[i], err = c.replay(limited, execution)
			if err == nil {
				looked.Add(1)
			}
			if limited.Err() != nil {
				return nil
			}
			return err
		})
	}
	if err := cmp.Or(group.Wait(), ctx.Err()); err != nil {
		return fmt.Errorf("look whether this program can carry what runs: %w", err)
	}
	if unseen := len(running) - int(looked.Load()); unseen > 0 {
		c.log.Warn().Int("workflows", unseen).Msgf("not seen within %s whether this program can carry them: one that it cannot stands still", c.limit)
	}
	return c.refusal(ctx, running, reasons)
}

// refusal names each campaign that is refused, with the first reason, and what to do.
func (c carrier) refusal(ctx context.Context, running []*commonpb.WorkflowExecution, reasons []string) error {
	with := "the version of heliotrope that began it"
	if c.before != "" && c.before != version {
		with = "heliotrope " + c.before
	}
	var errs []error
	named := map[string]bool{}
	for i, reason := range reasons {
		name, part := partOf(running[i].GetWorkflowId())
		if reason == "" || named[name] {
			continue
		}
		named[name] = true
		errs = append(errs, fmt.Errorf("campaign %s cannot be carried by this program (%s): %s went otherwise before: %s; finish it with %s, or give it up with %s: its dataset keeps the trials that it has",
			name, version, part, reason, with, hint(ctx, "serve", "--give-up", name)))
	}
	if len(errs) == 0 {
		return nil
	}
	return cannotCarryError{errors.Join(errs...)}
}

// exitCannotCarry is the exit code of a controller that refuses running campaigns. Starting it again
// does not help, so the packages' unit does not (RestartPreventExitStatus=).
const exitCannotCarry = 5

// cannotCarryError names campaigns that this program cannot carry on.
type cannotCarryError struct{ error }

func (e cannotCarryError) Unwrap() error { return e.error }

// progress logs after some seconds, and then repeatedly, how far the check is. The caller
// calls stop in the end.
func (c carrier) progress(looked *atomic.Int32, all int) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var telling sync.WaitGroup
	telling.Go(func() {
		for poll.Pause(ctx, carryQuiet) == nil {
			c.log.Info().Int32("workflows", looked.Load()).Int("of", all).Msg("look whether this program can carry what runs")
		}
	})
	return func() { cancel(); telling.Wait() }
}

// running lists the running workflows of the controller's queue: campaigns first, then
// lanes, then trials.
func (c carrier) running(ctx context.Context) ([]*commonpb.WorkflowExecution, error) {
	var found []*commonpb.WorkflowExecution
	request := &workflowservice.ListWorkflowExecutionsRequest{PageSize: 1000,
		Query: fmt.Sprintf("ExecutionStatus = 'Running' AND TaskQueue = '%s'", c.queue)}
	for {
		page, err := c.client.ListWorkflow(ctx, request)
		if err != nil {
			return nil, err
		}
		for _, info := range page.GetExecutions() {
			found = append(found, info.GetExecution())
		}
		if request.NextPageToken = page.GetNextPageToken(); len(request.NextPageToken) == 0 {
			break
		}
	}
	slices.SortFunc(found, func(a, b *commonpb.WorkflowExecution) int { return cmp.Compare(a.GetWorkflowId(), b.GetWorkflowId()) })
	return found, nil
}

// partOf splits a workflow ID, for messages, into the campaign and the part of it.
func partOf(id string) (campaign, part string) {
	kind, rest, _ := strings.Cut(id, "/")
	if rest == "" {
		return id, "its workflow" // not one of our workflows
	}
	campaign, name, _ := strings.Cut(rest, "/")
	return campaign, strings.TrimSpace(kind + " " + name)
}

// replay says why this program cannot go on with a workflow; "" when it can, or when the
// workflow has ended meanwhile.
func (c carrier) replay(ctx context.Context, execution *commonpb.WorkflowExecution) (reason string, err error) {
	var history historypb.History
	events := c.client.GetWorkflowHistory(ctx, execution.GetWorkflowId(), execution.GetRunId(), false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for events.HasNext() {
		event, err := events.Next()
		var missing *serviceerror.NotFound
		if errors.As(err, &missing) {
			return "", nil
		}
		if err != nil {
			return "", err
		}
		history.Events = append(history.Events, event)
	}
	if ended(&history) {
		return "", nil
	}
	return replayed(&history, workflow.Execution{ID: execution.GetWorkflowId(), RunID: execution.GetRunId()}), nil
}

// ended says whether a history is of a workflow that has ended.
func ended(history *historypb.History) bool {
	if len(history.Events) == 0 {
		return false
	}
	switch history.Events[len(history.Events)-1].GetEventType() {
	case enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED, enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED,
		enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT, enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED,
		enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED, enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW:
		return true
	}
	return false
}

// replayed says why this program's workflows do not reproduce a history; "" when they do.
func replayed(history *historypb.History, execution workflow.Execution) string {
	const begun = 3 // started, and a first workflow task that was scheduled and started
	if len(history.GetEvents()) < begun {
		return ""
	}
	// Without deadlock detection: a slow machine is no reason to refuse.
	replayer, err := worker.NewWorkflowReplayerWithOptions(worker.WorkflowReplayerOptions{DisableDeadlockDetection: true})
	if err != nil {
		return err.Error()
	}
	workers.RegisterWorkflows(replayer)
	err = replayer.ReplayWorkflowHistoryWithOptions(sdklog.Logger{To: zerolog.Nop()}, history, worker.ReplayWorkflowHistoryOptions{OriginalExecution: execution})
	if err == nil {
		return ""
	}
	const most = 300
	text := printable(err.Error())
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}

// giveUp ends campaigns that this program cannot carry on, wherever they are. What they
// have on hosts is removed by the sweep of the next campaign.
func (c carrier) giveUp(ctx context.Context, campaigns []string) error {
	if len(campaigns) == 0 {
		return nil
	}
	running, err := c.running(ctx)
	if err != nil {
		return fmt.Errorf("ask what runs on this controller's queue: %w", err)
	}
	for _, name := range campaigns {
		parts := slices.DeleteFunc(slices.Clone(running), func(e *commonpb.WorkflowExecution) bool {
			campaign, _ := partOf(e.GetWorkflowId())
			return campaign != name
		})
		if len(parts) == 0 {
			return usageError{fmt.Errorf("--give-up %s: no campaign of that name runs here", name)}
		}
		for _, part := range parts {
			err := c.client.TerminateWorkflow(ctx, part.GetWorkflowId(), part.GetRunId(), "given up with heliotrope serve --give-up")
			var missing *serviceerror.NotFound // it has just ended
			if err != nil && !errors.As(err, &missing) {
				return fmt.Errorf("give up %s: %w", part.GetWorkflowId(), err)
			}
		}
		c.log.Warn().Str("campaign", name).Int("workflows", len(parts)).Msg("the campaign was given up; its dataset keeps the trials that it has")
	}
	return nil
}
