package activities

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/analysis/dataset"
	"heliotrope/analysis/judge"
	"heliotrope/internal/campaign"
	"heliotrope/internal/cause"
	"heliotrope/internal/load/engine"
	"heliotrope/internal/load/iolog"
	"heliotrope/internal/load/spec"
	"heliotrope/internal/timebase"
	"heliotrope/internal/trial"
)

// withLog is an account of an attempt whose guest's clock is 5 s ahead.
func withLog(t *testing.T, access campaign.AccessSpec, log iolog.Account) *account {
	t.Helper()
	at := time.Unix(1_700_000_000, 0)
	readings := []timebase.Reading{{At: at, Ahead: 5 * time.Second, Uncertainty: time.Millisecond}, {At: at.Add(time.Minute), Ahead: 5 * time.Second, Uncertainty: time.Millisecond}}
	clock, err := timebase.NewGuest(readings, nil, timebase.Interval{}, nil)
	require.NoError(t, err)
	a := &account{logged: log, clocks: clocks{guest: clock}}
	a.input.Ref = trial.Ref{Trial: campaign.Trial{Cell: campaign.Cell{Access: access}}}
	a.row.IORows = new(int64)
	return a
}

// TestHistograms checks that I/Os without entries of their own are in table histograms, on
// the controller's time base, and in the log's account.
func TestHistograms(t *testing.T) {
	at := time.Unix(1_700_000_010, 0)
	a := withLog(t, campaign.AccessSpec{Engine: spec.EngineOwn}, iolog.Account{IOs: 12, Detail: iolog.DetailHistogram, Histograms: []iolog.Histogram{
		{AtNs: at.Add(5 * time.Second).UnixNano(), Length: 10 * time.Millisecond, Worker: 1, Line: 2, Write: true, IOs: 3, Errors: 1, Bytes: 8192, LongestNs: 500, OldestInFlightNs: 70,
			Counts: []iolog.Count{{Bucket: 99, IOs: 2}, {Bucket: 320, IOs: 1}}},
		{AtNs: at.Add(6 * time.Second).UnixNano(), Length: 20 * time.Millisecond, IOs: 2, Bytes: 1024, LongestNs: 300, Counts: []iolog.Count{{Bucket: 200, IOs: 2}}},
	}})
	rows, err := dataset.All(a.histograms())
	require.NoError(t, err)
	assert.Equal(t, []dataset.Histogram{
		{TsNs: at.UnixNano(), LengthNs: 10e6, Worker: 1, Op: "write", Line: 2, IOs: 3, Errors: 1, Bytes: 8192, MaxNs: 500, OldestInFlightNs: 70, Counts: "99:2 320:1"},
		{TsNs: at.Add(time.Second).UnixNano(), LengthNs: 20e6, Op: "read", IOs: 2, Bytes: 1024, MaxNs: 300, Counts: "200:2"},
	}, rows)
	a.written.IO.Rows = 7
	assert.Equal(t, a.logged.IOs, a.accounted())
	require.NoError(t, a.loadProblem(engine.Result{IOs: 12}, nil))
	a.written.IO.Rows = 6
	assert.ErrorContains(t, a.loadProblem(engine.Result{IOs: 12}, nil), "the load's log has 12 I/Os, but the tables have 11")
	a.clocks.guest = nil
	assert.Nil(t, a.histograms())
}

// TestFillLoad checks what the row says of a load that ended with I/Os in flight.
func TestFillLoad(t *testing.T) {
	at := time.Unix(1_700_000_010, 0)
	submitted := func(after time.Duration) int64 { return at.Add(5*time.Second + after).UnixNano() }
	log := iolog.Account{Detail: iolog.DetailAll, Violations: 4, Pending: []iolog.Entry{
		{SubmittedNs: submitted(2 * time.Second)}, {SubmittedNs: submitted(time.Second)}, {SubmittedNs: submitted(3 * time.Second), Write: true}}}
	a := withLog(t, campaign.AccessSpec{Engine: spec.EngineOwn, Verify: "content", RateIOPS: 100}, log)
	a.fillLoad(engine.Result{Method: "threads", Errors: 3, FirstErrno: 5}, nil)
	assert.Equal(t, int64(3), *a.row.IOPending)
	assert.Equal(t, at.Add(time.Second).UnixNano(), *a.row.PendingReadTsNs)
	assert.Equal(t, at.Add(3*time.Second).UnixNano(), *a.row.PendingWriteTsNs)
	assert.Equal(t, "threads", *a.row.IOMethod)
	assert.Equal(t, int64(3), *a.row.IOErrors)
	assert.Equal(t, int32(5), *a.row.FirstErrno)
	assert.Equal(t, int64(4), *a.row.IOViolations)
	assert.Equal(t, int64(0), *a.row.OfferedShort)

	// Without a log nothing is known except the engine that was to run.
	a = withLog(t, campaign.AccessSpec{Engine: spec.EngineOwn}, iolog.Account{})
	a.row.IORows = nil
	a.fillLoad(engine.Result{}, nil)
	assert.Equal(t, dataset.Trial{Engine: a.row.Engine}, a.row)
	assert.Equal(t, spec.EngineOwn, *a.row.Engine)
}

// TestWhenAnIOFailed: an I/O that failed before the migration is no result of the
// migration.
func TestWhenAnIOFailed(t *testing.T) {
	begun := time.Unix(1_700_000_000, 0)
	for name, test := range map[string]struct {
		last  time.Duration // time of the last failure, from the migration's beginning
		known trial.Verdict
		cause cause.Code
		want  trial.Verdict
	}{
		"in the warm-up":          {-time.Minute, trial.Valid, "", trial.Invalid},
		"after it":                {time.Second, trial.Valid, "", trial.TargetFailed},
		"beside a witness's end":  {time.Second, trial.Invalid, cause.WitnessDied, trial.TargetFailed},
		"on a path that changed":  {time.Second, trial.Invalid, cause.WANChanged, trial.Invalid},
		"on a path that was none": {time.Second, trial.Invalid, cause.WANOutOfTolerance, trial.Invalid},
	} {
		t.Run(name, func(t *testing.T) {
			a := &account{lastFailureNs: begun.Add(test.last).UnixNano(), row: dataset.Trial{IORows: new(int64)}}
			a.input.DataDir = t.TempDir()
			a.input.Ref = trial.Ref{Campaign: "c", Timeline: []trial.Mark{{Phase: trial.Migrate, At: begun}}}
			a.input.Ref.Trial.Cell.Access.Engine = spec.EngineOwn
			a.input.Known.Verdict, a.input.Known.Cause = test.known, test.cause
			a.input.Known.Collected.Machines = []string{trial.Guest}
			folder := filepath.Join(a.input.WorkFolder(), trial.Guest)
			require.NoError(t, os.MkdirAll(folder, 0o700))
			require.NoError(t, os.WriteFile(filepath.Join(folder, engine.ResultFile), []byte(`{"ios":1,"errors":1,"first_errno":5}`), 0o600))
			a.judge(judge.Judged{})
			require.Equal(t, string(test.want), a.row.Verdict, a.row.Reason)
		})
	}
}
