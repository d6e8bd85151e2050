package dataset

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"time"
)

// holderFile, in the control folder, says who runs the campaign.
const holderFile = "holder.json"

// Holder is who runs a campaign on a folder, or ran it last.
type Holder struct {
	Controller string    `json:"controller"` // its task queue, which no other controller has
	Host       string    `json:"host"`       // that it ran on
	Place      string    `json:"place"`      // in which PID has a meaning: see procs.Place
	PID        int       `json:"pid"`
	StartTicks uint64    `json:"start_ticks"` // of its process: see procs.Process
	Execution  string    `json:"execution"`   // of the campaign
	Since      time.Time `json:"since"`
}

// Hold notes who runs the campaign from now on. It keeps nobody out: it is for
// whoever is about to run the campaign elsewhere.
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
	return syncFolder(filepath.Dir(path))
}

// ReadHolder says who runs the campaign, or ran it last. fs.ErrNotExist says that
// nobody has.
func ReadHolder(folder string) (Holder, error) {
	var holder Holder
	err := readJSON(filepath.Join(folder, controlFolder, holderFile), &holder)
	return holder, err
}
