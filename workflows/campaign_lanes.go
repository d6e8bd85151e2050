package workflows

import (
	"cmp"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"heliotrope/activities"
	"heliotrope/internal/fault/wire"
)

// takeReports takes the reports that lanes have sent. No coroutine waits in a receive for
// them: it could have taken a report when the campaign continues as new, and that report
// would be lost.
func (c *campaignRun) takeReports(ctx workflow.Context) {
	for {
		var report LaneReport
		if !c.reports.ReceiveAsync(&report) {
			return
		}
		before, known := c.state.Lanes[report.Lane]
		if !known || report.Execution != c.execution {
			continue // it comes from a lane that an earlier campaign of this name has left: see keep
		}
		c.state.Lanes[report.Lane], c.state.Heard[report.Lane] = report, workflow.Now(ctx)
		progress := &c.state.Progress
		progress.take(report.Found)
		progress.Enough = progress.Enough || report.Enough
		// A lane that does not have its newest orders yet may report about another stop
		// rule.
		if report.Orders == c.state.Orders[report.Lane].Version && report.Precise != nil && (progress.Precise == nil || report.Judged > progress.JudgedDone && *report.Precise != *progress.Precise) {
			progress.Precise, progress.JudgedDone = report.Precise, report.Judged
		}
		if report.State != before.State && (report.Over() && report.State != LaneEnded || report.State == LaneQuarantined) {
			c.wakeEnded()
		}
	}
}

// wakeEnded lets lanes that had nothing to do look again, because another lane has given
// its trials back.
func (c *campaignRun) wakeEnded() {
	for _, lane := range c.input.Lanes {
		if c.state.Lanes[lane.Name].State == LaneEnded {
			c.woken[lane.Name] = true
		}
	}
}

// order changes the orders of a lane, or of all lanes when lane is "". A lane that has
// ended is started again, unless its orders tell it to end or to wait.
func (c *campaignRun) order(lane string, change func(*Orders)) {
	for _, each := range c.input.Lanes {
		if lane != "" && lane != each.Name {
			continue
		}
		orders := c.state.Orders[each.Name]
		change(&orders)
		orders.Version++
		c.state.Orders[each.Name], c.woken[each.Name], c.changed = orders, true, true
	}
}

// sendOrders sends each lane the orders that it does not have yet.
func (c *campaignRun) sendOrders(ctx workflow.Context) {
	for _, lane := range c.input.Lanes {
		report, orders := c.state.Lanes[lane.Name], c.state.Orders[lane.Name]
		if report.Over() || report.State == LaneStarting || orders.Version <= max(report.Orders, c.sent[lane.Name]) {
			continue
		}
		c.sent[lane.Name] = orders.Version
		c.send(ctx, lane.Name)
	}
}

// send sends a lane its orders. A lane whose workflow does not exist has died.
func (c *campaignRun) send(ctx workflow.Context, lane string) {
	err := workflow.SignalExternalWorkflow(ctx, LaneID(c.input.Name, lane), "", OrdersSignal, c.state.Orders[lane]).Get(ctx, nil)
	c.state.Heard[lane] = workflow.Now(ctx)
	if isGone(err) {
		c.lose(lane, "it was ended by somebody")
	}
}

// lose notes that a lane's workflow has ended without reporting its end.
func (c *campaignRun) lose(lane, why string) {
	if report := c.state.Lanes[lane]; !report.Over() {
		report.State, report.Why = LaneLost, why
		c.state.Lanes[lane], c.changed = report, true
	}
}

// tick finds out whether lanes that have been silent for long are still alive: a signal to
// a dead one fails. Each signal adds to the campaign's history, which may be long by then.
func (c *campaignRun) tick(ctx workflow.Context) {
	longest := paceOf(c.input.Lanes).silence
	for wait := c.untilSilent(ctx, longest); ; wait = longest {
		options := workflow.TimerOptions{Summary: "see whether a lane is silent"}
		if workflow.NewTimerWithOptions(ctx, wait, options).Get(ctx, nil) != nil {
			return
		}
		for _, lane := range c.input.Lanes {
			if c.onlyReports(lane.Name) && workflow.Now(ctx).Sub(c.state.Heard[lane.Name]) >= longest {
				c.send(ctx, lane.Name)
			}
		}
		c.changed = true
	}
}

// onlyReports says that a lane has not ended as far as is known, and that nothing but its
// reports tells whether it lives.
func (c *campaignRun) onlyReports(lane string) bool {
	return !c.state.Lanes[lane].Over() && !c.kept[lane]
}

// untilSilent is the time until a lane will have been silent for long, and at least a second.
// A run of the campaign may be shorter than that: the lane's silence in the runs before counts.
func (c *campaignRun) untilSilent(ctx workflow.Context, longest time.Duration) time.Duration {
	wait := longest
	for _, lane := range c.input.Lanes {
		if c.onlyReports(lane.Name) {
			wait = min(wait, longest-workflow.Now(ctx).Sub(c.state.Heard[lane.Name]))
		}
	}
	return max(time.Second, wait)
}

// startLanes starts lanes that have died, and lanes that may have something to do again. A
// lane that has died is started even while it is paused: it then reports that it is paused,
// and ends the trial that was left on its testbed.
func (c *campaignRun) startLanes(ctx workflow.Context) {
	for _, lane := range c.input.Lanes {
		report, orders := c.state.Lanes[lane.Name], c.state.Orders[lane.Name]
		again := report.State == LaneLost || c.woken[lane.Name] && report.Over() && orders.Pause == ""
		delete(c.woken, lane.Name)
		if !again || c.kept[lane.Name] || c.state.Cancelling || orders.Drain {
			continue
		}
		c.kept[lane.Name] = true
		c.starting(lane.Name, LaneStarting, "")
		workflow.Go(ctx, func(ctx workflow.Context) { c.keep(ctx, lane) })
	}
}

func (c *campaignRun) starting(lane, state, why string) {
	report := c.state.Lanes[lane]
	report.State, report.Why = state, why
	c.state.Lanes[lane] = report
}

// keep starts a lane, and waits until it has ended; in later runs of the campaign, only
// reports tell of the lane. A lane that an earlier campaign of this name has left is
// cancelled, and the new lane is started once it has ended, because both use the same
// testbed.
func (c *campaignRun) keep(ctx workflow.Context, lane Lane) {
	defer func() { delete(c.kept, lane.Name); c.changed = true }()
	for tries := 0; !c.state.Cancelling; tries++ {
		c.starting(lane.Name, LaneStarting, "")
		options := workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{
			WorkflowID:            LaneID(c.input.Name, lane.Name),
			WorkflowIDReusePolicy: enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
			ParentClosePolicy:     enumspb.PARENT_CLOSE_POLICY_ABANDON,
			WaitForCancellation:   true,
			StaticSummary:         "lane " + lane.Name + " of campaign " + c.input.Name,
			TypedSearchAttributes: temporal.NewSearchAttributes(attrCampaign.ValueSet(c.input.Name), attrLane.ValueSet(lane.Name)),
		})
		future := workflow.ExecuteChildWorkflow(options, LaneName, c.laneInput(lane))
		err := future.GetChildWorkflowExecution().Get(ctx, nil)
		if temporal.IsWorkflowExecutionAlreadyStartedError(err) {
			c.starting(lane.Name, LaneLost, "the lane of an earlier campaign of this name still ends")
			_ = workflow.RequestCancelExternalWorkflow(ctx, LaneID(c.input.Name, lane.Name), "").Get(ctx, nil)
			_ = workflow.Sleep(ctx, min(longestWait, 5*time.Second<<min(tries, 10)))
			continue
		}
		if err == nil {
			if state := c.state.Lanes[lane.Name].State; state == LaneStarting || state == LaneLost {
				c.starting(lane.Name, LaneRunning, "")
			}
			c.state.Heard[lane.Name], c.changed = workflow.Now(ctx), true
			if c.state.Cancelling { // the campaign was cancelled before there was a lane to cancel
				_ = workflow.RequestCancelExternalWorkflow(ctx, LaneID(c.input.Name, lane.Name), "").Get(ctx, nil)
			}
			err = future.Get(ctx, nil)
		}
		c.lose(lane.Name, cmp.Or(wire.Reason(err), "it ended without a word"))
		return
	}
}

func (c *campaignRun) laneInput(lane Lane) LaneInput {
	last, orders := c.state.Lanes[lane.Name], c.state.Orders[lane.Name]
	return LaneInput{Campaign: c.input.Name, Execution: c.execution, DataDir: c.input.DataDir, Dataset: c.state.Progress.Dataset,
		PlanSHA256: c.state.Progress.PlanSHA256, SpecSHA256: c.input.SpecSHA256, Lane: lane, Settings: c.planned.Settings,
		QuarantineAfter: cmp.Or(c.input.QuarantineAfter, badInARow(c.planned.Limits.Attempts)), MaxEvents: c.input.MaxEvents, Orders: orders,
		ReportEvery: paceOf(c.input.Lanes).reportEvery,
		// The trial that the lane ran, and the state of its testbed, when it last reported.
		State: LaneState{Report: LaneReport{Trial: last.Trial, Quarantine: last.Quarantine, Released: last.Released}}}
}

// cancelLanes cancels the lanes when the campaign was cancelled.
func (c *campaignRun) cancelLanes(cancelled, ctx workflow.Context) {
	if cancelled.Err() == nil || c.state.Cancelling {
		return
	}
	c.state.Cancelling = true
	c.show(ctx, "cancelling")
	defer c.noteCanceller(ctx)
	for _, lane := range c.input.Lanes {
		if c.state.Lanes[lane.Name].Over() {
			continue
		}
		_ = workflow.RequestCancelExternalWorkflow(ctx, LaneID(c.input.Name, lane.Name), "").Get(ctx, nil)
		c.send(ctx, lane.Name) // a lane that has ended can be cancelled as well
	}
}

// takeCanceller takes the signal that says who is going to cancel the campaign. As with
// reports, no coroutine waits in a receive for it.
func (c *campaignRun) takeCanceller() {
	for {
		var who activities.Steering
		if !c.cancels.ReceiveAsync(&who) {
			return
		}
		c.state.Canceller = &who
	}
}

// noteCanceller notes in the dataset who has cancelled the campaign and why, where that
// person has said so. It does so while the lanes are being cancelled: no disk may keep
// anybody from cancelling.
func (c *campaignRun) noteCanceller(ctx workflow.Context) {
	if c.takeCanceller(); c.state.Canceller == nil {
		return
	}
	input := activities.AmendInput{Campaign: c.input.Name, DataDir: c.input.DataDir, Dataset: c.state.Progress.Dataset, Update: activities.EventCancel,
		Steering: *c.state.Canceller, Answer: "trials that run are torn down, the others are not run",
		ID: workflow.GetInfo(ctx).WorkflowExecution.RunID + "/" + activities.EventCancel, At: workflow.Now(ctx)}
	c.state.Canceller = nil
	ctx = workflow.WithLocalActivityOptions(ctx, claiming("note the cancellation"))
	if err := workflow.ExecuteLocalActivity(ctx, planner.Amend, input).Get(ctx, nil); err != nil {
		workflow.GetLogger(ctx).Warn("who has cancelled the campaign is not in its dataset", "by", input.Steering.By, "why", input.Steering.Why, "error", wire.Reason(err))
	}
}
