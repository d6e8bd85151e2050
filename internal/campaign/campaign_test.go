package campaign

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"heliotrope/internal/strict"
)

// good is a file with as few settings as possible.
const good = `version: 1
name: unit
seed: 5
testbed: emulated
matrix:
  storage: [iscsi, drbd]
  wan: [lan, "rtt=60ms,rate=100mbit"]
  access: [database]
repetitions: 2
`

func parsed(t *testing.T, text string) *Spec {
	t.Helper()
	spec, err := Parse("x.yaml", []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	return spec
}

func ids(cells []Cell) []string {
	var names []string
	for _, cell := range cells {
		names = append(names, cell.ID())
	}
	return names
}

func TestDefaults(t *testing.T) {
	got := parsed(t, good+"access_specifications:\n- {name: own, lines: [{size_bytes: 512, share_percent: 100, read_percent: 0, random_percent: 0}]}\n")
	want := &Spec{
		Version: 1, Name: "unit", Seed: 5, Testbed: TestbedEmulated, Lanes: 1,
		Matrix: Matrix{Hypervisor: []string{"xen"}, Storage: []string{"iscsi", "drbd"}, WAN: []string{"lan", "rtt=60ms,rate=100mbit"},
			Access: []string{"database"}, DRBDProtocol: []string{"C"}, MirrorCopy: []string{"full"}, Migration: []string{"precopy"},
			AutoConverge: []bool{false}, BandwidthMiBPerS: []int{0}, MaxDowntimeMs: []int{0}},
		Access:      []AccessSpec{{Name: "own", Lines: []AccessLine{{SizeBytes: 512, SharePercent: 100}}}},
		Repetitions: 2, Order: OrderBlocks, Directions: Outbound,
		Phases:      Phases{WarmUp: 20 * time.Second, WarmUpMax: time.Minute, Before: 30 * time.Second, After: 30 * time.Second},
		SteadyState: SteadyState{Round: 2 * time.Second, Window: 5, RangePercent: 20, SlopePercent: 10},
		Recovery:    Recovery{WithinPercent: 10, For: 5 * time.Second},
		Disk:        DiskSpec{SizeMiB: 64, LedgerMiB: 14, Precondition: PreconditionFill},
		Limits: Limits{Attempts: 3, Migration: 10 * time.Minute, Trial: 30 * time.Minute, RTTToleranceMs: 2, RTTTolerancePercent: 3, SpreadMs: 500,
			MinThroughputPercent: 20, ClockUncertaintyMs: 20, MinFreeMiB: 256},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestCells(t *testing.T) {
	for name, test := range map[string]struct {
		old, new string
		want     []string
	}{
		"the matrix": {"", "", []string{"xen-iscsi-lan-database", "xen-iscsi-rtt60.rate100mbit-database",
			"xen-drbd-c-lan-database", "xen-drbd-c-rtt60.rate100mbit-database"}},
		"protocols and memory": {"  access:", "  drbd_protocol: [A, C]\n  guest_memory_mib: [112, 160]\n  access:", []string{
			"xen-iscsi-lan-database-112m", "xen-iscsi-lan-database-160m",
			"xen-iscsi-rtt60.rate100mbit-database-112m", "xen-iscsi-rtt60.rate100mbit-database-160m",
			"xen-drbd-a-lan-database-112m", "xen-drbd-a-lan-database-160m",
			"xen-drbd-a-rtt60.rate100mbit-database-112m", "xen-drbd-a-rtt60.rate100mbit-database-160m",
			"xen-drbd-c-lan-database-112m", "xen-drbd-c-lan-database-160m",
			"xen-drbd-c-rtt60.rate100mbit-database-112m", "xen-drbd-c-rtt60.rate100mbit-database-160m"}},
		"processors, of which one needs no name": {"  access:", "  guest_memory_mib: [112]\n  guest_vcpus: [2, 1]\n  access:", []string{
			"xen-iscsi-lan-database-112m-vcpus.2", "xen-iscsi-lan-database-112m",
			"xen-iscsi-rtt60.rate100mbit-database-112m-vcpus.2", "xen-iscsi-rtt60.rate100mbit-database-112m",
			"xen-drbd-c-lan-database-112m-vcpus.2", "xen-drbd-c-lan-database-112m",
			"xen-drbd-c-rtt60.rate100mbit-database-112m-vcpus.2", "xen-drbd-c-rtt60.rate100mbit-database-112m"}},
		"processors excluded and included": {"repetitions", "exclude: [{guest_vcpus: 1, storage: drbd}]\ninclude: [{storage: nfs, wan: lan, guest_vcpus: 128}]\nrepetitions",
			[]string{"xen-iscsi-lan-database", "xen-iscsi-rtt60.rate100mbit-database", "xen-nfs-lan-database-vcpus.128"}},
		"all numbers of a WAN": {`[lan, "rtt=60ms,rate=100mbit"]`, `["jitter=500us,rate=2500kbit,rtt=1.5ms,loss=0.1%"]`, []string{
			"xen-iscsi-rtt1.5.jitter0.5.loss0.1.rate2500kbit-database", "xen-drbd-c-rtt1.5.jitter0.5.loss0.1.rate2500kbit-database"}},
		"excluded, whatever the spelling": {"repetitions", "exclude:\n- {storage: drbd, wan: 'rate=100mbit,rtt=60ms'}\n- {storage: iscsi, wan: 'rtt=0ms'}\nrepetitions",
			[]string{"xen-iscsi-rtt60.rate100mbit-database", "xen-drbd-c-lan-database"}},
		"included": {"repetitions", "include:\n- {storage: nfs, wan: continental}\n- {storage: drbd, drbd_protocol: A, wan: lan, guest_memory_mib: 128}\nrepetitions",
			[]string{"xen-iscsi-lan-database", "xen-iscsi-rtt60.rate100mbit-database", "xen-drbd-c-lan-database",
				"xen-drbd-c-rtt60.rate100mbit-database", "xen-nfs-continental-database", "xen-drbd-a-lan-database-128m"}},
		"excluded and put back": {"repetitions", "exclude: [{storage: iscsi}]\ninclude: [{storage: iscsi, wan: lan}]\nrepetitions",
			[]string{"xen-drbd-c-lan-database", "xen-drbd-c-rtt60.rate100mbit-database", "xen-iscsi-lan-database"}},
	} {
		t.Run(name, func(t *testing.T) {
			cells := parsed(t, strings.Replace(good, test.old, test.new, 1)).Cells()
			if got := ids(cells); !slices.Equal(got, test.want) {
				t.Errorf("got  %v\nwant %v", got, test.want)
			}
			for _, cell := range cells {
				if !regexp.MustCompile(`^[a-z0-9.-]+$`).MatchString(cell.ID()) {
					t.Errorf("ID %s", cell.ID())
				}
			}
		})
	}
}

func TestCellSaysWhatItIs(t *testing.T) {
	got := parsed(t, good).Cells()[3]
	want := Cell{Hypervisor: "xen", Storage: "drbd", DRBDProtocol: "C", WAN: "rtt=60ms,rate=100mbit", RTTMs: 60,
		Access: AccessSpec{Name: "database", Engine: "heliotrope", Outstanding: 1, Workers: 1, Targets: 1, OnError: "continue", Pattern: "random",
			Lines: []AccessLine{{SizeBytes: 8192, SharePercent: 100, ReadPercent: 67, RandomPercent: 100, AlignBytes: 512, Burst: 1}}}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// TestOneProcessorIsNoNewCell: a campaign that asks for guests of one processor beside larger
// ones has the cells, seeds and directions of one that asks for none.
func TestOneProcessorIsNoNewCell(t *testing.T) {
	planned := map[string]Trial{}
	for _, trial := range parsed(t, good+"directions: balanced\n").Plan() {
		planned[fmt.Sprint(trial.CellID, trial.Block)] = trial
	}
	same := 0
	for _, trial := range parsed(t, strings.Replace(good, "  access:", "  guest_vcpus: [1, 2]\n  access:", 1)+"directions: balanced\n").Plan() {
		without, is := planned[fmt.Sprint(trial.CellID, trial.Block)]
		if is != (trial.Cell.VCPUs() == 1) {
			t.Errorf("%s, block %d: %d processors", trial.CellID, trial.Block, trial.Cell.VCPUs())
		}
		if is {
			same++
			without.Sequence = trial.Sequence
			if !reflect.DeepEqual(without, trial) {
				t.Errorf("got  %+v\nwant %+v", trial, without)
			}
		}
	}
	if same != len(planned) {
		t.Errorf("%d of %d trials are the same", same, len(planned))
	}
}

// TestProcessorsInAnID: no access specification's name can be taken for them.
func TestProcessorsInAnID(t *testing.T) {
	named := func(name string, vcpus int) string {
		return Cell{Hypervisor: "kvm", Storage: "nfs", WAN: "lan", Access: AccessSpec{Name: name}, GuestVCPUs: vcpus}.ID()
	}
	if plain, odd := named("own", 2), named("own-vcpus.2", 0); plain != "kvm-nfs-lan-own-vcpus.2" || odd == plain {
		t.Errorf("%s and %s", plain, odd)
	}
}

// sharedCursor is what fio cannot do with reads mixed with writes.
const sharedCursor = "Iometer's reads and writes go on from one common place where they are not random, " +
	"fio's from a place each; reads mixed with writes must be 100% random"

// refused has changes of the good file and the problem that each causes, with line:column.
var refused = []struct{ name, old, new, want string }{
	{"version", "version: 1", "version: 2", `1:10: version: 2 is not understood: want 1`},
	{"version missing", "version: 1\n", "", `1:1: version: is missing`},
	{"unknown key", "seed: 5", "seed: 5\nseeds: 6", `4:1: seeds: unknown setting (known: version, name, description, seed, testbed, inventories, lanes, matrix, exclude, include, directions, controls, sentinel, stop, access_specifications, repetitions, order, phases, steady_state, recovery, disk, limits)`},
	{"unknown key below", "  storage", "  disks: 1\n  storage", `6:3: matrix.disks: unknown setting (known: hypervisor, storage, wan, access, outstanding, guest_memory_mib, guest_vcpus, drbd_protocol, mirror_copy, migration, auto_converge, bandwidth_mib_per_s, max_downtime_ms)`},
	{"name", "name: unit", "name: Unit Test", `2:7: name: "Unit Test" is no name: want 1 to 40 of a-z, 0-9 and -, not beginning with -`},
	{"name too long", "name: unit", "name: " + strings.Repeat("a", 41), `2:7: name: "` + strings.Repeat("a", 41) + `" is no name: want 1 to 40 of a-z, 0-9 and -, not beginning with -`},
	{"seed missing", "seed: 5\n", "", `1:1: seed: is missing`},
	{"seed of the wrong type", "seed: 5", "seed: lucky", `3:7: seed: "lucky" is not a whole number`},
	{"testbed", "testbed: emulated", "testbed: cloud", `4:10: testbed: "cloud" is not known: want emulated, hosts or simulated`},
	{"no inventories", "testbed: emulated", "testbed: hosts", `1:1: inventories: is missing`},
	{"empty inventories", "testbed: emulated", "testbed: hosts\ninventories: []", `5:14: inventories: is empty: want an inventory for each testbed`},
	{"inventory twice", "testbed: emulated", "testbed: hosts\ninventories: [a.yaml, a.yaml]", `5:23: inventories[1]: "a.yaml" is given twice: an inventory is one lane`},
	{"inventory of home", "testbed: emulated", "testbed: hosts\ninventories: [~/a.yaml]", `5:15: inventories[0]: "~/a.yaml" is no path (~ is not understood)`},
	{"inventories of the emulated testbed", "testbed: emulated", "testbed: emulated\ninventories: [a.yaml]", `5:14: inventories: is for testbed: hosts only, not for emulated`},
	{"lanes of the emulated testbed", "testbed: emulated", "testbed: emulated\nlanes: 2", `5:8: lanes: is for testbed: simulated only, not for emulated; on hosts each inventory is a lane`},
	{"no lanes", "testbed: emulated", "testbed: simulated\nlanes: 0", `5:8: lanes: 0: want 1 to 256`},
	{"too many lanes", "testbed: emulated", "testbed: simulated\nlanes: 257", `5:8: lanes: 257: want 1 to 256`},
	{"hypervisor", "  storage", "  hypervisor: [kvm, qemu]\n  storage", `6:21: matrix.hypervisor[1]: "qemu" is not known: want xen, kvm or vsphere`},
	{"no storage", "  storage: [iscsi, drbd]\n", "", `6:3: matrix.storage: is missing`},
	{"empty storage", "[iscsi, drbd]", "[]", `6:12: matrix.storage: is empty: want at least one level`},
	{"storage", "[iscsi, drbd]", "[iscsi, smb]", `6:20: matrix.storage[1]: "smb" is not known: want iscsi, nfs, drbd, mirror or local`},
	{"storage twice", "[iscsi, drbd]", "[iscsi, iscsi]", `6:20: matrix.storage[1]: "iscsi" is given twice`},
	{"storage as text", "[iscsi, drbd]", "iscsi", `6:12: matrix.storage: want a list`},
	{"negative delay", "rtt=60ms", "rtt=-60ms", `7:14: matrix.wan[1]: WAN profile "rtt=-60ms,rate=100mbit": rtt -60ms is negative`},
	{"unknown WAN", "[lan,", "[moon,", `7:9: matrix.wan[0]: unknown WAN profile "moon": want lan, continental, transatlantic, transpacific, or numbers such as rtt=60ms,jitter=2ms,loss=0.1%,rate=50mbit`},
	{"WAN twice", `"rtt=60ms,rate=100mbit"`, "lan", `7:14: matrix.wan[1]: "lan" is given twice`},
	{"WAN twice, spelt differently", `[lan, "rtt=60ms,rate=100mbit"]`, `[transatlantic, "rate=100mbit,rtt=90ms"]`, `7:24: matrix.wan[1]: "rate=100mbit,rtt=90ms" shapes as "transatlantic" does`},
	{"unknown access", "[database]", "[databas]", `8:12: matrix.access[0]: "databas" is neither well-known (` + wellKnown + `) nor defined under access_specifications`},
	{"protocol", "  access", "  drbd_protocol: [D]\n  access", `8:19: matrix.drbd_protocol[0]: "D" is not known: want A, B or C`},
	{"protocol without DRBD", "storage: [iscsi, drbd]", "storage: [iscsi]\n  drbd_protocol: [A]", `7:18: matrix.drbd_protocol: is for drbd only, which is not in matrix.storage`},
	{"little memory", "  access", "  guest_memory_mib: [64]\n  access", `8:22: matrix.guest_memory_mib[0]: 64 MiB: want 112 to 1048576`},
	{"memory twice", "  access", "  guest_memory_mib: [112, 112]\n  access", `8:27: matrix.guest_memory_mib[1]: 112 is given twice`},
	{"no processors", "  access", "  guest_vcpus: [2, 0]\n  access", `8:20: matrix.guest_vcpus[1]: 0: want 1 to 128`},
	{"many processors", "  access", "  guest_vcpus: [129]\n  access", `8:17: matrix.guest_vcpus[0]: 129: want 1 to 128`},
	{"processors twice", "  access", "  guest_vcpus: [2, 2]\n  access", `8:20: matrix.guest_vcpus[1]: 2 is given twice`},
	{"processors empty", "  access", "  guest_vcpus: []\n  access", `8:16: matrix.guest_vcpus: is empty: want at least one level`},
	{"half a processor", "  access", "  guest_vcpus: [1.5]\n  access", `8:17: matrix.guest_vcpus[0]: "1.5" is not a whole number`},
	{"processors of an exclude", "repetitions: 2", "exclude: [{storage: drbd, guest_vcpus: 0}]\nrepetitions: 2", `9:40: exclude[0].guest_vcpus: 0: want 1 to 128`},
	{"processors that every cell has", "repetitions: 2", "include: [{storage: drbd, wan: lan, guest_vcpus: 1}]\nrepetitions: 2", `9:11: include[0]: repeats the cell xen-drbd-c-lan-database`},
	{"processors that an include does not choose", "  access: [database]\nrepetitions: 2", "  access: [database]\n  guest_vcpus: [1, 2]\ninclude: [{storage: nfs, wan: lan}]\nrepetitions: 2",
		`10:11: include[0].guest_vcpus: is missing: the matrix has 2 levels of it`},
	{"memory empty", "  access", "  guest_memory_mib: []\n  access", `8:21: matrix.guest_memory_mib: is empty: want at least one level`},
	{"no repetitions", "repetitions: 2", "repetitions: 0", `9:14: repetitions: 0: want 1 to 100000`},
	{"too many trials", "repetitions: 2", "repetitions: 25001", `6:3: matrix: 4 cells × 25001 repetitions are more than 100000 trials`},
	{"order", "repetitions: 2", "repetitions: 2\norder: random", `10:8: order: "random" is not known: want blocks or sequential`},
	{"a negative phase", "repetitions: 2", "repetitions: 2\nphases: {before: -5s}", `10:18: phases.before: "-5s" is negative`},
	{"a phase without unit", "repetitions: 2", "repetitions: 2\nphases: {before: 30}", `10:18: phases.before: "30" has no unit: write it as 30s, 500ms or 1h30m`},
	{"a phase too short", "repetitions: 2", "repetitions: 2\nphases: {after: 10ms}", `10:17: phases.after: 10ms: want 1s to 24h0m0s`},
	{"phases too long for a trial", "repetitions: 2", "repetitions: 2\nlimits: {trial: 30m}\nphases: {after: 20m}", `10:17: limits.trial: 30m0s is not more than warm_up_max, before, a migration of limits.migration, and after: 31m30s`},
	{"trial too short", "repetitions: 2", "repetitions: 2\nlimits: {trial: 5m}", `10:17: limits.trial: 5m0s is not more than warm_up_max, before, a migration of limits.migration, and after: 12m0s`},
	{"no attempts", "repetitions: 2", "repetitions: 2\nlimits: {attempts: 0}", `10:20: limits.attempts: 0: want 1 to 100`},
	{"no tolerance", "repetitions: 2", "repetitions: 2\nlimits: {rtt_tolerance_ms: 0}", `10:28: limits.rtt_tolerance_ms: 0 ms: want more than 0`},
	{"negative space", "repetitions: 2", "repetitions: 2\nlimits: {min_free_mib: -1}", `10:24: limits.min_free_mib: -1 MiB is negative`},
	{"kept for too long", "repetitions: 2", "repetitions: 2\nlimits: {retain: 25h}", `10:18: limits.retain: 25h0m0s: want 0 or 1m0s to 24h0m0s`},
	{"small disk", "repetitions: 2", "repetitions: 2\ndisk: {size_mib: 15}", `10:18: disk.size_mib: 15 MiB: want 16 to 1048576`},
	{"disk too small for the load", "[database]\nrepetitions: 2", "[big]\nrepetitions: 2\ndisk: {size_mib: 30}\naccess_specifications:\n- {name: big, lines: [{size_bytes: 2097152, share_percent: 100, read_percent: 0, random_percent: 0}]}",
		`10:18: disk.size_mib: 16 MiB beside the ledger hold less than 16 I/Os of 2097152 bytes, of access specification big: want at least 46 MiB`},
	{"empty exclude", "repetitions: 2", "exclude: [{}]\nrepetitions: 2", `9:11: exclude[0]: is empty: it would match every cell`},
	{"exclude of nothing", "repetitions: 2", "exclude: [{storage: nfs}]\nrepetitions: 2", `9:11: exclude[0]: matches no cell of the matrix`},
	{"exclude of everything", "repetitions: 2", "exclude: [{access: database}]\nrepetitions: 2", `9:10: exclude: leaves no cell to run`},
	{"exclude of the unknown", "repetitions: 2", "exclude: [{storage: smb}]\nrepetitions: 2", `9:21: exclude[0].storage: "smb" is not known: want iscsi, nfs, drbd, mirror or local`},
	{"exclude of a protocol elsewhere", "repetitions: 2", "exclude: [{storage: iscsi, drbd_protocol: C}]\nrepetitions: 2", `9:43: exclude[0].drbd_protocol: is for drbd only, not for iscsi`},
	{"include of a cell", "repetitions: 2", "include: [{storage: drbd, wan: 'rtt=0s'}]\nrepetitions: 2", `9:11: include[0]: repeats the cell xen-drbd-c-lan-database`},
	{"include twice", "repetitions: 2", "include: [{storage: nfs, wan: lan}, {storage: nfs, wan: lan}]\nrepetitions: 2", `9:37: include[1]: repeats the cell xen-nfs-lan-database`},
	{"include of several", "repetitions: 2", "include: [{storage: nfs}]\nrepetitions: 2", `9:11: include[0].wan: is missing: the matrix has 2 levels of it`},
	{"include of a protocol elsewhere", "storage: [iscsi, drbd]\n  wan: [lan, \"rtt=60ms,rate=100mbit\"]\n  access: [database]\n", "storage: [iscsi]\n  wan: [lan]\n  access: [database]\ninclude: [{drbd_protocol: A, wan: continental}]\n",
		`9:27: include[0].drbd_protocol: is for drbd only, not for iscsi`},
	{"own access of the same ID", "repetitions: 2", "access_specifications:\n- {name: Burst, lines: [{size_bytes: 512, share_percent: 100, read_percent: 0, random_percent: 0}]}\n" +
		"- {name: burst-a428ef, lines: [{size_bytes: 512, share_percent: 100, read_percent: 0, random_percent: 0}]}\nrepetitions: 2",
		`11:10: access_specifications[1].name: "burst-a428ef" is burst-a428ef in the cells' IDs, as "Burst" is: choose another name`},
	{"own access without lines", "repetitions: 2", "access_specifications: [{name: own}]\nrepetitions: 2", `9:25: access_specifications[0].lines: is missing`},
	{"own access with half a line", "repetitions: 2", "access_specifications: [{name: own, lines: [{size_bytes: 512, share_percent: 100, read_percent: 0}]}]\nrepetitions: 2",
		`9:45: access_specifications[0].lines[0].random_percent: is missing`},
	{"own access named as a well-known one", "repetitions: 2", "access_specifications: [{name: database, lines: [{size_bytes: 512, share_percent: 100, read_percent: 0, random_percent: 0}]}]\nrepetitions: 2",
		`9:32: access_specifications[0].name: "database" is a well-known one: choose another name`},
	{"own access that does not map", "repetitions: 2", "access_specifications: [{name: own, engine: fio, lines: [{size_bytes: 512, share_percent: 100, read_percent: 50, random_percent: 20}]}]\nrepetitions: 2",
		`9:130: access_specifications[0].lines[0].random_percent: ` + sharedCursor},
	{"a list where a mapping belongs", "repetitions: 2", "repetitions: 2\nlimits: []", `10:9: limits: want a mapping of settings`},
}

func TestRefused(t *testing.T) {
	for _, test := range refused {
		t.Run(test.name, func(t *testing.T) {
			if !strings.Contains(good, test.old) {
				t.Fatalf("the good file has no %q", test.old)
			}
			spec, err := Parse("x.yaml", []byte(strings.Replace(good, test.old, test.new, 1)), nil)
			var invalid *strict.Error
			if !errors.As(err, &invalid) || spec != nil || err.Error() != "x.yaml:"+test.want {
				t.Errorf("got  %v\nwant x.yaml:%s", err, test.want)
			}
		})
	}
}

func TestEveryProblemAtOnce(t *testing.T) {
	_, err := Parse("x.yaml", []byte("version: 1\nname: X\nseed: 1.5\ntestbed: hosts\nmatrix:\n  storage: [ftp]\n  wan: []\n  access: [4k]\nexclude: [{wan: mars}]\nphases: {warm_up: 5}\ntypo: 1\n"), nil)
	var invalid *strict.Error
	if !errors.As(err, &invalid) {
		t.Fatal(err)
	}
	var got []string
	for _, problem := range invalid.Problems {
		got = append(got, fmt.Sprintf("%d %s", problem.Line, problem.Path))
	}
	want := []string{"1 inventories", "1 repetitions", "2 name", "3 seed", "6 matrix.storage[0]", "7 matrix.wan",
		"8 matrix.access[0]", "9 exclude[0].wan", "10 phases.warm_up", "11 typo"}
	if !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

// TestHugeMatrix holds that a matrix is counted before its cells are made.
func TestHugeMatrix(t *testing.T) {
	levels := func(format string) string {
		var list []string
		for i := range 2000 {
			list = append(list, fmt.Sprintf(format, i+112))
		}
		return "[" + strings.Join(list, ", ") + "]"
	}
	text := strings.Replace(good, `[lan, "rtt=60ms,rate=100mbit"]`, levels(`"rtt=%dus"`)+"\n  guest_memory_mib: "+levels("%d"), 1)
	if _, err := Parse("x.yaml", []byte(text), nil); err == nil || !strings.Contains(err.Error(), "8000000 cells × 2 repetitions are more than 100000 trials") {
		t.Errorf("got %v", err)
	}
}

func TestExamples(t *testing.T) {
	trials := map[string]int{"quick.yaml": 3, "controls.yaml": 8, "thesis.yaml": 181, "thesis-xen.yaml": 24, "kvm.yaml": 4, "vsphere.yaml": 3, "hosts.yaml": 3, "simulated.yaml": 1000, "lanes.yaml": 10000, "large.yaml": 3}
	paths, err := filepath.Glob("../../examples/*.yaml")
	if err != nil || len(paths) != len(trials) {
		t.Fatalf("examples: %v, %v", paths, err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		spec, err := Parse(path, text, nil)
		if err != nil {
			t.Error(err)
			continue
		}
		if got := len(spec.Plan()); got != trials[filepath.Base(path)] {
			t.Errorf("%s: %d trials", path, got)
		}
		if !strings.HasPrefix(string(text), "# yaml-language-server: $schema=../internal/campaign/campaign.schema.json\n") {
			t.Errorf("%s does not name its schema", path)
		}
	}
}

// TestControlsExample holds what the example's comment says of its seed.
func TestControlsExample(t *testing.T) {
	const path = "../../examples/controls.yaml"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, hypervisor := range []string{"xen", "kvm"} {
		spec, err := Parse(path, []byte(strings.Replace(string(text), "\nmatrix:\n", "\nmatrix:\n  hypervisor: ["+hypervisor+"]\n", 1)), nil)
		if err != nil {
			t.Fatal(err)
		}
		ways := map[string]int{}
		for _, trial := range spec.Plan() {
			if trial.Cell.Control == "" {
				ways[trial.Cell.Storage+" "+trial.Direction]++
			}
		}
		for _, storage := range spec.Matrix.Storage {
			if ways[storage+" "+Outbound] != 1 || ways[storage+" "+Return] != 1 {
				t.Errorf("%s does not go both ways on %s: %v", storage, hypervisor, ways)
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(good))
	for _, test := range refused {
		f.Add([]byte(strings.Replace(good, test.old, test.new, 1)))
	}
	for _, test := range refusedDesign {
		f.Add([]byte(designed + test.text))
	}
	for _, test := range refusedHypervisor {
		f.Add([]byte(migrating + test.text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		spec, err := Parse("x.yaml", data, nil)
		var invalid *strict.Error
		if err != nil && !errors.As(err, &invalid) {
			t.Fatalf("got %v, want a *strict.Error", err)
		}
		if err != nil {
			return
		}
		seen := map[string]bool{}
		for _, id := range ids(spec.Cells()) {
			if seen[id] {
				t.Errorf("two cells are %s", id)
			}
			seen[id] = true
		}
		trials := len(seen) * spec.Repetitions
		if sentinel, ok := spec.SentinelCell(); ok {
			beside := 0 // it
			for _, cell := range spec.Cells() {
				if !spec.inTurn() || cell.Hypervisor == sentinel.Hypervisor {
					beside += spec.Repetitions
				}
			}
			trials += sentinels(beside, spec.Sentinel.Every)
		}
		if plan := spec.Plan(); len(plan) != trials || len(plan) > maxTrials {
			t.Errorf("%d cells, %d repetitions, %d trials", len(seen), spec.Repetitions, len(plan))
		}
	})
}
