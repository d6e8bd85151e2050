// Package hooks tells people what happens to campaigns: by a command that they
// name, or by an HTTP request.
//
// It promises that a hook never holds anything up: Background waits for one only for
// some seconds; each try ends within a limit, with every process that the command has
// started in its process group; that
// nothing but an error comes of a hook that fails; and that a webhook's address,
// which often holds a secret, stands in no error but for its host.
//
// Dangerous: a hook may be told of the same event twice, after a crash of the
// controller; and a command runs as the user that the controller runs as. So
// hooks are in a file of whoever starts that, and never in a campaign file.
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

// Kind is what has happened.
type Kind string

// The kinds of events that hooks are told of.
const (
	TrialFailed     Kind = "trial-failed"     // an attempt of a trial has ended and is not valid
	LaneQuarantined Kind = "lane-quarantined" // a lane gets no trials until its testbed is well
	NoValidTrial    Kind = "no-valid-trial"   // a campaign has had none for long
	CampaignEnded   Kind = "campaign-ended"   // finished, cancelled or failed
)

var kinds = []Kind{TrialFailed, LaneQuarantined, NoValidTrial, CampaignEnded}

// Event is what a hook is told, as JSON. What does not concern an event is
// left out.
type Event struct {
	Kind     Kind      `json:"event"`
	When     time.Time `json:"when"`
	Campaign string    `json:"campaign"`
	Lane     string    `json:"lane,omitempty"`
	Trial    string    `json:"trial,omitempty"` // its number, as in the dataset
	Attempt  int       `json:"attempt,omitempty"`
	Cell     string    `json:"cell,omitempty"`
	// State is how something ended: a trial's verdict, or a campaign finished,
	// cancelled or failed.
	State  string `json:"state,omitempty"`
	Cause  string `json:"cause,omitempty"`  // its code, as in the dataset
	Reason string `json:"reason,omitempty"` // for people
	// Trials counts a campaign's trials by verdict.
	Trials map[string]int `json:"trials,omitempty"`
}

// Hook is who is told of what: by a command or by a webhook.
type Hook struct {
	On []Kind `yaml:"on"`
	// Command is a program and its arguments: the event is its standard input.
	Command []string `yaml:"command"`
	// Webhook is an http or https URL: the event is POSTed there.
	Webhook string `yaml:"webhook"`
	// After is how long a campaign must have been without a valid trial.
	After time.Duration `yaml:"after"`
}

// Load reads the hooks of a file. What is wrong with it is an *strict.Error.
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

// minAfter keeps a campaign of long trials from being told of all the time.
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
