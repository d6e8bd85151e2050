package campaign

import (
	"fmt"
	"strings"
	"testing"
)

// inTurn is a campaign of two hypervisors, only one of which can be up at a time.
const inTurn = `version: 1
name: unit
seed: 5
testbed: emulated
repetitions: 12
matrix: {hypervisor: [xen, kvm], storage: [nfs, iscsi, drbd], wan: [lan], access: [database]}
controls: [{control: pause, hypervisor: kvm}]
`

// TestHypervisorsInTurn holds that a block has the cells of each hypervisor together, all of
// them, and that neither hypervisor is always first.
func TestHypervisorsInTurn(t *testing.T) {
	first, orders := map[string]int{}, map[string]bool{}
	plan := parsed(t, inTurn).Plan()
	cells := len(parsed(t, inTurn).Cells())
	for block := range 12 {
		trials := plan[block*cells : (block+1)*cells]
		changes, order, seen := 0, "", map[string]bool{}
		for i, trial := range trials {
			if i > 0 && trial.Cell.Hypervisor != trials[i-1].Cell.Hypervisor {
				changes++
			}
			if trial.Cell.Hypervisor == Xen {
				order += trial.CellID
			}
			seen[trial.CellID] = true
		}
		if changes != 1 || len(seen) != cells {
			t.Errorf("block %d: %d changes, %d cells", block+1, changes, len(seen))
		}
		first[trials[0].Cell.Hypervisor]++
		orders[order] = true
	}
	if first[Xen] == 0 || first[KVM] == 0 || len(orders) < 3 {
		t.Errorf("first are %v, %d orders of xen's cells", first, len(orders))
	}
	// If all testbeds are up at the same time, nothing is grouped.
	changes := 0
	elsewhere := parsed(t, strings.Replace(inTurn, "emulated", "hosts\ninventories: [a, b]", 1)).Plan()
	for i := 1; i < cells; i++ {
		if elsewhere[i].Cell.Hypervisor != elsewhere[i-1].Cell.Hypervisor {
			changes++
		}
	}
	if changes < 2 {
		t.Errorf("on hosts, too, the first block's cells are together")
	}
}

// TestSentinelInTurn holds that the sentinel is run among the trials of its own hypervisor, and
// causes no change of the testbed.
func TestSentinelInTurn(t *testing.T) {
	changes := func(plan []Trial) (n int) {
		for i := 1; i < len(plan); i++ {
			if plan[i].Cell.Hypervisor != plan[i-1].Cell.Hypervisor {
				n++
			}
		}
		return n
	}
	for _, order := range orders {
		without := parsed(t, inTurn+"order: "+order+"\n").Plan()
		for _, every := range []int{1, 3, 5, 100} {
			plan := parsed(t, fmt.Sprintf("%sorder: %s\nsentinel: {hypervisor: kvm, every: %d}\n", inTurn, order, every)).Plan()
			if got, want := changes(plan), changes(without); got != want {
				t.Errorf("%s, every %d: %d changes, %d without a sentinel", order, every, got, want)
			}
			var others, since, sentinelTrials int
			for i, trial := range plan {
				switch {
				case trial.Sentinel:
					sentinelTrials++
					if i > 0 && since != min(every, since) {
						t.Errorf("every %d: after %d others", every, since)
					}
					since = 0
				case trial.Cell.Hypervisor == KVM:
					others++
					since++
				}
			}
			if want := sentinels(others, every); sentinelTrials != want || since != 0 || others != 12*4 {
				t.Errorf("%s, every %d: %d trials of the sentinel beside %d, want %d", order, every, sentinelTrials, others, want)
			}
		}
	}
}

func TestSentinelAlone(t *testing.T) {
	text := migrating + "matrix: {storage: [nfs]" + plain + "sentinel: {hypervisor: kvm, every: 2}\n"
	const want = `x.yaml:7:24: sentinel.hypervisor: kvm is no other cell's: its testbed would be started for the sentinel alone`
	if _, err := Parse("x.yaml", []byte(text), nil); err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	parsed(t, strings.Replace(text, "emulated", "hosts\ninventories: [a, b]", 1))
}
