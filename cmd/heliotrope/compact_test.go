package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/campaign"
	"heliotrope/internal/trial"
)

// TestCompact: the dataset of a running campaign can be read between two trials, and
// everything that reports on it says first that it still runs.
func TestCompact(t *testing.T) {
	folder := dataset.CampaignFolder(t.TempDir(), "unit")
	record, err := dataset.Create(t.Context(), folder, dataset.Identity{Campaign: "unit", TestbedKind: "simulated", SpecSHA256: "spec"},
		dataset.Frozen{Trials: []campaign.Trial{{Sequence: 1, Block: 1}, {Sequence: 2, Block: 1}}})
	require.NoError(t, err)
	require.NoError(t, record.SetState(t.Context(), dataset.StateRunning))
	_, err = record.Accept(t.Context(), dataset.Attempt{Trial: dataset.Trial{Key: "00001.1", Sequence: 1, Block: 1, Attempt: 1, TestbedKind: "simulated",
		CellID: "cell", Verdict: string(trial.Invalid), Cause: "infrastructure", SpecSHA256: "spec"}})
	require.NoError(t, err)
	code, out, _ := run(t, "compact", folder)
	require.Zero(t, code)
	assert.Contains(t, out, "1 attempts in its tables")
	code, out, _ = run(t, "check", folder)
	require.Zero(t, code, out)
	assert.Contains(t, out, "the campaign still runs: this is what it has so far, of 2 trials")
	require.NoError(t, record.SetState(t.Context(), dataset.StateCancelled))
	_, out, _ = run(t, "check", folder)
	assert.Contains(t, out, "CANCELLED: 1 of 2 trials never ran")
	_, _, told := run(t, "judge", folder)
	assert.Contains(t, told, "CANCELLED: 1 of 2 trials never ran")
}
