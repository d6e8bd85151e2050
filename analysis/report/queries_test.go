package report_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/analysis/dataset"
	"heliotrope/analysis/report"
	"heliotrope/internal/trial"
)

// answer is what DuckDB says to a statement.
type answer struct {
	Statement string
	Rows      []map[string]any
}

// ask asks DuckDB all statements of a document.
func ask(t *testing.T, document, data string) []answer {
	t.Helper()
	node, err := exec.LookPath("node")
	require.NoError(t, err, "node is not installed: run `make deps`")
	out, err := exec.Command(node, "../../tools/duckdb/queries.mjs", document, data).CombinedOutput()
	require.NoError(t, err, "%s (run `make test`, or `npm ci` in tools/duckdb, where DuckDB is missing)", out)
	var answers []answer
	require.NoError(t, json.Unmarshal(out, &answers), "%s", out)
	return answers
}

// dictionary is a copy of the data dictionary that names the campaign.
func dictionary(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/dataset.md")
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "dataset.md")
	require.NoError(t, os.WriteFile(path, []byte(strings.ReplaceAll(string(text), "campaign=NAME", "campaign=quick")), 0o644))
	return path
}

// The queries that README and the data dictionary show run, and put together what
// the summary puts together: cell by cell, each direction by itself, failures as ∞.
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

	results := ask(t, "../../README.md", data)
	require.Len(t, results, 4)
	results = append(results, ask(t, dictionary(t), data)...)
	require.Len(t, results, 5)
	for _, result := range results {
		assert.NotEmpty(t, result.Rows, result.Statement)
		for _, want := range []string{"cell_id", "direction", "NOT sentinel"} {
			assert.Contains(t, result.Statement, want)
		}
	}

	summary, err := report.Read(folder)
	require.NoError(t, err)
	migrations := results[0].Rows
	require.Len(t, migrations, len(summary.Cells))
	require.Len(t, migrations, 4)
	for _, cell := range summary.Cells {
		found := false
		for _, row := range migrations {
			if row["cell_id"] != cell.ID || row["direction"] != cell.Direction {
				continue
			}
			found = true
			assert.Equal(t, float64(cell.Verdicts[trial.Valid]+cell.Verdicts[trial.TargetFailed]), number(t, row["trials"]), cell.ID)
			assert.Equal(t, float64(cell.Verdicts[trial.TargetFailed]), number(t, row["failed"]), cell.ID)
			assert.Equal(t, cell.BlackoutMs.Median, number(t, row["blackout_ms"]), cell.ID)
		}
		assert.True(t, found, cell.ID)
	}
	// The last has the I/Os of the valid trials, each in its own cell.
	assert.Len(t, results[3].Rows, 3)
}

// number is one of DuckDB's, which writes great ones and infinity as texts.
func number(t *testing.T, value any) float64 {
	t.Helper()
	if one, is := value.(float64); is {
		return one
	}
	text, is := value.(string)
	require.True(t, is, "%v", value)
	parsed, err := strconv.ParseFloat(text, 64)
	require.NoError(t, err)
	return parsed
}
