package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"

	"heliotrope/activities"
	"heliotrope/internal/fault"
	"heliotrope/internal/fault/wire"
	"heliotrope/internal/poll"
	"heliotrope/workflows"
)

// steerLimit is how long a campaign may take to answer, and planLimit how long a command waits
// for its plan. A plan of 10,000 trials is made within seconds.
const (
	steerLimit = 30 * time.Second
	planLimit  = time.Minute
)

// steered is a campaign's answer.
type steered struct {
	Campaign string `json:"campaign"`
	Update   string `json:"update"`
	UpdateID string `json:"update_id"` // the event in campaign_events has the same
	By       string `json:"by"`
	Why      string `json:"why"`
	Answer   string `json:"answer"` // what was done, in one sentence
}

// steer sends an update to a campaign, and waits for its answer. While the campaign is just
// being planned, it tries again, and tells progress so when that takes longer than quietFor. A
// refused update is bad input: it has changed nothing.
func steer(ctx context.Context, c client.Client, name, update string, what activities.Steering, progress io.Writer) (steered, error) {
	answer := steered{Campaign: name, Update: update, By: what.By, Why: what.Why}
	info, err := describe(ctx, c, workflows.CampaignID(name))
	if errors.Is(err, errNoCampaign) {
		return answer, usageError{explainMissing(ctx, err, name)}
	}
	if err != nil {
		return answer, err
	}
	if ended := outcomeOf(info.GetStatus()); ended != outcomeRunning {
		return answer, usageError{fmt.Errorf("campaign %s %s: there is nothing to steer", name, ended.sentence())}
	}
	began := time.Now()
	told := began
	for {
		err := answer.ask(ctx, c, what)
		now := time.Now()
		if wire.CauseOf(err) != workflows.BeingPlanned || now.Sub(began) >= planLimit {
			return answer, explainSteer(ctx, name, update, err)
		}
		if now.Sub(told) >= quietFor {
			told = now
			fmt.Fprintf(progress, "campaign %s is just being planned: the %s has waited for that for %s\n", name, update, seconds(now.Sub(began)))
		}
		if poll.Pause(ctx, 200*time.Millisecond) != nil {
			return answer, fmt.Errorf("interrupted: campaign %s was just being planned, and has not taken the %s", name, update)
		}
	}
}

// ask sends the update once, and sets its ID and the campaign's answer.
func (s *steered) ask(ctx context.Context, c client.Client, what activities.Steering) error {
	limited, cancel := context.WithTimeout(ctx, steerLimit)
	defer cancel()
	handle, err := c.UpdateWorkflow(limited, client.UpdateWorkflowOptions{WorkflowID: workflows.CampaignID(s.Campaign), UpdateName: s.Update,
		Args: []any{what}, WaitForStage: client.WorkflowUpdateStageCompleted})
	if err != nil {
		return err
	}
	s.UpdateID = handle.UpdateID()
	return handle.Get(limited, &s.Answer)
}

// explainSteer says why a campaign was not steered.
func explainSteer(ctx context.Context, name, update string, err error) error {
	var ended *serviceerror.NotFound
	switch {
	case err == nil:
		return nil
	case errors.As(err, &ended):
		return usageError{fmt.Errorf("campaign %s has ended meanwhile: there is nothing to steer", name)}
	case wire.Of(err) == fault.BadInput:
		return usageError{errors.New(wire.Reason(err))}
	case ctx.Err() != nil:
		return fmt.Errorf("interrupted: whether campaign %s took the %s, its campaign_events tell", name, update)
	case isTimeOut(err):
		return fmt.Errorf("campaign %s did not answer within %s, and may still take the %s: does a controller work? %s is one", name, steerLimit, update, hint(ctx, "serve"))
	}
	return fmt.Errorf("%s campaign %s: %w", update, name, err)
}

// isTimeOut says whether nobody answered in time: the client, or the server on its behalf,
// gave up waiting.
func isTimeOut(err error) bool {
	var late *client.WorkflowUpdateServiceTimeoutOrCanceledError
	var deadline *serviceerror.DeadlineExceeded
	return errors.As(err, &late) || errors.As(err, &deadline) || errors.Is(err, context.DeadlineExceeded)
}

// me is the person who steers: user@machine.
func me() string {
	name, machine := "somebody", "unknown"
	if current, err := user.Current(); err == nil {
		name = current.Username
	}
	if host, err := os.Hostname(); err == nil {
		machine = host
	}
	return name + "@" + machine
}

const steerLong = `

Who, when and why is kept in the dataset, in its table campaign_events. What cannot be
is refused in one sentence, and then nothing has changed (exit code 2). A campaign that
was just started is waited for, a minute at most, until its plan is made. In the Temporal
UI the same is an update of the campaign's workflow, by the same name.`

// command is the command line's command for an update.
func (s steering) command() *cobra.Command {
	shared := &campaignCommand{}
	var what activities.Steering
	var asJSON bool
	var examples []string
	for _, example := range s.examples {
		examples = append(examples, "  heliotrope "+s.update+" quick "+example)
	}
	cmd := &cobra.Command{
		Use:               strings.Join(strings.Fields(s.update+" NAME "+s.args+" --why TEXT"), " "),
		Short:             s.short,
		Long:              s.long + steerLong,
		Example:           strings.Join(examples, "\n"),
		Args:              usageArgs(cobra.ExactArgs(1 + len(strings.Fields(s.args)))),
		ValidArgsFunction: shared.completeCampaign,
		RunE: func(cmd *cobra.Command, args []string) error {
			what.By = me()
			if err := s.read(args[1:], &what); err != nil {
				return usageError{err}
			}
			session, err := shared.open(cmd.Context())
			if err != nil {
				return err
			}
			defer session.client.Close()
			answer, err := steer(cmd.Context(), session.client, args[0], s.update, what, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), answer)
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), printable(answer.Answer))
			return err
		},
	}
	shared.flags(cmd)
	cmd.Flags().StringVar(&what.Why, "why", "", "why: the dataset keeps it")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the answer as JSON")
	if s.flags != nil {
		s.flags(cmd, &what)
	}
	return cmd
}

// read reads the arguments after the campaign's name.
func (s steering) read(args []string, what *activities.Steering) error {
	if strings.TrimSpace(what.Why) == "" {
		return errors.New("--why is missing: the dataset keeps who steered, when and why")
	}
	if s.fill == nil {
		return nil
	}
	return s.fill(args, what)
}
