package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"heliotrope/deploy/temporal"
	"heliotrope/internal/poll"
)

// stopLimit is how long a serve may take to end: its activities get time to end, and then
// the server.
const stopLimit = 2 * time.Minute

func newStop() *cobra.Command {
	shared := &campaignCommand{}
	cmd := &cobra.Command{
		Use:   "stop",
		Short: "End the controller that run started in the background",
		Long: `End the controller, and the Temporal server that it started. Campaigns that run
wait where they are and go on with the next serve or run: nothing is lost. The emulated
testbed goes on running; ` + "`heliotrope lab down`" + ` stops it.`,
		Example: "  heliotrope stop",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			stateDir, err := shared.dir()
			if err != nil {
				return err
			}
			pid, err := stopServe(cmd.Context(), stateDir, stopLimit)
			if err != nil {
				return err
			}
			// A serve that was killed leaves its server running.
			left, err := temporal.StopEmbedded(cmd.Context(), stateDir)
			if err != nil {
				return err
			}
			out := cmd.ErrOrStderr()
			switch {
			case pid != 0:
				fmt.Fprintf(out, "the controller (process %d) has ended; campaigns that run go on with the next %s or `run`\n", pid, hint(cmd.Context(), "serve"))
			case left:
				fmt.Fprintln(out, "no controller runs; the Temporal server that one had left behind was ended")
			default:
				fmt.Fprintln(out, "no controller runs with the state folder", stateDir)
			}
			return nil
		},
	}
	shared.flags(cmd)
	return cmd
}

// stopServe ends the serve of a state folder, and waits until it has ended. It returns the
// process that it ended, or 0 when there was none.
func stopServe(ctx context.Context, stateDir string, limit time.Duration) (pid int, err error) {
	state, err := runningServe(stateDir)
	if err != nil {
		return 0, err
	}
	if state == nil {
		held, err := serveLockHeld(stateDir)
		if err == nil && held {
			err = fmt.Errorf("a serve with the state folder %s is just starting or ending; try again in a moment", stateDir)
		}
		return 0, err
	}
	controller, err := os.FindProcess(state.PID)
	if err != nil {
		return 0, fmt.Errorf("find the controller, process %d: %w", state.PID, err)
	}
	defer controller.Release() //nolint:errcheck // nothing to lose
	// We hold the process now: if it is still the process that wrote the file, the signal
	// cannot reach another one.
	if !state.process().Same() {
		return 0, nil // it has just ended
	}
	if err := controller.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return 0, fmt.Errorf("end the controller, process %d: %w", state.PID, err)
	}
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := awaitServeGone(limited, stateDir); err != nil {
		return 0, fmt.Errorf("the controller, process %d, was asked to end and has not yet (%w); its log: %s", state.PID, err, serveLog(stateDir))
	}
	return state.PID, nil
}

// awaitServeGone waits until no serve uses the state folder.
func awaitServeGone(ctx context.Context, stateDir string) error {
	return poll.Until(ctx, 50*time.Millisecond, func(context.Context) (bool, error) {
		held, err := serveLockHeld(stateDir)
		return !held, err
	})
}
