package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"heliotrope/activities"
	"heliotrope/workflows"
)

func newCancel() *cobra.Command {
	shared := &campaignCommand{}
	var wait, asJSON bool
	who := activities.Steering{By: me()}
	cmd := &cobra.Command{
		Use:   "cancel NAME",
		Short: "End a campaign: running trials are torn down, the others skipped",
		Long: `End a campaign. Trials that run are stopped and torn down, so that the hosts are as
before; trials that have not begun are skipped; the trials that have finished
stay in the dataset. That takes a minute or two: --wait waits for it.

Who cancels it, when and why (--why) is kept in the dataset, in its table campaign_events.`,
		Example: `  heliotrope cancel quick
  heliotrope cancel quick --wait --why "the target host has a bad disk"`,
		Args:              usageArgs(cobra.ExactArgs(1)),
		ValidArgsFunction: shared.completeCampaign,
		RunE: func(cmd *cobra.Command, args []string) error {
			name := args[0]
			if len(who.Why)+len(who.By) > activities.MaxWhyBytes {
				return usageError{fmt.Errorf("who and why are longer than %d bytes", activities.MaxWhyBytes)}
			}
			session, err := shared.open(cmd.Context())
			if err != nil {
				return err
			}
			defer session.client.Close()
			info, err := describe(cmd.Context(), session.client, workflows.CampaignID(name))
			if err != nil {
				return explainMissing(cmd.Context(), err, name)
			}
			if ended := outcomeOf(info.GetStatus()); ended != outcomeRunning {
				return fmt.Errorf("campaign %s does not run: it %s", name, ended.sentence())
			}
			if err := session.client.SignalWorkflow(cmd.Context(), workflows.CampaignID(name), "", workflows.CancelSignal, who); err != nil {
				return fmt.Errorf("cancel campaign %s: %w", name, err)
			}
			if err := session.client.CancelWorkflow(cmd.Context(), workflows.CampaignID(name), ""); err != nil {
				return fmt.Errorf("cancel campaign %s: %w", name, err)
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "campaign %s is being cancelled: running trials are torn down first, so that the hosts are as before\n", name)
			if !wait {
				return nil
			}
			err = session.follow(cmd, name, asJSON)
			if errors.Is(err, exitCode(exitFailure)) {
				return nil // it did not finish, as was asked for
			}
			return err
		},
	}
	shared.flags(cmd)
	cmd.Flags().StringVar(&who.Why, "why", "", "why: the dataset keeps it")
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until the campaign has ended, and show it")
	cmd.Flags().BoolVar(&asJSON, "json", false, "with --wait: print the result as JSON")
	return cmd
}
