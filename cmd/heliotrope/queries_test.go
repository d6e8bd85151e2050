package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/analysis/answers"
	"heliotrope/analysis/answers/answerstest"
	"heliotrope/analysis/asktest"
	"heliotrope/analysis/dataset"
	"heliotrope/analysis/group"
	"heliotrope/analysis/page"
	"heliotrope/analysis/summary"
	"heliotrope/internal/trial"
)

// queriedSpec leaves rows in every table that docs/queries.md queries.
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

// about is the only answer whose statement has the text.
func about(t *testing.T, all []asktest.Answer, text string) asktest.Answer {
	t.Helper()
	var found []asktest.Answer
	for _, one := range all {
		if strings.Contains(one.Statement, text) {
			found = append(found, one)
		}
	}
	require.Len(t, found, 1, text)
	return found[0]
}

// TestQueried runs the queries of docs/queries.md and of the notebook on a campaign's
// dataset.
func TestQueried(t *testing.T) {
	progress, folder := runSpec(t, serveSimulated(t), "queried", queriedSpec, nil, nil)
	require.Equal(t, progress.Total, progress.Verdicts[trial.Valid])
	found, err := summary.Read(folder)
	require.NoError(t, err)
	t.Run("queries", func(t *testing.T) { answerQueries(t, folder, found) })
	t.Run("notebook", func(t *testing.T) { runNotebook(t, folder, found) })
}

// answerQueries runs the queries of docs/queries.md: each finds something, those that the
// summary also answers agree with it, and Polars agrees with DuckDB.
func answerQueries(t *testing.T, folder string, found summary.Summary) {
	answers, inPolars := bothAnswers(t, folder, nil)
	require.GreaterOrEqual(t, len(answers), 12)
	for _, one := range answers {
		assert.NotEmpty(t, one.Rows, one.Statement)
	}
	stalls, ratios, sent := about(t, answers, "worst_blackout_ms"), about(t, answers, "AS log_ratio"), about(t, answers, "median_mb")
	require.Len(t, stalls.Rows, len(found.Cells))
	for _, cell := range found.Cells {
		row := rowOf(t, stalls, map[string]string{"cell_id": cell.ID, "direction": cell.Direction})
		assert.InDelta(t, cell.BlackoutMs.Median, asktest.Number(t, row["median_blackout_ms"]), 1e-6)
		assert.InDelta(t, cell.BlackoutMs.Max, asktest.Number(t, row["worst_blackout_ms"]), 1e-6)
		assert.InDelta(t, cell.MaxResponseMs.Median, asktest.Number(t, row["median_longest_response_ms"]), 1e-6)
	}
	for _, row := range about(t, answers, "AS looked_for").Rows {
		assert.Positive(t, asktest.Number(t, row["looked_for"]))
		assert.Zero(t, asktest.Number(t, row["lost"]))
	}

	require.Len(t, inPolars, 3)
	for i, one := range []asktest.Answer{stalls, ratios, sent} {
		assert.NotEmpty(t, one.Rows)
		sameRows(t, one, inPolars[i])
	}
}

// bothAnswers are the answers of DuckDB and of Polars to the queries of docs/queries.md: to
// all, or to those with one of the texts.
func bothAnswers(t *testing.T, folder string, texts []string) (inDuckDB, inPolars []asktest.Answer) {
	t.Helper()
	text, err := os.ReadFile("../../docs/queries.md")
	require.NoError(t, err)
	wanted := queryBlock.ReplaceAllStringFunc(strings.ReplaceAll(string(text), "campaign=NAME", filepath.Base(folder)), func(block string) string {
		if len(texts) == 0 || slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(block, text) }) {
			return block
		}
		return ""
	})
	document := filepath.Join(t.TempDir(), "queries.md")
	require.NoError(t, os.WriteFile(document, []byte(wanted), 0o600))
	inDuckDB, inPolars = asktest.Ask(t, "duckdb", document, filepath.Dir(folder)), asktest.Ask(t, "polars", document, filepath.Dir(folder))
	return inDuckDB, inPolars
}

var queryBlock = regexp.MustCompile("(?ms)^```(sql|python)\n.*?^```$")

// TestQueriedPairs: the query for pairs finds the same pairs and ratios as the report, and the
// one for medians the same longest responses, where cells differ in hypervisor and memory, go
// both ways, fail, and have I/Os that never completed; and also where they go one way only.
func TestQueriedPairs(t *testing.T) {
	for name, balanced := range map[string]bool{"balanced": true, "one way": false} {
		t.Run(name, func(t *testing.T) {
			options := answerstest.Usual()
			options.Hypervisors, options.RTTsMs, options.MemoriesMiB, options.Blocks, options.Balanced = []string{"kvm", "xen"}, []float64{30, 90}, []int32{112, 448}, 8, balanced
			options.Change = sometimesFailing
			folder := dataset.CampaignFolder(t.TempDir(), "pairs")
			require.NoError(t, answerstest.Write(folder, options))
			campaign, err := page.Read(folder)
			require.NoError(t, err)

			inDuckDB, inPolars := bothAnswers(t, folder, []string{"worst_blackout_ms", "AS log_ratio"})
			medians, ratios := about(t, inDuckDB, "worst_blackout_ms"), about(t, inDuckDB, "AS log_ratio")
			require.Len(t, inPolars, 2)
			sameRows(t, medians, inPolars[0])
			sameRows(t, ratios, inPolars[1])
			require.Len(t, medians.Rows, len(campaign.Summary.Cells))
			for _, cell := range campaign.Summary.Cells {
				row := rowOf(t, medians, map[string]string{"cell_id": cell.ID, "direction": cell.Direction})
				assert.Equal(t, float64(cell.MaxResponseMs.Median), asktest.Number(t, row["median_longest_response_ms"]), cell.ID)
			}
			compared, infinite := 0, 0
			for _, c := range campaign.Answers.Comparisons {
				if c.Factor != answers.FactorStorage || c.Metric != group.MaxResponseMs || c.AllRTTs {
					continue
				}
				compared++
				conditions := fmt.Sprintf("rtt%v-database-%dm", c.Factors.RTTMs, c.Factors.MemoryMiB)
				row := rowOf(t, ratios, map[string]string{"hypervisor": c.Factors.Hypervisor, "conditions": conditions, "direction": c.Direction, "storage": c.A, "beside": c.B})
				assert.InDelta(t, c.Pairs, asktest.Number(t, row["pairs"]), 0, "%+v", c)
				if ratio := asktest.Number(t, row["ratio"]); math.IsInf(float64(c.Ratio), 1) {
					infinite++
					assert.True(t, math.IsInf(ratio, 1), "%+v", c)
				} else {
					assert.InDelta(t, float64(c.Ratio), ratio, 1e-9, "%+v", c)
				}
			}
			assert.Len(t, ratios.Rows, compared)
			assert.Positive(t, infinite)
		})
	}
}

// sometimesFailing lets migrations fail now and then; under Xen DRBD fails most of the time,
// and with the larger memory iSCSI in the first half of the blocks and NFS in the second.
func sometimesFailing(row *dataset.Trial) {
	often := row.Storage == "drbd" && row.Block > 2
	if *row.GuestMemoryMiB == 448 {
		often = row.Storage == "iscsi" && row.Block <= 4 || row.Storage == "nfs" && row.Block > 4
	}
	switch {
	case row.Hypervisor == "xen" && often, row.Hypervisor == "kvm" && row.Sequence%11 == 0:
		row.Verdict, row.Reason, row.Cause = string(trial.TargetFailed), "the migration failed", "migration-failed"
	case row.Hypervisor == "xen" && *row.GuestMemoryMiB == 448:
	case row.Sequence%13 == 0:
		row.Response.InFlight = new(true)
	case row.Sequence%17 == 0:
		row.Verdict, row.Reason, row.Cause = string(trial.Invalid), "no certificate", "certificate"
	case row.Sequence%19 == 0:
		row.Response.Ms = nil
	}
}

// runNotebook executes the notebook: its main table must have the summary's medians, and
// its two figures must be drawn and say that the testbed is simulated.
func runNotebook(t *testing.T, folder string, found summary.Summary) {
	bridge, err := filepath.Abs("../../analysis/notebooks/bridge")
	require.NoError(t, err)
	executed := filepath.Join(t.TempDir(), "executed.ipynb")
	command := exec.Command("/usr/bin/jupyter-nbconvert", "--to", "notebook", "--execute", "../../analysis/notebooks/campaign.ipynb", "--output", executed)
	command.Env = append(os.Environ(), "HELIOTROPE_CAMPAIGN="+folder, "PYTHONPATH="+bridge)
	out, err := command.CombinedOutput()
	require.NoError(t, err, "%s", out)
	text, err := os.ReadFile(executed)
	require.NoError(t, err)
	var notebook struct {
		Cells []struct {
			Source  any
			Outputs []struct {
				Text any
				Data map[string]any
			}
		}
	}
	require.NoError(t, json.Unmarshal(text, &notebook))
	figures, said, rows := 0, "", [][]string(nil)
	for _, cell := range notebook.Cells {
		for _, output := range cell.Outputs {
			said += joined(output.Text)
			if output.Data["image/png"] != nil {
				figures++
				assert.Contains(t, joined(cell.Source), "{kind}")
			}
			if table := joined(output.Data["text/html"]); table != "" {
				rows = tableRows(table)
			}
		}
	}
	assert.Equal(t, "SIMULATED, not a measurement\n", said)
	assert.Equal(t, 2, figures)
	require.Len(t, rows, len(found.Cells))
	for _, cell := range found.Cells {
		i := slices.IndexFunc(rows, func(row []string) bool { return row[0] == cell.ID && row[1] == cell.Direction })
		require.GreaterOrEqual(t, i, 0, cell.ID)
		assert.InDelta(t, cell.BlackoutMs.Median, asktest.Number(t, rows[i][4]), 1e-3)
		assert.InDelta(t, cell.MaxResponseMs.Median, asktest.Number(t, rows[i][5]), 1e-3)
		assert.InDelta(t, cell.MigrationS.Median, asktest.Number(t, rows[i][6]), 1e-3)
	}
}

// joined is a text of a notebook, which may be stored as lines.
func joined(text any) string {
	if lines, are := text.([]any); are {
		all := ""
		for _, line := range lines {
			all += line.(string)
		}
		return all
	}
	one, _ := text.(string)
	return one
}

// tableRows are the cells of each row with cells in a table of pandas.
func tableRows(table string) [][]string {
	var rows [][]string
	for row := range strings.SplitSeq(table, "<tr>") {
		var cells []string
		for _, match := range tableCell.FindAllStringSubmatch(row, -1) {
			cells = append(cells, match[1])
		}
		if len(cells) > 0 {
			rows = append(rows, cells)
		}
	}
	return rows
}

var tableCell = regexp.MustCompile(`<td>(.*?)</td>`)

// rowOf is the only row with these texts.
func rowOf(t *testing.T, of asktest.Answer, texts map[string]string) map[string]any {
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

// sameRows checks for the same rows in the same order, with numbers that differ at most by
// rounding when they are added in another order.
func sameRows(t *testing.T, one, other asktest.Answer) {
	t.Helper()
	require.Len(t, other.Rows, len(one.Rows), other.Statement)
	for i, row := range one.Rows {
		for name, value := range row {
			if text, is := other.Rows[i][name].(string); is && text == fmt.Sprint(value) {
				continue
			}
			want := asktest.Number(t, value)
			assert.InEpsilon(t, 1+want, 1+asktest.Number(t, other.Rows[i][name]), 1e-9, "row %d, %s of %s", i, name, other.Statement)
		}
	}
}
