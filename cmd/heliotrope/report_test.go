package main

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/trial"
)

// TestReport: a report is four files next to the dataset, which stays unchanged and
// complete.
func TestReport(t *testing.T) {
	data, folder := writeWatched(t, watchedProvenance())
	before := contents(t, data)
	code, out, told := run(t, "report", data)
	require.Zero(t, code, told)
	assert.True(t, strings.HasPrefix(out, "Measured on a testbed that is: emulated\n"), out)
	assert.True(t, strings.HasSuffix(out, filepath.Join(folder, "report", "report.html")+"\n"), out)
	assert.Empty(t, told, "what is over soon tells no progress")
	after := contents(t, data)
	for _, name := range []string{"report.html", "report.md", "metrics.csv", "metrics.parquet"} {
		path := filepath.Join(folder, "report", name)
		assert.NotEmpty(t, after[path], name)
		delete(after, path)
	}
	assert.Equal(t, before, after)
	code, out, _ = run(t, "check", data)
	assert.Zero(t, code, "the report is no stray: "+out)
	code, _, told = run(t, "report", data)
	assert.Zero(t, code, "and again: "+told)

	elsewhere := filepath.Join(t.TempDir(), "new", "folder")
	code, out, _ = run(t, "report", folder, "--json", "--png", "--out", elsewhere)
	require.Zero(t, code)
	var result reported
	require.NoError(t, json.Unmarshal([]byte(out), &result))
	assert.Equal(t, filepath.Join(elsewhere, "report.html"), result.HTML)
	assert.Equal(t, []any{"watched", "emulated", 1}, []any{result.Campaign, result.TestbedKind, result.Cells})
	pngs, err := filepath.Glob(filepath.Join(elsewhere, "figures", "*.png"))
	require.NoError(t, err)
	assert.Len(t, pngs, result.Figures)
}

// TestReportBadInput: an incomplete dataset is refused with the file, the reason and what
// to do, and nothing is written.
func TestReportBadInput(t *testing.T) {
	for name, test := range map[string]struct {
		change func(t *testing.T, data, folder string)
		want   []string
	}{
		"no dataset": {func(t *testing.T, _, folder string) { require.NoError(t, os.RemoveAll(folder)) }, []string{"is neither a campaign's dataset"}},
		"two campaigns": {func(t *testing.T, data, _ string) {
			require.NoError(t, os.Mkdir(dataset.CampaignFolder(data, "other"), 0o755))
		}, []string{"holds 2 campaigns", "campaign=other, campaign=watched"}},
		"a damaged file of a trial": {func(t *testing.T, _, folder string) {
			files, err := filepath.Glob(filepath.Join(folder, "*", "*", "*", "io.parquet"))
			require.NoError(t, err)
			require.NoError(t, os.Truncate(files[0], 100))
		}, []string{"io.parquet is damaged", "comes back from a copy"}},
		"not compacted": {func(t *testing.T, _, folder string) {
			require.NoError(t, dataset.WriteAttempt(folder, dataset.Attempt{Trial: dataset.Trial{Key: "00003.1", Sequence: 3, Attempt: 1, TestbedKind: "emulated", Verdict: string(trial.Invalid)}}))
		}, []string{"segments/certificates-00003.1.arrows has rows that are not compacted yet", "`heliotrope compact "}},
		"tables are missing": {func(t *testing.T, _, folder string) {
			require.NoError(t, os.Remove(filepath.Join(folder, "phases.parquet")))
		}, []string{"phases.parquet is missing"}},
		"no manifest": {func(t *testing.T, _, folder string) {
			require.NoError(t, os.Remove(filepath.Join(folder, "manifest.json")))
		}, []string{"manifest.json is missing"}},
		"a newer manifest": {func(t *testing.T, _, folder string) { replaceInManifest(t, folder, `"version": 1`, `"version": 99`) }, []string{"version 99"}},
		"simulated beside measured": {func(t *testing.T, _, folder string) {
			replaceInManifest(t, folder, `"testbed_kind": "emulated"`, `"testbed_kind": "simulated"`)
		}, []string{"its testbed kind is emulated, the manifest says simulated"}},
	} {
		t.Run(name, func(t *testing.T) {
			data, folder := writeWatched(t, watchedProvenance())
			test.change(t, data, folder)
			out := filepath.Join(t.TempDir(), "out")
			code, _, told := run(t, "report", data, "--out", out)
			assert.Equal(t, exitBadInput, code, told)
			for _, want := range test.want {
				assert.Contains(t, told, want)
			}
			assert.Equal(t, 1, strings.Count(told, "\n"), "one line: "+told)
			assert.NoDirExists(t, out)
		})
	}
}

func replaceInManifest(t *testing.T, folder, old, with string) {
	t.Helper()
	path := filepath.Join(folder, "manifest.json")
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Contains(t, string(text), old)
	require.NoError(t, os.WriteFile(path, []byte(strings.ReplaceAll(string(text), old, with)), 0o644))
}

// TestReportCancelled: Ctrl-C leaves the report that was there before.
func TestReportCancelled(t *testing.T) {
	data, folder := writeWatched(t, watchedProvenance())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	root := newRoot(io.Discard, io.Discard)
	root.SetArgs([]string{"report", data})
	require.ErrorIs(t, root.ExecuteContext(ctx), context.Canceled)
	assert.NoDirExists(t, filepath.Join(folder, "report"))
}
