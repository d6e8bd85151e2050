package activities_test

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"

	"heliotrope/activities"
	"heliotrope/analysis/dataset"
	"heliotrope/internal/cause"
	"heliotrope/internal/fault"
	"heliotrope/internal/load"
	"heliotrope/internal/simulated"
	"heliotrope/internal/trial"
)

// files are all below a folder, with what is in them.
func files(t *testing.T, folder string) map[string]string {
	t.Helper()
	found := map[string]string{}
	require.NoError(t, filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		found[path] = string(text)
		return err
	}))
	return found
}

// within is call with a time limit.
func within(t *testing.T, limit time.Duration, activity, input any) error {
	t.Helper()
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	env.SetWorkerOptions(worker.Options{BackgroundActivityContext: ctx})
	env.RegisterActivity(activity)
	_, err := env.ExecuteActivity(activity, input)
	return err
}

// kept is an attempt that is in the dataset, with raw files that are kept because they are
// damaged, with its evidence, and with how its hosts were left.
func kept(t *testing.T) (*attempt, activities.TornDownInput) {
	t.Helper()
	a := newAttempt(t, simulated.Faults{}).collected(t)
	require.NoError(t, os.WriteFile(a.raw(trial.Guest, load.LogFile), []byte("no log\n"), 0o600))
	a.known.Verdict, a.known.Cause, a.known.Reason = trial.Invalid, cause.DataDamaged, "as it was told first"
	a.known.Found = must[activities.Found](t, a.collector.Evidence, activities.EvidenceInput{Target: a.target, Disk: a.known.Provisioned.Disk})
	require.Equal(t, trial.Invalid, a.conclude(t).Verdict)
	require.True(t, exists(t, a.raw("kept", "")))
	a.enter(trial.Teardown)
	torn := activities.TornDownInput{Target: a.target, Began: a.target.Ref.Now}
	torn.TornDown = must[activities.TornDown](t, a.testbed.Teardown, a.target)
	must[any](t, a.collector.TornDown, torn)
	require.Equal(t, int32(0), *a.row(t).Leftovers)
	return a, torn
}

// TestAConcludedAttemptStays: a workflow that continues from an old copy of the server's
// database changes nothing of an attempt that is in the dataset, wherever it continues.
func TestAConcludedAttemptStays(t *testing.T) {
	a, torn := kept(t)
	before := files(t, a.target.DataDir)
	torn.TornDown = activities.TornDown{}
	a.target.Ref.Now = a.target.Ref.Now.Add(time.Hour)
	evidence := activities.EvidenceInput{Target: a.target, Disk: a.known.Provisioned.Disk}
	for name, step := range map[string]struct {
		activity, input any
		refused         bool
	}{
		"sweep":    {a.testbed.Sweep, activities.SweepInput{Target: a.target}, true},
		"certify":  {a.certifier.Certify, a.certifyInput(activities.BeforeTrial), true},
		"clocks":   {a.certifier.FollowClocks, a.target, true},
		"migrate":  {a.migrator.Migrate, a.migrateInput(), true},
		"pause":    {a.migrator.Pause, activities.PauseInput{Target: a.target, Domain: a.known.Provisioned.Domain, Hold: time.Second}, true},
		"collect":  {a.collector.Collect, activities.CollectInput{Target: a.target, Failed: true}, true},
		"evidence": {a.collector.Evidence, evidence, false},
		"conclude": {a.collector.Conclude, a.concludeInput(), false},
		"teardown": {a.testbed.Teardown, a.target, false},
		"torn":     {a.collector.TornDown, torn, false},
	} {
		t.Run(name, func(t *testing.T) {
			err := within(t, 20*time.Second, step.activity, step.input)
			if step.refused {
				wantClass(t, err, fault.Invalid)
				require.ErrorContains(t, err, "the dataset has attempt 00007.1 already")
			} else {
				require.NoError(t, err)
			}
			assert.Equal(t, before, files(t, a.target.DataDir))
		})
	}
	found := must[activities.Found](t, a.collector.Evidence, evidence)
	assert.Equal(t, activities.Found{}, found)
	assert.Equal(t, int32(0), *a.row(t).Leftovers)
	problems, err := dataset.Check(dataset.CampaignFolder(a.target.DataDir, "unit"))
	require.NoError(t, err)
	assert.Empty(t, problems)
}

// TestADoneTrialIsNotBegunAgain: the workflow of the previous attempt was terminated, but
// the attempt was concluded while the next one began.
func TestADoneTrialIsNotBegunAgain(t *testing.T) {
	a := newAttempt(t, simulated.Faults{})
	record, err := dataset.Open(t.Context(), dataset.CampaignFolder(a.target.DataDir, "unit"), "")
	require.NoError(t, err)
	_, err = record.Accept(t.Context(), dataset.Attempt{Trial: dataset.Trial{Key: a.target.Ref.Key(), Sequence: 7, Attempt: 1,
		TestbedKind: "simulated", Verdict: string(trial.Valid)}})
	require.NoError(t, err)
	next := a.target
	next.Ref.Attempt++
	err = within(t, 20*time.Second, a.testbed.Sweep, activities.SweepInput{Target: next})
	wantClass(t, err, fault.Invalid)
	require.ErrorContains(t, err, "trial 7 has a result")
}

// TestOneWritesAnAttempt: an earlier try that was given up may still be writing. The next
// try waits until it ends, or gives up when its context ends.
func TestOneWritesAnAttempt(t *testing.T) {
	a := newAttempt(t, simulated.Faults{}).collected(t)
	before := files(t, a.target.DataDir)
	lock := a.target.WorkFolder() + ".lock"
	unlock, err := dataset.Lock(t.Context(), lock)
	require.NoError(t, err)
	require.Error(t, within(t, time.Second, a.collector.Collect, activities.CollectInput{Target: a.target}))
	require.Error(t, within(t, time.Second, a.collector.Evidence, activities.EvidenceInput{Target: a.target}))
	unlock()
	require.NoError(t, os.Remove(lock))
	assert.Equal(t, before, files(t, a.target.DataDir))
	must[activities.Found](t, a.collector.Evidence, activities.EvidenceInput{Target: a.target})
	assert.NoFileExists(t, lock)
}

// TestAClaimSaysThatTheCampaignRuns: even when its folder says that it has ended, which
// happens when the server's database is an old copy.
func TestAClaimSaysThatTheCampaignRuns(t *testing.T) {
	p := plan(t)
	record, err := p.Records.Open(t.Context(), activities.Target{DataDir: p.input.DataDir, Ref: trial.Ref{Campaign: "unit"}})
	require.NoError(t, err)
	says := func(want string) {
		t.Helper()
		state, err := dataset.ReadState(record.Folder())
		require.NoError(t, err)
		assert.Equal(t, want, state.State)
	}
	require.NoError(t, record.SetState(t.Context(), dataset.StateFinished))
	p.claim(t, "") // only asks what is left
	says(dataset.StateFinished)
	p.claim(t, "a")
	says(dataset.StateRunning)
}
