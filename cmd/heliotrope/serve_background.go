package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"heliotrope/deploy/temporal"
	"heliotrope/internal/poll"
)

// serveReadyLimit is how long a serve in the background may take until it is ready; usually
// it takes some seconds.
const serveReadyLimit = 2 * time.Minute

// goneLimit is how long a killed process may take to be gone: until then it looks as if it
// were running, but does not answer.
const goneLimit = 10 * time.Second

// ensureController connects to the server once that answers, and starts a serve in the
// background when no controller works for the server.
func ensureController(ctx context.Context, stateDir string, progress func(string)) (*session, error) {
	started := time.Now()
	var found *session
	err := poll.Until(ctx, 100*time.Millisecond, func(ctx context.Context) (bool, error) {
		var err error
		found, err = joinController(ctx, stateDir, progress)
		if errors.Is(err, temporal.ErrNotRunning) && time.Since(started) < goneLimit {
			return false, nil
		}
		return true, err
	})
	return found, err
}

func joinController(ctx context.Context, stateDir string, progress func(string)) (*session, error) {
	held, err := serveLockHeld(stateDir)
	if err != nil {
		return nil, err
	}
	if held {
		err = awaitServe(ctx, stateDir, nil)
	}
	if !held || errors.Is(err, errServeEnded) { // the serve that held the lock was just ending
		if found, err := foreignController(ctx); found != nil || err != nil {
			return found, err
		}
		err = startController(ctx, stateDir, progress)
	}
	if err != nil {
		return nil, err
	}
	if state, err := runningServe(stateDir); err == nil && state != nil && state.Version != version {
		progress(fmt.Sprintf("the controller that runs is of version %s, and this program of version %s; %s ends it", state.Version, version, hint(ctx, "stop")))
	}
	settings, ui, err := settingsOf(stateDir)
	if err != nil {
		return nil, err
	}
	joined, err := dial(ctx, settings, stateDir, ui, zerolog.Nop())
	if err != nil {
		return nil, err
	}
	if state := lastServe(stateDir); state != nil {
		joined.queue = controllerQueue(state.Controller)
	}
	return joined, nil
}

// startController starts this program as a serve in the background.
func startController(ctx context.Context, stateDir string, progress func(string)) error {
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	progress("start the controller in the background; its log: " + serveLog(stateDir))
	return startServe(ctx, stateDir, []string{program, "serve", "--state-dir", stateDir})
}

// foreignController connects to the server that the environment names, when a controller on
// another machine works for that server; nil otherwise.
func foreignController(ctx context.Context) (*session, error) {
	settings, err := temporal.LoadSettings()
	if err != nil || !settings.Configured() {
		return nil, nil
	}
	found, err := dial(ctx, settings, "", "", zerolog.Nop())
	if err != nil {
		return nil, nil // starting our own reports what is wrong
	}
	controllers, err := presentControllers(ctx, found.client)
	switch {
	case err == nil && len(controllers) == 1:
		found.queue = controllerQueue(controllers[0].ID)
		return found, nil
	case len(controllers) > 1:
		err = usageError{fmt.Errorf("several controllers work for the Temporal server at %s (%s; %s): start one of this machine's with %s, for that is used first",
			settings.Address, controllers[0], controllers[1], hint(ctx, "serve"))}
	}
	found.client.Close()
	return nil, err
}

func serveLog(stateDir string) string { return filepath.Join(stateDir, serveLogFile) }

// startServe starts a program that serves, in a session of its own so that it outlives this
// process and its terminal, and waits until it is ready.
func startServe(ctx context.Context, stateDir string, program []string) error {
	if err := os.MkdirAll(stateDir, 0o700); err != nil {
		return fmt.Errorf("make the state folder: %w", err)
	}
	log, err := os.OpenFile(serveLog(stateDir), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("the controller's log: %w", err)
	}
	defer log.Close()
	began, err := log.Seek(0, 2)
	if err != nil {
		return fmt.Errorf("the controller's log: %w", err)
	}
	cmd := exec.Command(program[0], program[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the controller: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	err = awaitServe(ctx, stateDir, ended)
	if err == nil {
		return nil
	}
	if !errors.Is(err, errServeEnded) {
		_ = cmd.Process.Signal(syscall.SIGTERM) // nobody will use it
		<-ended                                 //nolint:errcheck // we ended it
	}
	err = fmt.Errorf("%w: %s", err, logTail(serveLog(stateDir), began))
	if cmd.ProcessState.ExitCode() == exitBadInput {
		return usageError{err}
	}
	return err
}

// errServeEnded says that a serve ended before it was ready.
var errServeEnded = errors.New("the controller ended before it was ready")

// awaitServe waits until the serve of a state folder is ready. It returns errServeEnded
// when the serve ends before that. ended reports the end of a serve that we started; the
// lock shows that of another one.
func awaitServe(ctx context.Context, stateDir string, ended <-chan error) error {
	limited, cancel := context.WithTimeout(ctx, serveReadyLimit)
	defer cancel()
	err := poll.Until(limited, 100*time.Millisecond, func(context.Context) (bool, error) {
		state, err := runningServe(stateDir)
		if state != nil || err != nil {
			return state != nil, err
		}
		if ended == nil {
			held, err := serveLockHeld(stateDir)
			if err == nil && !held {
				err = errServeEnded
			}
			return false, err
		}
		select {
		case err := <-ended:
			return false, fmt.Errorf("%w (%w)", errServeEnded, err)
		default:
			return false, nil
		}
	})
	if err != nil && limited.Err() != nil && !errors.Is(err, errServeEnded) {
		return fmt.Errorf("wait for the controller with the state folder %s: %w", stateDir, limited.Err())
	}
	return err
}

// logTail is the reason why a program ended, on one line: the last message in its log, or
// otherwise the end of the log. began is the size that the log had before the program wrote
// to it.
func logTail(path string, began int64) string {
	const most = 600
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	written := "\n" + string(text[min(began, int64(len(text))):])
	if at := strings.LastIndex(written, "\nheliotrope: "); at >= 0 {
		written = written[at+len("\nheliotrope: "):]
	}
	if len(written) > most {
		written = "…" + written[len(written)-most:]
	}
	return printable(written) + " (its log: " + path + ")"
}
