package workflows

import (
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"heliotrope/internal/inventory"
)

// conductor runs an attempt's steps and lets its time pass. There are two kinds of time.
// Real time passes by itself: a wait is a timer of the server, and the time of day is a
// side effect on the controller. Virtual time, for a model, only passes when a step says
// so: each step reports when it ended, and a wait is over at once.
//
// Only this file knows which of the two applies. The code for an attempt's steps, their
// order, the activities that it follows and its verdict is the same for both, so that the
// code that is tested on a model is the code that measures.
//
// Steps are ordinary activities, each of which the server knows. On virtual time a lane may
// run them as local activities (Lane.LocalSteps), which are reported to the server when the
// workflow next waits for something else. That is cheap, and a killed controller repeats
// what it has not reported yet. The SDK does not wait for a local activity that it cancels;
// workers.Controller lets the attempt's next one begin only when that one has ended.
type conductor struct {
	clock *time.Time // the attempt's own clock, on virtual time; nil on real time
	local bool
	// end is when the attempt's time limit is over, on virtual time, and over is called
	// then; nil when there is no limit.
	end  time.Time
	over func()
}

// newConductor uses virtual time when the trial's input has a beginning; clock is set to
// that.
func newConductor(input TrialInput, clock *time.Time) conductor {
	if input.Began.IsZero() {
		return conductor{}
	}
	return conductor{clock: clock, local: input.Lane.LocalSteps}
}

// now is the controller's time: this code runs on the controller, and a side effect is
// recorded. workflow.Now is the server's clock, which may differ.
func (c *conductor) now(ctx workflow.Context) time.Time {
	if c.clock != nil {
		return *c.clock
	}
	var now time.Time
	encoded := workflow.SideEffect(ctx, func(workflow.Context) any { return time.Now().UTC() })
	if err := encoded.Get(&now); err != nil {
		return workflow.Now(ctx)
	}
	return now
}

// passed sets the clock to the time at which a step ended, where time is virtual. A step
// that failed reports no time.
func (c *conductor) passed(now time.Time) {
	if c.clock == nil || now.IsZero() {
		return
	}
	*c.clock = now
	if c.over != nil && !now.Before(c.end) {
		c.over()
	}
}

// timer is a future that is ready when the time has passed.
func (c *conductor) timer(ctx workflow.Context, length time.Duration, summary string) workflow.Future {
	if c.clock == nil {
		return workflow.NewTimerWithOptions(ctx, length, workflow.TimerOptions{Summary: summary})
	}
	due := c.clock.Add(length)
	if c.over != nil && due.After(c.end) {
		due = c.end
	}
	c.passed(due)
	future, settable := workflow.NewFuture(ctx)
	settable.Set(nil, ctx.Err())
	return future
}

// limited runs do until it ends or until the limit is over. In the second case late is
// true, and the context of do is cancelled.
func (c *conductor) limited(ctx workflow.Context, limit time.Duration, do func(workflow.Context) error) (late bool, err error) {
	working, cancel := workflow.WithCancel(ctx)
	defer cancel()
	over := func() { late = true; cancel() }
	if c.clock != nil {
		c.end, c.over = c.clock.Add(limit), over
		defer func() { c.over = nil }()
		err = do(working)
		return late, err
	}
	timing, stop := workflow.WithCancel(ctx)
	due := c.timer(timing, limit, "limit of the attempt")
	workflow.Go(ctx, func(ctx workflow.Context) {
		if due.Get(ctx, nil) == nil {
			over()
		}
	})
	err = do(working)
	stop()
	return late, err
}

// mark has the server show where the attempt is. With local steps it does nothing, because
// the server would only hear of it when the attempt has ended.
func (c *conductor) mark(ctx workflow.Context, attribute temporal.SearchAttributeUpdate) {
	if c.local {
		return
	}
	if err := workflow.UpsertTypedSearchAttributes(ctx, attribute); err != nil {
		workflow.GetLogger(ctx).Warn("the phase is not shown", "error", err.Error())
	}
}

// call starts a step.
func (c *conductor) call(ctx workflow.Context, options workflow.ActivityOptions, activity, input any) workflow.Future {
	if !c.local {
		return workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, options), activity, input)
	}
	local := workflow.LocalActivityOptions{ScheduleToCloseTimeout: options.ScheduleToCloseTimeout,
		StartToCloseTimeout: options.StartToCloseTimeout, RetryPolicy: options.RetryPolicy, Summary: options.Summary}
	return workflow.ExecuteLocalActivity(workflow.WithLocalActivityOptions(ctx, local), activity, input)
}

// pace is how often a campaign hears of its lanes.
type pace struct {
	// silence is the time after which a lane is asked whether it is alive: a campaign that
	// has continued as new is not told when a lane dies.
	silence time.Duration
	// reportEvery is the shortest time between two reports while only the trial changes.
	reportEvery time.Duration
}

// paceOf is the pace for the lanes of a campaign: on a model they run many trials a second.
func paceOf(lanes []Lane) pace {
	if lanes[0].Kind == inventory.Simulated {
		return pace{silence: 20 * time.Second, reportEvery: max(2*time.Second, time.Duration(len(lanes))*500*time.Millisecond)}
	}
	return pace{silence: 10 * time.Minute}
}
