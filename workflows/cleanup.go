package workflows

import "go.temporal.io/sdk/workflow"

// cleanup is the list of activities that go on until they are cancelled, and so must be
// ended. Each is added before it is started; ending one that was never started is harmless.
type cleanup struct {
	steps []ending
}

// ending says how an activity is ended. stop does not wait.
type ending struct {
	kind string
	stop func()
	wait func(workflow.Context)
}

func (c *cleanup) add(step ending) { c.steps = append(c.steps, step) }

// run ends everything, beginning with what was added last. ctx must be disconnected: a
// cancelled trial is cleaned up like any other.
func (c *cleanup) run(ctx workflow.Context) { c.runTo(ctx, 0) }

// runTo ends what was added after the first steps entries. Consecutive entries of the same
// kind are ended together: each of three hosts' workers takes 3 s to end.
func (c *cleanup) runTo(ctx workflow.Context, steps int) {
	for len(c.steps) > steps {
		first := len(c.steps) - 1
		for first > steps && c.steps[first-1].kind == c.steps[first].kind {
			first--
		}
		together := c.steps[first:]
		c.steps = c.steps[:first]
		for _, step := range together {
			step.stop()
		}
		for _, step := range together {
			step.wait(ctx)
		}
	}
}
