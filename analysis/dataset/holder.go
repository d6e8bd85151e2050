package dataset

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"time"
)

// holderFile, in the control folder, says who runs the campaign.
const holderFile = "holder.json"

// Holder is the controller that runs a campaign on a folder, or ran it last.
type Holder struct {
	Controller string    `json:"controller"` // its task queue, which no other controller has
	Host       string    `json:"host"`       // on which it ran
	Place      string    `json:"place"`      // within which PID has a meaning: see procs.Place
	PID        int       `json:"pid"`
	StartTicks uint64    `json:"start_ticks"` // when its process started: see procs.Process
	Execution  string    `json:"execution"`   // of the campaign
	Since      time.Time `json:"since"`
}

// Hold notes who runs the campaign from now on. It keeps nobody out: it informs people who
// are about to run the campaign elsewhere.
func (r *Record) Hold(holder Holder) error {
	if err := r.Stand(); err != nil {
		return err
	}
	text, err := json.MarshalIndent(holder, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(r.folder, controlFolder, holderFile)
	if err := replaceContent(path, append(text, '\n')); err != nil {
		return fmt.Errorf("note who runs the campaign: %w", err)
	}
	return SyncFolder(filepath.Dir(path))
}

// ReadHolder reads who runs the campaign, or ran it last. The error is fs.ErrNotExist when
// nobody has run it.
func ReadHolder(folder string) (Holder, error) {
	var holder Holder
	err := readJSON(filepath.Join(folder, controlFolder, holderFile), &holder)
	return holder, err
}
