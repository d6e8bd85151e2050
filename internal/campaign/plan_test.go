package campaign

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestSplitMix64 compares the generator with the published one: the numbers are those of
// splitmix64.c for this seed, which other implementations test too.
func TestSplitMix64(t *testing.T) {
	random := splitMix64(1234567)
	for i, want := range []uint64{6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821} {
		if got := random.next(); got != want {
			t.Errorf("number %d: got %d, want %d", i, got, want)
		}
	}
}

// TestPermutationIsFair counts how often each of the 24 orders of four items occurs. With 24,000
// shuffles of a fixed seed, chi² with 23 degrees of freedom is below 49.7 with a probability of
// 99.9 %.
func TestPermutationIsFair(t *testing.T) {
	random, counts := splitMix64(1), map[string]int{}
	for range 24_000 {
		counts[fmt.Sprint(random.permutation(4))]++
	}
	chi2 := 0.0
	for _, count := range counts {
		chi2 += float64((count-1000)*(count-1000)) / 1000
	}
	if len(counts) != 24 || chi2 > 49.7 {
		t.Errorf("%d orders, chi² %.1f", len(counts), chi2)
	}
}

// TestPlan pins the plan of a file: it must not change without a new Version, because a campaign
// that continues with a new binary would run other trials.
func TestPlan(t *testing.T) {
	plan := func(text string) string {
		var lines strings.Builder
		for _, trial := range parsed(t, text).Plan() {
			fmt.Fprintf(&lines, "%d %d %s %d\n", trial.Sequence, trial.Block, trial.CellID, trial.Seed)
		}
		return lines.String()
	}
	compare(t, "testdata/plan.golden", "# blocks\n"+plan(good)+"# sequential\n"+plan(good+"order: sequential\n"))
}

func TestPlanProperties(t *testing.T) {
	text := strings.Replace(good, "repetitions: 2", "repetitions: 30", 1)
	spec := parsed(t, text)
	cells, plan := ids(spec.Cells()), spec.Plan()
	seeds, orders := map[uint64]bool{}, map[string]bool{}
	for block := range 30 {
		var order []string
		for i, trial := range plan[block*len(cells) : (block+1)*len(cells)] {
			if trial.Sequence != block*len(cells)+i+1 || trial.Block != block+1 || trial.CellID != trial.Cell.ID() {
				t.Errorf("trial %+v", trial)
			}
			order, seeds[trial.Seed] = append(order, trial.CellID), true
		}
		orders[fmt.Sprint(order)] = true
		slices.Sort(order)
		if want := slices.Sorted(slices.Values(cells)); !slices.Equal(order, want) {
			t.Errorf("block %d has %v", block+1, order)
		}
	}
	if len(seeds) != len(plan) || len(orders) < 10 {
		t.Errorf("%d seeds for %d trials, %d different orders of 30", len(seeds), len(plan), len(orders))
	}
	other := parsed(t, strings.Replace(text, "seed: 5", "seed: 6", 1)).Plan()
	if seeds[other[0].Seed] {
		t.Error("another seed gives the same seeds of trials")
	}
	for _, trial := range parsed(t, strings.Replace(text, "[iscsi, drbd]", "[nfs, iscsi]", 1)).Plan() {
		if got := trial.Cell.Storage == "iscsi"; got != seeds[trial.Seed] {
			t.Errorf("%s, block %d: a trial's seed depends on other cells", trial.CellID, trial.Block)
		}
	}
}

func TestEstimate(t *testing.T) {
	for name, test := range map[string]struct {
		text string
		time time.Duration
	}{
		// The mean warm-up is 40 s, and the two other phases are 30 s each.
		"emulated": {good, 8 * (100 + 20 + 103) * time.Second},
		// A lane runs whole blocks, and there are two.
		"three hosts":           {strings.Replace(good, "emulated", "hosts\ninventories: [a, b, c]", 1), 4 * (100 + 20 + 103) * time.Second},
		"controls":              {good + "controls: [{control: none, hold: 45s}, {control: pause}, {control: lan}]\n", 2 * (4*223 + 248 + 208 + 223) * time.Second},
		"the sentinel":          {good + "sentinel: {every: 4}\n", 11 * 223 * time.Second},
		"simulated, four lanes": {strings.Replace(good, "emulated", "simulated\nlanes: 4", 1), 2 * time.Second},
	} {
		spec := parsed(t, test.text)
		if got := spec.Estimate(spec.Plan()); got.Time != test.time {
			t.Errorf("%s: %s, want %s", name, got.Time, test.time)
		}
	}
	spec := parsed(t, good)
	// 120 s of load with 200 I/Os of 12 bytes a second, 4 KiB of counters a second, and 64 KiB; and one raw log of 6 bytes an I/O.
	if got, want := spec.Estimate(spec.Plan()).Bytes, int64(8*(120*200*12+120*4096+65536)+120*200*6); got != want {
		t.Errorf("%d bytes, want %d", got, want)
	}
	spec.Matrix.Access = []string{"deep"}
	spec.Access = []AccessSpec{{Name: "deep", Engine: "fio", Outstanding: 3, Lines: []AccessLine{{SizeBytes: 512, SharePercent: 100}}}}
	if got, want := spec.Estimate(spec.Plan()).Bytes, int64(8*(120*600*12+120*4096+65536)+120*600*12); got != want {
		t.Errorf("three outstanding, by fio: %d bytes, want %d", got, want)
	}
}

func TestEstimateOfAStop(t *testing.T) {
	spec := parsed(t, good)
	if got := spec.Estimate(spec.Plan()); got.Least != got.Time {
		t.Errorf("without a stop: at least %s, but %s in all", got.Least, got.Time)
	}
	spec = parsed(t, strings.Replace(good, "repetitions: 2", "stop: {metric: blackout_ms, relative_ci_percent: 10, min: 3, max: 12}", 1))
	if got := spec.Estimate(spec.Plan()); got.Time != 4*12*223*time.Second || got.Least != 4*3*223*time.Second {
		t.Errorf("got %+v", got)
	}
}

func TestEstimateOfHypervisors(t *testing.T) {
	for name, test := range map[string]struct {
		text string
		want time.Duration
	}{
		// Of a trial's time, 203 s are not the migration.
		"kvm":           {"matrix: {hypervisor: [kvm], storage: [nfs], wan: [lan, continental], access: [database]}", 2 * (2*203 + 8 + 12) * time.Second},
		"a full mirror": {"disk: {size_mib: 30}\nmatrix: {hypervisor: [kvm], storage: [mirror]" + plain, 2 * (203 + 8 + 20) * time.Second},
		"vsphere":       {"disk: {size_mib: 32}\nmatrix: {hypervisor: [vsphere], storage: [nfs, local]" + plain, 2 * (2*203 + 20 + 26) * time.Second},
		"a slow WAN":    {"matrix: {guest_memory_mib: [256], storage: [nfs], wan: ['rtt=40ms,rate=16777216bit'], access: [database]}", 2 * (203 + 128) * time.Second},
		"a limit":       {"matrix: {hypervisor: [kvm], bandwidth_mib_per_s: [2], guest_memory_mib: [256], storage: [nfs]" + plain, 2 * (203 + 128) * time.Second},
		"no longer than it may take": {"limits: {migration: 1m}\nmatrix: {hypervisor: [kvm], bandwidth_mib_per_s: [2], guest_memory_mib: [256], storage: [nfs]" + plain,
			2 * (203 + 60) * time.Second},
	} {
		spec := parsed(t, migrating+test.text+"\n")
		if got := spec.Estimate(spec.Plan()).Time; got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
	// Two blocks of two hypervisors: the testbed changes once in each block, and once or never
	// between the blocks.
	spec := parsed(t, migrating+"matrix: {hypervisor: [xen, kvm], storage: [nfs]"+plain)
	plan := spec.Plan()
	changes := 2
	if plan[1].Cell.Hypervisor != plan[2].Cell.Hypervisor {
		changes++
	}
	if got, want := spec.Estimate(plan).Time, time.Duration(2*(2*203+20+8)+30*changes)*time.Second; got != want {
		t.Errorf("in turn: %s, want %s", got, want)
	}
}
