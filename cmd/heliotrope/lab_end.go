package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/spf13/cobra"

	"heliotrope/deploy/lab"
	"heliotrope/deploy/temporal"
)

// labEnd is what the commands share that end a testbed.
type labEnd struct {
	*labCommand
	campaigns campaignCommand
	force     bool
}

func (c *labEnd) flags(cmd *cobra.Command) {
	c.campaigns.flags(cmd)
	cmd.Flags().BoolVar(&c.force, "force", false, "also while a running campaign uses the testbed")
}

func (c *labCommand) down() *cobra.Command {
	end := &labEnd{labCommand: c}
	cmd := &cobra.Command{
		Use:   "down",
		Short: "Stop the testbed's nodes; keys and console logs stay",
		Long: `Stop the testbed's nodes; keys and console logs stay. It is refused while a running
campaign uses the testbed, unless with --force: its trial then fails, and the
campaign waits until the testbed is up again.`,
		Example: `  heliotrope lab down
  heliotrope lab down --name quick --force`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return end.run(cmd.Context(), (*lab.Lab).Down)
		},
	}
	end.flags(cmd)
	return cmd
}

func (c *labCommand) destroy() *cobra.Command {
	end := &labEnd{labCommand: c}
	cmd := &cobra.Command{
		Use:   "destroy",
		Short: "Stop the testbed and remove its files; the cached image stays",
		Long: `Stop the testbed and remove its files; the cached image stays. It is refused while a
running campaign uses the testbed, unless with --force. One that is not there is no error.`,
		Example: `  heliotrope lab destroy
  heliotrope lab destroy --name quick`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := end.run(cmd.Context(), (*lab.Lab).Destroy)
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		},
	}
	end.flags(cmd)
	return cmd
}

// run ends the testbed, unless a campaign uses it.
func (c *labEnd) run(ctx context.Context, end func(*lab.Lab, context.Context) error) error {
	l, err := c.open()
	if err != nil {
		return err
	}
	if !c.force {
		if err := c.campaigns.refuseUsed(ctx, l); err != nil {
			return err
		}
	}
	return end(l, ctx)
}

// usersLimit is how long the server may take to say which campaigns run.
const usersLimit = 20 * time.Second

// refuseUsed returns an error when a running campaign uses the testbed. When none of our
// servers runs, no campaign runs.
func (c *campaignCommand) refuseUsed(ctx context.Context, l *lab.Lab) error {
	ctx, cancel := context.WithTimeout(ctx, usersLimit)
	defer cancel()
	session, err := c.open(ctx)
	if errors.Is(err, temporal.ErrNotRunning) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("ask whether a campaign uses testbed %s: %w; --force ends it all the same", l.Options.Name, err)
	}
	defer session.client.Close()
	return session.refuseUsed(ctx, l)
}

func (s *session) refuseUsed(ctx context.Context, l *lab.Lab) error {
	uses, err := s.usersOf(ctx, "", []string{l.InventoryPath()})
	if err != nil {
		return fmt.Errorf("%w; --force ends testbed %s all the same", err, l.Options.Name)
	}
	var problems []error
	for _, use := range uses {
		problems = append(problems, usageError{fmt.Errorf("%w: wait for its end (%s), cancel it (%s), or give --force", use,
			hint(ctx, "watch", use.campaign), hint(ctx, "cancel", use.campaign))})
	}
	return errors.Join(problems...)
}
