// Package hooks tells people of a campaign's events: by a command that they name, or
// by an HTTP request.
//
// It promises that
//   - a hook never holds a campaign up: Background waits for one only for some seconds, and each try ends within
//     a limit, with every process of the process group in which the command runs;
//   - a hook that fails causes nothing but an error;
//   - of a webhook's address, which often holds a secret, an error shows only the host.
//
// Dangerous: a hook may be told of the same event twice after a crash of the
// controller; and a command runs as the user that the controller runs as. Therefore
// hooks are in a file of the person who starts the controller, and never in a
// campaign file.
package hooks

import (
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"heliotrope/internal/strict"
)

// Kind is the kind of an event.
type Kind string

// The kinds of events that hooks are told of.
const (
	TrialFailed     Kind = "trial-failed"     // an attempt of a trial has ended without a valid measurement
	LaneQuarantined Kind = "lane-quarantined" // a lane gets no trials until its testbed works again
	NoValidTrial    Kind = "no-valid-trial"   // a campaign has had no valid trial for a long time
	CampaignEnded   Kind = "campaign-ended"   // a campaign has finished, was cancelled, or failed
)

var kinds = []Kind{TrialFailed, LaneQuarantined, NoValidTrial, CampaignEnded}

// Event is what a hook is told, as JSON. Fields that do not apply to an event are
// left out.
type Event struct {
	Kind     Kind      `json:"event"`
	When     time.Time `json:"when"`
	Campaign string    `json:"campaign"`
	Lane     string    `json:"lane,omitempty"`
	Trial    string    `json:"trial,omitempty"` // its number, as in the dataset
	Attempt  int       `json:"attempt,omitempty"`
	Cell     string    `json:"cell,omitempty"`
	// State is how something ended: a trial's verdict, or whether a campaign
	// finished, was cancelled or failed.
	State  string `json:"state,omitempty"`
	Cause  string `json:"cause,omitempty"`  // the code of the cause, as in the dataset
	Reason string `json:"reason,omitempty"` // for people
	// Trials counts a campaign's trials by verdict.
	Trials map[string]int `json:"trials,omitempty"`
}

// Hook says of which events to tell, and how: by a command or by a webhook.
type Hook struct {
	On []Kind `yaml:"on"`
	// Command is a program and its arguments; it gets the event on its standard
	// input.
	Command []string `yaml:"command"`
	// Webhook is an http or https URL: the event is POSTed there.
	Webhook string `yaml:"webhook"`
	// After is how long a campaign must have been without a valid trial.
	After time.Duration `yaml:"after"`
}

// Load reads the hooks from a file. An error in the file's contents is a
// *strict.Error.
func Load(path string) ([]Hook, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("hooks: %w", err)
	}
	var file struct {
		Hooks []Hook `yaml:"hooks"`
	}
	document := strict.Decode(path, text, &file)
	document.Need("hooks")
	for i, hook := range file.Hooks {
		hook.check(document, fmt.Sprintf("hooks[%d]", i))
	}
	return file.Hooks, document.Err()
}

// minAfter keeps a campaign whose trials are long from being reported all the time.
const minAfter = time.Minute

func (h Hook) check(document *strict.Document, at string) {
	if document.Need(at + ".on") {
		for i, kind := range h.On {
			document.Check(fmt.Sprintf("%s.on[%d]", at, i), slices.Contains(kinds, kind), "%q is no event: want %s", kind, listed())
		}
	}
	switch hasCommand, hasWebhook := document.Given(at+".command"), document.Given(at+".webhook"); {
	case hasCommand && hasWebhook:
		document.Report(at, "has a command and a webhook: make it two hooks")
	case hasCommand:
		document.Check(at+".command", len(h.Command) > 0 && h.Command[0] != "", "names no program")
	case hasWebhook:
		to, err := url.Parse(h.Webhook)
		document.Check(at+".webhook", err == nil && (to.Scheme == "http" || to.Scheme == "https") && to.Host != "", "is no http or https URL")
	case document.Clean(at):
		document.Report(at, "tells nobody: want a command or a webhook")
	}
	waits := slices.Contains(h.On, NoValidTrial)
	switch given := document.Given(at + ".after"); {
	case waits && !given && document.Clean(at):
		document.Report(at, "%s wants after: for how long, such as 6h", NoValidTrial)
	case given && !waits:
		document.Report(at+".after", "is for %s, which is not in on", NoValidTrial)
	case given:
		document.Check(at+".after", h.After >= minAfter, "want %s or more", minAfter)
	}
}

func listed() string {
	names := make([]string, len(kinds))
	for i, kind := range kinds {
		names[i] = string(kind)
	}
	return strings.Join(names, ", ")
}
