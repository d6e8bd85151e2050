package workflows

import (
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/workflow"
)

// TestStepsAreWaitedFor: a step that was cancelled may still make something, so
// nothing is torn down before it has ended; and its worker may be gone, so the
// wait has an end.
func TestStepsAreWaitedFor(t *testing.T) {
	for name, options := range map[string]workflow.ActivityOptions{
		"awaitTestbed": awaitTestbed("x"), "onTestbed": onTestbed("x"), "migrating": migrating("x", time.Minute),
		"onMachine": onMachine("q", "x"), "following": following("q", "x", time.Hour),
	} {
		if !options.WaitForCancellation || options.HeartbeatTimeout != heartbeatLimit {
			t.Errorf("%s: %+v", name, options)
		}
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
