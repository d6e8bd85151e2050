package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"heliotrope/internal/campaign"
)

const quickFile = "../../examples/quick.yaml"

// write makes a file in a folder of its own.
func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "campaign.yaml")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPlanJSON(t *testing.T) {
	code, stdout, stderr := run(t, "plan", quickFile, "--json")
	if code != 0 || stderr != "" {
		t.Fatalf("exit code %d, %s", code, stderr)
	}
	var got plan
	if err := json.Unmarshal([]byte(stdout), &got); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(quickFile)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(text)
	if got.Name != "quick" || got.SpecSHA256 != hex.EncodeToString(sum[:]) || got.Lanes != 1 || len(got.Cells) != 3 ||
		got.Cells[0].ID != "xen-iscsi-rtt60.rate100mbit-4k-mixed-random" || got.Cells[0].Cell.ID() != got.Cells[0].ID ||
		got.Estimate.Seconds != 3*198 || got.Estimate.LeastSeconds != got.Estimate.Seconds || got.Stop != nil || got.Estimate.Bytes <= 0 {
		t.Errorf("got %+v", got)
	}
	spec, err := campaign.Parse(quickFile, text, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range spec.Plan() {
		if trial := got.Trials[i]; trial.Sequence != i+1 || trial.CellID != want.CellID || trial.Seed != want.Seed {
			t.Errorf("got %+v, want %+v", trial, want)
		}
	}
}

// TestPlanOfTheThesis pins a plan: whoever runs the file again must get the same trials. A
// change here is one for the change log. Campaigns that have begun keep theirs.
func TestPlanOfTheThesis(t *testing.T) {
	_, stdout, _ := run(t, "plan", "../../examples/thesis.yaml", "--json")
	var got plan
	if err := json.Unmarshal([]byte(stdout), &got); err != nil {
		t.Fatal(err)
	}
	lines := sha256.New()
	for _, trial := range got.Trials {
		fmt.Fprintf(lines, "%d %d %s %d %s\n", trial.Sequence, trial.Block, trial.CellID, trial.Seed, trial.Direction)
	}
	const want = "976c118aa9cbf4dec5e54e79fc07bc541b7b9498518396086c5c3d0339f7cc50"
	if sum := hex.EncodeToString(lines.Sum(nil)); len(got.Trials) != 181 || sum != want {
		t.Errorf("%d trials with the SHA-256 %s, want 181 with %s", len(got.Trials), sum, want)
	}
}

func TestPlanTable(t *testing.T) {
	code, stdout, _ := run(t, "plan", "../../examples/simulated.yaml")
	lines := strings.Split(strings.TrimSpace(stdout), "\n")
	if code != 0 || len(lines) != 3+1+1+51+1+1+1000 {
		t.Fatalf("exit code %d, %d lines:\n%.2000s", code, len(lines), stdout)
	}
	for _, want := range []string{"51 cells, 1000 trials, on 8 simulated testbeds: a model, no measurement", "takes about 1 min",
		"may end after about 27s already: blackout_ms within ±1 %, 5 to 19 repetitions", "drbd B", "160 ms", "the inventory's", "pause 2s"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("no %q in\n%.2000s", want, stdout)
		}
	}
	if !strings.HasPrefix(lines[len(lines)-1], "1000 ") {
		t.Errorf("the last line is %q", lines[len(lines)-1])
	}
}

// TestPlanOfADesign checks that people and programs can see controls, directions, the
// sentinel and the stop rule.
func TestPlanOfADesign(t *testing.T) {
	file := write(t, `version: 1
name: design
seed: 1
testbed: emulated
matrix: {storage: [nfs], wan: [continental], access: [database]}
controls: [{control: pause}, {control: lan}]
sentinel: {storage: iscsi, every: 6}
directions: balanced
stop: {metric: io_lost_s, relative_ci_percent: 7.5, min: 14, max: 16}
`)
	code, stdout, _ := run(t, "plan", file)
	if code != 0 {
		t.Fatalf("exit code %d", code)
	}
	var rows []string
	for _, line := range strings.Split(stdout, "\n") {
		rows = append(rows, strings.Join(strings.Fields(line), " "))
	}
	for _, want := range []string{
		"campaign design: 4 cells, 57 trials, on the emulated testbed", "may end after about 3.0 h already: io_lost_s within ±7.5 %, 14 to 16 repetitions",
		"xen-nfs-continental-database-control-pause5s xen nfs continental 30 ms database the inventory's 1 - pause 5s -",
		"xen-iscsi-continental-database xen iscsi continental 30 ms database the inventory's 1 precopy - yes",
		"1 1 outbound - yes xen-iscsi-continental-database", "57 16 outbound - yes xen-iscsi-continental-database",
	} {
		if !slices.Contains(rows, want) {
			t.Errorf("no %q in\n%s", want, stdout)
		}
	}
	_, stdout, _ = run(t, "plan", "--json", file)
	var got plan
	if err := json.Unmarshal([]byte(stdout), &got); err != nil {
		t.Fatal(err)
	}
	ways := map[string]int{}
	for _, trial := range got.Trials {
		if trial.Cell.Control == campaign.ControlLAN {
			ways[trial.Direction]++
		}
	}
	if ways[campaign.Outbound] != 8 || ways[campaign.Return] != 8 {
		t.Errorf("the lan control goes %v", ways)
	}
	if got.Stop == nil || *got.Stop != (planStop{"io_lost_s", 7.5, 14, 16}) || got.Estimate.LeastSeconds >= got.Estimate.Seconds {
		t.Errorf("stop %+v, estimate %+v", got.Stop, got.Estimate)
	}
	if last := got.Cells[len(got.Cells)-1]; len(got.Cells) != 4 || !last.Sentinel || last.Storage != "iscsi" || got.Cells[1].Hold != 5*time.Second {
		t.Errorf("cells %+v", got.Cells)
	}
}

// TestPlanOfHypervisorsInTurn checks that people see which testbeds there are and how the
// guests migrate.
func TestPlanOfHypervisorsInTurn(t *testing.T) {
	file := write(t, `version: 1
name: turn
seed: 1
testbed: emulated
matrix: {hypervisor: [xen, kvm], storage: [nfs, mirror], wan: [lan], access: [database], max_downtime_ms: [0, 300], migration: [precopy, postcopy]}
exclude: [{hypervisor: xen, storage: mirror}, {hypervisor: xen, migration: postcopy}, {hypervisor: xen, max_downtime_ms: 300}, {storage: nfs, migration: postcopy}]
repetitions: 1
`)
	code, stdout, stderr := run(t, "plan", file)
	if code != 0 || stderr != "" {
		t.Fatalf("exit code %d, %s", code, stderr)
	}
	plain := strings.Join(strings.Fields(stdout), " ")
	for _, want := range []string{
		"campaign turn: 7 cells, 7 trials, on the emulated testbeds of xen and kvm, one up at a time",
		"xen-nfs-lan-database xen nfs lan 0 ms database the inventory's 1 precopy - -",
		"kvm-mirror-lan-database-migrate.postcopy.downtime300 kvm mirror full lan 0 ms database the inventory's 1 postcopy, stop ≤ 300 ms - -",
	} {
		if !strings.Contains(plain, want) {
			t.Errorf("no %q in\n%s", want, stdout)
		}
	}
	_, stdout, _ = run(t, "plan", "--json", file)
	var got plan
	if err := json.Unmarshal([]byte(stdout), &got); err != nil {
		t.Fatal(err)
	}
	if last := got.Cells[6]; !slices.Equal(got.Hypervisors, []string{"xen", "kvm"}) || last.Mode() != "postcopy" || last.MaxDowntimeMs != 300 || last.MirrorCopy != "full" {
		t.Errorf("got %+v", got)
	}
}

// TestTooSlowIsTold checks that a migration that cannot finish within its limit is reported
// beforehand, with the memory from the file or from the inventory.
func TestTooSlowIsTold(t *testing.T) {
	const slow = "version: 1\nname: slow\nseed: 1\nrepetitions: 1\n"
	const matrix = "matrix: {storage: [nfs], wan: ['rtt=40ms,rate=2mbit'], access: [database]"
	hosts := write(t, slow+"testbed: hosts\ninventories: [here.yaml]\n"+strings.Replace(matrix, "2mbit", "1mbit", 1)+"}\n")
	inventory, err := os.ReadFile("../../internal/inventory/testdata/good.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(hosts), "here.yaml"), inventory, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct{ file, want string }{
		"of the file": {write(t, slow+"testbed: emulated\nlimits: {migration: 10m}\n"+matrix+", guest_memory_mib: [256]}\n"),
			"cell xen-nfs-rtt40.rate2mbit-database-256m: the first round alone, 256 MiB of memory at 2 Mbit/s, takes 1074 s, and limits.migration is 10m0s: its trials end as too-slow"},
		"of the emulated testbed": {write(t, slow+"testbed: emulated\nlimits: {migration: 5m}\n"+matrix+"}\n"), "128 MiB of memory at 2 Mbit/s, takes 537 s"},
		"of a disk":               {write(t, slow+"testbed: emulated\nlimits: {trial: 30m}\ndisk: {size_mib: 1048576}\nmatrix: {storage: [nfs], wan: [lan], access: [database]}\n"), "and limits.trial is 30m0s: its attempts end as time-out"},
		"of the inventory":        {hosts, "MiB of memory at 1 Mbit/s, takes "},
		"of nobody":               {write(t, slow+"testbed: simulated\n"+matrix+"}\n"), ""},
	} {
		code, stdout, stderr := run(t, "validate", test.file)
		if code != 0 || !strings.Contains(stdout, "is right") || !strings.Contains(stderr, test.want) || (test.want == "") != (stderr == "") {
			t.Errorf("%s: validate: exit code %d, %s%s", name, code, stdout, stderr)
		}
		if code, stdout, _ := run(t, "plan", test.file); code != 0 || !strings.Contains(stdout, test.want) || (test.want == "") == strings.Contains(stdout, "\nwarning: ") {
			t.Errorf("%s: plan: exit code %d, %s", name, code, stdout)
		}
		for _, command := range []string{"validate", "plan"} {
			if _, stdout, _ := run(t, command, "--json", test.file); strings.Contains(stdout, `"warnings"`) != (test.want != "") {
				t.Errorf("%s: %s --json: %s", name, command, stdout)
			}
		}
	}
}

// TestIdleLanesAreTold: a lane runs whole blocks, so some lanes have nothing to do when
// there are fewer blocks than lanes.
func TestIdleLanesAreTold(t *testing.T) {
	const text = "version: 1\nname: idle\nseed: 1\ntestbed: simulated\nlanes: 3\nrepetitions: %d\nmatrix: {storage: [nfs, iscsi], wan: [lan], access: [database]}\n"
	const idle = "warning: 1 of 3 lanes has nothing to do"
	for repetitions, told := range map[int]bool{2: true, 3: false} {
		file := write(t, fmt.Sprintf(text, repetitions))
		for _, command := range []string{"validate", "plan"} {
			code, stdout, stderr := run(t, command, file)
			if code != 0 || strings.Contains(stdout+stderr, idle) != told {
				t.Errorf("%s of %d blocks: exit code %d, %s%s", command, repetitions, code, stdout, stderr)
			}
		}
	}
}

func TestRoughly(t *testing.T) {
	for d, want := range map[time.Duration]string{
		1500 * time.Millisecond: "2s", 90 * time.Second: "2 min", 100 * time.Minute: "1.7 h", 60 * time.Hour: "2.5 days",
	} {
		if got := roughly(d); got != want {
			t.Errorf("%s: got %s, want %s", d, got, want)
		}
	}
}

func TestValidate(t *testing.T) {
	code, stdout, stderr := run(t, "validate", quickFile, "../../examples/thesis.yaml", "../../examples/simulated.yaml")
	want := "../../examples/quick.yaml: campaign quick is right: 3 cells, 3 trials\n" +
		"../../examples/thesis.yaml: campaign thesis is right: 14 cells, 181 trials; controls: none 30s, pause 5s; " +
		"sentinel: kvm-iscsi-continental-database, every 14 trials\n" +
		"../../examples/simulated.yaml: campaign simulated is right: 51 cells, 1000 trials; controls: none 5s, pause 2s, lan; sentinel: xen-iscsi-continental-4k-write-random, every 33 trials; stop: blackout_ms within ±1 %, 5 to 19 repetitions\n"
	if code != 0 || stdout != want || stderr != "" {
		t.Errorf("exit code %d, stdout %q, stderr %q", code, stdout, stderr)
	}
	_, stdout, _ = run(t, "validate", "--json", "../../examples/thesis.yaml")
	var got struct{ Files []validation }
	if err := json.Unmarshal([]byte(stdout), &got); err != nil {
		t.Fatal(err)
	}
	if v := got.Files[0]; !slices.Equal(v.Controls, []string{"none 30s", "pause 5s"}) || v.Sentinel != "kvm-iscsi-continental-database" || v.Every != 14 || v.Stop != "" {
		t.Errorf("got %+v", v)
	}
	if code, stdout, _ := run(t, "validate", "--schema"); code != 0 || stdout != campaign.Schema {
		t.Errorf("--schema: exit code %d, %.100s", code, stdout)
	}
}

func TestValidateTellsEveryProblemOfEveryFile(t *testing.T) {
	first := write(t, "version: 2\nname: first\n")
	second := write(t, "version: 1\nphases: {before: -5s}\n")
	third := filepath.Join(t.TempDir(), "none.yaml")
	for _, args := range [][]string{{"validate", first, quickFile, second, third}, {"validate", "--json", first, quickFile, second, third}} {
		code, stdout, stderr := run(t, args...)
		all := stdout + stderr
		for _, want := range []string{"want 1", `\"-5s\" is negative`, "none.yaml"} {
			if !strings.Contains(all, want) && !strings.Contains(all, strings.ReplaceAll(want, `\"`, `"`)) {
				t.Errorf("%v: no %q in\n%s", args, want, all)
			}
		}
		if code != exitBadInput {
			t.Errorf("%v: exit code %d", args, code)
		}
	}
	_, stdout, stderr := run(t, "validate", "--json", first, quickFile)
	var got struct{ Files []validation }
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || stderr != "" {
		t.Fatalf("%v, stderr %q", err, stderr)
	}
	if len(got.Files) != 2 || got.Files[0].Valid || !got.Files[1].Valid || got.Files[1].Trials != 3 || len(got.Files[0].Problems) != 5 {
		t.Fatalf("got %+v", got)
	}
	if p := got.Files[0].Problems[0]; p.File != first || p.Line != 1 || p.Column == 0 || p.Path == "" || p.Message == "" {
		t.Errorf("got %+v", p)
	}
}

// TestValidateReadsInventories checks that a campaign's inventories are checked with it,
// and are found relative to the campaign file's folder.
func TestValidateReadsInventories(t *testing.T) {
	text := "version: 1\nname: hosts\nseed: 1\ntestbed: hosts\ninventories: [here.yaml, gone.yaml]\n" +
		"matrix: {storage: [nfs], wan: [lan], access: [database]}\nrepetitions: 1\n"
	path := write(t, text)
	inventory, err := os.ReadFile("../../internal/inventory/testdata/good.yaml")
	if err != nil {
		t.Fatal(err)
	}
	broken := strings.Replace(string(inventory), "mtu: 1500", "mtu: 1", 1)
	line := 1 + strings.Count(broken[:strings.Index(broken, "mtu: 1")], "\n")
	if err := os.WriteFile(filepath.Join(filepath.Dir(path), "here.yaml"), []byte(broken), 0o644); err != nil {
		t.Fatal(err)
	}
	code, _, stderr := run(t, "validate", path)
	if code != exitBadInput || !strings.Contains(stderr, fmt.Sprintf("here.yaml:%d:8: guest.mtu: 1: want 576 to 9216", line)) || !strings.Contains(stderr, "gone.yaml: no such file") {
		t.Errorf("exit code %d, %s", code, stderr)
	}
	_, stdout, _ := run(t, "validate", "--json", path)
	var got struct{ Files []validation }
	if err := json.Unmarshal([]byte(stdout), &got); err != nil {
		t.Fatal(err)
	}
	if problems := got.Files[0].Problems; len(problems) != 2 || problems[0].Line != line || problems[1].Line != 0 || problems[1].File != path {
		t.Errorf("got %+v", problems)
	}
}

// TestHostsExample: the example of real hosts, and the inventory that it names, are right, and are about one hypervisor.
func TestHostsExample(t *testing.T) {
	const file = "../../examples/hosts.yaml"
	code, stdout, stderr := run(t, "validate", file)
	if want := file + ": campaign hosts is right: 3 cells, 3 trials\n"; code != 0 || stdout != want || stderr != "" {
		t.Errorf("validate: exit code %d, stdout %q, stderr %q", code, stdout, stderr)
	}
	if code, stdout, stderr := run(t, "plan", file); code != 0 || !strings.Contains(stdout, "kvm-iscsi-rtt60.rate100mbit-4k-mixed-random") || stderr != "" {
		t.Errorf("plan: exit code %d, stdout %q, stderr %q", code, stdout, stderr)
	}
}

// TestValidateComparesHypervisors: a campaign's hypervisor is xen when its file names none, whatever its inventory says.
func TestValidateComparesHypervisors(t *testing.T) {
	text, err := os.ReadFile("../../examples/hosts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	file := write(t, strings.Replace(string(text), "  hypervisor: [kvm]\n", "", 1))
	if err := os.CopyFS(filepath.Join(filepath.Dir(file), "inventories"), os.DirFS("../../examples/inventories")); err != nil {
		t.Fatal(err)
	}
	code, _, stderr := run(t, "validate", file)
	if code != exitBadInput || !strings.Contains(stderr, "testbed lab-1 runs kvm, and the campaign has trials on xen: ") {
		t.Errorf("exit code %d, %s", code, stderr)
	}
}

func TestBadInputOfPlanAndValidate(t *testing.T) {
	for name, args := range map[string][]string{
		"no file":                {"plan"},
		"two files":              {"plan", quickFile, quickFile},
		"a file that is not":     {"plan", "/nonexistent/x.yaml"},
		"a folder":               {"plan", t.TempDir()},
		"a file with problems":   {"plan", write(t, "version: 1")},
		"nothing to validate":    {"validate"},
		"a schema and a file":    {"validate", "--schema", quickFile},
		"a file that is no YAML": {"validate", write(t, "{")},
	} {
		code, stdout, stderr := run(t, args...)
		if code != exitBadInput || stdout != "" || stderr == "" {
			t.Errorf("%s: exit code %d, stdout %q, stderr %q", name, code, stdout, stderr)
		}
	}
}
