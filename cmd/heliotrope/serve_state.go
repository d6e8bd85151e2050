package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
	"github.com/google/renameio/v2"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/procs"
)

// serveState is what a `heliotrope serve` says about itself, in serve.json in its state
// folder. The file stays when the serve ends, so that the next serve listens at the same
// addresses. A serve is running only while the lock next to the file is held.
type serveState struct {
	// PID is the process that is ready. It is 0 when the process that holds the lock is not
	// ready yet: then the other fields are those of the serve before it.
	PID int `json:"pid"`
	// StartTicks is when the process started, in clock ticks since the machine's boot
	// (field 22 of /proc/PID/stat): process IDs are reused, but never with the same start.
	StartTicks uint64    `json:"start_ticks"`
	Controller string    `json:"controller"` // its identity
	Version    string    `json:"version"`
	Address    string    `json:"address"`  // of the Temporal server
	Embedded   bool      `json:"embedded"` // the server is an embedded one of this serve
	Namespace  string    `json:"namespace"`
	CodecKeys  string    `json:"codec_keys,omitempty"` // path of the keys with which payloads are encrypted
	UI         string    `json:"ui,omitempty"`         // URL of the Temporal UI, where it is known
	Started    time.Time `json:"started"`
}

// Files in the state folder.
const (
	serveLockFile  = "serve.lock"
	serveStateFile = "serve.json"
	serveLogFile   = "serve.log"
	gateKeyFile    = "gate.key" // see gate.LoadKey
)

// errServing says that another serve uses the state folder.
var errServing = errors.New("already serving")

// lockServe makes this process the only serve of a state folder.
func lockServe(ctx context.Context, stateDir string) (unlock func(), err error) {
	if err := os.MkdirAll(stateDir, 0o700); err != nil {
		return nil, fmt.Errorf("make the state folder: %w", err)
	}
	if err := refuseNetwork(stateDir, dataset.SharedFileSystem); err != nil {
		return nil, err
	}
	lock := flock.New(filepath.Join(stateDir, serveLockFile))
	// Processes that only check hold the lock for a moment.
	limited, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	locked, err := lock.TryLockContext(limited, 50*time.Millisecond)
	if locked {
		if err := notReady(stateDir); err != nil {
			return nil, errors.Join(err, lock.Unlock())
		}
		return func() { _ = lock.Unlock() }, nil
	}
	if ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		holder := ""
		if state := lastServe(stateDir); state != nil && state.PID != 0 {
			holder = fmt.Sprintf(" (process %d, UI %s)", state.PID, state.UI)
		}
		return nil, fmt.Errorf("%w with the state folder %s%s; %s ends it", errServing, stateDir, holder, hint(ctx, "stop"))
	}
	return nil, fmt.Errorf("lock %s: %w", filepath.Join(stateDir, serveLockFile), err)
}

// refuseNetwork refuses a state folder on a network file system: SQLite's write-ahead log
// does not work there (https://www.sqlite.org/wal.html), and a lock may not hold.
func refuseNetwork(stateDir string, fileSystem func(string) (string, error)) error {
	name, err := fileSystem(stateDir)
	if err != nil {
		return err
	}
	if name != "" {
		return usageError{fmt.Errorf("the state folder %s is on a network's file system (%s), where Temporal's database is not safe: choose a folder on a local disk with --state-dir", stateDir, name)}
	}
	return nil
}

// notReady marks the state of the serve before as not ready, but keeps its addresses: those
// who wait for the new serve wait until that is ready.
func notReady(stateDir string) error {
	last := lastServe(stateDir)
	if last == nil {
		return nil
	}
	last.PID, last.StartTicks = 0, 0
	if err := last.write(stateDir); err != nil {
		return fmt.Errorf("tell that the controller is not ready yet: %w", err)
	}
	return nil
}

// runningServe finds the serve of a state folder; nil when none is running, or when it is
// not ready yet.
func runningServe(stateDir string) (*serveState, error) {
	held, err := serveLockHeld(stateDir)
	if err != nil || !held {
		return nil, err
	}
	state := lastServe(stateDir)
	if state == nil || state.PID == 0 || !state.process().Same() {
		return nil, nil // it is not ready yet
	}
	return state, nil
}

// serveLockHeld says whether a serve uses the state folder, ready or not.
func serveLockHeld(stateDir string) (bool, error) {
	path := filepath.Join(stateDir, serveLockFile)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	lock := flock.New(path)
	free, err := lock.TryRLock()
	if err != nil {
		return false, fmt.Errorf("look at %s: %w", path, err)
	}
	if free {
		return false, lock.Unlock()
	}
	return true, lock.Close()
}

// process is the process of the serve, running or not.
func (s serveState) process() procs.Process {
	return procs.Process{PID: s.PID, StartTicks: s.StartTicks}
}

// lastServe is the state of the last serve that was ready, running or not; nil when there
// was none, or when a crash of the machine has emptied the file.
func lastServe(stateDir string) *serveState {
	text, err := os.ReadFile(filepath.Join(stateDir, serveStateFile))
	state := new(serveState)
	if err != nil || json.Unmarshal(text, state) != nil {
		return nil
	}
	return state
}

// write tells other commands that this serve is ready.
func (s serveState) write(stateDir string) error {
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return renameio.WriteFile(filepath.Join(stateDir, serveStateFile), append(text, '\n'), 0o600)
}
