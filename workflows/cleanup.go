package workflows

import (
	"errors"

	"go.temporal.io/sdk/workflow"
)

// cleanup is what must be ended. Each step is added before the thing is begun, and may
// run when it never was.
type cleanup struct {
	steps []func(workflow.Context) error
}

func (c *cleanup) add(step func(workflow.Context) error) { c.steps = append(c.steps, step) }

// run undoes everything, the last first, past errors, which it joins. ctx must
// be disconnected: a cancelled trial is cleaned up like any other.
func (c *cleanup) run(ctx workflow.Context) error { return c.runTo(ctx, 0) }

// runTo undoes what was added since there were only so many steps.
func (c *cleanup) runTo(ctx workflow.Context, steps int) error {
	var errs []error
	for len(c.steps) > steps {
		last := c.steps[len(c.steps)-1]
		c.steps = c.steps[:len(c.steps)-1]
		errs = append(errs, last(ctx))
	}
	return errors.Join(errs...)
}
