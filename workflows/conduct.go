package workflows

import (
	"time"

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
}

func newConductor(input TrialInput, clock *time.Time) conductor {
	if input.Lane.Kind != inventory.Simulated {
		return conductor{}
	}
	return conductor{clock: clock, local: true}
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
	if c.clock != nil && !now.IsZero() {
		*c.clock = now
	}
}

// timer is a future of when so much time has passed.
func (c *conductor) timer(ctx workflow.Context, length time.Duration, summary string) workflow.Future {
	if c.clock == nil {
		return workflow.NewTimerWithOptions(ctx, length, workflow.TimerOptions{Summary: summary})
	}
	c.passed(c.clock.Add(length))
	future, settable := workflow.NewFuture(ctx)
	settable.Set(nil, ctx.Err())
	return future
}

// limited runs do until it ends, or the limit is over: then it is late, and its context
// ends.
func (c *conductor) limited(ctx workflow.Context, limit time.Duration, do func(workflow.Context) error) (late bool, err error) {
	if c.clock != nil {
		return false, do(ctx)
	}
	working, cancel := workflow.WithCancel(ctx)
	defer cancel()
	timing, stop := workflow.WithCancel(ctx)
	over := c.timer(timing, limit, "limit of the attempt")
	workflow.Go(ctx, func(ctx workflow.Context) {
		if over.Get(ctx, nil) == nil {
			late = true
			cancel()
		}
	})
	err = do(working)
	stop()
	return late, err
}

// call begins a step.
func (c *conductor) call(ctx workflow.Context, options workflow.ActivityOptions, activity, input any) workflow.Future {
	if !c.local {
		return workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, options), activity, input)
	}
	local := workflow.LocalActivityOptions{StartToCloseTimeout: options.StartToCloseTimeout,
		RetryPolicy: options.RetryPolicy, Summary: options.Summary}
	return workflow.ExecuteLocalActivity(workflow.WithLocalActivityOptions(ctx, local), activity, input)
}
