package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/rs/zerolog"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/history/v1"
	"go.temporal.io/api/temporalproto"
	"go.temporal.io/sdk/client"
	sdktemporal "go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"

	"heliotrope/analysis/dataset"
	"heliotrope/deploy/temporal"
	"heliotrope/internal/gate"
	"heliotrope/internal/trial"
	"heliotrope/workers"
	"heliotrope/workflows"
)

// saveHistories names a folder to save the histories of these tests' workflows
// in, for the replay tests of a released version. See docs/workflows.md.
var saveHistories = flag.String("save-histories", "", "folder to save workflow histories in")

// simulatedSpec has every storage system and repeats each cell.
const simulatedSpec = `
version: 1
name: NAME
seed: 7
testbed: simulated
lanes: 2
matrix:
  storage: [iscsi, nfs, drbd]
  wan: [lan, "rtt=60ms,rate=100mbit"]
  access: [4k-mixed-random]
repetitions: REPETITIONS
phases: {warm_up: 1s, before: 3s, after: 3s}
`

// serveSimulated runs the real workflows and activities, with this process as the controller. The test runs beside others
// that call it, when all other tests have ended: it has a state folder of its own, where the command line does not look.
func serveSimulated(t *testing.T) client.Client { return serveLogging(t, zerolog.Nop()) }

// serveLogging is the same with a log.
func serveLogging(t *testing.T, log zerolog.Logger) client.Client {
	t.Helper()
	t.Parallel()
	c, _ := serveIn(t, t.TempDir(), log, controllerOn(log))
	return c
}

// serveForCommands is the same where the command line finds it. No other test runs meanwhile.
func serveForCommands(t *testing.T) client.Client {
	t.Helper()
	c, _ := serveWith(t, zerolog.Nop(), controllerOn(zerolog.Nop()))
	return c
}

// controllerOn makes the real controller.
func controllerOn(log zerolog.Logger) func(client.Client, temporal.Settings) worker.Worker {
	return func(c client.Client, settings temporal.Settings) worker.Worker {
		return workers.Controller(c, workers.ControllerOptions{Log: log, Version: "test", Gate: gate.Options{Namespace: settings.Namespace}})
	}
}

// runSimulated runs a campaign on lanes with faults, and returns its progress
// and its dataset's folder.
func runSimulated(t *testing.T, c client.Client, name string, repetitions int, faults map[string]float64, change func(*workflows.CampaignInput)) (workflows.Progress, string) {
	t.Helper()
	return runSpec(t, c, name, strings.NewReplacer("NAME", name, "REPETITIONS", strconv.Itoa(repetitions)).Replace(simulatedSpec), faults, change)
}

// runSpec does the same with a given campaign file.
func runSpec(t *testing.T, c client.Client, name, spec string, faults map[string]float64, change func(*workflows.CampaignInput)) (workflows.Progress, string) {
	t.Helper()
	return startSpec(t, c, name, spec, faults, change)(t)
}

// startSpec starts it, and returns a function that waits for its end.
func startSpec(t *testing.T, c client.Client, name, spec string, faults map[string]float64, change func(*workflows.CampaignInput)) (end func(*testing.T) (workflows.Progress, string)) {
	t.Helper()
	r, err := loadRequest(writeCampaign(t, spec), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	input := r.input(simulatedLanes(r.spec.LaneCount()))
	text, err := json.Marshal(faults)
	if err != nil {
		t.Fatal(err)
	}
	for i := range input.Lanes {
		input.Lanes[i].Faults = text
	}
	if change != nil {
		change(&input)
	}
	run, err := c.ExecuteWorkflow(t.Context(), workflows.StartOptions(input, workflows.DefaultQueue), workflows.CampaignName, input)
	if err != nil {
		t.Fatal(err)
	}
	return func(t *testing.T) (workflows.Progress, string) {
		t.Helper()
		var result workflows.CampaignResult
		if err := run.Get(t.Context(), &result); err != nil {
			t.Fatal(err)
		}
		saveHistory(t, c, "campaign-"+name, run.GetID())
		saveHistory(t, c, "lane-"+name, workflows.LaneID(name, input.Lanes[0].Name))
		return result.Progress, dataset.CampaignFolder(r.dataDir, name)
	}
}

// sixLanes is the campaign file of that name, on six lanes: as many as it has trials when nothing is repeated.
func sixLanes(name string) string {
	return strings.NewReplacer("NAME", name, "REPETITIONS", "1", "lanes: 2", "lanes: 6").Replace(simulatedSpec)
}

// TestSimulatedCancelled: a cancelled campaign ends with the trials that it has, and with
// their summary.
func TestSimulatedCancelled(t *testing.T) {
	c := serveSimulated(t)
	file := writeCampaign(t, strings.NewReplacer("NAME", "ended", "REPETITIONS", "500").Replace(simulatedSpec))
	r, err := loadRequest(file, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	input := r.input(simulatedLanes(r.spec.LaneCount()))
	run, err := c.ExecuteWorkflow(t.Context(), workflows.StartOptions(input, workflows.DefaultQueue), workflows.CampaignName, input)
	if err != nil {
		t.Fatal(err)
	}
	awaitDone(t, c, "ended", 5)
	if err := c.CancelWorkflow(t.Context(), run.GetID(), ""); err != nil {
		t.Fatal(err)
	}
	var canceled *sdktemporal.CanceledError
	if err := run.Get(t.Context(), nil); !errors.As(err, &canceled) {
		t.Errorf("%v, want a cancellation", err)
	}
	saveHistory(t, c, "campaign-cancelled", run.GetID())
	folder := dataset.CampaignFolder(r.dataDir, "ended")
	rows, err := dataset.ReadAttempts(folder)
	if err != nil || len(rows) < 5 {
		t.Errorf("%d rows, %v", len(rows), err)
	}
	if problems, err := dataset.Check(folder); err != nil || len(problems) > 0 {
		t.Errorf("the dataset's problems: %v, %v", problems, err)
	}
}

// saveHistory writes a workflow's last run where -save-histories says.
func saveHistory(t *testing.T, c client.Client, name, id string) {
	t.Helper()
	if *saveHistories == "" {
		return
	}
	var saved history.History
	events := c.GetWorkflowHistory(t.Context(), id, "", false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for events.HasNext() {
		event, err := events.Next()
		if err != nil {
			t.Fatal(err)
		}
		saved.Events = append(saved.Events, event)
	}
	text, err := temporalproto.CustomJSONMarshalOptions{Indent: " "}.Marshal(&saved)
	if err != nil {
		t.Fatal(err)
	}
	// Who polled on which machine does not matter.
	text = regexp.MustCompile(`"identity": "[^"]*"`).ReplaceAll(text, []byte(`"identity": "controller"`))
	if err := os.WriteFile(filepath.Join(*saveHistories, name+".json"), append(text, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestSimulatedCampaign runs real workflows on a real server, and checks every file that
// they leave.
func TestSimulatedCampaign(t *testing.T) {
	c := serveSimulated(t)
	progress, folder := runSimulated(t, c, "plain", 2, nil, func(input *workflows.CampaignInput) { input.MaxEvents = 30 })
	if progress.Total != 12 || progress.Verdicts[trial.Valid] != 12 || progress.Retried != 0 {
		t.Errorf("%+v, want 12 valid trials", progress)
	}
	saveHistory(t, c, "trial-valid", workflows.TrialID("plain", 1))
	problems, err := dataset.Check(folder)
	if err != nil || len(problems) > 0 {
		t.Errorf("the dataset's problems: %v, %v", problems, err)
	}
	rows, err := dataset.ReadAttempts(folder)
	if err != nil || len(rows) < 12 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	for _, row := range rows {
		if row.Verdict != string(trial.Valid) {
			t.Errorf("trial %s is %s: %s: %s", row.Key, row.Verdict, row.Cause, row.Reason)
		}
		if row.TestbedKind != "simulated" || !row.HasIO() || row.CounterRows == 0 || row.EventRows == 0 ||
			row.LongestGapMs == nil || *row.LongestGapMs <= 0 || row.WANBytes == nil || *row.WANBytes <= 0 || !row.Counted {
			t.Errorf("trial %s: %+v", row.Key, row)
		}
		if row.Storage == "drbd" != (row.OutOfSyncBytes != nil) {
			t.Errorf("trial %s: out of sync %v", row.Key, row.OutOfSyncBytes)
		}
	}
	summary, err := os.ReadFile(filepath.Join(folder, dataset.SummaryFile))
	if first, _, _ := strings.Cut(string(summary), "\n"); err != nil || !strings.Contains(first, "SIMULATED") {
		t.Errorf("the summary begins with %q, %v", first, err)
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(folder), "work", "plain", "*.1"))
	if err != nil || len(left) > 0 {
		t.Errorf("raw files are left: %v, %v", left, err)
	}
}

// TestSimulatedOrdinary does the same with steps that the server knows, as on real
// testbeds.
func TestSimulatedOrdinary(t *testing.T) {
	c := serveSimulated(t)
	progress, folder := runSpec(t, c, "ordinary", sixLanes("ordinary"), nil, func(input *workflows.CampaignInput) {
		for i := range input.Lanes {
			input.Lanes[i].LocalSteps = false
		}
	})
	if progress.Total != 6 || progress.Verdicts[trial.Valid] != 6 || progress.Retried != 0 {
		t.Errorf("%+v, want 6 valid trials", progress)
	}
	if problems, err := dataset.Check(folder); err != nil || len(problems) > 0 {
		t.Errorf("the dataset's problems: %v, %v", problems, err)
	}
}

// TestSimulatedFaults: every fault ends with the verdict that it must have.
func TestSimulatedFaults(t *testing.T) {
	var log syncBuffer
	c := serveLogging(t, zerolog.New(&log).Level(zerolog.InfoLevel))
	start := func(t *testing.T, name, fault string) (end func(*testing.T) (workflows.Progress, string)) {
		return startSpec(t, c, name, sixLanes(name), map[string]float64{fault: 1}, func(input *workflows.CampaignInput) {
			input.QuarantineAfter = 100 // the model's testbeds fail on purpose
		})
	}
	// Its trials wait longer before each further try to provision. The other campaigns run meanwhile.
	flaky := start(t, "flaky", "provision_fails")
	for _, test := range []struct {
		name    string
		fault   string
		verdict trial.Verdict
		retried int
		samples bool // of the attempt that counts
	}{
		{"failing", "migration_fails", trial.TargetFailed, 0, true},
		{"crooked", "rtt_outside", trial.Valid, 6, true},
		{"crowded", "memory_gone", trial.Valid, 6, true},
		{"ending", "load_ends", trial.Invalid, 12, false}, // in the warm-up
		{"hanging", "guest_hangs", trial.TargetFailed, 0, false},
		{"diskless", "disk_stays_away", trial.TargetFailed, 0, true},
		{"unplugged", "target_unplugged", trial.TargetFailed, 0, true},
		{"flaky", "provision_fails", trial.Valid, 6, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			end := flaky
			if test.name != "flaky" {
				end = start(t, test.name, test.fault)
			}
			progress, folder := end(t)
			if progress.Verdicts[test.verdict] != 6 || progress.Retried != test.retried {
				t.Errorf("%+v, want 6 × %s and %d more attempts", progress, test.verdict, test.retried)
			}
			saveHistory(t, c, "trial-"+test.name, workflows.TrialID(test.name, 1))
			rows, err := dataset.ReadAttempts(folder)
			if err != nil || len(rows) != 6+test.retried {
				t.Fatalf("%d rows, %v: want one for each attempt", len(rows), err)
			}
			counted := slices.DeleteFunc(rows, func(row dataset.Trial) bool { return !row.Counted })
			for _, row := range counted {
				if row.Verdict != string(test.verdict) || row.HasIO() != test.samples || (row.Reason == "") != (test.verdict == trial.Valid) {
					t.Errorf("trial %s is %s (%s), has samples: %v", row.Key, row.Verdict, row.Reason, row.HasIO())
				}
			}
			if len(counted) != 6 {
				t.Errorf("%d attempts are counted, want 6", len(counted))
			}
		})
	}
	// The first attempt of each of flaky's trials has failed to provision.
	failed := map[string]bool{}
	for line := range strings.Lines(log.String()) {
		var told struct{ Message, Campaign, Trial, Lane, Error, ActivityType string }
		if err := json.Unmarshal([]byte(line), &told); err != nil {
			t.Errorf("no JSON: %s", line)
		}
		if told.Message == "the activity failed" && told.Campaign == "flaky" && told.ActivityType == "Provision" && told.Lane != "" && told.Error != "" {
			failed[told.Trial] = true
		}
	}
	for sequence := range 6 {
		if key := fmt.Sprintf("%05d.1", sequence+1); !failed[key] {
			t.Errorf("the log does not tell that attempt %s failed", key)
		}
	}
}

// syncBuffer is a buffer that several goroutines write to.
type syncBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *syncBuffer) Write(text []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(text)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
