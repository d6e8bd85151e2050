package testbed

import (
	"slices"
	"testing"
)

func snapshot(ours map[string][]string) Snapshot {
	all := Snapshot{}
	for host, lines := range ours {
		all[host] = MachineSnapshot{Ours: lines, Others: []string{"domain of a stranger"}}
	}
	return all
}

func TestDiff(t *testing.T) {
	before := snapshot(map[string][]string{"a": {"loop: /dev/loop0", "mount: x", "mount: x"}, "b": {"domain Domain-0"}})
	if changes := before.Diff(before); len(changes) > 0 {
		t.Errorf("no change, but %q", changes)
	}
	after := snapshot(map[string][]string{"a": {"mount: x", "qdisc: netem"}, "b": {"domain Domain-0", "domain lab.guest"}})
	want := []string{"a: - loop: /dev/loop0", "a: - mount: x", "a: + qdisc: netem", "b: + domain lab.guest"}
	if changes := before.Diff(after); !slices.Equal(changes, want) {
		t.Errorf("changes %q, want %q", changes, want)
	}
	if left := before.Leftovers(after); !slices.Equal(left, []string{"a: + qdisc: netem", "b: + domain lab.guest"}) {
		t.Errorf("left %q", left)
	}
	if changes := before.Diff(Snapshot{}); len(changes) != 3 {
		t.Errorf("a host without a snapshot: %q", changes)
	}
	if changes := before.DiffOthers(after); len(changes) > 0 {
		t.Errorf("strangers: %q", changes)
	}
	if changes := before.DiffOthers(Snapshot{}); len(changes) != 2 {
		t.Errorf("strangers that went: %q", changes)
	}
}
