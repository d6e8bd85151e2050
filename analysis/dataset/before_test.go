package dataset_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/analysis/dataset"
)

// before is a simulated campaign as the program left it at schema version 1, of
// commit b259373: three trials, of which each first attempt failed to provision.
const before = "testdata/campaign=before"

// copyOf is a copy of that campaign that may be written to, and the data folder that it is
// in.
func copyOf(t *testing.T) (data, folder string) {
	t.Helper()
	data = t.TempDir()
	folder = filepath.Join(data, filepath.Base(before))
	require.NoError(t, os.CopyFS(folder, os.DirFS(before)))
	return data, folder
}

// TestFoldersOfBefore checks that a campaign of schema version 1 is read completely: its
// table trials has the attempts.
func TestFoldersOfBefore(t *testing.T) {
	problems, err := dataset.Check(before)
	require.NoError(t, err)
	assert.Empty(t, problems)
	rows, err := dataset.ReadAttempts(before)
	require.NoError(t, err)
	require.Equal(t, "00001.1 00001.2 00002.1 00002.2 00003.1 00003.2", keys(rows, false))
	assert.Equal(t, "00001.2 00002.2 00003.2", keys(rows, true))
	for i, row := range rows {
		assert.Equal(t, int32(i/2+1), row.Sequence)
		assert.Equal(t, int32(i%2+1), row.Attempt)
		assert.Equal(t, "simulated", row.TestbedKind)
		assert.Nil(t, row.Engine)
		ios, err := dataset.All(dataset.ReadIO(filepath.Join(before, row.Folder, "io.parquet")))
		require.NoError(t, err)
		assert.Len(t, ios, int(*row.IORows))
		for _, io := range ios {
			assert.False(t, io.Line.Known || io.Worker.Known || io.LateNs.Known || io.Error != 0 || io.Reply)
		}
		beats, err := dataset.All(dataset.ReadHeartbeats(filepath.Join(before, row.Folder, "heartbeats.parquet")))
		require.NoError(t, err)
		assert.Len(t, beats, int(*row.HeartbeatRows))
	}
	assert.True(t, rows[1].HasIO() && !rows[0].HasIO())
	read := allParts(t, before)
	assert.Equal(t, rows[1].Key, read.Phases[0].Trial)
	for _, n := range []int{len(read.Phases), len(read.Witnesses), len(read.Certificates), len(read.Traffic), len(read.Ledger)} {
		assert.NotZero(t, n)
	}
}

// TestGoingOnFromBefore checks that such a campaign can continue, and that nothing of it is
// lost.
func TestGoingOnFromBefore(t *testing.T) {
	_, folder := copyOf(t)
	attempt(t, folder, 4, 1)
	campaign := provenance()
	campaign[dataset.KeyCampaign] = "before"
	compacted, err := dataset.CompactCampaign(folder, campaign)
	require.NoError(t, err)
	assert.Empty(t, compacted.Problems)
	old, err := dataset.ReadAttempts(before)
	require.NoError(t, err)
	rows, err := dataset.ReadAttempts(folder)
	require.NoError(t, err)
	require.Len(t, rows, len(old)+1)
	assert.Equal(t, old, rows[:len(old)])
	then, now := allParts(t, before), allParts(t, folder)
	assert.Equal(t, then.Phases, now.Phases[:len(then.Phases)])
	assert.Equal(t, then.Witnesses, now.Witnesses[:len(then.Witnesses)])
}

// TestTrials holds that table trials has each trial once, by its first result.
func TestTrials(t *testing.T) {
	folder := dataset.CampaignFolder(t.TempDir(), "test")
	for _, one := range [][2]int{{1, 1}, {2, 1}, {2, 2}, {3, 1}, {3, 2}, {3, 3}} {
		attempt(t, folder, one[0], one[1])
	}
	compact(t, folder)
	rows, err := dataset.ReadAttempts(folder)
	require.NoError(t, err)
	assert.Equal(t, "0001.1 0002.1 0002.2 0003.1 0003.2 0003.3", keys(rows, false))
	trials, err := dataset.TrialsOf(folder)
	require.NoError(t, err)
	assert.Equal(t, "0001.1 0002.1 0003.1", keys(trials, false))
	assert.Equal(t, keys(rows, true), keys(trials, true))
	check(t, folder)
}
