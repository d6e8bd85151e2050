package workflows

import "go.temporal.io/sdk/workflow"

// cleanup is what must be ended: activities that go on until they are cancelled. Each is
// added before it is begun, and may be ended when it never was.
type cleanup struct {
	steps []ending
}

// ending is how an activity of a kind is ended. stop does not wait.
type ending struct {
	kind string
	stop func()
	wait func(workflow.Context)
}

func (c *cleanup) add(step ending) { c.steps = append(c.steps, step) }

// run ends everything, the last first. ctx must be disconnected: a cancelled trial is
// cleaned up like any other.
func (c *cleanup) run(ctx workflow.Context) { c.runTo(ctx, 0) }

// runTo ends what was added since there were only so many steps. Those of one kind that
// were added one after the other end together: each of three hosts' workers takes its
// leave for 3 s.
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
