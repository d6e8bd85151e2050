package workflows

import (
	"slices"
	"testing"

	"go.temporal.io/sdk/workflow"
)

// TestCleanup: what was added last is ended first, and consecutive entries of the same kind
// are ended together. The test environment of workflows ends an activity as soon as it is
// cancelled, and so cannot show that.
func TestCleanup(t *testing.T) {
	var c cleanup
	var done []string
	for _, step := range []struct{ kind, name string }{
		{"worker", "a"}, {"worker", "b"}, {"shaping", "c"}, {"worker", "d"}, {"worker", "e"},
	} {
		c.add(ending{kind: step.kind,
			stop: func() { done = append(done, "stop "+step.name) },
			wait: func(workflow.Context) { done = append(done, "wait "+step.name) }})
	}
	c.runTo(nil, 4)
	want := []string{"stop e", "wait e"}
	if !slices.Equal(done, want) {
		t.Errorf("what was begun after the fourth: %q, want %q", done, want)
	}
	c.run(nil)
	want = append(want, "stop d", "wait d", "stop c", "wait c", "stop a", "stop b", "wait a", "wait b")
	if !slices.Equal(done, want) {
		t.Errorf("all: %q, want %q", done, want)
	}
	c.run(nil)
	if len(done) != len(want) {
		t.Errorf("ended again: %q", done[len(want):])
	}
}
