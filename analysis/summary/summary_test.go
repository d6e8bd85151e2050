package summary_test

import (
	"cmp"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"

	"heliotrope/analysis/dataset"
	"heliotrope/analysis/group"
	"heliotrope/analysis/summary"
	"heliotrope/internal/trial"
)

func ptr[T any](v T) *T { return &v }

var update = flag.Bool("update", false, "write testdata")

// campaign makes the rows of a campaign of some cells, with three trials each:
// their values are 1, 2 and 3 times the cell's.
func campaign(kind string, wans ...string) ([]dataset.Trial, []dataset.Phase) {
	var trials []dataset.Trial
	var phases []dataset.Phase
	for i, wan := range wans {
		for j, storage := range []string{"iscsi", "nfs", "drbd"} {
			for n := 1; n <= 3; n++ {
				row := dataset.Trial{Key: fmt.Sprintf("%04d.1", len(trials)+1), Sequence: int32(len(trials) + 1), Counted: true,
					CellID: storage + wan, TestbedKind: kind, Hypervisor: "xen", Storage: storage, WAN: wan, RTTMs: float64(10 * i),
					Access: "oltp", Verdict: string(trial.Valid), BinaryVersion: "v1", SpecSHA256: "abcd", IORows: ptr(int64(3))}
				if storage == "drbd" {
					row.DRBDProtocol = ptr("C")
				}
				value := float64(n * (j + 1) * (i + 1))
				row.TotalMigrationMs, row.LongestGapMs, row.BlackoutMs, row.BlackoutUncertaintyMs = ptr(value*1000), ptr(value*222), ptr(value*111), ptr(value)
				row.WANBytes = ptr(int64(value * 1e7))
				for k, name := range []string{dataset.Before, dataset.During, dataset.After} {
					v := value * float64(k+1)
					phases = append(phases, dataset.Phase{Trial: row.Key, Phase: name, IOs: ptr(int64(1)), IOPS: ptr(v * 100), MBPerS: ptr(v / 8),
						MeanMs: ptr(v), P99Ms: ptr(v * 3), MaxMs: ptr(v * 10)})
				}
				trials = append(trials, row)
			}
		}
	}
	return trials, phases
}

func summarise(t *testing.T, kind string, trials []dataset.Trial, phases []dataset.Phase) summary.Summary {
	t.Helper()
	made, err := summary.Summarise("quick", kind, summary.Tables{Trials: trials, Phases: phases})
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func markdown(t *testing.T, made summary.Summary) string {
	t.Helper()
	var out strings.Builder
	if err := summary.WriteMarkdown(&out, made); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func terminal(t *testing.T, made summary.Summary) string {
	t.Helper()
	var out strings.Builder
	if err := summary.WriteTable(&out, made); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (-update writes it):\n%s", name, got)
	}
}

func TestReports(t *testing.T) {
	trials, phases := campaign("emulated", "40ms/100mbit")
	trials[1].Verdict, trials[1].Reason = string(trial.TargetFailed), "the migration\nwas cancelled after 10m0s"
	trials[4].WANBytes = nil
	made := summarise(t, "emulated", trials, phases)
	golden(t, "summary.md", markdown(t, made))
	golden(t, "summary.txt", terminal(t, made))
}

// The kind of testbed is the first thing that a report says.
func TestKindComesFirst(t *testing.T) {
	for kind, want := range map[string]string{
		"simulated": "SIMULATED — not a measurement", "emulated": "Measured on a testbed that is: emulated", "hardware": "Measured on a testbed that is: hardware",
		"vcenter-simulator": "VCENTER SIMULATOR — no ESXi host was involved: measured on emulated hosts behind a simulator of vCenter",
	} {
		made := summarise(t, kind, nil, nil)
		if text := markdown(t, made); !strings.HasPrefix(text, "**"+want+"**\n") {
			t.Errorf("%s: summary.md begins with %.60q", kind, text)
		}
		if text := terminal(t, made); !strings.HasPrefix(text, want+"\n") {
			t.Errorf("%s: the terminal's summary begins with %.60q", kind, text)
		}
	}
	trials, phases := campaign("simulated", "lan")
	if _, err := summary.Summarise("quick", "emulated", summary.Tables{Trials: trials, Phases: phases}); err == nil {
		t.Error("simulated trials are summarised as emulated")
	}
}

func TestSummarise(t *testing.T) {
	trials, phases := campaign("emulated", "lan", "40ms")
	// Of the first cell (iscsi, lan): one skipped, and one attempt that does not count.
	trials[0].Verdict = string(trial.Skipped)
	trials[1].Counted = false
	made := summarise(t, "emulated", trials, phases)
	if made.Attempts != 18 || made.Trials != 17 || len(made.Cells) != 6 || len(made.Failures) != 1 {
		t.Fatalf("%+v", made)
	}
	cells := map[string]summary.Cell{}
	for _, cell := range made.Cells {
		cells[cell.ID] = cell
	}
	cell := cells["iscsilan"]
	if cell.Verdicts[trial.Valid] != 1 || made.Skipped != 1 || (cell.MigrationS != summary.Spread{N: 1, Median: 3, Min: 3, Max: 3}) {
		t.Errorf("%+v", cell)
	}
	// Values are 1, 2, 3 times 3 (drbd) times 2 (40ms).
	cell = cells["drbd40ms"]
	if (cell.MigrationS != summary.Spread{N: 3, Median: 12, Min: 6, Max: 18}) || (cell.WANMB != summary.Spread{N: 3, Median: 120, Min: 60, Max: 180}) ||
		(cell.Phases[dataset.After].MaxMs != summary.Spread{N: 3, Median: 360, Min: 180, Max: 540}) {
		t.Errorf("%+v", cell)
	}
	// The median of two is the mean of both.
	trials[0].Verdict = string(trial.Valid)
	made = summarise(t, "emulated", trials, phases)
	if got := made.Cells[1].MigrationS; made.Cells[1].ID != "iscsilan" || (got != summary.Spread{N: 2, Median: 2, Min: 1, Max: 3}) {
		t.Errorf("%s: %+v", made.Cells[1].ID, got)
	}
}

// Cells whose guests differ are named by how.
func TestNamesOfGuests(t *testing.T) {
	trials, phases := campaign("emulated", "lan")
	trials, phases = trials[:3], phases[:9]
	trials[0].CellID, trials[1].CellID, trials[2].CellID = "a", "b", "c"
	trials[1].GuestVCPUs, trials[1].GuestMemoryMiB = ptr(int32(1)), ptr(int32(256))
	trials[2].GuestVCPUs = ptr(int32(2))
	assert.Equal(t, []string{"iscsi, 1 vCPU", "iscsi, 2 vCPUs", "iscsi, 256 MiB, 1 vCPU"}, summary.Names(summarise(t, "emulated", trials, phases).Cells))
}

// Failures are the worst values there are, and a recovery that was not seen is one:
// no median is better because of what it leaves out.
func TestFailuresAreInfinite(t *testing.T) {
	trials, phases := campaign("emulated", "lan")
	trials, phases = trials[:3], phases[:9]
	for i := range trials {
		trials[i].RecoveryMs, trials[i].IOLostS = ptr(100.0), ptr(1.0)
	}
	trials[1].RecoveryMs = nil
	trials[2].Verdict, trials[2].Cause = string(trial.TargetFailed), "guest-hung"
	cell := summarise(t, "emulated", trials, phases).Cells[0]
	infinite := math.Inf(1)
	assert.Equal(t, summary.Spread{N: 3, Infinite: 1, Median: 222, Min: 111, Max: infinite}, cell.BlackoutMs)
	assert.Equal(t, summary.Spread{N: 3, Infinite: 2, Median: infinite, Min: 100, Max: infinite}, cell.RecoveryMs)
	assert.Equal(t, summary.Spread{N: 3, Infinite: 1, Median: 1, Min: 1, Max: infinite}, cell.IOLostS)
	assert.Equal(t, 2, cell.LongestGapMs.N)
	text := markdown(t, summarise(t, "emulated", trials, phases))
	assert.Contains(t, text, "222 (111–∞) ∞×1 |")
	assert.Contains(t, text, "∞ (100–∞) ∞×2 |")
}

// Causes are reported of every attempt, including those that were tried again and went
// well.
func TestCausesOfEveryAttempt(t *testing.T) {
	trials, phases := campaign("emulated", "lan")
	add := func(like int, key, verdict, cause string, counted, sentinel bool) {
		row := trials[like]
		row.Key, row.Verdict, row.Cause, row.Counted, row.Sentinel = key, verdict, cause, counted, sentinel
		trials = append(trials, row)
	}
	add(0, "1.a", "invalid", "clock-jumped", false, false)
	add(0, "1.b", "invalid", "clock-jumped", false, false)
	add(0, "1.c", "invalid", "clock-jumped", true, false)
	add(3, "2.a", "target-failed", "no-recovery", true, false)
	add(3, "2.b", "skipped", "cancelled", true, false)
	add(3, "2.c", "invalid", "witness-died", false, true)
	made := summarise(t, "emulated", trials, phases)
	key := func(id string) group.Key { return group.Key{CellID: id, Direction: "outbound"} }
	assert.Equal(t, []summary.Cause{
		{Key: key("iscsilan"), Verdict: trial.Invalid, Cause: "clock-jumped", Attempts: 3, Counted: 1},
		{Key: key("nfslan"), Verdict: trial.Skipped, Cause: "cancelled", Attempts: 1, Counted: 1},
		{Key: key("nfslan"), Verdict: trial.TargetFailed, Cause: "no-recovery", Attempts: 1, Counted: 1},
		{Key: key("nfslan"), Sentinel: true, Verdict: trial.Invalid, Cause: "witness-died", Attempts: 1},
	}, slices.SortedFunc(slices.Values(made.Causes), func(a, b summary.Cause) int {
		return cmp.Or(a.Key.Compare(b.Key), cmp.Compare(fmt.Sprint(a.Sentinel), fmt.Sprint(b.Sentinel)))
	}))
	text := terminal(t, made)
	assert.Contains(t, text, "sentinel  invalid        witness-died")
	assert.Contains(t, text, "Skipped: 1 of these trials")
}

// Attempts that were tried again are counted beside the results that they led to, and those
// whose migration had begun when they ran out of time are named first.
func TestAttemptsForEachResult(t *testing.T) {
	trials, phases := campaign("emulated", "lan")
	assert.NotContains(t, markdown(t, summarise(t, "emulated", trials, phases)), "PROBLEM")
	add := func(key, code string, verdict trial.Verdict, begun trial.Phase, sentinel bool) {
		row := trials[0]
		row.Key, row.Verdict, row.Cause, row.Counted, row.Sentinel = key, string(verdict), code, false, sentinel
		row.SetTimeline(trial.Timeline{{Phase: begun, At: time.Unix(1, 0)}})
		trials = append(trials, row)
	}
	add("1.a", "time-out", trial.Invalid, trial.Migrate, false)
	add("1.b", "time-out", trial.Invalid, trial.Before, false)
	add("1.c", "witness-died", trial.Invalid, trial.Migrate, false)
	add("1.d", "cancelled", trial.Skipped, trial.Migrate, false)
	add("1.e", "time-out", trial.Invalid, trial.Migrate, true)
	made := summarise(t, "emulated", trials, phases)
	for _, cell := range made.Cells {
		want := summary.Ran{Attempts: 3}
		if cell.ID == "iscsilan" {
			want = summary.Ran{Attempts: 6, Late: 1}
		}
		assert.Equal(t, want, cell.Ran, cell.ID)
	}
	text := markdown(t, made)
	assert.Contains(t, text, "| iscsi | 3 | 0 | 0 | 6 | 2.00 | 1 |")
	assert.Contains(t, text, "| nfs | 3 | 0 | 0 | 3 | 1.00 | 0 |")
	assert.Contains(t, text, "PROBLEM: 1 of 12 attempts of the cells took longer than a limit after their migration had begun, and are invalid: the slowest migrations may be missing")
}

// A trial that shows no work is not valid, even when it is marked valid.
func TestProofOfWork(t *testing.T) {
	for name, spoil := range map[string]func(*dataset.Trial, []dataset.Phase) []dataset.Phase{
		"no I/O at all": func(row *dataset.Trial, phases []dataset.Phase) []dataset.Phase {
			row.IORows = new(int64)
			return phases
		},
		"no I/O before": func(_ *dataset.Trial, phases []dataset.Phase) []dataset.Phase { phases[0].IOs = nil; return phases },
		"no I/O after": func(_ *dataset.Trial, phases []dataset.Phase) []dataset.Phase {
			phases[2].IOs = new(int64)
			return phases
		},
		"a phase is not in": func(_ *dataset.Trial, phases []dataset.Phase) []dataset.Phase { return phases[1:] },
		"no phases":         func(_ *dataset.Trial, phases []dataset.Phase) []dataset.Phase { return phases[3:] },
	} {
		trials, phases := campaign("emulated", "lan")
		made := summarise(t, "emulated", trials, spoil(&trials[0], phases))
		for _, cell := range made.Cells {
			if cell.ID == "iscsilan" && (cell.Verdicts[trial.Valid] != 2 || cell.Verdicts[trial.Invalid] != 1 || cell.MigrationS.N != 2) {
				t.Errorf("%s: %+v", name, cell)
			}
		}
		if len(made.Problems) != 1 || !strings.Contains(terminal(t, made), "PROBLEM: trial 0001.1") {
			t.Errorf("%s: problems are %q", name, made.Problems)
		}
	}
	// A migration may stop all I/O: that is a result.
	trials, phases := campaign("emulated", "lan")
	phases[1] = dataset.Phase{Trial: phases[1].Trial, Phase: dataset.During}
	if made := summarise(t, "emulated", trials, phases); len(made.Problems) != 0 || !strings.Contains(markdown(t, made), "n=2") {
		t.Errorf("a migration without I/O: %q", made.Problems)
	}
}

// Whatever the numbers and names are, a table fits the terminal, and no cell loses its
// number.
func TestTerminalWidth(t *testing.T) {
	trials, phases := campaign("simulated", strings.Repeat("very-long-profile-", 6)+"1", strings.Repeat("very-long-profile-", 6)+"2")
	for i := range trials {
		trials[i].TotalMigrationMs = ptr(987654321.0 * float64(i+1))
		trials[i].LongestGapMs, trials[i].BlackoutMs = ptr(123456.0*float64(i+1)), ptr(123456.0*float64(i+1))
		trials[i].RecoveryMs, trials[i].IOLostS, trials[i].DisagreementMs = trials[i].TotalMigrationMs, trials[i].TotalMigrationMs, trials[i].TotalMigrationMs
		if i%2 == 0 {
			trials[i].WANBytes = nil
		}
		if i%3 == 0 {
			trials[i].Verdict, trials[i].Reason = string(trial.Invalid), strings.Repeat("because ", 30)
		}
	}
	text := terminal(t, summarise(t, "simulated", trials, phases))
	for _, line := range strings.Split(text, "\n") {
		if utf8.RuneCountInString(line) > 120 {
			t.Errorf("%d columns: %s", utf8.RuneCountInString(line), line)
		}
	}
	for i := 1; i <= 6; i++ {
		if !strings.Contains(text, fmt.Sprintf("\n%d  ", i)) {
			t.Errorf("cell %d has no line", i)
		}
	}
}

// Text from outside does not become formatting.
func TestMarkdownIsEscaped(t *testing.T) {
	trials, phases := campaign("emulated", "a|b_<c>")
	trials[0].Verdict, trials[0].Reason = string(trial.TargetFailed), "xl: *failed* | <b>"
	text := markdown(t, summarise(t, "emulated", trials, phases))
	if strings.Contains(text, "*failed*") || strings.Contains(text, "<b>") || !strings.Contains(text, `\*failed\* \| &lt;b>`) {
		t.Error(text)
	}
}

func TestWriteSummary(t *testing.T) {
	folder := dataset.CampaignFolder(t.TempDir(), "quick")
	if _, err := summary.WriteSummary(folder); err == nil {
		t.Error("a campaign without files is summarised")
	}
	trials, phases := campaign("simulated", "lan")
	for i, row := range trials {
		if err := dataset.WriteAttempt(folder, dataset.Attempt{Trial: row, Phases: phases[3*i : 3*i+3]}); err != nil {
			t.Fatal(err)
		}
	}
	provenance := dataset.Provenance{dataset.KeyCampaign: "quick", dataset.KeyTestbedKind: "simulated"}
	if _, err := dataset.CompactCampaign(folder, provenance); err != nil {
		t.Fatal(err)
	}
	if _, err := summary.WriteSummary(folder); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(folder, dataset.SummaryFile))
	if err != nil {
		t.Fatal(err)
	}
	if want := markdown(t, summarise(t, "simulated", trials, phases)); string(got) != want {
		t.Errorf("summary.md is\n%s\nwant\n%s", got, want)
	}
}
