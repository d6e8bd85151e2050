package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"heliotrope/deploy/temporal"
	"heliotrope/internal/fault"
	"heliotrope/workflows"
)

func newTemporal() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "temporal",
		Short: "Prepare a Temporal server of your own, and encrypt what campaigns keep there",
		Args:  usageArgs(cobra.NoArgs),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newTemporalSetup(), newCodecKey(), newCodecServer())
	return cmd
}

func newTemporalSetup() *cobra.Command {
	var asJSON bool
	needs := temporal.Needs{Attributes: workflows.SearchAttributes, Retention: temporal.DefaultRetention}
	cmd := &cobra.Command{
		Use:   "setup",
		Short: "Make the namespace, its retention and the search attributes on a server of your own",
		Long: `Make the namespace, its retention and the search attributes that campaigns need on the
server that the environment names (TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE, TEMPORAL_TLS…,
TEMPORAL_API_KEY, or a profile of temporal.toml), with the rights of its administrator.
What is there is left alone, so it can be run again at any time, and after an upgrade.
The embedded server needs none of this.

Refused before anything is changed: a server older than ` + temporal.OldestServer + `, a namespace that keeps closed
workflows for a shorter time (--lengthen changes that), and search attributes of our
names that are of another type.

Exit codes: 0 all is there, 1 failure, 2 refused.`,
		Example: `  TEMPORAL_ADDRESS=temporal.example:7233 heliotrope temporal setup
  heliotrope temporal setup --retention 180d --lengthen
  heliotrope temporal setup --json | jq .made`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			settings, err := temporal.LoadSettings()
			if err != nil {
				return err
			}
			if !settings.Configured() {
				return fault.New(fault.BadInput, "no server is named: set TEMPORAL_ADDRESS; the embedded server needs no setup")
			}
			done, err := temporal.Setup(cmd.Context(), settings, needs, zerolog.Nop())
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), done)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "Temporal %s at %s\n", done.Version, done.Address)
			for _, part := range []struct {
				became string
				what   []string
			}{{"made", done.Made}, {"changed", done.Changed}, {"was there", done.There}} {
				for _, what := range part.what {
					fmt.Fprintf(cmd.OutOrStdout(), "%-9s  %s\n", part.became, what)
				}
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.Var((*retentionFlag)(&needs.Retention), "retention", "how long the namespace is to keep closed workflows, at least")
	flags.BoolVar(&needs.Lengthen, "lengthen", false, "change a shorter retention of a namespace that is there")
	flags.BoolVar(&asJSON, "json", false, "print JSON: what was made, changed and there")
	return cmd
}

// retentionFlag is a flag with a time in days, such as 90d, or in hours, such as 36h.
// Temporal takes no retention of less than a day (its setting
// system.namespaceMinRetentionGlobal).
type retentionFlag time.Duration

func (r *retentionFlag) String() string {
	const day = 24 * time.Hour
	if d := time.Duration(*r); d%day != 0 {
		return d.String()
	}
	return strconv.Itoa(int(time.Duration(*r)/day)) + "d"
}

func (r *retentionFlag) Set(text string) error {
	const day = 24 * time.Hour
	d, err := time.ParseDuration(text)
	if days, ok := strings.CutSuffix(text, "d"); ok {
		var count int
		count, err = strconv.Atoi(days)
		d = time.Duration(count) * day
	}
	const longest = 100 * 365 * day
	if err != nil || d < day || d > longest {
		return fmt.Errorf("want days, as 90d, or hours, as 36h, from 1d to %dd", longest/day)
	}
	*r = retentionFlag(d)
	return nil
}

func (r *retentionFlag) Type() string { return "days" }
