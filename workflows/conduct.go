package workflows

import (
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"heliotrope/internal/inventory"
)

// conductor has an attempt's steps done and its time pass. There are two kinds of time.
// Real time passes by itself: a wait is a timer of the server, and the time of day a side
// effect on the controller. Virtual time, a model's, passes where somebody says so only:
// each step tells when it ended, and a wait is over at once.
//
// This file alone knows which of the two it is. Which steps an attempt takes, in which
// order, what it follows meanwhile and how it is judged is the same code for both, so that
// what is tested on a model is what measures.
//
// Steps are ordinary activities, each of which the server knows. On virtual time a lane
// may have them as local ones (Lane.LocalSteps), which the server hears of when the
// workflow next waits for something else: that is cheap, and what a killed controller
// has not told yet is done again. The SDK does not wait for a local activity that it
// cancels; workers.Controller has the attempt's next one begin when that has ended.
type conductor struct {
	clock *time.Time // the attempt's own, on virtual time; nil on real time
	local bool
	// end is when the attempt's limit is over, on virtual time, and over ends it then;
	// nil where there is none.
	end  time.Time
	over func()
}

// newConductor is on virtual time where the trial says when it begins; clock is set to that.
func newConductor(input TrialInput, clock *time.Time) conductor {
	if input.Began.IsZero() {
		return conductor{}
	}
	return conductor{clock: clock, local: input.Lane.LocalSteps}
}

// now is the controller's time: this code runs there, and a side effect is
// recorded. The server's clock, which is workflow.Now, may be another one.
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

// passed takes over the time at which a step ended, where time is virtual. A step that
// failed tells none.
func (c *conductor) passed(now time.Time) {
	if c.clock == nil || now.IsZero() {
		return
	}
	*c.clock = now
	if c.over != nil && !now.Before(c.end) {
		c.over()
	}
}

// timer is a future of when so much time has passed.
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

// limited runs do until it ends, or the limit is over: then it is late, and its context
// ends.
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

// mark has the server show where the attempt is. With local steps the server hears of it
// only when the attempt has ended, and is not bothered.
func (c *conductor) mark(ctx workflow.Context, attribute temporal.SearchAttributeUpdate) {
	if c.local {
		return
	}
	if err := workflow.UpsertTypedSearchAttributes(ctx, attribute); err != nil {
		workflow.GetLogger(ctx).Warn("the phase is not shown", "error", err.Error())
	}
}

// call begins a step.
func (c *conductor) call(ctx workflow.Context, options workflow.ActivityOptions, activity, input any) workflow.Future {
	if !c.local {
		return workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, options), activity, input)
	}
	local := workflow.LocalActivityOptions{ScheduleToCloseTimeout: options.ScheduleToCloseTimeout,
		StartToCloseTimeout: options.StartToCloseTimeout, RetryPolicy: options.RetryPolicy, Summary: options.Summary}
	return workflow.ExecuteLocalActivity(workflow.WithLocalActivityOptions(ctx, local), activity, input)
}

// pace is how much of a lane its campaign wants to hear.
type pace struct {
	// silence is after which a lane is asked whether it lives: a campaign that has
	// continued as new is not told.
	silence time.Duration
	// reportEvery is how long a lane is silent at least while nothing but the trial changes.
	reportEvery time.Duration
}

// paceOf is that of a campaign of so many lanes: those of a model have many trials a
// second.
func paceOf(lanes []Lane) pace {
	if lanes[0].Kind == inventory.Simulated {
		return pace{silence: 20 * time.Second, reportEvery: max(2*time.Second, time.Duration(len(lanes))*500*time.Millisecond)}
	}
	return pace{silence: 10 * time.Minute}
}
