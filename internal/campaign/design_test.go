package campaign

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"heliotrope/internal/strict"
)

// designed is a file without its number of repetitions.
const designed = `version: 1
name: unit
seed: 5
testbed: emulated
matrix: {storage: [iscsi, drbd], wan: [continental, "rtt=60ms,rate=100mbit"], access: [database]}
`

// refusedDesign has texts that are appended to the designed file, from line 6, and the problems
// that they cause.
var refusedDesign = []struct{ name, text, want string }{
	{"neither repetitions nor stop", "", `1:1: repetitions: is missing`},
	{"repetitions and stop", "repetitions: 5\nstop: {metric: blackout_ms, relative_ci_percent: 10, max: 9}",
		`6:14: repetitions: is not for a campaign that stops by precision: stop.max is the most`},
	{"directions", "repetitions: 1\ndirections: both", `7:13: directions: "both" is not known: want outbound, return or balanced`},

	{"control missing", "repetitions: 1\ncontrols: [{storage: nfs}]", `7:12: controls[0].control: is missing`},
	{"control unknown", "repetitions: 1\ncontrols: [{control: stop}]", `7:22: controls[0].control: "stop" is not known: want none, lan or pause`},
	{"control with an unknown key", "repetitions: 1\ncontrols: [{control: none, disk: nfs}]",
		`7:28: controls[0].disk: unknown setting (known: control, hypervisor, storage, wan, access, outstanding, guest_memory_mib, guest_vcpus, drbd_protocol, mirror_copy, migration, auto_converge, bandwidth_mib_per_s, max_downtime_ms, hold)`},
	{"levels of a control", "repetitions: 1\ncontrols: [{control: none, storage: smb, wan: mars, access: x, guest_memory_mib: 1}]",
		`7:37: controls[0].storage: "smb" is not known: want iscsi, nfs, drbd, mirror or local
7:47: controls[0].wan: unknown WAN profile "mars": want lan, continental, transatlantic, transpacific, or numbers such as rtt=60ms,jitter=2ms,loss=0.1%,rate=50mbit
7:61: controls[0].access: "x" is neither well-known (` + wellKnown + `) nor defined under access_specifications
7:82: controls[0].guest_memory_mib: 1 MiB: want 112 to 1048576`},
	{"protocol of a control elsewhere", "repetitions: 1\ncontrols: [{control: none, storage: nfs, drbd_protocol: A}]",
		`7:57: controls[0].drbd_protocol: is for drbd only, not for nfs`},
	{"protocol of a control on the first storage", "repetitions: 1\ncontrols: [{control: none, drbd_protocol: A}]",
		`7:43: controls[0].drbd_protocol: is for drbd only, not for iscsi`},
	{"lan with another WAN", "repetitions: 1\ncontrols: [{control: lan, wan: continental}]", `7:32: controls[0].wan: is lan for this control: leave it out`},
	{"lan that is held", "repetitions: 1\ncontrols: [{control: lan, hold: 5s}]", `7:33: controls[0].hold: is for none and pause only: a migration takes what it takes`},
	{"a short pause", "repetitions: 1\ncontrols: [{control: pause, hold: 10ms}]", `7:35: controls[0].hold: 10ms: want at least 1s`},
	{"a pause beyond the limit", "repetitions: 1\ncontrols: [{control: pause, hold: 11m}]",
		`7:35: controls[0].hold: 11m0s is more than limits.migration, 10m0s, which is as long as a trial waits`},
	{"a default beyond the limit", "repetitions: 1\nlimits: {migration: 20s}\ncontrols: [{control: pause}, {control: none}]",
		`8:30: controls[1].hold: 30s is more than limits.migration, 20s, which is as long as a trial waits`},
	{"the same control twice", "repetitions: 1\ncontrols: [{control: pause}, {control: pause, hold: 5s, storage: iscsi}]",
		`7:30: controls[1]: repeats the cell xen-iscsi-continental-database-control-pause5s`},
	{"a control that leaves nothing beside", "repetitions: 1\nexclude: [{access: database}]\ncontrols: [{control: pause}]", `7:10: exclude: leaves no cell to run`},
	{"an include twice before controls", "repetitions: 1\ninclude: [{storage: nfs, wan: lan}, {storage: nfs, wan: lan}]\ncontrols: [{control: pause}, {control: none}]",
		`7:37: include[1]: repeats the cell xen-nfs-lan-database`},

	{"sentinel without every", "repetitions: 1\nsentinel: {storage: nfs}", `7:11: sentinel.every: is missing`},
	{"sentinel always", "repetitions: 1\nsentinel: {every: 0}", `7:19: sentinel.every: 0: want 1 to 100000`},
	{"levels of the sentinel", "repetitions: 1\nsentinel: {every: 5, wan: mars, drbd_protocol: C}",
		`7:27: sentinel.wan: unknown WAN profile "mars": want lan, continental, transatlantic, transpacific, or numbers such as rtt=60ms,jitter=2ms,loss=0.1%,rate=50mbit
7:48: sentinel.drbd_protocol: is for drbd only, not for iscsi`},
	{"sentinel that is too often", "repetitions: 12501\nsentinel: {every: 1}", `5:9: matrix: 4 cells × 12501 repetitions and the sentinel are more than 100000 trials`},
	{"two sentinels", "repetitions: 1\nsentinel: [{every: 5}]", `7:11: sentinel: want a mapping of settings`},

	{"stop without anything", "stop: {}", `6:7: stop.metric: is missing
6:7: stop.relative_ci_percent: is missing
6:7: stop.max: is missing`},
	{"stop by the unknown", "stop: {metric: p99_ms, relative_ci_percent: 10, max: 9}",
		`6:16: stop.metric: "p99_ms" is not known: want blackout_ms, total_migration_ms, recovery_ms or io_lost_s`},
	{"stop by nothing", "stop: {metric: io_lost_s, relative_ci_percent: 0, max: 9}", `6:48: stop.relative_ci_percent: 0: want more than 0`},
	{"stop after too few", "stop: {metric: io_lost_s, relative_ci_percent: 5, min: 2, max: 9}", `6:56: stop.min: 2: want 3 to 100000`},
	{"stop before the least", "stop: {metric: io_lost_s, relative_ci_percent: 5, min: 9, max: 8}", `6:64: stop.max: 8 is less than stop.min, 9`},
	{"stop before the default least", "stop: {metric: io_lost_s, relative_ci_percent: 5, max: 4}", `6:56: stop.max: 4 is less than stop.min, 5`},
	{"stop without blocks", "stop: {metric: io_lost_s, relative_ci_percent: 5, max: 9}\norder: sequential",
		`7:8: order: is sequential, but stop is asked after whole blocks: want blocks`},
	{"stop that can never be", "directions: balanced\nstop: {metric: io_lost_s, relative_ci_percent: 5, min: 6, max: 12}",
		`7:64: stop.max: 12: an interval of the median wants 8 values when it is looked at 4 times, but there are 6 blocks in one direction: more blocks are wanted, or fewer looks (a higher stop.min)`},
	{"stop after too many", "stop: {metric: io_lost_s, relative_ci_percent: 5, max: 25001}", `5:9: matrix: 4 cells × 25001 repetitions are more than 100000 trials`},

	{"warm-up that ends before it began", "repetitions: 1\nphases: {warm_up: 20s, warm_up_max: 19s}", `7:37: phases.warm_up_max: 19s is less than warm_up, 20s`},
	{"warm-up that is never steady", "repetitions: 1\nphases: {warm_up: 2s, warm_up_max: 9s}",
		`7:36: phases.warm_up_max: 9s is less than the 5 rounds of 2s of steady_state: it could never be steady`},
	{"warm-up without end", "repetitions: 1\nphases: {warm_up_max: 25h}", `7:23: phases.warm_up_max: 25h0m0s is more than 24h0m0s`},
	{"steady state", "repetitions: 1\nsteady_state: {round: 10ms, window: 2, range_percent: 0, slope_percent: -0.5}",
		`7:23: steady_state.round: 10ms: want 100ms to 24h0m0s
7:37: steady_state.window: 2: want 3 to 100
7:55: steady_state.range_percent: 0: want more than 0
7:73: steady_state.slope_percent: -0.5: want more than 0`},
	{"a window longer than the trial", "repetitions: 1\nlimits: {trial: 30m}\nsteady_state: {round: 1m, window: 20}",
		`7:17: limits.trial: 30m0s is not more than warm_up_max, before, a migration of limits.migration, and after: 31m0s`},
	{"recovery", "repetitions: 1\nrecovery: {within_percent: 101, for: 10ms}", `7:28: recovery.within_percent: 101: want more than 0, up to 100
7:38: recovery.for: 10ms: want at least 1s`},
	{"recovery that is never seen", "repetitions: 1\nrecovery: {for: 31s}", `7:17: recovery.for: 31s is more than phases.after, 30s: it could never be seen`},
	{"ledger of nothing", "repetitions: 1\ndisk: {ledger_mib: 0}", `7:20: disk.ledger_mib: 0 MiB: want 1 to 1024`},
	{"ledger without a disk", "repetitions: 1\ndisk: {size_mib: 28, ledger_mib: 15}", `7:34: disk.ledger_mib: 15 MiB are more than half of the disk's 28 MiB`},
	{"limits", "repetitions: 1\nlimits: {rtt_tolerance_ms: -1, rtt_tolerance_percent: 0, min_throughput_percent: 100.5, clock_uncertainty_ms: 0}",
		`7:28: limits.rtt_tolerance_ms: -1 ms: want more than 0
7:55: limits.rtt_tolerance_percent: 0: want more than 0
7:82: limits.min_throughput_percent: 100.5: want 0 to 100
7:111: limits.clock_uncertainty_ms: 0 ms: want more than 0`},
}

func TestRefusedDesign(t *testing.T) {
	for _, test := range refusedDesign {
		t.Run(test.name, func(t *testing.T) {
			spec, err := Parse("x.yaml", []byte(designed+test.text+"\n"), nil)
			var invalid *strict.Error
			if !errors.As(err, &invalid) || spec != nil {
				t.Fatalf("got %+v, %v", spec, err)
			}
			if got := strings.ReplaceAll("\n"+err.Error(), "\nx.yaml:", "\n"); got != "\n"+test.want {
				t.Errorf("got%s\nwant\n%s", got, test.want)
			}
		})
	}
}

func TestDependentDefaults(t *testing.T) {
	warmUpMax := func(s *Spec) any { return s.Phases.WarmUpMax }
	for name, test := range map[string]struct {
		text string
		got  func(*Spec) any
		want any
	}{
		"the longest warm-up":                {"phases: {warm_up: 40s}", warmUpMax, 2 * time.Minute},
		"the longest warm-up of a short one": {"phases: {warm_up: 1s}", warmUpMax, 10 * time.Second},
		"the longest warm-up of long rounds": {"steady_state: {round: 10s, window: 9}", warmUpMax, 90 * time.Second},
		"recovery in a short phase":          {"phases: {after: 4s}", func(s *Spec) any { return s.Recovery.For }, 4 * time.Second},
		"a small disk":                       {"disk: {size_mib: 28}", func(s *Spec) any { return s.Disk }, DiskSpec{SizeMiB: 28, LedgerMiB: 14, Precondition: "fill"}},
		"controls": {"controls: [{control: none}, {control: pause}, {control: lan}, {control: none, storage: nfs, hold: 7s}]",
			func(s *Spec) any { return s.Controls }, []Control{{ControlNone, Match{}, 30 * time.Second}, {ControlPause, Match{}, 5 * time.Second},
				{ControlLAN, Match{WAN: "lan"}, 0}, {ControlNone, Match{Storage: "nfs"}, 7 * time.Second}}},
	} {
		if got := test.got(parsed(t, designed+"repetitions: 1\n"+test.text+"\n")); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: got %v, want %v", name, got, test.want)
		}
	}
	spec := parsed(t, designed+"stop: {metric: recovery_ms, relative_ci_percent: 7.5, max: 9}\n")
	if spec.Repetitions != 9 || *spec.Stop != (Stop{"recovery_ms", 7.5, 5, 9}) {
		t.Errorf("repetitions %d, stop %+v", spec.Repetitions, *spec.Stop)
	}
}

func TestControlCells(t *testing.T) {
	spec := parsed(t, designed+`repetitions: 1
include: [{storage: nfs, wan: lan}]
controls:
- {control: none}
- {control: pause, storage: drbd, wan: "rate=100mbit,rtt=60ms", guest_memory_mib: 160, hold: 1500ms}
- {control: lan, storage: nfs}
`)
	cells := spec.Cells()
	want := []string{"xen-iscsi-continental-database", "xen-iscsi-rtt60.rate100mbit-database", "xen-drbd-c-continental-database",
		"xen-drbd-c-rtt60.rate100mbit-database", "xen-nfs-lan-database", "xen-iscsi-continental-database-control-none",
		"xen-drbd-c-rtt60.rate100mbit-database-160m-control-pause1.5s", "xen-nfs-lan-database-control-lan"}
	if got := ids(cells); !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	none, pause, lan := cells[5], cells[6], cells[7]
	if none.Migrates() || none.Control != ControlNone || none.Hold != 30*time.Second || none.RTTMs != 30 {
		t.Errorf("none: %+v", none)
	}
	if pause.Migrates() || pause.Hold != 1500*time.Millisecond || pause.WAN != "rtt=60ms,rate=100mbit" || pause.DRBDProtocol != "C" {
		t.Errorf("pause: %+v", pause)
	}
	if !lan.Migrates() || lan.Hold != 0 || lan.WAN != "lan" || lan.RTTMs != 0 || !cells[0].Migrates() {
		t.Errorf("lan: %+v", lan)
	}
}

// repeated returns a campaign with controls and some more settings.
func repeated(t *testing.T, repetitions int, more string) *Spec {
	t.Helper()
	return parsed(t, fmt.Sprintf("%srepetitions: %d\ncontrols: [{control: none}, {control: pause}, {control: lan}]\n%s\n", designed, repetitions, more))
}

func TestDirections(t *testing.T) {
	for setting, want := range map[string]string{"": Outbound, "directions: outbound": Outbound, "directions: return": Return} {
		for _, trial := range repeated(t, 2, setting+"\nsentinel: {every: 3}").Plan() {
			if trial.Direction != want {
				t.Errorf("%q: trial %d goes %s", setting, trial.Sequence, trial.Direction)
			}
		}
	}
	first := map[string]int{}
	for _, order := range orders {
		for _, repetitions := range []int{1, 2, 7, 8} {
			ways := map[string]map[string]int{}
			before := map[string]Trial{}
			for _, trial := range repeated(t, repetitions, "directions: balanced\norder: "+order).Plan() {
				if ways[trial.CellID] == nil {
					ways[trial.CellID] = map[string]int{}
					first[trial.Direction]++
				}
				ways[trial.CellID][trial.Direction]++
				if trial.Block%2 == 0 && before[trial.CellID].Direction == trial.Direction {
					t.Errorf("%s goes %s in blocks %d and %d", trial.CellID, trial.Direction, before[trial.CellID].Block, trial.Block)
				}
				before[trial.CellID] = trial
			}
			for id, way := range ways {
				if off := way[Outbound] - way[Return]; way[Outbound]+way[Return] != repetitions || off < -1 || off > 1 {
					t.Errorf("%d repetitions: %s goes %v", repetitions, id, way)
				}
			}
		}
	}
	if first[Outbound] == 0 || first[Return] == 0 {
		t.Errorf("all cells begin the same way: %v", first)
	}
}

// TestDirectionsAreDrawnAnew holds that which of two cells goes a way in the earlier of two blocks
// is drawn for each two blocks: over 1,000 of these and those before them, the
// combinations of two cells' first directions in both are equally frequent. With 15 degrees of freedom,
// chi² is below 37.7 with a probability of 99.9 %.
func TestDirectionsAreDrawnAnew(t *testing.T) {
	first := map[int]map[string]string{} // by block and cell
	for _, trial := range parsed(t, designed+"repetitions: 4000\ndirections: balanced\n").Plan() {
		if trial.Block%2 == 0 {
			continue
		}
		if first[trial.Block] == nil {
			first[trial.Block] = map[string]string{}
		}
		first[trial.Block][trial.CellID] = trial.Direction
	}
	cells := slices.Sorted(maps.Keys(first[1]))
	for i, a := range cells {
		for _, b := range cells[i+1:] {
			counts := map[[4]string]int{}
			for block := 3; block < 4000; block += 4 {
				counts[[4]string{first[block][a], first[block][b], first[block-2][a], first[block-2][b]}]++
			}
			chi2, want := 0.0, 1000.0/16
			for _, count := range counts {
				chi2 += (float64(count) - want) * (float64(count) - want) / want
			}
			if len(counts) != 16 || chi2 > 37.7 {
				t.Errorf("%s and %s: %d combinations, chi² %.1f", a, b, len(counts), chi2)
			}
		}
	}
}

// TestBlocksAreComplete holds that each block has each cell exactly once, whatever is run in
// between.
func TestBlocksAreComplete(t *testing.T) {
	spec := repeated(t, 6, "directions: balanced\nsentinel: {every: 4, storage: nfs}")
	blocks := map[int][]string{}
	for i, trial := range spec.Plan() {
		if trial.Sequence != i+1 {
			t.Fatalf("trial %d is number %d", i+1, trial.Sequence)
		}
		if !trial.Sentinel {
			blocks[trial.Block] = append(blocks[trial.Block], trial.CellID)
		}
	}
	want := slices.Sorted(slices.Values(ids(spec.Cells())))
	for block := 1; block <= 6; block++ {
		if got := slices.Sorted(slices.Values(blocks[block])); !slices.Equal(got, want) {
			t.Errorf("block %d has %v", block, got)
		}
	}
	if len(blocks) != 6 {
		t.Errorf("%d blocks", len(blocks))
	}
}

func TestSentinel(t *testing.T) {
	const cell = "xen-nfs-continental-database"
	for _, order := range orders {
		// 2 blocks of 7 cells: the last group may or may not end with the last trial.
		for every, want := range map[int][]int{1: nil, 7: {1, 9, 17}, 5: {1, 7, 13, 18}, 14: {1, 16}, 100: {1, 16}} {
			plan := repeated(t, 2, fmt.Sprintf("order: %s\nsentinel: {storage: nfs, every: %d}", order, every)).Plan()
			var at []int
			seeds := map[uint64]bool{}
			for i, trial := range plan {
				seeds[trial.Seed] = true
				if !trial.Sentinel {
					continue
				}
				at = append(at, trial.Sequence)
				neighbour := plan[max(i-1, 0)]
				if i == 0 {
					neighbour = plan[1]
				}
				if trial.CellID != cell || trial.Cell.ID() != cell || trial.Block != neighbour.Block || trial.Direction != Outbound {
					t.Errorf("every %d: %+v", every, trial)
				}
			}
			for sequence := 1; every == 1 && sequence <= 29; sequence += 2 {
				want = append(want, sequence)
			}
			if !slices.Equal(at, want) || len(seeds) != len(plan) {
				t.Errorf("%s, every %d: at %v of %d trials with %d seeds, want %v", order, every, at, len(plan), len(seeds), want)
			}
		}
	}
	if cell, ok := parsed(t, good).SentinelCell(); ok {
		t.Errorf("a sentinel that nobody asked for: %+v", cell)
	}
}

// TestSentinelOfTheMatrix holds that a sentinel's trials are distinguished from those of the same
// cell in the matrix.
func TestSentinelOfTheMatrix(t *testing.T) {
	seeds, sentinel := map[uint64]bool{}, 0
	plan := repeated(t, 3, "sentinel: {every: 6}").Plan()
	for _, trial := range plan {
		seeds[trial.Seed] = true
		if trial.CellID == "xen-iscsi-continental-database" && trial.Sentinel {
			sentinel++
		}
	}
	if sentinel != 5 || len(seeds) != len(plan) || len(plan) != 3*7+5 {
		t.Errorf("%d of %d trials are the sentinel's, %d seeds", sentinel, len(plan), len(seeds))
	}
}

// TestPlainTrialsStay holds that what is run besides the matrix changes the trials of the matrix
// only in when they are run.
func TestPlainTrialsStay(t *testing.T) {
	plain := map[uint64]Trial{}
	for _, trial := range parsed(t, designed+"repetitions: 4\n").Plan() {
		plain[trial.Seed] = trial
	}
	found := 0
	for _, trial := range repeated(t, 4, "sentinel: {every: 3}").Plan() {
		if was, ok := plain[trial.Seed]; ok {
			found++
			was.Sequence = trial.Sequence
			if !reflect.DeepEqual(trial, was) {
				t.Errorf("got  %+v\nwant %+v", trial, was)
			}
		}
	}
	if found != 4*4 || len(plain) != found {
		t.Errorf("%d of %d trials were found", found, len(plain))
	}
	// If the sentinel is the only addition, the order stays the same too.
	var order []string
	for _, trial := range parsed(t, good+"sentinel: {every: 3}\n").Plan() {
		if !trial.Sentinel {
			order = append(order, fmt.Sprint(trial.Block, trial.CellID))
		}
	}
	for i, trial := range parsed(t, good).Plan() {
		if order[i] != fmt.Sprint(trial.Block, trial.CellID) {
			t.Errorf("trial %d is %s", i+1, order[i])
		}
	}
}

// TestPlanFile holds that a plan is read back from its file unchanged, and that a plan from
// before controls and directions existed can be read.
func TestPlanFile(t *testing.T) {
	plan := repeated(t, 2, "directions: balanced\nsentinel: {every: 3}").Plan()
	text, err := json.Marshal(plan)
	if err != nil {
		t.Fatal(err)
	}
	var again []Trial
	if err := json.Unmarshal(text, &again); err != nil || !reflect.DeepEqual(again, plan) {
		t.Errorf("%v, got %+v", err, again)
	}
	old := `{"sequence":1,"block":1,"cell_id":"xen-iscsi-continental-database","cell":{"hypervisor":"xen","storage":"iscsi",
		"wan":"continental","rtt_ms":30,"access":{"name":"database","outstanding":1,"lines":[{"size_bytes":8192,"share_percent":100,
		"read_percent":67,"random_percent":100}]}},"seed":"18446744073709551615"}`
	var trial Trial
	if err := json.Unmarshal([]byte(old), &trial); err != nil {
		t.Fatal(err)
	}
	if trial.Cell.ID() != trial.CellID || !trial.Cell.Migrates() || trial.Direction != "" || trial.Sentinel || trial.Seed != 1<<64-1 {
		t.Errorf("got %+v", trial)
	}
}
