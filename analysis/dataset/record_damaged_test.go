package dataset_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/fault"
	"heliotrope/internal/trial"
)

// flip changes a byte of a file, counted from the end when at is negative, as a bad disk
// does: the file's size and times stay.
func flip(t *testing.T, path string, at int) {
	t.Helper()
	info, err := os.Stat(path)
	require.NoError(t, err)
	content := load(t, path)
	content[(len(content)+at)%len(content)] ^= 0xff
	store(t, path, content)
	require.NoError(t, os.Chtimes(path, info.ModTime(), info.ModTime()))
}

// TestDamagedAttemptsStay: a table of attempts that is damaged while the campaign runs is
// not replaced by one that has forgotten what is done.
func TestDamagedAttemptsStay(t *testing.T) {
	r := record(t, frozen(2))
	accept(t, r, "00001.1", trial.Valid, "")
	accept(t, r, "00002.1", trial.Valid, "")
	_, err := r.Compact(t.Context(), "v1")
	require.NoError(t, err)
	path := filepath.Join(r.Folder(), "attempts.parquet")
	whole := load(t, path)
	flip(t, path, -6)
	damaged := load(t, path)
	accept(t, r, "00003.1", trial.Valid, "")
	_, err = r.Compact(t.Context(), "v1")
	wantClass(t, err, fault.BadInput)
	assert.Equal(t, damaged, load(t, path))
	assert.NoFileExists(t, path+".damaged")

	store(t, path, whole)
	compacted, err := r.Compact(t.Context(), "v1")
	require.NoError(t, err)
	assert.Equal(t, 3, compacted.Trials)
	again, err := dataset.Open(t.Context(), r.Folder(), "")
	require.NoError(t, err)
	assert.Equal(t, []bool{true, true, true}, []bool{again.Done(1), again.Done(2), again.Done(3)})
}

// TestCompactMissesNone: when an older table is in the place of the newest, and nothing
// else tells them apart, it replaces nothing.
func TestCompactMissesNone(t *testing.T) {
	r := record(t, frozen(2))
	path := filepath.Join(r.Folder(), "attempts.parquet")
	accept(t, r, "00001.1", trial.Valid, "")
	_, err := r.Compact(t.Context(), "v1")
	require.NoError(t, err)
	accept(t, r, "00002.1", trial.Valid, "")
	segment := filepath.Join(r.Folder(), "segments", "trial-00002.1.arrows")
	info, err := os.Stat(filepath.Dir(segment))
	require.NoError(t, err)
	away := segment + ".away"
	require.NoError(t, os.Rename(segment, away))
	require.NoError(t, os.Chtimes(filepath.Dir(segment), info.ModTime(), info.ModTime()))
	before := load(t, path)
	_, err = r.Compact(t.Context(), "v1")
	wantClass(t, err, fault.BadInput)
	assert.Contains(t, err.Error(), "00002.1")
	assert.Equal(t, before, load(t, path))
	require.NoError(t, os.Rename(away, segment))
	compacted, err := r.Compact(t.Context(), "v1")
	require.NoError(t, err)
	assert.Equal(t, 2, compacted.Trials)
}

// TestTeardownOfAnUnknownAttempt: in a folder that is older than identities, the table of
// attempts may be set aside. How hosts were left is then not put into another attempt's
// row.
func TestTeardownOfAnUnknownAttempt(t *testing.T) {
	for _, others := range []bool{false, true} {
		r := record(t, frozen(2))
		accept(t, r, "00001.1", trial.Valid, "")
		require.NoError(t, r.TornDown(t.Context(), dataset.Teardown{Trial: "00001.1", BeganTsNs: 1, EndedTsNs: 2, Leftovers: ptr(int32(7))}))
		compact(t, r.Folder())
		if others {
			accept(t, r, "00002.1", trial.Valid, "")
		}
		require.NoError(t, os.Remove(filepath.Join(r.Folder(), "identity.json")))
		flip(t, filepath.Join(r.Folder(), "attempts.parquet"), -6)
		compact(t, r.Folder(), "attempts.parquet.damaged")
		attempts, _ := rows(t, r.Folder())
		for _, row := range attempts {
			assert.Nil(t, row.Leftovers, row.Key)
		}
	}
}

// TestDamagedSegmentIsRunAgain: a trial whose row was set aside counts neither as done nor
// as missing from the plan, and the number of its attempt is used.
func TestDamagedSegmentIsRunAgain(t *testing.T) {
	r := record(t, frozen(1))
	for _, key := range []string{"00001.1", "00002.1", "00003.1"} {
		accept(t, r, key, trial.Valid, "")
	}
	segment := filepath.Join(r.Folder(), "segments", "trial-00001.1.arrows")
	flip(t, segment, 40)
	require.NoError(t, r.SetState(t.Context(), dataset.StateFinished))
	compacted, err := r.Compact(t.Context(), "v1")
	require.NoError(t, err)
	expect(t, compacted.Problems, "segments/trial-00001.1.arrows.damaged")
	assert.Equal(t, 2, compacted.Trials)
	trials, err := dataset.All(dataset.ReadTrials(r.Folder()))
	require.NoError(t, err)
	require.Len(t, trials, 3, "a row of each trial, also of those that never ran")
	assert.Equal(t, []string{"00001.0", string(trial.Skipped)}, []string{trials[0].Key, trials[0].Verdict})
	state, err := dataset.ReadState(r.Folder())
	require.NoError(t, err)
	assert.Equal(t, 1, state.NeverRun)
	again, err := dataset.Open(t.Context(), r.Folder(), "")
	require.NoError(t, err)
	for _, r := range []*dataset.Record{r, again} {
		assert.Equal(t, 2, r.Counts().Done())
		assert.Equal(t, "00001.2", next(t, r, "a"))
	}
}

// TestUnreadableIsNotDamaged: a file that cannot be read at the moment is not set aside,
// because its content may be intact.
func TestUnreadableIsNotDamaged(t *testing.T) {
	for _, name := range []string{"segments/trial-00002.1.arrows", "segments/phases-00001.1.arrows"} {
		t.Run(name, func(t *testing.T) {
			r := record(t, frozen(1))
			accept(t, r, "00001.1", trial.Valid, "")
			path := filepath.Join(r.Folder(), filepath.FromSlash(name))
			require.NoError(t, os.RemoveAll(path))
			// Reading a process' memory at 0 is an input/output error, as a bad disk's.
			require.NoError(t, os.Symlink("/proc/self/mem", path))
			_, err := r.Compact(t.Context(), "v1")
			wantClass(t, err, fault.Infrastructure)
			var damaged *dataset.DamagedError
			assert.NotErrorAs(t, err, &damaged)
			var system syscall.Errno
			assert.ErrorAs(t, err, &system)
			_, err = os.Lstat(path)
			assert.NoError(t, err, "it is where it was")
		})
	}
}

// TestDamagedEvents: a campaign whose events cannot be read is told so, and is not told to
// try again for ever.
func TestDamagedEvents(t *testing.T) {
	r := record(t, frozen(1))
	accept(t, r, "00001.1", trial.Valid, "")
	require.NoError(t, r.Event(t.Context(), dataset.CampaignEvent{Name: "pause"}))
	segment := filepath.Join(r.Folder(), "segments", "campaign_events-000001.arrows")
	whole := load(t, segment)
	flip(t, segment, 40)
	_, err := r.Compact(t.Context(), "v1")
	wantClass(t, err, fault.BadInput)
	_, err = dataset.ReadCampaignEvents(r.Folder())
	wantClass(t, err, fault.BadInput)
	store(t, segment, whole)
	_, err = r.Compact(t.Context(), "v1")
	require.NoError(t, err)
}

// TestDueAfterAFailure: rows that cannot be merged are not read again after every attempt.
func TestDueAfterAFailure(t *testing.T) {
	for _, test := range []struct {
		loose, failedAt, all int
		want                 bool
	}{
		{199, 0, 199, false}, {200, 0, 200, true},
		{200, 200, 200, false}, {399, 200, 399, false}, {400, 200, 400, true},
		{300, 0, 1600, false}, {325, 0, 1625, true}, {400, 325, 1700, false}, {650, 325, 1950, true},
		{200, 400, 600, true}, // somebody else has merged them
	} {
		assert.Equal(t, test.want, dataset.Due(test.loose, test.failedAt, test.all), "%+v", test)
	}
}
