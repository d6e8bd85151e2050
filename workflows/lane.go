package workflows

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"heliotrope/activities"
	"heliotrope/internal/fault"
	"heliotrope/internal/fault/wire"
)

// laneRun is one run of a lane.
type laneRun struct {
	input   LaneInput
	state   LaneState
	orders  Orders
	channel workflow.ReceiveChannel // of Orders
	// acted is the version of the orders that the current step has seen. Newer orders end
	// the step's waiting, even when they came while the step was reporting.
	acted int
	// stopTrial ends the running attempt; nil when none runs.
	stopTrial workflow.CancelFunc
	// teller tells hooks of failures.
	teller teller
	// orphan says that the campaign no longer exists.
	orphan bool
}

// RunLane runs trials on one testbed, one at a time, until none are left for it. It claims
// each trial in the dataset, which alone knows what is done: whatever ends this workflow,
// another one continues from there. It fails only when no trial of the campaign could run
// on its testbed.
func RunLane(ctx workflow.Context, input LaneInput) error {
	l := &laneRun{input: input, state: input.State, orders: input.Orders, channel: workflow.GetSignalChannel(ctx, OrdersSignal)}
	l.state.Report.Lane, l.state.Report.Execution = input.Lane.Name, input.Execution
	if left := l.state.Report.Trial; left != nil {
		l.state.Left, l.state.Report.Trial = left.WorkflowID, nil
	}
	err := workflow.SetQueryHandler(ctx, StatusQuery, func() (LaneReport, error) { return l.state.Report, nil })
	if err == nil {
		err = l.steer(ctx)
	}
	if err != nil {
		return err
	}
	workflow.Go(ctx, l.listen)
	for {
		done, err := l.step(ctx)
		if done || err != nil {
			detached, _ := workflow.NewDisconnectedContext(ctx)
			_ = workflow.Await(detached, func() bool { return workflow.AllHandlersFinished(ctx) })
			return err
		}
	}
}

// step does the next thing; true when the lane has ended.
func (l *laneRun) step(ctx workflow.Context) (bool, error) {
	l.takeOrders(ctx)
	l.acted = l.orders.Version
	switch {
	case ctx.Err() != nil && l.state.Left != "":
		// The lane waits until that trial has ended: after a cancellation everything is
		// removed from the testbed.
		detached, _ := workflow.NewDisconnectedContext(ctx)
		return false, l.settle(detached)
	case ctx.Err() != nil:
		return true, l.end(ctx, LaneCancelled, "", temporal.NewCanceledError())
	case l.orphan:
		return true, l.end(ctx, LaneDrained, "its campaign has ended without it", nil)
	case l.isLong(ctx):
		l.teller.wait(ctx)
		if !workflow.AllHandlersFinished(ctx) || ctx.Err() != nil {
			return false, nil // meanwhile an update has begun or a cancellation has come, which the next run would not know of
		}
		l.input.State, l.input.Orders = l.state, l.orders
		return true, workflow.NewContinueAsNewError(ctx, LaneName, l.input)
	case l.state.Left != "":
		return false, l.settle(ctx)
	case l.orders.Drain:
		return true, l.end(ctx, LaneDrained, l.orders.Why, nil)
	case l.state.Report.Quarantine != nil:
		return false, l.sitOut(ctx)
	case l.orders.Pause != "":
		l.tell(ctx, LanePaused, l.orders.Why)
		l.awaitOrders(ctx, stillThere, "tell that it is still paused")
		return false, nil
	}
	return l.next(ctx)
}

// isLong says that the lane should continue as new, and can.
func (l *laneRun) isLong(ctx workflow.Context) bool {
	return isLong(ctx, l.input.MaxEvents) && workflow.AllHandlersFinished(ctx)
}

// next claims a trial and runs an attempt of it.
func (l *laneRun) next(ctx workflow.Context) (bool, error) {
	claimed, err := l.claim(ctx, false)
	switch {
	case err != nil && wire.Of(err) == fault.Cancelled:
		return false, nil
	case err != nil && wire.Of(err) == fault.BadInput:
		return true, l.end(ctx, LaneFailed, wire.Reason(err), err)
	case err != nil:
		l.wait(ctx, wire.Reason(err), longestWait)
		return false, nil
	}
	l.state.Waits = 0
	switch claimed.Next {
	case activities.NextTrial:
		return false, l.trial(ctx, claimed)
	case activities.NextEnough:
		l.state.Report.Enough = true
		return true, l.end(ctx, LaneEnded, "the results are precise enough", nil)
	case activities.NextUntil:
		return true, l.end(ctx, LaneEnded, activities.NotAfter(l.orders.Until), nil)
	}
	return true, l.end(ctx, LaneEnded, "no trial is left for it", nil)
}

// claim asks the dataset what the lane should do next. With giveBack the lane gets nothing,
// and its block becomes free for others.
func (l *laneRun) claim(ctx workflow.Context, giveBack bool) (activities.Claimed, error) {
	input := activities.ClaimInput{Campaign: l.input.Campaign, DataDir: l.input.DataDir, Dataset: l.input.Dataset,
		PlanSHA256: l.input.PlanSHA256, Lane: l.input.Lane.Name, GiveBack: giveBack,
		Until: l.orders.Until, Now: workflow.Now(ctx), Stop: l.orders.Stop}
	var claimed activities.Claimed
	ctx = workflow.WithLocalActivityOptions(ctx, claiming("what is next?"))
	if err := workflow.ExecuteLocalActivity(ctx, planner.Claim, input).Get(ctx, &claimed); err != nil {
		return claimed, err
	}
	l.state.Report.Found = claimed.Dataset
	if report := &l.state.Report; claimed.Precise != nil && (report.Precise == nil || *report.Precise != *claimed.Precise) {
		report.Precise, report.Judged = claimed.Precise, done(claimed.Dataset.Verdicts)
	}
	return claimed, nil
}

// trial runs an attempt of a trial.
func (l *laneRun) trial(ctx workflow.Context, claimed activities.Claimed) error {
	cell := claimed.Trial.Cell
	bed, found := l.input.Lane.For(cell.Hypervisor)
	if !found {
		err := fault.New(fault.BadInput, "trial %s: lane %s has no testbed with hypervisor %s",
			sequenceText(claimed.Trial.Sequence), l.input.Lane.Name, cell.Hypervisor)
		return l.end(ctx, LaneFailed, err.Error(), wire.ToTemporal(err))
	}
	id := TrialID(l.input.Campaign, claimed.Trial.Sequence)
	working, cancel := workflow.WithCancel(ctx)
	defer cancel()
	child := workflow.WithChildOptions(working, workflow.ChildWorkflowOptions{
		WorkflowID:            id,
		WorkflowIDReusePolicy: enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
		ParentClosePolicy:     enumspb.PARENT_CLOSE_POLICY_REQUEST_CANCEL,
		WaitForCancellation:   true,
		StaticSummary:         fmt.Sprintf("%s on %s, RTT %g ms, %s", cell.Storage, bed.Name, cell.RTTMs, cell.Access.Name),
		TypedSearchAttributes: temporal.NewSearchAttributes(attrCampaign.ValueSet(l.input.Campaign), attrCell.ValueSet(claimed.Trial.CellID),
			attrStorage.ValueSet(cell.Storage), attrLane.ValueSet(bed.Name), attrRTTMs.ValueSet(cell.RTTMs)),
	})
	input := TrialInput{Campaign: l.input.Campaign, SpecSHA256: l.input.SpecSHA256, DataDir: l.input.DataDir, Dataset: l.input.Dataset,
		Lane: bed, Trial: claimed.Trial, Attempt: claimed.Attempt, Settings: l.input.Settings, Began: claimed.Began}
	if l.state.BadTrial.Sequence == claimed.Trial.Sequence {
		input.Before = l.state.Before
	}
	future := workflow.ExecuteChildWorkflow(child, TrialName, input)
	l.stopTrial = cancel
	l.state.Report.Trial = &RunningTrial{Lane: bed.Name, WorkflowID: id, Sequence: claimed.Trial.Sequence,
		CellID: claimed.Trial.CellID, Started: workflow.Now(ctx), Attempt: claimed.Attempt}
	l.tell(ctx, LaneRunning, "")
	var result TrialResult
	err := future.Get(child, &result)
	l.stopTrial, l.state.Report.Trial = nil, nil
	l.count(ctx, claimed.Trial, result, err)
	l.tellFailed(ctx, claimed.Trial, result, err)
	return nil
}

// end ends the lane; err is what its workflow returns.
func (l *laneRun) end(ctx workflow.Context, state, why string, err error) error {
	detached, _ := workflow.NewDisconnectedContext(ctx)
	if state != LaneEnded && state != LaneFailed {
		l.giveBack(detached)
	}
	l.tell(detached, state, why)
	l.teller.wait(detached)
	return err
}

// giveBack frees the lane's block for others. When that fails, the campaign frees it once
// trials are left that no lane runs.
func (l *laneRun) giveBack(ctx workflow.Context) {
	if _, err := l.claim(ctx, true); err != nil {
		workflow.GetLogger(ctx).Warn("the lane's block is not free for others", "error", wire.Reason(err))
	}
}

// settle ends a trial that an earlier run of this lane's workflow had begun when it was
// ended: nothing may run on the testbed at the same time.
func (l *laneRun) settle(ctx workflow.Context) error {
	if l.state.Waits == 0 {
		_ = workflow.RequestCancelExternalWorkflow(ctx, l.state.Left, "").Get(ctx, nil)
	}
	// A workflow that has ended accepts a cancellation, but no signal; a running trial
	// ignores the signal.
	err := workflow.SignalExternalWorkflow(ctx, l.state.Left, "", OrdersSignal, l.orders).Get(ctx, nil)
	switch {
	case isGone(err):
		l.state.Left, l.state.Waits = "", 0
	case ctx.Err() == nil:
		l.wait(ctx, fmt.Sprintf("an earlier attempt, %s, still ends on the testbed", l.state.Left), longestSettle)
	}
	return nil
}

const (
	// longestWait is the longest time between two tries of something that somebody may have
	// to repair.
	longestWait = time.Minute
	// longestSettle is the longest time between two looks at a trial that is still ending:
	// each look adds a signal to its history, and the trial may wait for a dead host for
	// days.
	longestSettle = 10 * time.Minute
	// stillThere is the time after which a lane that waits for a person reports again, and
	// learns whether its campaign still exists.
	stillThere = time.Hour
)

// wait lets some time pass: longer the more often the lane has waited in vain.
func (l *laneRun) wait(ctx workflow.Context, why string, longest time.Duration) {
	l.tell(ctx, LaneWaiting, why)
	l.awaitOrders(ctx, min(longest, 5*time.Second<<min(l.state.Waits, 10)), "try again")
	l.state.Waits++
}

// awaitOrders waits for orders that this step has not seen, for at most longest, and not
// when the lane should continue as new. A cancellation ends the wait, too: the next step
// handles it.
func (l *laneRun) awaitOrders(ctx workflow.Context, longest time.Duration, summary string) {
	wanted := func() bool { return l.orders.Version != l.acted || l.isLong(ctx) }
	_, _ = workflow.AwaitWithOptions(ctx, workflow.AwaitOptions{Timeout: longest, TimerOptions: workflow.TimerOptions{Summary: summary}}, wanted)
}

// tell reports to the campaign when something has changed. When trials are short, it does
// not report each of them.
func (l *laneRun) tell(ctx workflow.Context, state, why string) {
	report, now := &l.state.Report, workflow.Now(ctx)
	same := report.State == state && report.Why == why && report.Orders == l.orders.Version
	if report.State != state {
		report.Since = now
	}
	report.State, report.Why, report.Orders = state, why, l.orders.Version
	l.show(ctx)
	if same && now.Sub(l.state.Reported) < l.input.ReportEvery {
		return
	}
	l.state.Reported = now
	err := workflow.SignalExternalWorkflow(ctx, CampaignID(l.input.Campaign), "", ReportSignal, *report).Get(ctx, nil)
	l.orphan = isGone(err)
}

// isGone says whether a signal failed because no such workflow is running.
func isGone(err error) bool {
	var unknown *temporal.UnknownExternalWorkflowExecutionError
	return errors.As(err, &unknown)
}

// listen takes orders while the lane does something else.
func (l *laneRun) listen(ctx workflow.Context) {
	for workflow.Await(ctx, func() bool { return l.channel.Len() > 0 }) == nil {
		l.takeOrders(ctx)
	}
}

// takeOrders takes the newest of the orders that have come. No coroutine waits in a receive
// for them: it could have taken an order when the lane continues as new, and that order
// would be lost.
func (l *laneRun) takeOrders(ctx workflow.Context) {
	for {
		var newest Orders
		if !l.channel.ReceiveAsync(&newest) {
			break
		}
		if newest.Version > l.orders.Version {
			if !newest.Stop.Same(l.orders.Stop) {
				l.state.Report.Precise, l.state.Report.Judged = nil, 0 // it was judged by the earlier rule
			}
			l.orders = newest
		}
	}
	report := &l.state.Report
	if reason := l.orders.Quarantine; reason != "" && (report.Quarantine == nil || report.Quarantine.By == "") {
		l.quarantine(ctx, Quarantine{Reason: reason, By: cmp.Or(l.orders.By, "somebody")})
	}
	if l.orders.Released > report.Released {
		report.Released = l.orders.Released
		switch q := report.Quarantine; {
		case q != nil && l.orders.Force:
			l.release()
		case q != nil:
			q.By, q.Next = "", workflow.Now(ctx)
		}
	}
	if l.orders.Pause == activities.PauseNow && l.stopTrial != nil {
		l.stopTrial()
	}
}
