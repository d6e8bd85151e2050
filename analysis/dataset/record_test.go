package dataset_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/campaign"
	"heliotrope/internal/cause"
	"heliotrope/internal/fault"
	"heliotrope/internal/trial"
)

// frozen is a plan of some blocks of three trials each.
func frozen(blocks int) dataset.Frozen {
	plan := dataset.Frozen{Spec: []byte("name: test\n"), Files: map[string][]byte{"a.icf": []byte("icf")},
		Inventories: map[string][]byte{"lane-1": []byte("name: lane-1\n")},
		Settings:    dataset.Settings{Order: campaign.OrderBlocks, Limits: campaign.Limits{Attempts: 3}}}
	for i := range 3 * blocks {
		plan.Trials = append(plan.Trials, campaign.Trial{Sequence: i + 1, Block: i/3 + 1, CellID: fmt.Sprint("cell-", i%3),
			Cell: campaign.Cell{Storage: "iscsi", RTTMs: 30}, Seed: uint64(i)})
	}
	return plan
}

func identity() dataset.Identity {
	return dataset.Identity{Campaign: "test", TestbedKind: "simulated", SpecSHA256: "abcd", Program: "v1"}
}

// record makes a campaign's folder.
func record(t *testing.T, plan dataset.Frozen) *dataset.Record {
	t.Helper()
	r, err := dataset.Create(t.Context(), dataset.CampaignFolder(t.TempDir(), "test"), identity(), plan)
	require.NoError(t, err)
	return r
}

// outcome is an attempt with this verdict and cause.
func outcome(key string, verdict trial.Verdict, code cause.Code) dataset.Attempt {
	var sequence, number int
	if _, err := fmt.Sscanf(key, "%d.%d", &sequence, &number); err != nil {
		panic(err)
	}
	row, _ := someTrial(sequence, number)
	row.Key, row.Block, row.Verdict, row.Cause, row.Folder = key, int32((sequence-1)/3+1), string(verdict), string(code), ""
	return dataset.Attempt{Trial: row}
}

func accept(t *testing.T, r *dataset.Record, key string, verdict trial.Verdict, code cause.Code) dataset.Accepted {
	t.Helper()
	accepted, err := r.Accept(t.Context(), outcome(key, verdict, code))
	require.NoError(t, err)
	return accepted
}

// next is the key of the attempt that a lane gets; "" when it gets none.
func next(t *testing.T, r *dataset.Record, lane string) string {
	t.Helper()
	claimed, found, err := r.Claim(t.Context(), lane)
	require.NoError(t, err)
	if !found {
		return ""
	}
	return trial.Ref{Trial: claimed.Trial, Attempt: claimed.Attempt}.Key()
}

func wantClass(t *testing.T, err error, class fault.Class) {
	t.Helper()
	require.Error(t, err)
	assert.Equal(t, class, fault.Of(err), err.Error())
}

// TestCreateOnce: a folder belongs to one campaign, and is begun once.
func TestCreateOnce(t *testing.T) {
	folder := dataset.CampaignFolder(t.TempDir(), "test")
	first, err := dataset.Create(t.Context(), folder, identity(), frozen(2))
	require.NoError(t, err)
	for name, text := range map[string]string{"plan/campaign.yaml": "name: test\n", "plan/files/a.icf": "icf", "plan/inventory-lane-1.yaml": "name: lane-1\n"} {
		assert.Equal(t, text, string(load(t, filepath.Join(folder, name))))
	}
	// A newer program may plan differently: what was begun stays.
	again, err := dataset.Create(t.Context(), folder, identity(), frozen(5))
	require.NoError(t, err)
	assert.Equal(t, first.Identity(), again.Identity())
	assert.Len(t, again.Plan(), 6)
	assert.Equal(t, 3, again.Settings().Limits.Attempts)
	for _, change := range []func(*dataset.Identity){func(i *dataset.Identity) { i.SpecSHA256 = "other" },
		func(i *dataset.Identity) { i.Campaign = "other" }, func(i *dataset.Identity) { i.TestbedKind = "emulated" }} {
		other := identity()
		change(&other)
		_, err := dataset.Create(t.Context(), folder, other, frozen(2))
		wantClass(t, err, fault.BadInput)
	}
	// Rows that are older than identities belong to no known campaign.
	old := dataset.CampaignFolder(t.TempDir(), "test")
	attempt(t, old, 1, 1)
	_, err = dataset.Create(t.Context(), old, identity(), frozen(2))
	wantClass(t, err, fault.BadInput)
}

// TestNothingIsMadeBelowAMountPoint: a folder that is away is waited for, and another
// folder in its place is refused.
func TestNothingIsMadeBelowAMountPoint(t *testing.T) {
	r := record(t, frozen(1))
	away := r.Folder() + ".away"
	require.NoError(t, os.Rename(r.Folder(), away))
	_, err := dataset.Open(t.Context(), r.Folder(), "")
	wantClass(t, err, fault.Infrastructure)
	_, err = r.Accept(t.Context(), outcome("00001.1", trial.Valid, ""))
	wantClass(t, err, fault.Infrastructure)
	_, _, err = r.Claim(t.Context(), "a")
	wantClass(t, err, fault.Infrastructure)
	wantClass(t, r.TornDown(t.Context(), dataset.Teardown{Trial: "00001.1"}), fault.Infrastructure)
	wantClass(t, r.Event(t.Context(), dataset.CampaignEvent{Name: "pause"}), fault.Infrastructure)
	assert.NoDirExists(t, r.Folder())

	_, err = dataset.Create(t.Context(), r.Folder(), identity(), frozen(1))
	require.NoError(t, err)
	_, err = r.Accept(t.Context(), outcome("00001.1", trial.Valid, ""))
	wantClass(t, err, fault.BadInput)
	_, err = dataset.Open(t.Context(), r.Folder(), r.Identity().ID)
	wantClass(t, err, fault.BadInput)
	require.NoError(t, os.RemoveAll(r.Folder()))
	require.NoError(t, os.Rename(away, r.Folder()))
	accept(t, r, "00001.1", trial.Valid, "")
}

// TestAcceptOnce: the first caller that concludes an attempt has concluded it.
func TestAcceptOnce(t *testing.T) {
	r := record(t, frozen(1))
	other, err := dataset.Open(t.Context(), r.Folder(), "")
	require.NoError(t, err)
	var waiting sync.WaitGroup
	accepted := make([]dataset.Accepted, 8)
	for i := range accepted {
		waiting.Go(func() {
			verdict := []trial.Verdict{trial.Valid, trial.Skipped}[i%2]
			to := []*dataset.Record{r, other}[i/4]
			var err error
			accepted[i], err = to.Accept(context.Background(), outcome("00001.1", verdict, ""))
			assert.NoError(t, err)
		})
	}
	waiting.Wait()
	fresh := 0
	for _, one := range accepted {
		assert.Equal(t, accepted[0].Row.Verdict, one.Row.Verdict)
		if one.New {
			fresh++
		}
	}
	assert.Equal(t, 1, fresh)
	_, err = r.Accept(t.Context(), func() dataset.Attempt {
		bad := outcome("00002.1", trial.Valid, "")
		bad.Trial.TestbedKind = "emulated"
		return bad
	}())
	wantClass(t, err, fault.BadInput)
}

// TestAcceptAfterACrash: when accepting is killed at any of its steps and repeated, the
// attempt is there once, as if nothing had happened.
func TestAcceptAfterACrash(t *testing.T) {
	r := record(t, frozen(1))
	before := tree(t, r.Folder())
	accept(t, r, "00001.1", trial.Valid, "")
	after := tree(t, r.Folder())
	var steps []string
	for name := range after {
		if before[name] == nil {
			steps = append(steps, name)
		}
	}
	// The parts in any order, and the row last.
	slices.SortFunc(steps, func(a, b string) int {
		last := func(name string) int { return strings.Count(name, "segments/trial-") }
		return last(a) - last(b)
	})
	require.Len(t, steps, 6)
	for done := range len(steps) + 1 {
		state := maps.Clone(before)
		for _, name := range steps[:done] {
			state[name] = after[name]
		}
		if done < len(steps) {
			state[steps[done]+".tmp"] = after[steps[done]][:10]
		}
		folder := dataset.CampaignFolder(t.TempDir(), "test")
		plant(t, folder, state)
		again, err := dataset.Open(t.Context(), folder, "")
		require.NoError(t, err)
		assert.Equal(t, done == len(steps), again.Done(1), "after %d steps", done)
		assert.Equal(t, done < len(steps), accept(t, again, "00001.1", trial.Valid, "").New)
		assert.Equal(t, 1, again.Counts().Done())
		got := tree(t, folder)
		assert.True(t, maps.EqualFunc(got, after, slices.Equal), "after %d steps: %q", done, slices.Sorted(maps.Keys(got)))
	}
}

// TestClaim: each block belongs to one lane, and what is done is not done again.
func TestClaim(t *testing.T) {
	r := record(t, frozen(3))
	require.NoError(t, r.Begin(t.Context(), "run-1"))
	assert.Equal(t, "00001.1", next(t, r, "a"))
	assert.Equal(t, "00001.1", next(t, r, "a"), "asked again")
	assert.Equal(t, "00004.1", next(t, r, "b"))
	accept(t, r, "00001.1", trial.Valid, "")
	assert.Equal(t, "00002.1", next(t, r, "a"))
	accept(t, r, "00002.1", trial.Invalid, cause.ClockJumped)
	assert.Equal(t, "00002.2", next(t, r, "a"), "tried again")
	accept(t, r, "00002.2", trial.Invalid, cause.ClockJumped)
	accept(t, r, "00002.3", trial.Invalid, cause.ClockJumped)
	assert.Equal(t, "00003.1", next(t, r, "a"), "its attempts are used up")
	assert.Equal(t, 7, r.Left())

	// A controller that is killed remembers nothing, and goes on.
	again, err := dataset.Open(t.Context(), r.Folder(), r.Identity().ID)
	require.NoError(t, err)
	require.NoError(t, again.Begin(t.Context(), "run-1"))
	assert.Equal(t, "00004.1", next(t, again, "b"))
	assert.Equal(t, "00003.1", next(t, again, "a"))
	accept(t, again, "00003.1", trial.TargetFailed, cause.IOError)
	assert.Equal(t, "00007.1", next(t, again, "a"))
	assert.Empty(t, next(t, again, "c"), "the other lanes have the rest")
	require.NoError(t, again.GiveBack(t.Context(), "b"))
	assert.Equal(t, "00004.1", next(t, again, "c"))
	assert.Empty(t, next(t, again, "b"))

	// In another execution, lanes of the earlier one have no claims.
	require.NoError(t, again.Begin(t.Context(), "run-2"))
	assert.Equal(t, "00004.1", next(t, again, "z"))

	counts := again.Counts()
	assert.Equal(t, map[trial.Verdict]int{trial.Valid: 1, trial.Invalid: 1, trial.TargetFailed: 1}, counts.Verdicts)
	assert.Equal(t, map[cause.Code]int{cause.ClockJumped: 1, cause.IOError: 1}, counts.Causes)
	assert.Equal(t, []int{9, 2, 3}, []int{counts.Total, counts.Retried, counts.Done()})
	assert.Equal(t, 300.0, counts.Seconds)
	assert.Equal(t, 1, again.BlocksDone())
}

// TestHostsHoldABlockUp: a trial that the hosts prevent from being measured waits until the
// rest of its block is done.
func TestHostsHoldABlockUp(t *testing.T) {
	r := record(t, frozen(1))
	for n := range 10 {
		assert.Equal(t, fmt.Sprintf("00001.%d", n+1), next(t, r, "a"))
		accept(t, r, fmt.Sprintf("00001.%d", n+1), trial.Invalid, cause.Infrastructure)
	}
	for _, key := range []string{"00002.1", "00003.1", "00001.11"} {
		assert.Equal(t, key, next(t, r, "a"))
		accept(t, r, key, trial.Valid, "")
	}
	assert.Empty(t, next(t, r, "a"))
}

// TestSequential: without blocks, lanes share the trials one by one.
func TestSequential(t *testing.T) {
	plan := frozen(1)
	plan.Settings.Order = campaign.OrderSequential
	r := record(t, plan)
	assert.Equal(t, "00001.1", next(t, r, "a"))
	assert.Equal(t, "00002.1", next(t, r, "b"))
	accept(t, r, "00001.1", trial.Valid, "")
	assert.Equal(t, "00003.1", next(t, r, "a"))
}

// TestDoubleResult: a second result of a trial is kept, does not count, and is noted. A
// later attempt without a result changes nothing.
func TestDoubleResult(t *testing.T) {
	r := record(t, frozen(1))
	accept(t, r, "00001.1", trial.Invalid, cause.ClockJumped)
	accept(t, r, "00001.2", trial.Valid, "")
	accept(t, r, "00001.3", trial.Valid, "")
	accept(t, r, "00001.4", trial.Skipped, cause.Cancelled)
	assert.Equal(t, "00001.2", keys(slices.DeleteFunc(r.Rows(0), func(row dataset.Trial) bool { return !row.Counted }), true))
	assert.Equal(t, map[trial.Verdict]int{trial.Valid: 1}, r.Counts().Verdicts)
	events, err := dataset.ReadCampaignEvents(r.Folder())
	require.NoError(t, err)
	require.Len(t, events, 1)
	assert.Equal(t, dataset.EventDouble, events[0].Name)
	compact(t, r.Folder())
	trials, _ := rows(t, r.Folder())
	assert.Equal(t, "00001.2", keys(trials, true))
}

// TestAmendments: skipped and added trials are read back, and are noted once.
func TestAmendments(t *testing.T) {
	r := record(t, frozen(1))
	ctx := t.Context()
	added := campaign.Trial{Sequence: 4, Block: 2, CellID: "more"}
	for range 2 {
		require.NoError(t, r.Event(ctx, dataset.CampaignEvent{ID: "update-1", Name: "skip", Amendment: campaign.Amendment{Skip: []int{1}}.Text()}))
		require.NoError(t, r.Event(ctx, dataset.CampaignEvent{ID: "update-2", Name: "add", By: "ann@ws", Why: "more", Amendment: campaign.Amendment{Trials: []campaign.Trial{added}}.Text()}))
	}
	wantClass(t, r.Event(ctx, dataset.CampaignEvent{Name: "skip", Amendment: campaign.Amendment{Skip: []int{5}}.Text()}), fault.BadInput)
	wantClass(t, r.Event(ctx, dataset.CampaignEvent{Name: "add", Amendment: campaign.Amendment{Trials: []campaign.Trial{added}}.Text()}), fault.BadInput)
	for range 2 {
		assert.True(t, r.Done(1))
		assert.Equal(t, "00002.1", next(t, r, "a"))
		assert.Equal(t, 4, r.Counts().Total)
		assert.Equal(t, map[trial.Verdict]int{trial.Skipped: 1}, r.Counts().Verdicts)
		events, err := dataset.ReadCampaignEvents(r.Folder())
		require.NoError(t, err)
		require.Len(t, events, 2)
		assert.Equal(t, []any{int32(2), "ann@ws", "more"}, []any{events[1].Number, events[1].By, events[1].Why})
		again, err := dataset.Open(t.Context(), r.Folder(), "")
		require.NoError(t, err)
		r = again
	}
}

// TestLookOnce: a look uses whole blocks, and its result stays.
func TestLookOnce(t *testing.T) {
	r := record(t, frozen(2))
	stop := campaign.Stop{Metric: "blackout_ms", Min: 1, Max: 2}
	made := 0
	look := func() ([]byte, error) {
		return r.Look(t.Context(), 1, stop, func(rows []dataset.Trial) ([]byte, error) {
			made++
			return fmt.Appendf(nil, "%d rows", len(rows)), nil
		})
	}
	accept(t, r, "00001.1", trial.Valid, "")
	accept(t, r, "00004.1", trial.Valid, "") // of the next block
	_, err := look()
	require.Error(t, err)
	accept(t, r, "00002.1", trial.Valid, "")
	accept(t, r, "00003.1", trial.Valid, "")
	for range 3 {
		found, err := look()
		require.NoError(t, err)
		assert.Equal(t, "3 rows", string(found))
		accept(t, r, "00003.2", trial.Valid, "")
		r, err = dataset.Open(t.Context(), r.Folder(), "")
		require.NoError(t, err)
	}
	assert.Equal(t, 1, made)
}

// TestDamagedRecord: what cannot be known is not guessed, and a number is never used twice.
func TestDamagedRecord(t *testing.T) {
	r := record(t, frozen(1))
	accept(t, r, "00001.1", trial.Valid, "")
	segment := filepath.Join(r.Folder(), "segments", "trial-00001.1.arrows")
	store(t, segment, load(t, segment)[:40])
	again, err := dataset.Open(t.Context(), r.Folder(), "")
	require.NoError(t, err)
	assert.Equal(t, "00001.2", next(t, again, "a"))
	for _, name := range []string{"plan/plan.json", "plan/settings.json", "identity.json"} {
		path := filepath.Join(r.Folder(), name)
		text := load(t, path)
		store(t, path, text[:len(text)-3])
		_, err := dataset.Open(t.Context(), r.Folder(), "")
		wantClass(t, err, fault.BadInput)
		store(t, path, text)
	}
	store(t, filepath.Join(r.Folder(), "attempts.parquet"), []byte("PAR1"))
	_, err = dataset.Open(t.Context(), r.Folder(), "")
	wantClass(t, err, fault.BadInput)
}

// TestLock: waiting for a lock ends with the context, and the lock's holder may remove its
// file.
func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := dataset.Lock(t.Context(), path)
	require.NoError(t, err)
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("gave up")
	cancel(gone)
	_, err = dataset.Lock(ctx, path)
	require.ErrorIs(t, err, gone)
	done := make(chan struct{})
	go func() {
		defer close(done)
		second, err := dataset.Lock(context.Background(), path)
		if assert.NoError(t, err) {
			second()
		}
	}()
	require.NoError(t, os.Remove(path))
	unlock()
	<-done
	assert.FileExists(t, path)
}

// TestCompactionGrowsGeometrically: however many attempts there are, each row is only
// rewritten a few times.
func TestCompactionGrowsGeometrically(t *testing.T) {
	r := record(t, frozen(300))
	written, compactions := 0, 0
	for sequence := 1; sequence <= 900; sequence++ {
		accept(t, r, fmt.Sprintf("%05d.1", sequence), trial.Valid, "")
		if r.Due() {
			compacted, err := r.Compact(t.Context(), "v1")
			require.NoError(t, err)
			require.Equal(t, sequence, compacted.Trials)
			written, compactions = written+compacted.Trials, compactions+1
		}
	}
	assert.Equal(t, []int{2000, 4}, []int{written, compactions})
	again, err := dataset.Open(t.Context(), r.Folder(), "")
	require.NoError(t, err)
	assert.Equal(t, r.Counts(), again.Counts())
	assert.False(t, again.Due())
}

// TestState: whether the campaign runs is said first, and while it runs, files on their way
// into the tables are no problems.
func TestState(t *testing.T) {
	r := record(t, frozen(1))
	require.NoError(t, r.SetState(t.Context(), dataset.StateRunning))
	says := func(text string) {
		t.Helper()
		state, err := dataset.ReadState(r.Folder())
		require.NoError(t, err)
		assert.Equal(t, text, state.Text())
	}
	says("the campaign still runs: this is what it has so far, of 3 trials")
	check(t, r.Folder())
	accept(t, r, "00001.1", trial.Valid, "")
	_, err := r.Compact(t.Context(), "v1")
	require.NoError(t, err)
	accept(t, r, "00002.1", trial.Valid, "")
	check(t, r.Folder())
	require.NoError(t, r.SetState(t.Context(), dataset.StateCancelled))
	says("CANCELLED: 1 of 3 trials never ran")
	problems, err := dataset.Check(r.Folder())
	require.NoError(t, err)
	assert.NotEmpty(t, problems)
	_, err = r.Compact(t.Context(), "v1")
	require.NoError(t, err)
	check(t, r.Folder())
	// A trial that never ran has a row in table trials, and is no attempt.
	attempts, _ := rows(t, r.Folder())
	assert.Len(t, attempts, 2)
	trials, err := dataset.All(dataset.ReadTrials(r.Folder()))
	require.NoError(t, err)
	require.Len(t, trials, 3)
	never := trials[2]
	assert.Equal(t, []any{"00003.0", "cell-2", "skipped", "cancelled", "iscsi", false}, []any{never.Key, never.CellID, never.Verdict, never.Cause, never.Storage, never.Counted})
	// What it was begun with is in the manifest.
	manifest, err := dataset.ReadManifest(r.Folder())
	require.NoError(t, err)
	var plan []string
	for _, file := range manifest.Plan {
		plan = append(plan, file.Path)
	}
	assert.Equal(t, []string{"identity.json", "plan/campaign.yaml", "plan/files/a.icf", "plan/inventory-lane-1.yaml", "plan/plan.json", "plan/settings.json"}, plan)
	store(t, filepath.Join(r.Folder(), "plan", "campaign.yaml"), []byte("name: other\n"))
	check(t, r.Folder(), "plan/campaign.yaml")
}

// TestTeardownsAreJoined: how the hosts were left is noted after the attempt's row, and is
// then part of it.
func TestTeardownsAreJoined(t *testing.T) {
	r := record(t, frozen(1))
	accept(t, r, "00001.1", trial.Valid, "")
	compact(t, r.Folder())
	teardown := dataset.Teardown{Trial: "00001.1", BeganTsNs: 7, EndedTsNs: 9, Leftovers: ptr(int32(1)), LeftoversText: "a loop device"}
	for range 2 { // noted again after a crash
		require.NoError(t, r.TornDown(t.Context(), teardown))
		compact(t, r.Folder())
		trials, _ := rows(t, r.Folder())
		assert.Equal(t, int32(1), *trials[0].Leftovers)
		assert.Equal(t, int64(7), *trials[0].PhaseTsNs[9])
		torn, err := dataset.ReadTeardowns(r.Folder())
		require.NoError(t, err)
		assert.Equal(t, []dataset.Teardown{teardown}, torn)
	}
}

// written is an attempt whose files are written, with evidence, and which has no row yet.
func written(t *testing.T, r *dataset.Record, key string) dataset.Attempt {
	t.Helper()
	one := outcome(key, trial.Valid, "")
	one.Trial.Folder = dataset.TrialFolder("iscsi", 30, key)
	one.Trial.Evidence = one.Trial.Folder + "/evidence"
	files, err := dataset.WriteTrial(dataset.TrialFiles{CampaignFolder: r.Folder(), Folder: one.Trial.Folder, Provenance: provenance(), IO: dataset.Rows(someIO(10))})
	require.NoError(t, err)
	one.Trial.SetFiles(files)
	evidence := filepath.Join(r.Folder(), filepath.FromSlash(one.Trial.Evidence))
	require.NoError(t, os.MkdirAll(evidence, 0o755))
	store(t, filepath.Join(evidence, "console.txt"), []byte("panic\n"))
	return one
}

// end ends a campaign, and returns what is wrong with its dataset.
func end(t *testing.T, r *dataset.Record) []dataset.Problem {
	t.Helper()
	require.NoError(t, r.SetState(t.Context(), dataset.StateCancelled))
	_, err := r.Compact(t.Context(), "v1")
	require.NoError(t, err)
	problems, err := dataset.Check(r.Folder())
	require.NoError(t, err)
	return problems
}

// TestFilesWithoutARow: once the campaign no longer runs, the files of an attempt whose
// workflow was terminated are removed, and no other files.
func TestFilesWithoutARow(t *testing.T) {
	r := record(t, frozen(2))
	require.NoError(t, r.SetState(t.Context(), dataset.StateRunning))
	accept := func(key string) {
		t.Helper()
		_, err := r.Accept(t.Context(), written(t, r, key))
		require.NoError(t, err)
	}
	accept("00001.1")
	_, err := r.Compact(t.Context(), "v1")
	require.NoError(t, err)
	accept("00002.2")
	before := tree(t, r.Folder())
	// It was interrupted before its row, which is written last, and was torn down
	// nevertheless.
	written(t, r, "00002.1")
	part := load(t, filepath.Join(r.Folder(), "segments", "phases-00002.2.arrows"))
	store(t, filepath.Join(r.Folder(), "segments", "phases-00002.1.arrows"), part)
	store(t, filepath.Join(r.Folder(), "segments", "ledger-00002.1.arrows.tmp"), part[:9])
	require.NoError(t, r.TornDown(t.Context(), dataset.Teardown{Trial: "00002.1"}))
	require.NoError(t, os.MkdirAll(filepath.Join(r.Folder(), "storage=iscsi", "rtt_ms=30", "attempt=00003.1"), 0o755))
	store(t, filepath.Join(r.Folder(), "storage=iscsi", "notes.txt"), []byte("somebody's\n"))
	left := tree(t, r.Folder())
	_, err = r.Compact(t.Context(), "v1")
	require.NoError(t, err)
	while := tree(t, r.Folder())
	for name := range left {
		if before[name] == nil {
			assert.Contains(t, while, name, "the campaign runs")
		}
	}

	assert.Empty(t, end(t, r))
	after := tree(t, r.Folder())
	for name, text := range after {
		assert.NotContains(t, name, "00002.1")
		if strings.Contains(name, "attempt=") {
			assert.True(t, slices.Equal(before[name], text), name)
		}
	}
	for name := range before {
		if strings.Contains(name, "attempt=") {
			assert.Contains(t, after, name)
		}
	}
	assert.NoDirExists(t, filepath.Join(r.Folder(), "storage=iscsi", "rtt_ms=30", "attempt=00003.1"))
	assert.Contains(t, after, filepath.Join("storage=iscsi", "notes.txt"))
}

// TestUnfinishedFilesGo: files that a killed process was still writing are not part of a
// dataset, even when the attempt has its row.
func TestUnfinishedFilesGo(t *testing.T) {
	r := record(t, frozen(1))
	require.NoError(t, r.SetState(t.Context(), dataset.StateRunning))
	accepted := written(t, r, "00001.1")
	_, err := r.Accept(t.Context(), accepted)
	require.NoError(t, err)
	segment := filepath.Join(r.Folder(), "segments", "teardowns-00001.1.arrows.tmp")
	counters := filepath.Join(r.Folder(), filepath.FromSlash(accepted.Trial.Folder), "counters.parquet.tmp")
	store(t, segment, []byte("ARROW"))
	store(t, counters, []byte("PAR1"))
	_, err = r.Compact(t.Context(), "v1")
	require.NoError(t, err)
	assert.FileExists(t, counters, "the campaign runs: it may be being written")
	assert.Empty(t, end(t, r))
	assert.NoFileExists(t, segment)
	assert.NoFileExists(t, counters)
}

// TestFilesOfALostRowStay: files of an attempt that had a row, or is being written, may not
// be removed.
func TestFilesOfALostRowStay(t *testing.T) {
	r := record(t, frozen(1))
	accepted := written(t, r, "00001.1")
	_, err := r.Accept(t.Context(), accepted)
	require.NoError(t, err)
	segment := filepath.Join(r.Folder(), "segments", "trial-00001.1.arrows")
	store(t, segment, load(t, segment)[:40])
	r, err = dataset.Open(t.Context(), r.Folder(), "")
	require.NoError(t, err)
	for range 2 { // the second time it is set aside
		assert.NotEmpty(t, end(t, r))
		assert.FileExists(t, filepath.Join(r.Folder(), accepted.Trial.Folder, "io.parquet"))
	}

	r = record(t, frozen(1))
	accepted = written(t, r, "00001.1")
	_, err = r.Accept(t.Context(), accepted)
	require.NoError(t, err)
	assert.Empty(t, end(t, r))
	require.NoError(t, os.Remove(filepath.Join(r.Folder(), "attempts.parquet")))
	r, err = dataset.Open(t.Context(), r.Folder(), "")
	require.NoError(t, err)
	end(t, r)
	assert.FileExists(t, filepath.Join(r.Folder(), accepted.Trial.Folder, "io.parquet"), "it is in the manifest")

	r = record(t, frozen(1))
	beginning := written(t, r, "00001.1")
	folder, err := os.Open(filepath.Join(r.Folder(), beginning.Trial.Folder))
	require.NoError(t, err)
	require.NoError(t, unix.Flock(int(folder.Fd()), unix.LOCK_EX))
	end(t, r)
	assert.FileExists(t, filepath.Join(r.Folder(), beginning.Trial.Folder, "io.parquet"), "it is being written")
	require.NoError(t, folder.Close())
	assert.Empty(t, end(t, r))
	// The process that had written it learns that it is gone.
	_, err = r.Accept(t.Context(), beginning)
	wantClass(t, err, fault.Infrastructure)
	assert.Empty(t, r.Rows(0))
	again := written(t, r, "00001.1")
	_, err = r.Accept(t.Context(), again)
	require.NoError(t, err)
	assert.Empty(t, end(t, r))
}

// TestNothingIsWrittenTooLate: when a caller's context ends before its turn, it has been
// told that nothing was done, and so nothing is done.
func TestNothingIsWrittenTooLate(t *testing.T) {
	r := record(t, frozen(1))
	require.NoError(t, r.Begin(t.Context(), "first"))
	before := tree(t, r.Folder())
	ctx, cancel := context.WithCancelCause(t.Context())
	late := errors.New("it took too long")
	cancel(late)
	require.ErrorIs(t, r.Event(ctx, dataset.CampaignEvent{Name: "pause"}), late)
	_, err := r.Accept(ctx, outcome("00001.1", trial.Valid, ""))
	require.ErrorIs(t, err, late)
	_, _, err = r.Claim(ctx, "a")
	require.ErrorIs(t, err, late)
	require.ErrorIs(t, r.Begin(ctx, "second"), late)
	require.ErrorIs(t, r.GiveBack(ctx, "a"), late)
	assert.Equal(t, before, tree(t, r.Folder()))
}

// TestFirstAcceptedCounts: of two results, the one that was accepted first counts, even
// when its attempt has the higher number, and wherever that is read.
func TestFirstAcceptedCounts(t *testing.T) {
	r := record(t, frozen(1))
	accept(t, r, "00001.2", trial.Valid, "")
	accept(t, r, "00001.1", trial.TargetFailed, cause.IOError)
	events, err := dataset.ReadCampaignEvents(r.Folder())
	require.NoError(t, err)
	require.Len(t, events, 1)
	assert.Contains(t, events[0].Detail, "00001.1 is a second result")
	for range 2 {
		again, err := dataset.Open(t.Context(), r.Folder(), "")
		require.NoError(t, err)
		for _, of := range []*dataset.Record{r, again} {
			assert.Equal(t, "00001.2", keys(slices.DeleteFunc(of.Rows(0), func(row dataset.Trial) bool { return !row.Counted }), true))
			assert.Equal(t, map[trial.Verdict]int{trial.Valid: 1}, of.Counts().Verdicts)
		}
		compact(t, r.Folder())
		attempts, _ := rows(t, r.Folder())
		assert.Equal(t, "00001.2", keys(attempts, true))
	}
}
