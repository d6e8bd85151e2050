package activities_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"

	"heliotrope/activities"
	"heliotrope/analysis/dataset"
	"heliotrope/internal/cause"
	"heliotrope/internal/fault"
	"heliotrope/internal/inventory"
	"heliotrope/internal/load"
	"heliotrope/internal/simulated"
	"heliotrope/internal/trial"
	"heliotrope/internal/witness"
)

func (a *attempt) summarise(t *testing.T) activities.Summarised {
	t.Helper()
	return must[activities.Summarised](t, a.collector.Summarise,
		activities.SummariseInput{Campaign: "unit", DataDir: a.target.DataDir, SpecSHA256: "spec", Kind: inventory.Simulated})
}

// row is the attempt's row in the dataset.
func (a *attempt) row(t *testing.T) dataset.Trial {
	t.Helper()
	a.summarise(t)
	rows, err := dataset.ReadAttempts(dataset.CampaignFolder(a.target.DataDir, "unit"))
	if err != nil || len(rows) != 1 {
		t.Fatalf("%d rows, %v; want 1", len(rows), err)
	}
	return rows[0]
}

// file is the path of one of the attempt's files in the dataset.
func (a *attempt) file(name string) string {
	cell := a.target.Ref.Trial.Cell
	return filepath.Join(dataset.CampaignFolder(a.target.DataDir, "unit"), dataset.TrialFolder(cell.Storage, cell.RTTMs, a.target.Ref.Key()), name)
}

func TestConcludeTwice(t *testing.T) {
	a := newAttempt(t, simulated.Faults{}).collected(t).torn(t, trial.Valid)
	write(t, a.file("io.parquet"), "what a crash left")
	first := a.conclude(t)
	if first.Verdict != trial.Valid {
		t.Fatalf("%+v, want a valid attempt", first)
	}
	if exists(t, a.target.WorkFolder()) {
		t.Error("the raw files are still there")
	}
	row := a.row(t)
	// An activity that was killed before it could answer is called again.
	if second := a.conclude(t); second != first {
		t.Errorf("the second time %+v, the first time %+v", second, first)
	}
	if again := a.row(t); *again.IORows != *row.IORows || again.CounterRows != row.CounterRows || again.Verdict != row.Verdict {
		t.Errorf("the second row %+v, the first one %+v", again, row)
	}
	if !row.HasIO() || row.CounterRows == 0 {
		t.Errorf("%+v, want samples", row)
	}
	rows, err := dataset.All(dataset.ReadIO(a.file("io.parquet")))
	if err != nil || int64(len(rows)) != *row.IORows {
		t.Errorf("%d I/Os in the file, %v; the row says %d", len(rows), err, *row.IORows)
	}
	events, err := dataset.All(dataset.ReadEvents(a.file("events.parquet")))
	if err != nil {
		t.Fatal(err)
	}
	logged, advanced := false, 0
	for _, event := range events {
		logged = logged || event.Name == "migration-log" && strings.Contains(event.Detail, "round 1")
		if event.Name == "migration-progress" {
			advanced++
		}
	}
	if !logged || advanced == 0 {
		t.Errorf("the toolstack's log (%v) or the stream's progress (%d) is not among the events %+v", logged, advanced, events)
	}
	// A conclusion is not changed, whatever the input says now.
	a.known.Verdict, a.known.Reason = trial.Skipped, "cancelled"
	if other := a.conclude(t); other != first {
		t.Errorf("the same attempt with another input: %+v, the first time %+v", other, first)
	}
}

// TestDamagedJournal: a damaged journal is reported and set aside, and the rest is
// measured.
func TestDamagedJournal(t *testing.T) {
	a := newAttempt(t, simulated.Faults{}).collected(t).torn(t, trial.Valid)
	path := filepath.Join(a.target.WorkFolder(), "events-0001.arrows")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text[len(text)/2] ^= 1
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if concluded := a.conclude(t); concluded.Verdict != trial.Valid {
		t.Errorf("%+v", concluded)
	}
	if !exists(t, path+".damaged") || exists(t, path) {
		t.Error("the damaged journal is not set aside")
	}
	events, err := dataset.All(dataset.ReadEvents(a.file("events.parquet")))
	named := slices.ContainsFunc(events, func(event dataset.Event) bool {
		return event.Name == "problem" && strings.Contains(event.Detail, "events-0001.arrows.damaged")
	})
	if err != nil || !named {
		t.Errorf("the damaged journal is not among the events: %+v, %v", events, err)
	}
}

// TestAnErrorWithoutALog: a disk that failed at the first I/O is a result, even though no
// line of the log shows it.
func TestAnErrorWithoutALog(t *testing.T) {
	a := newAttempt(t, simulated.Faults{}).collected(t).torn(t, trial.Valid)
	if err := os.WriteFile(a.raw(trial.Guest, load.LogFile), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(a.raw(trial.Guest, load.ResultFile), []byte(`{"fio version":"fio-3.33","jobs":[{"error":5}]}`+"\nfio: I/O error\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if concluded := a.conclude(t); concluded.Verdict != trial.TargetFailed || concluded.Cause != cause.IOError {
		t.Errorf("%+v", concluded)
	}
}

func TestConcludeLooksAtWhatWasMeasured(t *testing.T) {
	keep := func(text string) string { return text }
	for _, test := range []struct {
		name, machine, file string
		change              func(string) string // nil: the file is missing
		reason              string
	}{
		{"an empty log", trial.Guest, load.LogFile, func(string) string { return "" }, "no I/O in it"},
		{"a cut log", trial.Guest, load.LogFile, func(text string) string { return text[:len(text)-5] }, "is cut off"},
		{"a missing log", trial.Guest, load.LogFile, nil, "no such file"},
		{"garbage", trial.Guest, load.LogFile, func(text string) string { return text + "fio: out of memory\n" }, "out of memory"},
		{"an I/O that failed", trial.Guest, load.ResultFile, func(text string) string { return strings.Replace(text, `"error":0`, `"error":5`, 1) }, "input/output error"},
		{"a lost line", trial.Guest, load.LogFile, func(text string) string { return text[strings.Index(text, "\n")+1:] }, "but its engine counted"},
		{"no result", trial.Guest, load.ResultFile, nil, "no such file"},
		{"a damaged result", trial.Guest, load.ResultFile, func(string) string { return "{" }, "damaged"},
		{"no counters", "sim-1-store", witness.CountersFile, nil, "no such file"},
		{"empty counters", "sim-1-a", witness.CountersFile, func(string) string { return "" }, "no complete sample"},
		{"counters of nonsense", "sim-1-b", witness.CountersFile, func(text string) string { return text + "oops\n" }, "oops"},
		{"nothing wrong", trial.Guest, load.LogFile, keep, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := newAttempt(t, simulated.Faults{}).collected(t).torn(t, trial.Valid)
			path := a.raw(test.machine, test.file)
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if test.change == nil {
				err = os.Remove(path)
			} else {
				err = os.WriteFile(path, []byte(test.change(string(text))), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			concluded := a.conclude(t)
			want := trial.Invalid
			switch {
			case test.reason == "":
				want = trial.Valid
			case strings.Contains(test.name, "failed"):
				want = trial.TargetFailed // the disk was lost after the migration had begun
			}
			if concluded.Verdict != want || !strings.Contains(concluded.Reason, test.reason) {
				t.Errorf("%+v, want %s because of %q", concluded, want, test.reason)
			}
			if kept := exists(t, a.target.WorkFolder()); kept != (want == trial.Invalid) {
				t.Errorf("the raw files are there: %v", kept)
			}
			row := a.row(t)
			if row.Verdict != string(want) || row.Reason != concluded.Reason {
				t.Errorf("the row says %s %q", row.Verdict, row.Reason)
			}
			// When it is called again, as after a crash, it finds the same.
			if again := a.conclude(t); again != concluded {
				t.Errorf("again: %+v", again)
			}
		})
	}
}

// TestConcludeWithoutTheGuest: what the hosts counted before a failure is kept, and so are
// raw files that were not fetched completely.
func TestConcludeWithoutTheGuest(t *testing.T) {
	a := newAttempt(t, simulated.Faults{}).collected(t).torn(t, trial.TargetFailed)
	a.known.Collected.Machines = a.known.Collected.Machines[1:]
	a.known.Collected.Problems = []string{"collect from guest: no route"}
	if concluded := a.conclude(t); concluded.Verdict != trial.TargetFailed {
		t.Errorf("%+v", concluded)
	}
	if row := a.row(t); row.IORows != nil || row.HistogramRows != nil || row.CounterRows == 0 || exists(t, a.file("io.parquet")) {
		t.Errorf("%v and %d counters, want counters only", row.IORows, row.CounterRows)
	}
	// What was never fetched is not known, rather than 0.
	phases, err := dataset.ReadPhases(dataset.CampaignFolder(a.target.DataDir, "unit"))
	if err != nil || len(phases) != 3 {
		t.Fatalf("%d phases, %v", len(phases), err)
	}
	for _, phase := range phases {
		if phase.Seconds == 0 || phase.IOs != nil || phase.Reads != nil || phase.Writes != nil || phase.Bytes != nil || phase.IOPS != nil || phase.MBPerS != nil {
			t.Errorf("%+v, want no number of I/Os", phase)
		}
	}
	if problems, err := dataset.Check(dataset.CampaignFolder(a.target.DataDir, "unit")); err != nil || len(problems) > 0 {
		t.Errorf("the dataset's problems: %v, %v", problems, err)
	}
	if !exists(t, a.raw(trial.Guest, load.LogFile)) {
		t.Error("the guest's raw files are gone, and the dataset has not got them")
	}
}

func TestConcludeOfAnAttemptThatNeverBegan(t *testing.T) {
	a := newAttempt(t, simulated.Faults{})
	a.enter(trial.Provision)
	a.torn(t, trial.Invalid)
	a.known.Reason = "no route"
	if concluded := a.conclude(t); concluded.Verdict != trial.Invalid || concluded.Reason != "no route" {
		t.Errorf("%+v", concluded)
	}
	if row := a.row(t); row.HasIO() || row.LongestGapMs != nil {
		t.Errorf("%+v, want no sample", row)
	}
}

// TestConcludeWithoutADisk: an attempt whose row cannot be written is tried again, and
// loses nothing.
func TestConcludeWithoutADisk(t *testing.T) {
	a := newAttempt(t, simulated.Faults{}).collected(t).torn(t, trial.Valid)
	folder := dataset.CampaignFolder(a.target.DataDir, "unit")
	if err := os.Rename(folder, folder+".away"); err != nil {
		t.Fatal(err)
	}
	_, err := call[activities.Concluded](t, a.collector.Conclude, a.concludeInput())
	wantClass(t, err, fault.Infrastructure)
	if !exists(t, a.raw(trial.Guest, load.LogFile)) {
		t.Fatal("the raw files are gone")
	}
	if exists(t, folder) {
		t.Fatal("a folder is made where the disk is mounted")
	}
	if err := os.Rename(folder+".away", folder); err != nil {
		t.Fatal(err)
	}
	if concluded := a.conclude(t); concluded.Verdict != trial.Valid {
		t.Errorf("%+v", concluded)
	}
}

func TestSummariseNamesWhatIsDamaged(t *testing.T) {
	a := newAttempt(t, simulated.Faults{}).collected(t).torn(t, trial.Valid)
	a.conclude(t)
	segments, err := filepath.Glob(filepath.Join(dataset.CampaignFolder(a.target.DataDir, "unit"), "segments", "trial-*.arrows"))
	if err != nil || len(segments) != 1 {
		t.Fatalf("segments %v, %v", segments, err)
	}
	text, err := os.ReadFile(segments[0])
	if err != nil {
		t.Fatal(err)
	}
	text[len(text)/2] ^= 0xff
	write(t, segments[0], string(text))
	summarised := a.summarise(t)
	if summarised.Trials != 0 || len(summarised.Problems) == 0 || !strings.Contains(summarised.Problems[0], "trial-00007.1.arrows.damaged") {
		t.Errorf("%+v, want the damaged segment named", summarised)
	}
	if !exists(t, summarised.Path) {
		t.Error("there is no summary")
	}
}

// TestConcludeAtOnce: an earlier try that was given up may still run at the same time as
// its second; the first to finish has concluded the attempt.
func TestConcludeAtOnce(t *testing.T) {
	a := newAttempt(t, simulated.Faults{}).collected(t).torn(t, trial.Valid)
	first := a.concludeInput()
	second := a.concludeInput()
	second.Known.Verdict, second.Known.Reason = trial.Invalid, "no route"
	var waiting sync.WaitGroup
	concluded := make([]activities.Concluded, 2)
	for i, input := range []activities.ConcludeInput{first, second} {
		waiting.Go(func() {
			var err error
			concluded[i], err = call[activities.Concluded](t, a.collector.Conclude, input)
			assert.NoError(t, err)
		})
	}
	waiting.Wait()
	assert.Equal(t, concluded[0], concluded[1])
	assert.Equal(t, string(concluded[0].Verdict), a.row(t).Verdict)
	if problems, err := dataset.Check(dataset.CampaignFolder(a.target.DataDir, "unit")); err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
	left, err := os.ReadDir(filepath.Dir(a.target.WorkFolder()))
	require.NoError(t, err)
	require.Len(t, left, 1)
	assert.Equal(t, "00007.1.before.json", left[0].Name())
}

// TestConcludeEndsWithItsContext: a caller that waits for another one that is concluding
// the attempt gives up when its context ends.
func TestConcludeEndsWithItsContext(t *testing.T) {
	a := newAttempt(t, simulated.Faults{}).collected(t).torn(t, trial.Valid)
	unlock, err := dataset.Lock(t.Context(), a.target.WorkFolder()+".lock")
	require.NoError(t, err)
	defer unlock()
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	env.SetWorkerOptions(worker.Options{BackgroundActivityContext: ctx})
	env.RegisterActivity(a.collector.Conclude)
	_, err = env.ExecuteActivity(a.collector.Conclude, a.concludeInput())
	require.Error(t, err)
	assert.DirExists(t, a.target.WorkFolder())
}
