package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"heliotrope/internal/poll"
)

// exitDetached is the exit code after Ctrl-C: the campaign goes on.
const exitDetached = 130

func newWatch() *cobra.Command {
	shared := &campaignCommand{}
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "watch NAME",
		Short: "Show a campaign's live progress until it ends",
		Long: `Show a campaign's live progress until it ends, and then its summary. Ctrl-C ends
the watching, not the campaign. Exits as run does: 0 when the campaign finished, 1
when it failed or no trial was valid, 130 after Ctrl-C.`,
		Example: `  heliotrope watch quick
  heliotrope watch quick --json | jq .progress`,
		Args:              usageArgs(cobra.ExactArgs(1)),
		ValidArgsFunction: shared.completeCampaign,
		RunE: func(cmd *cobra.Command, args []string) error {
			session, err := shared.open(cmd.Context())
			if err != nil {
				return err
			}
			defer session.client.Close()
			return session.follow(cmd, args[0], asJSON)
		},
	}
	shared.flags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the result as JSON; the progress goes to standard error")
	return cmd
}

// pollInterval is how often a watched campaign is queried.
const pollInterval = time.Second

// follow shows a campaign until it ends, and then its result. The progress goes to standard
// error, and the result to standard output.
func (s *session) follow(cmd *cobra.Command, name string, asJSON bool) error {
	ctx, errs := cmd.Context(), cmd.ErrOrStderr()
	input, err := s.input(ctx, name)
	if err != nil {
		return err
	}
	source := s.source(input)
	show := newDisplay(errs)
	shot, err := watch(ctx, source.snapshot, show, pollInterval)
	show.close()
	if errors.Is(err, context.Canceled) {
		sayDetached(ctx, errs, name)
		return exitCode(exitDetached)
	}
	if err != nil {
		return explainMissing(ctx, err, name)
	}
	return printResult(cmd.OutOrStdout(), s.result(shot, input), asJSON)
}

// watch shows a campaign's progress until it ends, and returns the last snapshot. When the
// server does not answer, it keeps asking.
func watch(ctx context.Context, ask func(context.Context) (snapshot, error), show display, interval time.Duration) (snapshot, error) {
	away := "" // why nobody answers, as reported last
	var shot snapshot
	err := poll.Until(ctx, interval, func(ctx context.Context) (bool, error) {
		var err error
		shot, err = ask(ctx)
		switch {
		case ctx.Err() != nil:
			return false, ctx.Err()
		case errors.Is(err, errNoCampaign):
			return false, err
		case err != nil:
			away = sayOnce(show, away, "the Temporal server does not answer; the campaign is not lost, and I go on asking: "+printable(err.Error()))
		case shot.Outcome != outcomeRunning:
			show.show(shot)
			return true, nil
		case shot.Unanswered != "":
			away = sayOnce(show, away, printable(shot.Unanswered))
		default:
			if away != "" {
				show.note("answered again")
				away = ""
			}
			show.show(shot)
		}
		return false, nil
	})
	if err != nil && ctx.Err() != nil {
		return shot, context.Canceled // whatever the cause was, for instance a signal
	}
	return shot, err
}

// sayOnce reports a problem, unless one was reported since everything was well.
func sayOnce(show display, said, text string) string {
	if said == "" {
		show.note(text)
	}
	return text
}

func sayDetached(ctx context.Context, out io.Writer, name string) {
	fmt.Fprintf(out, "\nheliotrope: campaign %s goes on without being watched\n"+
		"  come back:  %s\n  end it:     %s\n", name, advice(ctx, "watch", name), advice(ctx, "cancel", name))
}

// explainMissing says which campaign does not exist.
func explainMissing(ctx context.Context, err error, name string) error {
	if errors.Is(err, errNoCampaign) {
		return usageError{fmt.Errorf("no campaign %q on this Temporal server: %s lists them", name, hint(ctx, "status"))}
	}
	return err
}
