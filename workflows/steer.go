package workflows

import (
	"fmt"
	"slices"

	"go.temporal.io/sdk/workflow"

	"heliotrope/activities"
	"heliotrope/internal/fault"
	"heliotrope/internal/fault/wire"
)

// SteerSignal carries an update that a lane has taken to its campaign, which alone gives
// orders.
const SteerSignal = "steer"

// asked is an update that a lane has taken. Its event is already in the dataset.
type asked struct {
	Update string              `json:"update"`
	What   activities.Steering `json:"what"`
}

// steering takes the updates by which people steer a running campaign. An update that is
// not possible is refused before anything is done. Any other update first becomes an event
// in the dataset, and then an order. So for everything that is done, the dataset says who
// wanted it; and a change of the plan is made only in the dataset, where it survives
// whatever happens to this workflow.
type steering struct{ run *campaignRun }

// described are the updates with the descriptions that the Temporal UI shows.
var described = []struct{ update, text string }{
	{activities.SteerPause, "Begin no more trials, on one lane or all; now: end those that run, too. {lane, now, by, why}"},
	{activities.SteerResume, "Go on after pause or drain. {lane, by, why}"},
	{activities.SteerDrain, "End a lane after its trial; others run the rest. {lane, force, by, why}"},
	{activities.SteerQuarantine, "Give a lane's testbed no more trials, until release. {lane, by, why}"},
	{activities.SteerRelease, "Take a lane's testbed out of quarantine; force: without a look at it. {lane, force, by, why}"},
	{activities.SteerSkip, "Do not run a trial, or what is left of a cell. {trial or cell, by, why}"},
	{activities.SteerRepeat, "Run a cell more often. {cell, times, by, why}"},
	{activities.SteerAdd, "Run cells that the plan does not have; cells is a text with the campaign file's include. {cells, times, by, why}"},
	{activities.SteerStop, "Change the stop rule, or take it away. {stop: {metric, relative_ci_percent, min, max} or none: true, by, why}"},
	{activities.SteerUntil, "Begin no trial after a time. {until or none: true, by, why}"},
}

// setUp sets up the handlers of updates.
func (s steering) setUp(ctx workflow.Context) error {
	for _, each := range described {
		update := each.update
		handler := func(ctx workflow.Context, what activities.Steering) (string, error) {
			return s.steer(ctx, update, what)
		}
		err := workflow.SetUpdateHandlerWithOptions(ctx, update, handler, workflow.UpdateHandlerOptions{Description: each.text,
			Validator: func(ctx workflow.Context, what activities.Steering) error {
				return wire.ToTemporal(s.stand(ctx).refuse(update, what))
			}})
		if err != nil {
			return err
		}
	}
	workflow.Go(ctx, s.listen)
	return nil
}

// stand is the current state of the campaign, for checking updates.
func (s steering) stand(ctx workflow.Context) stand {
	c := s.run
	now := stand{campaign: c.input.Name, state: c.status, now: workflow.Now(ctx), trials: c.state.Progress.Total}
	if c.state.Cancelling || ctx.Err() != nil {
		now.state = "cancelling"
	}
	for _, lane := range c.input.Lanes {
		now.lanes = append(now.lanes, laneStand{name: lane.Name, orders: c.state.Orders[lane.Name], report: c.state.Lanes[lane.Name]})
	}
	return now
}

// steer does what an update asks for, and says so in one sentence.
func (s steering) steer(ctx workflow.Context, update string, what activities.Steering) (string, error) {
	c := s.run
	defer func() { c.changed = true }() // the campaign may have been waiting only for this
	input := activities.AmendInput{Campaign: c.input.Name, DataDir: c.input.DataDir, Dataset: c.state.Progress.Dataset,
		Update: update, Steering: what, Answer: sentence(update, what)}
	amended, err := amend(ctx, input)
	if err != nil {
		return "", err
	}
	if amended.Total > 0 {
		c.state.Progress.Total = amended.Total
	}
	s.obey(update, what, amended)
	return amended.Answer, nil
}

// amend writes an update's event, and its consequences for the plan.
func amend(ctx workflow.Context, input activities.AmendInput) (activities.Amended, error) {
	input.ID, input.At = workflow.GetInfo(ctx).WorkflowExecution.RunID+"/"+workflow.GetCurrentUpdateInfo(ctx).ID, workflow.Now(ctx)
	// The event is written even when the campaign is being cancelled.
	detached, _ := workflow.NewDisconnectedContext(ctx)
	detached = workflow.WithLocalActivityOptions(detached, amending(input.Update))
	var amended activities.Amended
	err := workflow.ExecuteLocalActivity(detached, planner.Amend, input).Get(detached, &amended)
	return amended, err
}

// obey gives the orders that follow from an update.
func (s steering) obey(update string, what activities.Steering, amended activities.Amended) {
	c := s.run
	switch update {
	case activities.SteerSkip, activities.SteerRepeat, activities.SteerAdd: // there may be trials to run again
		c.wakeEnded()
		c.changed = true
		return
	case activities.SteerStop:
		// The precision that was reported was judged by the earlier rule.
		c.state.Progress.Enough, c.state.Progress.Precise, c.state.Progress.JudgedDone = false, nil, 0
		what.Stop = amended.Stop
	}
	c.order(what.Lane, func(orders *Orders) { *orders = orders.After(update, what) })
}

// sentence says what an update does, where that does not depend on the plan.
func sentence(update string, what activities.Steering) string {
	lanes, its := "all lanes", "their trials"
	if what.Lane != "" {
		lanes, its = "lane "+what.Lane, "its trial"
	}
	switch update {
	case activities.SteerPause:
		if what.Now {
			return fmt.Sprintf("%s: paused now; what %s had measured counts for nothing, and is measured again after resume", lanes, its)
		}
		return fmt.Sprintf("%s: paused after %s, until resume", lanes, its)
	case activities.SteerResume:
		return lanes + ": go on"
	case activities.SteerDrain:
		return fmt.Sprintf("%s: drained after %s; what is left is for other lanes", lanes, its)
	case activities.SteerQuarantine:
		return lanes + ": in quarantine after its trial, until release"
	case activities.SteerRelease:
		if what.Force {
			return lanes + ": released without a look at its testbed"
		}
		return lanes + ": released when its testbed is found fit"
	case activities.SteerUntil:
		if what.None {
			return "trials are begun at any time"
		}
		return activities.NotAfter(what.Until)
	}
	return ""
}

// listen takes the updates that lanes were asked for.
func (s steering) listen(ctx workflow.Context) {
	signals := s.asked(ctx)
	for workflow.Await(ctx, func() bool { return signals.Len() > 0 }) == nil {
		var one asked
		if signals.ReceiveAsync(&one) {
			s.obey(one.Update, one.What, activities.Amended{})
		}
	}
}

func (s steering) asked(ctx workflow.Context) workflow.ReceiveChannel {
	return workflow.GetSignalChannel(ctx, SteerSignal)
}

// settled says that all updates have been handled.
func (s steering) settled(ctx workflow.Context) bool {
	return s.asked(ctx).Len() == 0 && workflow.AllHandlersFinished(ctx)
}

// ofLane are the updates that a lane takes itself. Drain is not among them: only the
// campaign knows whether another lane is left.
var ofLane = []string{activities.SteerPause, activities.SteerResume, activities.SteerQuarantine, activities.SteerRelease}

// steer sets up the handlers of a lane's own updates. The lane passes updates on, because
// the campaign gives the orders.
func (l *laneRun) steer(ctx workflow.Context) error {
	for _, each := range described {
		update := each.update
		if !slices.Contains(ofLane, update) {
			continue
		}
		handler := func(ctx workflow.Context, what activities.Steering) (string, error) {
			return l.passOn(ctx, update, what)
		}
		err := workflow.SetUpdateHandlerWithOptions(ctx, update, handler, workflow.UpdateHandlerOptions{Description: each.text,
			Validator: func(ctx workflow.Context, what activities.Steering) error {
				return wire.ToTemporal(l.stand(ctx).refuse(update, l.own(what)))
			}})
		if err != nil {
			return err
		}
	}
	return nil
}

// stand is the state of the campaign as far as the lane knows it.
func (l *laneRun) stand(ctx workflow.Context) stand {
	now := stand{campaign: l.input.Campaign, state: "running", now: workflow.Now(ctx),
		lanes: []laneStand{{name: l.input.Lane.Name, orders: l.orders, report: l.state.Report}}}
	if ctx.Err() != nil {
		now.state = "cancelling"
	}
	return now
}

// own completes an update for the lane with the lane's name.
func (l *laneRun) own(what activities.Steering) activities.Steering {
	if what.Lane == "" {
		what.Lane = l.input.Lane.Name
	}
	return what
}

// passOn passes an update that the lane was asked for on to its campaign.
func (l *laneRun) passOn(ctx workflow.Context, update string, what activities.Steering) (string, error) {
	what = l.own(what)
	input := activities.AmendInput{Campaign: l.input.Campaign, DataDir: l.input.DataDir, Dataset: l.input.Dataset,
		Update: update, Steering: what, Answer: sentence(update, what)}
	amended, err := amend(ctx, input)
	if err != nil {
		return "", err
	}
	detached, _ := workflow.NewDisconnectedContext(ctx)
	err = workflow.SignalExternalWorkflow(detached, CampaignID(l.input.Campaign), "", SteerSignal, asked{update, what}).Get(detached, nil)
	if err != nil {
		return "", wire.ToTemporal(fault.New(fault.BadInput, "campaign %s has ended: there is nothing to steer", l.input.Campaign))
	}
	return amended.Answer, nil
}
