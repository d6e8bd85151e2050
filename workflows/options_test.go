package workflows

import (
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/workflow"

	"heliotrope/activities/pulse"
)

// TestStepsAreWaitedFor: a cancelled step may still make something, so nothing is torn down
// before it has ended. Its worker may be gone, so the wait is limited.
func TestStepsAreWaitedFor(t *testing.T) {
	// An activity heartbeats this often, and its connection may be away for this long.
	// Nothing waits for more than a few minutes for an activity that is gone.
	const away, most = 20 * time.Second, 3 * time.Minute
	for name, test := range map[string]struct {
		options workflow.ActivityOptions
		beat    time.Duration
	}{
		"awaitTestbed": {awaitTestbed("x"), pulse.StillBeat}, "onTestbed": {onTestbed("x"), pulse.StillBeat},
		"migrating": {migrating("x", time.Minute), pulse.StillBeat}, "onMachine": {onMachine("q", "x"), pulse.StillBeat},
		"following": {following("q", "x", time.Hour), pulse.QuietBeat},
	} {
		if limit := test.options.HeartbeatTimeout; !test.options.WaitForCancellation || limit < test.beat+away || limit > most {
			t.Errorf("%s: %+v", name, test.options)
		}
	}
}

// TestLastingSteps: a step that reports its progress may take ten times its expected duration, in addition to
// the half hour of every step.
func TestLastingSteps(t *testing.T) {
	if limit := lasting(onTestbed("x"), 3*time.Hour).StartToCloseTimeout; limit != 30*time.Hour+30*time.Minute {
		t.Error(limit)
	}
}

// TestDetailsAreShort: a server refuses a campaign whose details are longer than
// 20,000 bytes, with the encoding around them.
func TestDetailsAreShort(t *testing.T) {
	const limit = 20_000
	spec := "name: unit\n# " + strings.Repeat("ü\n", 40_000)
	details := StartOptions(CampaignInput{Name: "unit", SpecYAML: spec}, DefaultQueue).StaticDetails
	// Line feeds take two bytes in JSON.
	if encoded := len(details) + strings.Count(details, "\n"); encoded > limit || !strings.HasPrefix(details, "```yaml\nname: unit\n") || !strings.HasSuffix(details, "and more\n```") {
		t.Errorf("%d bytes: %.40q", encoded, details)
	}
	if details := StartOptions(CampaignInput{Name: "unit", SpecYAML: "name: unit\n"}, DefaultQueue).StaticDetails; details != "```yaml\nname: unit\n\n```" {
		t.Errorf("%q", details)
	}
}
