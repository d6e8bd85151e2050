// Package workflows decides what a campaign does next. Campaign has lanes, a Lane runs
// trials on one testbed, and a Trial runs the steps of one attempt.
//
// It promises that the workflows are deterministic and hold only facts and references:
// measured data is only in the dataset, from which a lane claims its next trial. Therefore
// any of them may die: no trial that has ended is lost, and none counts twice. No lane
// waits for another one. Whatever happens to a trial, its testbed is torn down.
//
// A lane and its campaign only send each other signals, each of which says everything that
// the receiver must know. A lane is a child workflow that goes on when its campaign ends:
// Temporal treats a campaign that continues as new as one that has ended, and tells only
// the old run how a lane has ended.
//
// Dangerous: changing the order in which activities, timers, side effects or children are
// started breaks running campaigns, and so does renaming them (see testdata/histories).
package workflows

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"heliotrope/activities"
	"heliotrope/internal/fault"
	"heliotrope/internal/fault/wire"
	"heliotrope/internal/trial"
)

// CampaignResult is how a campaign ended.
type CampaignResult struct {
	Progress Progress `json:"progress"`
	Summary  string   `json:"summary"` // path of summary.md on the controller
}

// campaignRun is one run of a campaign.
type campaignRun struct {
	input     CampaignInput
	state     CampaignState
	status    string // for CampaignStatus.State
	execution string // run ID of the campaign's first run
	planned   activities.Planned
	controls  []string
	medians   []activities.Median
	reports   workflow.ReceiveChannel // of LaneReport
	cancels   workflow.ReceiveChannel // of activities.Steering
	// By the lanes' names: whether keep is running for it; whether it may have something to
	// do again; and the version of the orders that was sent to it.
	kept  map[string]bool
	woken map[string]bool
	sent  map[string]int
	// changed says that something other than a report has happened.
	changed bool
	// leftAt is how many trials were done when lanes that had ended were last woken for the
	// trials that are left; -1 for never.
	leftAt int
	// looksAgain says that a timer runs after which the campaign looks again.
	looksAgain bool
}

// Campaign runs the trials of a plan on lanes, and writes the summary.
func Campaign(ctx workflow.Context, input CampaignInput) (CampaignResult, error) {
	c := newCampaignRun(ctx, input)
	if len(input.Lanes) == 0 {
		return CampaignResult{}, wire.ToTemporal(fault.New(fault.BadInput, "campaign %s has no lane to run on", input.Name))
	}
	err := workflow.SetQueryHandler(ctx, StatusQuery, func() (CampaignStatus, error) { return c.answer(), nil })
	if err == nil {
		err = steering{c}.setUp(ctx)
	}
	if err == nil {
		err = c.plan(ctx)
	}
	if err == nil {
		c.status = "running"
		if c.state.Cancelling {
			c.status = "cancelling"
		}
		err = c.run(ctx)
	}
	if workflow.IsContinueAsNewError(err) {
		return CampaignResult{}, err
	}
	result, err := c.finish(ctx, err)
	c.tellEnd(ctx, err)
	return result, err
}

func newCampaignRun(ctx workflow.Context, input CampaignInput) *campaignRun {
	c := &campaignRun{input: input, state: input.State, status: "planning", reports: workflow.GetSignalChannel(ctx, ReportSignal),
		cancels:   workflow.GetSignalChannel(ctx, CancelSignal),
		execution: workflow.GetInfo(ctx).FirstRunID, kept: map[string]bool{},
		woken: map[string]bool{}, sent: map[string]int{}, leftAt: -1}
	if c.state.Lanes == nil {
		c.state.Lanes, c.state.Orders = map[string]LaneReport{}, map[string]Orders{}
	}
	if c.state.Heard == nil {
		c.state.Heard = map[string]time.Time{}
	}
	return c
}

// plan makes the dataset in the campaign's first run, with everything that the campaign
// begins with. In later runs it reads that back.
func (c *campaignRun) plan(ctx workflow.Context) error {
	progress := &c.state.Progress
	options := workflow.WithActivityOptions(ctx, onController("expand the plan"))
	input := activities.PlanInput{Campaign: c.input.Name, SpecYAML: c.input.SpecYAML, SpecSHA256: c.input.SpecSHA256, Files: c.input.Files,
		DataDir: c.input.DataDir, Lanes: c.input.Lanes, Dataset: progress.Dataset, Execution: c.execution, SHA256: progress.PlanSHA256}
	if err := workflow.ExecuteActivity(options, planner.Expand, input).Get(options, &c.planned); err != nil {
		return err
	}
	if progress.Dataset == "" {
		progress.Started, progress.Dataset, progress.PlanSHA256 = c.planned.Began, c.planned.Dataset, c.planned.SHA256
		// This includes orders that people gave to the lanes before the server lost them.
		for _, lane := range c.input.Lanes {
			c.state.Orders[lane.Name] = c.planned.Orders[lane.Name]
		}
	}
	progress.take(c.planned.Counts)
	return nil
}

// run starts the lanes and handles their reports until nothing is left to do.
func (c *campaignRun) run(ctx workflow.Context) error {
	detached, _ := workflow.NewDisconnectedContext(ctx)
	for _, lane := range c.input.Lanes {
		if _, heard := c.state.Heard[lane.Name]; !heard {
			c.state.Heard[lane.Name] = workflow.Now(ctx)
		}
		if _, known := c.state.Lanes[lane.Name]; !known {
			report := LaneReport{Lane: lane.Name, State: LaneLost}
			if orders := c.state.Orders[lane.Name]; orders.Drain {
				report.State, report.Why = LaneDrained, orders.Why
			}
			c.state.Lanes[lane.Name] = report
		}
	}
	workflow.Go(detached, c.tick)
	for {
		c.takeReports(ctx)
		c.takeCanceller()
		c.cancelLanes(ctx, detached)
		c.sendOrders(detached)
		c.startLanes(detached)
		over, err := c.over(ctx, detached)
		c.show(detached, c.status)
		if over && err == nil && (c.changed || !workflow.AllHandlersFinished(ctx)) {
			over = false // somebody may have added trials since the dataset was asked
		}
		if over || err != nil {
			return err
		}
		cancelled := func() bool { return ctx.Err() != nil && !c.state.Cancelling }
		// The next run would not know of a cancellation that the lanes have not been told
		// of.
		if c.reports.Len() == 0 && c.cancels.Len() == 0 && !c.changed && !cancelled() && isLong(ctx, c.input.MaxEvents) && c.isSettled(ctx) {
			next := c.input
			next.State, next.SpecYAML, next.Files = c.state, "", nil
			return workflow.NewContinueAsNewError(ctx, CampaignName, next)
		}
		if err := workflow.Await(detached, func() bool { return c.reports.Len() > 0 || c.cancels.Len() > 0 || c.changed || cancelled() }); err != nil {
			return err
		}
		c.changed = false
	}
}

// isSettled says that nothing is unfinished that the next run would not know of.
func (c *campaignRun) isSettled(ctx workflow.Context) bool {
	for _, lane := range c.input.Lanes {
		if c.state.Lanes[lane.Name].State == LaneStarting {
			return false
		}
	}
	return steering{c}.settled(ctx)
}

// over says whether the campaign has ended. When no lane runs trials and none are left,
// over tells lanes that wait to end, too.
func (c *campaignRun) over(ctx, detached workflow.Context) (bool, error) {
	idle := 0
	for _, lane := range c.input.Lanes {
		switch report := c.state.Lanes[lane.Name]; {
		case report.Over() && !c.kept[lane.Name]:
		case report.idle() && !c.state.Cancelling:
			idle++
		default:
			return false, nil
		}
	}
	if c.state.Cancelling {
		return true, nil
	}
	left, err := c.left(ctx)
	switch {
	case err != nil && wire.Of(err) == fault.Infrastructure:
		c.later(detached, longestWait)
		return false, nil
	case err != nil:
		return false, err // this includes a cancellation
	case left && idle > 0:
		return false, nil
	case left && c.state.Progress.Done() != c.leftAt:
		if err := c.giveBack(detached); err != nil {
			c.later(detached, longestWait)
			return false, nil
		}
		c.leftAt = c.state.Progress.Done()
		c.wakeEnded()
		c.changed = true
		return false, nil
	case !left && idle > 0:
		c.order("", func(orders *Orders) { orders.Drain, orders.Why = true, "nothing is left" })
		return false, nil
	case left:
		return true, c.failure()
	}
	return true, nil
}

// claim is the input for asking the dataset about trials.
func (c *campaignRun) claim(ctx workflow.Context) activities.ClaimInput {
	return activities.ClaimInput{Campaign: c.input.Name, DataDir: c.input.DataDir, Dataset: c.state.Progress.Dataset,
		PlanSHA256: c.state.Progress.PlanSHA256, Now: workflow.Now(ctx)}
}

// giveBack frees the blocks of all lanes. No lane runs any more then, and a lane that died,
// failed or could not write could not free its block itself.
func (c *campaignRun) giveBack(ctx workflow.Context) error {
	ctx = workflow.WithLocalActivityOptions(ctx, claiming("give back what no lane runs"))
	for _, lane := range c.input.Lanes {
		input := c.claim(ctx)
		input.Lane, input.GiveBack = lane.Name, true
		if err := workflow.ExecuteLocalActivity(ctx, planner.Claim, input).Get(ctx, nil); err != nil {
			workflow.GetLogger(ctx).Warn("the block of a lane that has ended is not free for others", "lane", lane.Name, "error", wire.Reason(err))
			return err
		}
	}
	return nil
}

// left asks the dataset whether there is a trial for any lane.
func (c *campaignRun) left(ctx workflow.Context) (bool, error) {
	orders, input := c.state.Orders[c.input.Lanes[0].Name], c.claim(ctx)
	input.Until, input.Stop = orders.Until, orders.Stop
	var claimed activities.Claimed
	ctx = workflow.WithLocalActivityOptions(ctx, claiming("what is left?"))
	if err := workflow.ExecuteLocalActivity(ctx, planner.Claim, input).Get(ctx, &claimed); err != nil {
		return false, err
	}
	c.state.Progress.take(claimed.Dataset)
	return claimed.Next == activities.NextTrial, nil
}

// later has the campaign look again after some time.
func (c *campaignRun) later(ctx workflow.Context, wait time.Duration) {
	if c.looksAgain {
		return
	}
	c.looksAgain = true
	workflow.Go(ctx, func(ctx workflow.Context) {
		_ = workflow.Sleep(ctx, wait)
		c.looksAgain, c.changed = false, true
	})
}

// failure is the reason why trials are left that no lane could run; nil when somebody
// drained the lanes.
func (c *campaignRun) failure() error {
	var others []string
	for _, lane := range c.input.Lanes {
		report := c.state.Lanes[lane.Name]
		switch {
		case report.State == LaneFailed:
			return wire.ToTemporal(fault.New(fault.BadInput, "lane %s: %s", lane.Name, report.Why))
		case c.state.Orders[lane.Name].Drain:
			return nil
		}
		others = append(others, strings.TrimSuffix(fmt.Sprintf("lane %s: %s: %s", lane.Name, report.State, report.Why), ": "))
	}
	return wire.ToTemporal(fault.New(fault.Infrastructure, "trials are left that no lane runs: run the campaign again, and it goes on (%s)",
		strings.Join(others, "; ")))
}

// isLong says that a workflow should continue as new.
func isLong(ctx workflow.Context, maxEvents int) bool {
	info := workflow.GetInfo(ctx)
	return info.GetContinueAsNewSuggested() || info.GetCurrentHistoryLength() > cmp.Or(maxEvents, defaultMaxEvents)
}

// defaultMaxEvents keeps a history far below the 4,096 events at which the server suggests
// that a workflow continues as new: a trial adds about ten events.
const defaultMaxEvents = 1500

// finish writes the summary, for a cancelled campaign, too.
func (c *campaignRun) finish(ctx workflow.Context, failed error) (CampaignResult, error) {
	result := CampaignResult{Progress: c.state.Progress}
	if failed == nil && c.state.Cancelling {
		failed = temporal.NewCanceledError()
	}
	if c.state.Progress.Dataset == "" {
		return result, failed // there is no dataset
	}
	detached, _ := workflow.NewDisconnectedContext(ctx)
	c.show(detached, "finishing")
	if err := c.leave(detached); err != nil {
		// A host that is away makes the campaign's results no worse.
		workflow.GetLogger(ctx).Warn("something of ours stays on a host", "error", err.Error())
	}
	state := "finished"
	switch {
	case failed != nil && wire.Of(failed) == fault.Cancelled:
		state = "cancelled"
	case failed != nil:
		state = "failed"
	}
	if err := c.summarise(detached, &result, state); err != nil {
		return result, errors.Join(failed, err)
	}
	switch state {
	case "failed":
		return result, failed
	case "cancelled":
		failed = temporal.NewCanceledError(result)
	}
	c.show(detached, state)
	return result, failed
}

// leave removes everything of ours from the testbeds of all lanes at once, including what a
// terminated trial left behind.
func (c *campaignRun) leave(ctx workflow.Context) error {
	var removed []workflow.Future
	for _, lane := range c.input.Lanes {
		// Testbeds that take turns are emulated, and all except one are down.
		if len(lane.Others) > 0 {
			continue
		}
		options := workflow.WithActivityOptions(ctx, onTestbed("remove everything of ours from "+lane.Name))
		target := activities.Target{Lane: lane, DataDir: c.input.DataDir, Dataset: c.state.Progress.Dataset, Ref: trial.Ref{Campaign: c.input.Name}}
		removed = append(removed, workflow.ExecuteActivity(options, links.Remove, target))
	}
	var errs []error
	for _, future := range removed {
		errs = append(errs, future.Get(ctx, nil))
	}
	return errors.Join(errs...)
}

// summarise merges the trials' rows and writes the summary.
func (c *campaignRun) summarise(ctx workflow.Context, result *CampaignResult, state string) error {
	options := workflow.WithActivityOptions(ctx, onDataset("write the summary"))
	input := activities.SummariseInput{Campaign: c.input.Name, DataDir: c.input.DataDir, SpecSHA256: c.input.SpecSHA256, Kind: c.input.Lanes[0].Kind, State: state}
	var summarised activities.Summarised
	if err := workflow.ExecuteActivity(options, collector.Summarise, input).Get(options, &summarised); err != nil {
		return err
	}
	result.Summary = summarised.Path
	c.controls, c.medians = summarised.Controls, summarised.Medians
	return nil
}
