package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
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
		got.Estimate.Seconds != 450 || got.Estimate.Bytes <= 0 {
		t.Errorf("got %+v", got)
	}
	spec, err := campaign.Load(quickFile)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range spec.Plan() {
		if trial := got.Trials[i]; trial.Sequence != i+1 || trial.CellID != want.CellID || trial.Seed != want.Seed {
			t.Errorf("got %+v, want %+v", trial, want)
		}
	}
}

func TestPlanTable(t *testing.T) {
	code, stdout, _ := run(t, "plan", "../../examples/simulated.yaml")
	lines := strings.Split(strings.TrimSpace(stdout), "\n")
	if code != 0 || len(lines) != 2+1+1+50+1+1+1000 {
		t.Fatalf("exit code %d, %d lines:\n%.2000s", code, len(lines), stdout)
	}
	for _, want := range []string{"50 cells, 1000 trials, on 8 simulated testbeds: a model, no measurement", "takes about 1 min",
		"drbd B", "160 ms", "the inventory's"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("no %q in\n%.2000s", want, stdout)
		}
	}
	if !strings.HasPrefix(lines[len(lines)-1], "1000 ") {
		t.Errorf("the last line is %q", lines[len(lines)-1])
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
	code, stdout, stderr := run(t, "validate", quickFile, "../../examples/thesis.yaml")
	want := "../../examples/quick.yaml: campaign quick is right: 3 cells, 3 trials\n" +
		"../../examples/thesis.yaml: campaign thesis is right: 12 cells, 60 trials\n"
	if code != 0 || stdout != want || stderr != "" {
		t.Errorf("exit code %d, stdout %q, stderr %q", code, stdout, stderr)
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

// TestValidateReadsInventories holds that the inventories of a campaign are
// checked with it, found from the campaign file's folder.
func TestValidateReadsInventories(t *testing.T) {
	text := "version: 1\nname: hosts\nseed: 1\ntestbed: hosts\ninventories: [here.yaml, gone.yaml]\n" +
		"matrix: {storage: [nfs], wan: [lan], access: [database]}\nrepetitions: 1\n"
	path := write(t, text)
	inventory, err := os.ReadFile("../../internal/inventory/testdata/good.yaml")
	if err != nil {
		t.Fatal(err)
	}
	broken := strings.Replace(string(inventory), "mtu: 1500", "mtu: 1", 1)
	if err := os.WriteFile(filepath.Join(filepath.Dir(path), "here.yaml"), []byte(broken), 0o644); err != nil {
		t.Fatal(err)
	}
	code, _, stderr := run(t, "validate", path)
	if code != exitBadInput || !strings.Contains(stderr, "here.yaml:48:8: guest.mtu: 1: want 576 to 9216") || !strings.Contains(stderr, "gone.yaml: no such file") {
		t.Errorf("exit code %d, %s", code, stderr)
	}
	_, stdout, _ := run(t, "validate", "--json", path)
	var got struct{ Files []validation }
	if err := json.Unmarshal([]byte(stdout), &got); err != nil {
		t.Fatal(err)
	}
	if problems := got.Files[0].Problems; len(problems) != 2 || problems[0].Line != 48 || problems[1].Line != 0 || problems[1].File != path {
		t.Errorf("got %+v", problems)
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
