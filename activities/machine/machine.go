// Package machine has the activities that concern one machine: the recordings on it during
// a trial, and the shaping of the WAN on the host that bridges the sites. The small worker
// runs them on the machine itself; where it may not be installed, the controller runs them
// over SSH.
//
// It promises what package activities promises, and that it needs little: the worker must
// fit into the measured guest.
package machine

import (
	"fmt"
	"path/filepath"
	"strings"

	"heliotrope/internal/trial"
)

// Target says which attempt an activity works on, and where.
type Target struct {
	Lane trial.Lane `json:"lane"`
	Ref  trial.Ref  `json:"ref"`
	// DataDir is the data folder on the controller, an absolute path.
	DataDir string `json:"data_dir,omitempty"`
	// Dataset is the identity of the campaign's folder in it.
	Dataset string `json:"dataset,omitempty"`
}

// WorkFolder is the folder of an attempt's raw files until the dataset has them. It is in the data folder's "work", whatever
// name a workflow gives for its campaign.
func (t Target) WorkFolder() string {
	return filepath.Join(t.DataDir, "work", filepath.Base(filepath.Clean("/"+t.Ref.Campaign)), t.Ref.Key())
}

// WorkerIdentity is the identity of a machine's worker in Temporal.
func WorkerIdentity(role, machine string, pid int) string {
	return workerPrefix(role, machine) + fmt.Sprintf("%d)", pid)
}

// IsWorker says whether an identity is that of a machine's worker, in whichever process.
func IsWorker(identity, role, machine string) bool {
	return strings.HasPrefix(identity, workerPrefix(role, machine))
}

func workerPrefix(role, machine string) string { return role + "@" + machine + " (" }
