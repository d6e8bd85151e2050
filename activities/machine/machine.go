// Package machine has the activities that concern one machine: what records on
// it during a trial, and the shaping of the WAN on the host that bridges the
// sites. The small worker runs them on the machine itself, and the controller
// over SSH where nothing may be installed.
//
// It promises what package activities promises, and to need little: the worker
// must fit into the measured guest.
package machine

import (
	"fmt"
	"path/filepath"
	"strings"

	"heliotrope/internal/trial"
)

// Target is which attempt an activity works on, and where.
type Target struct {
	Lane trial.Lane `json:"lane"`
	Ref  trial.Ref  `json:"ref"`
	// DataDir is the dataset's folder on the controller, absolute.
	DataDir string `json:"data_dir,omitempty"`
	// Dataset is the identity of the campaign's folder in it.
	Dataset string `json:"dataset,omitempty"`
}

// WorkFolder is where an attempt's raw files are until the dataset has them: in the data folder's "work", whatever a workflow
// says that its campaign is called.
func (t Target) WorkFolder() string {
	return filepath.Join(t.DataDir, "work", filepath.Base(filepath.Clean("/"+t.Ref.Campaign)), t.Ref.Key())
}

// WorkerIdentity is what Temporal calls a machine's worker.
func WorkerIdentity(role, machine string, pid int) string {
	return workerPrefix(role, machine) + fmt.Sprintf("%d)", pid)
}

// IsWorker says whether an identity is that of a machine's worker, whichever process it is.
func IsWorker(identity, role, machine string) bool {
	return strings.HasPrefix(identity, workerPrefix(role, machine))
}

func workerPrefix(role, machine string) string { return role + "@" + machine + " (" }
