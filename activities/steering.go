package activities

import (
	"cmp"
	"time"

	"heliotrope/internal/campaign"
)

// The updates by which a person steers a campaign. The command line's commands and
// the events in the dataset have the same names.
const (
	SteerPause      = "pause"
	SteerResume     = "resume"
	SteerDrain      = "drain"
	SteerQuarantine = "quarantine"
	SteerRelease    = "release"
	SteerUntil      = "until"
	SteerSkip       = campaign.AmendSkip
	SteerRepeat     = campaign.AmendRepeat
	SteerAdd        = campaign.AmendAdd
	SteerStop       = campaign.AmendStop
)

// EventCancel is the event of a cancellation by `heliotrope cancel`, which is no update: it
// needs no controller.
const EventCancel = "cancel"

// MaxWhyBytes is how long who and why may be together: they are in each lane's orders.
const MaxWhyBytes = 1000

// Steering is what an update is told. Who and why is wanted by each; of the others each
// takes its own.
type Steering struct {
	// Lane is the lane that is meant, by its testbed's name; "" is all of them.
	Lane string `json:"lane,omitempty"`
	// Now, of pause: the attempts that run are ended, and their trials run again later.
	Now bool `json:"now,omitempty"`
	// Force, of drain: even where no lane is left that runs. Of release: without a look
	// at the testbed.
	Force bool `json:"force,omitempty"`
	// Trial, of skip, is a number in the plan; Cell, of skip and repeat, a cell's ID.
	Trial int    `json:"trial,omitempty"`
	Cell  string `json:"cell,omitempty"`
	// Cells, of add, is a text with the campaign file's setting include.
	Cells string `json:"cells,omitempty"`
	// Times, of repeat and add, is how often each cell is run.
	Times int `json:"times,omitempty"`
	// Stop, of stop-rule, is the rule that holds from now on, and Until, of until, when
	// no trial is begun any more. None takes away what holds.
	Stop  *campaign.Stop `json:"stop,omitempty"`
	Until time.Time      `json:"until,omitzero"`
	None  bool           `json:"none,omitempty"`

	By  string `json:"by,omitempty"` // who: user@machine; "" from the Temporal UI
	Why string `json:"why"`
}

// Given are the names of what is said beside who and why.
func (s Steering) Given() []string {
	var names []string
	for _, field := range []struct {
		name  string
		given bool
	}{
		{"lane", s.Lane != ""}, {"now", s.Now}, {"force", s.Force}, {"trial", s.Trial != 0}, {"cell", s.Cell != ""},
		{"cells", s.Cells != ""}, {"times", s.Times != 0}, {"stop", s.Stop != nil}, {"until", !s.Until.IsZero()}, {"none", s.None},
	} {
		if field.given {
			names = append(names, field.name)
		}
	}
	return names
}

// Who is who steers.
func (s Steering) Who() string { return cmp.Or(s.By, "Temporal UI") }
