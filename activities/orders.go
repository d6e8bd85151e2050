package activities

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/campaign"
)

// Orders are what a campaign tells a lane to do. They are absolute: those with the greatest
// version are complete by themselves.
type Orders struct {
	Version int `json:"version"`
	// Pause stops the lane from beginning trials: PauseAfterTrial, or PauseNow, which also
	// ends the running attempt; "" lets it go on.
	Pause string `json:"pause,omitempty"`
	// Drain ends the lane after its trial, and frees its block for others.
	Drain bool `json:"drain,omitempty"`
	// Why it is paused or drained, or last was.
	Why string `json:"why,omitempty"`
	// Until is the time after which no trial is begun; zero for never.
	Until time.Time `json:"until,omitzero"`
	// Stop is the rule by which the campaign stops by precision; nil for none.
	Stop *campaign.Stop `json:"stop,omitempty"`
	// Quarantine is why a person keeps the testbed in quarantine; "" when nobody does. By
	// is that person, or the last one who did.
	Quarantine string `json:"quarantine,omitempty"`
	By         string `json:"by,omitempty"`
	// Released counts how often people have released the lane from its quarantine. Force
	// says that the last release is without a look at the testbed.
	Released int  `json:"released,omitempty"`
	Force    bool `json:"force,omitempty"`
}

// How a lane should pause.
const (
	PauseAfterTrial = "after-trial"
	PauseNow        = "now"
)

// HowToPause is how an update that pauses tells a lane to pause.
func HowToPause(what Steering) string {
	if what.Now {
		return PauseNow
	}
	return PauseAfterTrial
}

// After returns the orders after an update. Updates that change the plan change no orders.
func (o Orders) After(update string, what Steering) Orders {
	switch update {
	case SteerPause:
		o.Pause, o.Why = HowToPause(what), what.Why
	case SteerResume:
		o.Pause, o.Drain, o.Why = "", false, what.Why
	case SteerDrain:
		o.Drain, o.Why = true, what.Why
	case SteerQuarantine:
		o.Quarantine, o.By = what.Why, what.Who()
	case SteerRelease:
		o.Quarantine, o.Released, o.Force = "", o.Released+1, what.Force
	case SteerUntil:
		o.Until = what.Until
	case SteerStop:
		o.Stop = what.Stop
	}
	return o
}

// text describes the orders that keep a lane from running trials; "" when there are none.
func (o Orders) text() string {
	var parts []string
	switch {
	case o.Drain:
		parts = append(parts, fmt.Sprintf("drained (%s)", o.Why))
	case o.Pause != "":
		parts = append(parts, fmt.Sprintf("paused (%s)", o.Why))
	}
	if o.Quarantine != "" {
		parts = append(parts, fmt.Sprintf("in quarantine (%s)", o.Quarantine))
	}
	return strings.Join(parts, "; ")
}

// Standing is what people have told a campaign's lanes and what still holds, according to
// the dataset alone. A campaign whose server has lost everything begins with it.
type Standing struct {
	events []dataset.CampaignEvent
	until  time.Time
	stop   *campaign.Stop
}

// StandingOf reads the events of a campaign's folder.
func StandingOf(record *dataset.Record) (Standing, error) {
	events, err := dataset.ReadCampaignEvents(record.Folder())
	return Standing{events: events, until: record.Until(), stop: record.Stop()}, err
}

// For returns the orders of a lane; with "" those for lanes that nobody has named. A pause
// and a quarantine hold until somebody ends them. A drain, and the time after which no trial
// is begun, end with the campaign: otherwise a campaign that is run again could end at once,
// and nobody could take them back.
func (s Standing) For(lane string) Orders {
	var orders Orders
	for _, event := range s.events {
		switch {
		case event.Name == dataset.EventEnded:
			orders.Drain = false
		case event.Lane == "" || event.Lane == lane:
			orders = orders.After(event.Name, Steering{Lane: event.Lane, By: event.By, Why: event.Why})
		}
	}
	// In this execution, no lane has a release to carry out yet.
	orders.Released, orders.Force = 0, false
	orders.Until, orders.Stop = s.until, s.stop
	return orders
}

// Text describes what holds, with a sentence each for all lanes, for each named lane, and
// for the time limit; none when nothing does.
func (s Standing) Text() []string {
	var named, text []string
	for _, event := range s.events {
		if event.Lane != "" && !slices.Contains(named, event.Lane) {
			named = append(named, event.Lane)
		}
	}
	slices.Sort(named)
	say := func(whose, lane string) {
		if told := s.For(lane).text(); told != "" {
			text = append(text, whose+": "+told)
		}
	}
	if len(named) == 0 {
		say("all lanes", "")
	} else {
		say("all other lanes", "")
	}
	for _, lane := range named {
		say("lane "+lane, lane)
	}
	if !s.until.IsZero() {
		text = append(text, NotAfter(s.until))
	}
	return text
}

// NotAfter says that no trial is begun after a time.
func NotAfter(until time.Time) string {
	return "no trial is begun after " + until.UTC().Format(time.RFC3339)
}
