package workflows

import (
	"errors"

	"go.temporal.io/sdk/workflow"
)

// cleanup is what must be undone. Each step is added before the thing is
// acquired, and may run when it never was.
type cleanup struct {
	steps []func(workflow.Context) error
}

func (c *cleanup) add(step func(workflow.Context) error) { c.steps = append(c.steps, step) }

// run undoes everything, the last first, past errors, which it joins. ctx must
// be disconnected: a cancelled trial is cleaned up like any other.
func (c *cleanup) run(ctx workflow.Context) error {
	var errs []error
	for i := len(c.steps) - 1; i >= 0; i-- {
		errs = append(errs, c.steps[i](ctx))
	}
	c.steps = nil
	return errors.Join(errs...)
}
