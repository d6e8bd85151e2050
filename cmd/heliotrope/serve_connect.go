package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"go.temporal.io/sdk/client"

	"heliotrope/deploy/temporal"
	"heliotrope/workers"
	"heliotrope/workers/agent"
	"heliotrope/workflows"
)

// campaignCommand is what the commands about campaigns share.
type campaignCommand struct {
	stateDir string
}

func (c *campaignCommand) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&c.stateDir, "state-dir", "", "where the controller and the Temporal server keep their state; default: heliotrope/temporal under $XDG_STATE_HOME, or ~/.local/state")
}

// dir is the absolute path of the state folder.
func (c *campaignCommand) dir() (string, error) {
	if c.stateDir == "" {
		return temporal.DefaultDir()
	}
	return filepath.Abs(c.stateDir)
}

// session is a connection to the Temporal server with the campaigns.
type session struct {
	client client.Client
	ui     string // URL of the server's UI; empty when it is not known
	queue  string // of the controller for which campaigns are started
}

// open connects to the server.
func (c *campaignCommand) open(ctx context.Context) (*session, error) {
	stateDir, err := c.dir()
	if err != nil {
		return nil, err
	}
	settings, ui, err := settingsOf(stateDir)
	if err != nil {
		return nil, err
	}
	return dial(ctx, settings, stateDir, ui, zerolog.Nop())
}

// settingsOf says where the server is: the server that the environment names, or else that
// of the last serve, which may be running or not.
func settingsOf(stateDir string) (settings temporal.Settings, ui string, err error) {
	if settings, err = temporal.LoadSettings(); err != nil {
		return settings, "", err
	}
	last := lastServe(stateDir)
	if last != nil {
		if settings, err = settings.OrKeys(last.CodecKeys); err != nil {
			return settings, "", err
		}
	}
	if last != nil && !settings.Configured() {
		settings.Address, settings.Namespace = last.Address, last.Namespace
	}
	if last != nil && last.Address == settings.Address {
		ui = last.UI
	}
	return settings, ui, nil
}

// dial connects to a running server. The SDK's messages about the connection, and about a
// worker that uses it, go to log.
func dial(ctx context.Context, settings temporal.Settings, stateDir, ui string, log zerolog.Logger) (*session, error) {
	if !settings.Configured() {
		_, err := temporal.Find(ctx, settings, stateDir)
		if errors.Is(err, temporal.ErrNotRunning) {
			return nil, fmt.Errorf("%w: %s starts it, and %s too", err, hint(ctx, "serve"), hint(ctx, "run"))
		}
		if err != nil {
			return nil, err
		}
	}
	connected, err := temporal.Dial(ctx, settings, log, agent.PatientHeartbeats(), workers.PromptCancellations())
	if err != nil {
		return nil, err
	}
	return &session{client: connected, ui: ui, queue: controllerQueue("")}, nil
}

// input reads the input that a campaign was started with.
func (s *session) input(ctx context.Context, name string) (workflows.CampaignInput, error) {
	input, err := campaignInput(ctx, s.client, name)
	if err != nil {
		return input, explainMissing(ctx, err, name)
	}
	return input, nil
}
