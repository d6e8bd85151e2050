package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"heliotrope/deploy/temporal"
	"heliotrope/internal/fault"
	"heliotrope/internal/poll"
	"heliotrope/internal/procs"
)

// faultsEnv has the Faults of simulated lanes, by name, as JSON. When the test's own
// program acts as the command line, TestMain passes them to it.
const faultsEnv = "HELIOTROPE_TEST_FAULTS"

// slot is a state folder with a controller and a server in processes of their own, for one
// injected fault after another.
type slot struct {
	program  string
	stateDir string
}

// newSlot starts both on ports of their own.
func newSlot(ctx context.Context, program, stateDir string) (*slot, error) {
	s := &slot{program: program, stateDir: stateDir}
	return s, startServe(ctx, stateDir, []string{program, "serve", "--state-dir", stateDir, "--address", anyPort, "--ui-address", anyPort})
}

// command runs heliotrope as a user would, and returns its output.
func (s *slot) command(ctx context.Context, faults string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, s.program, append(args, "--state-dir", s.stateDir)...)
	cmd.Env = append(os.Environ(), faultsEnv+"="+faults)
	text, err := cmd.CombinedOutput()
	if err != nil {
		return string(text), fmt.Errorf("heliotrope %s: %w: %s", args[0], err, text)
	}
	return string(text), nil
}

// session connects to the slot's server.
func (s *slot) session(ctx context.Context) (*session, error) {
	return (&campaignCommand{stateDir: s.stateDir}).open(ctx)
}

// process finds the ID of a running process by its state file.
type process func(*slot) int

func controllerOf(s *slot) int {
	if state := lastServe(s.stateDir); state != nil && state.process().Same() {
		return state.PID
	}
	return 0
}

func serverOf(s *slot) int {
	var known struct {
		PID int `json:"pid"`
	}
	text, err := os.ReadFile(filepath.Join(s.stateDir, "server.json"))
	if err != nil || json.Unmarshal(text, &known) != nil {
		return 0
	}
	return known.PID
}

// kill ends processes as the kernel's out-of-memory killer does, and waits until they have
// ended.
func (s *slot) kill(ctx context.Context, which ...process) error {
	var running []procs.Process
	for _, of := range which {
		one, err := procs.Look(of(s))
		if err != nil {
			return fmt.Errorf("kill: there is no such process: %w", err)
		}
		running = append(running, one)
	}
	for _, one := range running {
		if err := syscall.Kill(one.PID, syscall.SIGKILL); err != nil {
			return fmt.Errorf("kill %d: %w", one.PID, err)
		}
	}
	return poll.Until(ctx, time.Millisecond, func(context.Context) (bool, error) {
		return !slices.ContainsFunc(running, procs.Process.Same), nil
	})
}

// databaseFiles are the files of the server's database; some of them may not exist.
func (s *slot) databaseFiles() []string {
	base := filepath.Join(s.stateDir, "temporal.db")
	return []string{base, base + "-wal", base + "-shm"}
}

// copyDatabase copies the database into another folder, or back. The server must not be
// running.
func copyDatabase(from, to []string) error {
	for i := range from {
		text, err := os.ReadFile(from[i])
		switch {
		case errors.Is(err, fs.ErrNotExist):
			err = os.Remove(to[i])
			if errors.Is(err, fs.ErrNotExist) {
				err = nil
			}
		case err == nil:
			err = os.WriteFile(to[i], text, 0o600)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// loseDatabase removes the database. The server must not be running.
func (s *slot) loseDatabase() error {
	for _, path := range s.databaseFiles() {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// awaitGone waits until killed processes hold nothing any more.
func (s *slot) awaitGone(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, goneLimit)
	defer cancel()
	return poll.Until(limited, 20*time.Millisecond, func(ctx context.Context) (bool, error) {
		held, err := serveLockHeld(s.stateDir)
		if err != nil || held {
			return false, err
		}
		_, err = temporal.Find(ctx, temporal.Settings{Address: anyPort, Namespace: temporal.DefaultNamespace}, s.stateDir)
		return err != nil && fault.Of(err) != fault.BadInput, nil
	})
}

// end ends the slot's processes.
func (s *slot) end() error {
	_, err := stopServe(context.Background(), s.stateDir, time.Minute)
	_, serverErr := temporal.StopEmbedded(context.Background(), s.stateDir)
	return errors.Join(err, serverErr)
}
