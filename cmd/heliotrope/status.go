package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"

	"heliotrope/analysis/dataset"
	"heliotrope/workflows"
)

func newStatus() *cobra.Command {
	shared := &campaignCommand{}
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status [NAME]",
		Short: "List the campaigns, or show how far one is",
		Long: `List the campaigns, running ones first, or show how far one is: its trials by
verdict, what each lane does and waits for, why attempts were not valid, and about how
long it still takes.`,
		Example: `  heliotrope status
  heliotrope status quick
  heliotrope status quick --json | jq .status.progress.verdicts`,
		Args:              usageArgs(cobra.MaximumNArgs(1)),
		ValidArgsFunction: shared.completeCampaign,
		RunE: func(cmd *cobra.Command, args []string) error {
			session, err := shared.open(cmd.Context())
			if err != nil {
				return err
			}
			defer session.client.Close()
			if len(args) == 1 {
				return session.showCampaign(cmd.Context(), cmd.OutOrStdout(), args[0], asJSON)
			}
			campaigns, err := listCampaigns(cmd.Context(), session.client)
			if err != nil {
				return fmt.Errorf("list the campaigns: %w", err)
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), campaigns)
			}
			return campaignTable(cmd.Context(), cmd.OutOrStdout(), campaigns)
		},
	}
	shared.flags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// listedCampaign is a campaign in the server's list.
type listedCampaign struct {
	Name    string    `json:"name"`
	Outcome outcome   `json:"outcome"`
	Started time.Time `json:"started"` // start of its first run: a long campaign has several
	Ended   time.Time `json:"ended,omitzero"`
}

// startedMemo is the memo, in all runs of a campaign's workflow, with the time at which the
// first run was started.
const startedMemo = "started"

// startOf is when a campaign was started.
func startOf(info *workflowpb.WorkflowExecutionInfo) time.Time {
	var started time.Time
	if kept, ok := info.GetMemo().GetFields()[startedMemo]; ok && converter.GetDefaultDataConverter().FromPayload(kept, &started) == nil {
		return started
	}
	return info.GetStartTime().AsTime()
}

// listCampaigns lists all campaigns that the server remembers: running ones first, then the
// newest. Of several with the same name it lists the newest.
func listCampaigns(ctx context.Context, c client.Client) ([]listedCampaign, error) {
	campaigns := []listedCampaign{}
	request := &workflowservice.ListWorkflowExecutionsRequest{
		Query: fmt.Sprintf("WorkflowType = '%s' AND ExecutionStatus != 'ContinuedAsNew'", workflows.CampaignName)}
	for {
		page, err := c.ListWorkflow(ctx, request)
		if err != nil {
			return nil, err
		}
		for _, info := range page.GetExecutions() {
			listed := listedCampaign{Name: strings.TrimPrefix(info.GetExecution().GetWorkflowId(), workflows.CampaignID("")),
				Outcome: outcomeOf(info.GetStatus()), Started: startOf(info)}
			if info.GetCloseTime() != nil {
				listed.Ended = info.GetCloseTime().AsTime()
			}
			campaigns = append(campaigns, listed)
		}
		if request.NextPageToken = page.GetNextPageToken(); len(request.NextPageToken) == 0 {
			break
		}
	}
	slices.SortStableFunc(campaigns, newestFirst)
	seen := map[string]bool{}
	return slices.DeleteFunc(campaigns, func(c listedCampaign) bool {
		again := seen[c.Name]
		seen[c.Name] = true
		return again
	}), nil
}

func newestFirst(a, b listedCampaign) int {
	if aRuns, bRuns := a.Outcome == outcomeRunning, b.Outcome == outcomeRunning; aRuns != bRuns {
		if aRuns {
			return -1
		}
		return 1
	}
	return cmp.Or(b.Started.Compare(a.Started), strings.Compare(a.Name, b.Name))
}

func campaignTable(ctx context.Context, out io.Writer, campaigns []listedCampaign) error {
	if len(campaigns) == 0 {
		_, err := fmt.Fprintln(out, "no campaigns yet: "+hint(ctx, "run", "FILE")+" starts one")
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "CAMPAIGN\tSTATE\tSTARTED\tENDED")
	for _, c := range campaigns {
		ended := ""
		if !c.Ended.IsZero() {
			ended = c.Ended.Local().Format(time.DateTime)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", printable(c.Name), c.Outcome, c.Started.Local().Format(time.DateTime), ended)
	}
	return w.Flush()
}

// showCampaign shows the current state of one campaign.
func (s *session) showCampaign(ctx context.Context, out io.Writer, name string, asJSON bool) error {
	input, err := s.input(ctx, name)
	if err != nil {
		return err
	}
	source := s.source(input)
	shot, err := source.snapshot(ctx)
	if err != nil {
		return explainMissing(ctx, err, name)
	}
	if shot.Status.DataDir == "" {
		shot.Status.DataDir = input.DataDir
	}
	shot.CellCauses = causesByCell(ctx, dataset.CampaignFolder(shot.Status.DataDir, name))
	if asJSON {
		return printJSON(out, shot)
	}
	return errors.Join(snapshotTable(out, shot), causesTable(out, shot.CellCauses))
}

func snapshotTable(out io.Writer, shot snapshot) error {
	fmt.Fprintln(out, shot.headline())
	if shot.Unanswered != "" {
		fmt.Fprintln(out, "this is not the newest:", printable(shot.Unanswered))
	}
	if shot.Failure != "" {
		fmt.Fprintln(out, "because:", printable(shot.Failure))
	}
	if precise := shot.Status.Progress.Precise; precise != nil {
		fmt.Fprintln(out, "precision:", precise)
	}
	for _, control := range shot.Status.Controls {
		fmt.Fprintln(out, "a control FAILED:", printable(control))
	}
	fmt.Fprintf(out, "data: %s\n", shot.Status.DataDir)
	if len(shot.Lanes) == 0 {
		return nil
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nLANE\tTRIAL\tCELL\tATTEMPT\tPHASE\tSINCE\tDETAILS")
	for _, lane := range shot.Lanes {
		if lane.WorkflowID == "" {
			fmt.Fprintf(w, "%s\t\t\t\t%s\t%s\t%s\n", lane.Lane, lane.State, seconds(shot.At.Sub(lane.Started)), printable(lane.Why))
			continue
		}
		attempt, phase, since := "", "", ""
		if lane.Attempt > 0 {
			attempt = strconv.Itoa(lane.Attempt)
		}
		if lane.Trial != nil {
			attempt = fmt.Sprintf("%d/%d", lane.Trial.Attempt, lane.Trial.Attempts)
			phase, since = string(lane.Trial.Phase), seconds(shot.At.Sub(lane.Trial.Since))
		} else {
			phase, since = lane.unknown(shot.At), seconds(shot.At.Sub(lane.Started))
		}
		fmt.Fprintf(w, "%s\t%d/%d\t%s\t%s\t%s\t%s\t%s\n", lane.Lane, lane.Sequence, shot.Status.Progress.Total, lane.CellID,
			attempt, phase, since, printable(strings.Join(lane.details(shot.At), ", ")))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	waitsTable(out, shot)
	return nil
}

// waitsTable says what each lane waits for, and what to do.
func waitsTable(out io.Writer, shot snapshot) {
	for _, lane := range shot.Lanes {
		for _, w := range lane.distinct() {
			fmt.Fprintf(out, "\n%s: %s\n", lane.Lane, printable(w.text(shot.At)))
		}
		if advice := lane.advice(); advice != "" {
			fmt.Fprintf(out, "  %s\n", advice)
		}
	}
}

// completeCampaign completes the names of campaigns.
func (c *campaignCommand) completeCampaign(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	session, err := c.open(cmd.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer session.client.Close()
	campaigns, err := listCampaigns(cmd.Context(), session.client)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, campaign := range campaigns {
		if strings.HasPrefix(campaign.Name, prefix) {
			names = append(names, campaign.Name)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func printJSON(out io.Writer, value any) error {
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}
