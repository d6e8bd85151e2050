package activities

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/fault"
	"heliotrope/internal/trial"
)

// lockOf makes a campaign's folder, and returns the path of the lock that its writers hold.
func lockOf(t *testing.T, dataDir, name string) (lock string) {
	t.Helper()
	record, err := dataset.Create(t.Context(), dataset.CampaignFolder(dataDir, name), dataset.Identity{Campaign: name, TestbedKind: "simulated"}, dataset.Frozen{})
	require.NoError(t, err)
	return filepath.Join(record.Folder(), "control", "lock")
}

// TestALockedFolderHoldsNobodyUp: it only holds up callers that want this folder. They wait
// until their time is over, and are told who holds the lock.
func TestALockedFolderHoldsNobodyUp(t *testing.T) {
	data := t.TempDir()
	lock := lockOf(t, data, "locked")
	lockOf(t, data, "other")
	unlock, err := dataset.Lock(t.Context(), lock)
	require.NoError(t, err)
	synctest.Test(t, func(t *testing.T) {
		records := &Records{}
		ctx, giveUp := context.WithCancelCause(t.Context())
		failed := make(chan error, 2)
		for range 2 {
			go func() {
				_, err := records.of(ctx, data, "locked", "")
				failed <- err
			}()
		}
		synctest.Wait() // one waits for the lock, the other one for its turn
		_, err := records.of(t.Context(), data, "other", "")
		require.NoError(t, err)
		late := errors.New("it took too long")
		giveUp(late)
		first, second := <-failed, <-failed
		require.ErrorIs(t, first, late)
		require.ErrorIs(t, second, late)
		assert.Regexp(t, `which process \d+ \(.+\) holds`, errors.Join(first, second).Error())
		unlock()
		_, err = records.of(t.Context(), data, "locked", "")
		require.NoError(t, err)
	})
}

// TestNoNameLeadsElsewhere: a workflow's input comes from anybody who may start one, and
// must make, open and remove nothing except a campaign's folder in a data folder.
func TestNoNameLeadsElsewhere(t *testing.T) {
	data := t.TempDir()
	lockOf(t, data, "good")
	records := &Records{}
	_, err := records.of(t.Context(), data, "good", "")
	require.NoError(t, err)
	for _, bad := range []struct{ dataDir, name string }{
		{data, "../good"}, {data, "good/../good"}, {data, ""}, {data, "."}, {data, "Good"}, {data, "a b"},
		{data + "/", "good"}, {data + "/../" + filepath.Base(data), "good"}, {"", "good"}, {"data", "good"},
	} {
		target := Target{DataDir: bad.dataDir, Ref: trial.Ref{Campaign: bad.name, Attempt: 1}}
		_, of := records.of(t.Context(), bad.dataDir, bad.name, "")
		_, create := records.create(t.Context(), bad.dataDir, dataset.Identity{Campaign: bad.name, TestbedKind: "simulated"}, dataset.Frozen{})
		_, lock := lockAttempt(t.Context(), target)
		for what, err := range map[string]error{"open": of, "create": create, "make a folder": makeFolder(target, filepath.Join(data, "made")), "lock": lock} {
			assert.Equal(t, fault.BadInput, fault.Of(err), "%s %q in %q: %v", what, bad.name, bad.dataDir, err)
		}
	}
	assert.NoDirExists(t, filepath.Join(data, "made"))
}

// TestLetGo: a folder is opened once until it is let go.
func TestLetGo(t *testing.T) {
	data := t.TempDir()
	lockOf(t, data, "ended")
	records := &Records{}
	open := func() *dataset.Record {
		record, err := records.of(t.Context(), data, "ended", "")
		require.NoError(t, err)
		return record
	}
	first := open()
	assert.Same(t, first, open())
	records.letGo(first)
	assert.NotSame(t, first, open())
}
