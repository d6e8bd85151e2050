package judge_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/analysis/dataset"
	"heliotrope/analysis/judge"
	"heliotrope/internal/trial"
)

// TestFoldersOfBefore checks that attempts of schema version 1 can be judged again, and
// that their witnesses say the same.
func TestFoldersOfBefore(t *testing.T) {
	const folder = "../dataset/testdata/campaign=before"
	attempts, err := judge.ReadAttempts(folder)
	require.NoError(t, err)
	require.Len(t, attempts.Trials, 6)
	witnesses, err := dataset.ReadWitnesses(folder)
	require.NoError(t, err)
	var again []dataset.Witness
	for _, row := range attempts.Trials {
		before := row
		judged, err := judge.Judge(&row, attempts.Raw(&before), judge.DefaultLimits())
		require.NoError(t, err, row.Key)
		again = append(again, judged.Witnesses...)
		assert.Equal(t, before.BlackoutMs, row.BlackoutMs, row.Key)
		assert.Equal(t, before.IORows, row.IORows, row.Key)
		assert.Equal(t, before.Steady, row.Steady, row.Key)
		assert.Equal(t, before.LongestGapMs, row.LongestGapMs, row.Key)
		if before.Verdict == string(trial.Valid) {
			assert.Empty(t, judged.Verdict, "%s: %s", row.Key, judged.Reason)
			assert.Len(t, judged.Phases, 3, row.Key)
		}
	}
	assert.ElementsMatch(t, witnesses, again)
}
