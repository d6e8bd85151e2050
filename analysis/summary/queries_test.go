package summary_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/analysis/asktest"
	"heliotrope/analysis/dataset"
	"heliotrope/analysis/summary"
	"heliotrope/internal/trial"
)

// dictionary is a copy of the data dictionary that names the campaign.
func dictionary(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/dataset.md")
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "dataset.md")
	require.NoError(t, os.WriteFile(path, []byte(strings.ReplaceAll(string(text), "campaign=NAME", "campaign=quick")), 0o644))
	return path
}

// The queries in README and in the data dictionary run, and group as the summary does: by
// cell, each direction by itself, with failures as ∞.
func TestQueriesOfDocuments(t *testing.T) {
	data := t.TempDir()
	folder := dataset.CampaignFolder(data, "quick")
	provenance := dataset.Provenance{dataset.KeyCampaign: "quick", dataset.KeyTestbedKind: "emulated"}
	all := measured()
	for i := range all.Trials {
		row := &all.Trials[i]
		row.Attempt, row.Direction = 1, []string{"outbound", "outbound", "outbound", "return", "outbound", "return"}[i]
		row.Folder = dataset.TrialFolder(row.Storage, row.RTTMs, row.Key)
		written, err := dataset.WriteTrial(dataset.TrialFiles{CampaignFolder: folder, Folder: row.Folder, Provenance: provenance,
			IO: dataset.Rows([]dataset.IO{{Op: dataset.OpRead, LatencyNs: int64(i+1) * 1e6}, {Op: dataset.OpWrite, LatencyNs: int64(i+1) * 3e6}})})
		require.NoError(t, err)
		row.SetFiles(written)
	}
	all.Trials[5].Verdict, all.Trials[5].Cause = string(trial.TargetFailed), "guest-hung"
	for i, row := range all.Trials {
		require.NoError(t, dataset.WriteAttempt(folder, dataset.Attempt{Trial: row, Phases: all.Phases[3*i : 3*i+3], Witnesses: all.Witnesses[4*i : 4*i+4]}))
	}
	_, err := dataset.CompactCampaign(folder, provenance)
	require.NoError(t, err)

	results := asktest.Ask(t, "duckdb", "../../README.md", data)
	require.Len(t, results, 4)
	results = append(results, asktest.Ask(t, "duckdb", dictionary(t), data)...)
	require.Len(t, results, 5)
	for _, result := range results {
		assert.NotEmpty(t, result.Rows, result.Statement)
		for _, want := range []string{"cell_id", "direction", "NOT sentinel"} {
			assert.Contains(t, result.Statement, want)
		}
	}

	made, err := summary.Read(folder)
	require.NoError(t, err)
	migrations := results[0].Rows
	require.Len(t, migrations, len(made.Cells))
	require.Len(t, migrations, 4)
	for _, cell := range made.Cells {
		found := false
		for _, row := range migrations {
			if row["cell_id"] != cell.ID || row["direction"] != cell.Direction {
				continue
			}
			found = true
			assert.Equal(t, float64(cell.Verdicts[trial.Valid]+cell.Verdicts[trial.TargetFailed]), asktest.Number(t, row["trials"]), cell.ID)
			assert.Equal(t, float64(cell.Verdicts[trial.TargetFailed]), asktest.Number(t, row["failed"]), cell.ID)
			assert.Equal(t, cell.BlackoutMs.Median, asktest.Number(t, row["blackout_ms"]), cell.ID)
		}
		assert.True(t, found, cell.ID)
	}
	// The last has the I/Os of the valid trials, each in its own cell.
	assert.Len(t, results[3].Rows, 3)
}
