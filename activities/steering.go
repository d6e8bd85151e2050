package activities

import (
	"cmp"
	"time"

	"heliotrope/internal/campaign"
)

// The updates by which people steer a campaign. The commands of the command line and the
// events in the dataset have the same names.
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

// EventCancel is the event of a cancellation by `heliotrope cancel`. A cancellation is no
// update, because it needs no controller.
const EventCancel = "cancel"

// MaxWhyBytes is the longest that By and Why may be together: they are part of each lane's
// orders.
const MaxWhyBytes = 1000

// Steering are the arguments of an update. Each update needs By and Why; of the others,
// each takes its own.
type Steering struct {
	// Lane is the lane that is meant, by its testbed's name; "" stands for all lanes.
	Lane string `json:"lane,omitempty"`
	// Now, of pause, ends running attempts; their trials are run again later.
	Now bool `json:"now,omitempty"`
	// Force, of drain, drains the lane even when no other lane is left that runs; of
	// release, it releases without a look at the testbed.
	Force bool `json:"force,omitempty"`
	// Trial, of skip, is a number in the plan; Cell, of skip and repeat, is a cell's ID.
	Trial int    `json:"trial,omitempty"`
	Cell  string `json:"cell,omitempty"`
	// Cells, of add, is a text in the form of the campaign file's setting include.
	Cells string `json:"cells,omitempty"`
	// Times, of repeat and add, is how often each cell is run.
	Times int `json:"times,omitempty"`
	// Stop, of stop-rule, is the rule that holds from now on. Until, of until, is the time
	// after which no trial is begun. None removes the rule or the time that holds.
	Stop  *campaign.Stop `json:"stop,omitempty"`
	Until time.Time      `json:"until,omitzero"`
	None  bool           `json:"none,omitempty"`

	By  string `json:"by,omitempty"` // user@machine; "" from the Temporal UI
	Why string `json:"why"`
}

// Given are the names of the arguments that are set, besides who and why.
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

// Who is the person who steers.
func (s Steering) Who() string { return cmp.Or(s.By, "Temporal UI") }
