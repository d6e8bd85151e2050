package trial

import (
	"encoding/json"
	"testing"

	"heliotrope/internal/campaign"
)

func TestSitesByDirection(t *testing.T) {
	for _, test := range []struct{ direction, from, to string }{
		{campaign.Outbound, "a", "b"},
		{campaign.Return, "b", "a"},
		{"", "a", "b"}, // from a plan made before directions existed
	} {
		ref := Ref{Trial: campaign.Trial{Direction: test.direction}}
		if ref.From() != test.from || ref.To() != test.to {
			t.Errorf("%q: from %s to %s, want from %s to %s", test.direction, ref.From(), ref.To(), test.from, test.to)
		}
	}
}

// TestRefOfAnOlderPlan holds that a trial that was planned before controls, directions and
// ledgers existed still means the same trial.
func TestRefOfAnOlderPlan(t *testing.T) {
	var ref Ref
	err := json.Unmarshal([]byte(`{"campaign":"old","trial":{"sequence":7,"block":2,"cell_id":"xen-nfs-lan-database","cell":{"hypervisor":"xen",
		"storage":"nfs","wan":"lan","rtt_ms":0,"access":{"name":"database","outstanding":1,"lines":[]}},"seed":"9"},"attempt":1}`), &ref)
	if err != nil {
		t.Fatal(err)
	}
	if ref.Key() != "00007.1" || ref.From() != "a" || !ref.Trial.Cell.Migrates() || ref.Trial.Sentinel || ref.LoadBytes() != 0 {
		t.Errorf("got %+v", ref)
	}
	if ref.Trial.Cell.ID() != ref.Trial.CellID {
		t.Errorf("its cell is %s", ref.Trial.Cell.ID())
	}
}
