package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	summary "heliotrope/analysis/report"
	"heliotrope/internal/trial"
)

// queriedSpec leaves rows in every table that docs/queries.md asks.
const queriedSpec = `
version: 1
name: queried
seed: 11
testbed: simulated
lanes: 2
matrix:
  storage: [iscsi, nfs, drbd]
  wan: [lan, "rtt=60ms,rate=100mbit"]
  access: [4k-mixed-random]
repetitions: 4
sentinel: {storage: nfs, wan: lan, every: 3}
phases: {warm_up: 1s, before: 3s, after: 3s}
`

// answer is what a program says to a statement.
type answer struct {
	Statement string
	Rows      []map[string]any
}

// ask has tools/PROGRAM/queries.mjs run a document's statements on a data folder.
func ask(t *testing.T, program, document, data string) []answer {
	t.Helper()
	node, err := exec.LookPath("node")
	require.NoError(t, err, "node is not installed: run `make deps`")
	out, err := exec.Command(node, "../../tools/"+program+"/queries.mjs", document, data).CombinedOutput()
	require.NoError(t, err, "%s (run `make test`, which installs %s where it is missing)", out, program)
	var answers []answer
	require.NoError(t, json.Unmarshal(out, &answers), "%s", out)
	return answers
}

// about is the only answer whose statement has the text.
func about(t *testing.T, answers []answer, text string) answer {
	t.Helper()
	var found []answer
	for _, one := range answers {
		if strings.Contains(one.Statement, text) {
			found = append(found, one)
		}
	}
	require.Len(t, found, 1, text)
	return found[0]
}

// TestQueries runs the queries of docs/queries.md on a campaign's dataset: each finds
// something, those that the summary answers too say the same, and Polars what DuckDB says.
func TestQueries(t *testing.T) {
	progress, folder := runSpec(t, serveSimulated(t), "queried", queriedSpec, nil, nil)
	require.Equal(t, progress.Total, progress.Verdicts[trial.Valid])
	text, err := os.ReadFile("../../docs/queries.md")
	require.NoError(t, err)
	document := filepath.Join(t.TempDir(), "queries.md")
	require.NoError(t, os.WriteFile(document, []byte(strings.ReplaceAll(string(text), "campaign=NAME", "campaign=queried")), 0o600))

	answers := ask(t, "duckdb", document, filepath.Dir(folder))
	require.GreaterOrEqual(t, len(answers), 12)
	for _, one := range answers {
		assert.NotEmpty(t, one.Rows, one.Statement)
	}
	stalls, ratios, sent := about(t, answers, "worst_blackout_ms"), about(t, answers, "AS beside, count(*) AS blocks"), about(t, answers, "median_mb")
	found, err := summary.Read(folder)
	require.NoError(t, err)
	require.Len(t, stalls.Rows, len(found.Cells))
	for _, cell := range found.Cells {
		row := rowOf(t, stalls, map[string]string{"cell_id": cell.ID, "direction": cell.Direction})
		assert.InDelta(t, cell.BlackoutMs.Median, numberOf(t, row["median_blackout_ms"]), 1e-6)
		assert.InDelta(t, cell.BlackoutMs.Max, numberOf(t, row["worst_blackout_ms"]), 1e-6)
		assert.InDelta(t, cell.MaxResponseMs.Median, numberOf(t, row["median_longest_response_ms"]), 1e-6)
	}
	for _, row := range about(t, answers, "AS looked_for").Rows {
		assert.Positive(t, numberOf(t, row["looked_for"]))
		assert.Zero(t, numberOf(t, row["lost"]))
	}

	inPolars := ask(t, "polars", document, filepath.Dir(folder))
	require.Len(t, inPolars, 3)
	for i, one := range []answer{stalls, ratios, sent} {
		assert.NotEmpty(t, one.Rows)
		sameRows(t, one, inPolars[i])
	}
}

// rowOf is the only row with these texts.
func rowOf(t *testing.T, of answer, texts map[string]string) map[string]any {
	t.Helper()
	var found []map[string]any
	for _, row := range of.Rows {
		matches := true
		for name, want := range texts {
			matches = matches && row[name] == want
		}
		if matches {
			found = append(found, row)
		}
	}
	require.Len(t, found, 1, "%v in %s", texts, of.Statement)
	return found[0]
}

// sameRows wants the same rows in the same order, and numbers that differ by no more than
// by the order in which they were added.
func sameRows(t *testing.T, one, other answer) {
	t.Helper()
	require.Len(t, other.Rows, len(one.Rows), other.Statement)
	for i, row := range one.Rows {
		for name, value := range row {
			if text, is := other.Rows[i][name].(string); is && text == fmt.Sprint(value) {
				continue
			}
			want := numberOf(t, value)
			assert.InEpsilon(t, 1+want, 1+numberOf(t, other.Rows[i][name]), 1e-9, "row %d, %s of %s", i, name, other.Statement)
		}
	}
}

// numberOf is a number, which DuckDB writes as a text where JSON's are too small.
func numberOf(t *testing.T, value any) float64 {
	t.Helper()
	if number, is := value.(float64); is {
		return number
	}
	number, err := strconv.ParseFloat(fmt.Sprint(value), 64)
	require.NoError(t, err)
	return number
}
