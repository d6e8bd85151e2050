package page_test

import (
	"context"
	"encoding/csv"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/analysis/dataset"
	"heliotrope/analysis/page"
)

// made makes a report of a campaign's folder.
func made(t *testing.T, folder string, o page.Options) *page.Report {
	t.Helper()
	o.Dir, o.Version = folder, "v2"
	campaign, err := page.Read(folder)
	require.NoError(t, err)
	report, err := page.Make(t.Context(), campaign, o)
	require.NoError(t, err)
	return report
}

// TestKindFirst: numbers of a model are marked as that before anything else, in every file
// and in every figure's title.
func TestKindFirst(t *testing.T) {
	report := made(t, scene{kind: "simulated", name: "model", blocks: 2, ios: 100, tiny: true}.write(t, t.TempDir()), page.Options{})
	html := string(report.HTML())
	main := html[strings.Index(html, "<body>"):]
	assert.Less(t, strings.Index(main, "SIMULATED — not a measurement"), strings.Index(main, "<h1>"), "before any number")
	titles := regexp.MustCompile(`<title id="[^"]*">([^<]*)</title>`).FindAllStringSubmatch(html, -1)
	require.Len(t, titles, report.Figures)
	for _, title := range titles {
		assert.True(t, strings.HasPrefix(title[1], "SIMULATED, no measurement: "), title[1])
	}
	out := t.TempDir()
	files, err := report.Write(out)
	require.NoError(t, err)
	require.Len(t, files, 4)
	markdown, err := os.ReadFile(filepath.Join(out, "report.md"))
	require.NoError(t, err)
	assert.True(t, strings.HasPrefix(string(markdown), "**SIMULATED — not a measurement**"))
	provenance, err := dataset.ReadProvenance(filepath.Join(out, "metrics.parquet"))
	require.NoError(t, err)
	assert.Equal(t, "simulated", provenance[dataset.KeyTestbedKind])
}

// TestSections: the parts are in order, each cell has all its figures, and each failure has
// its cause and its evidence.
func TestSections(t *testing.T) {
	report := made(t, folder(t), page.Options{})
	html := string(report.HTML())
	last := 0
	for _, id := range []string{"kind", "answer", "distance-1", "distance-6", "matrix", "cells", "cell-1", "cell-8", "witnesses", "traffic", "recovery", "validity", "failures", "again"} {
		at := strings.Index(html, `id="`+id+`"`)
		require.Greater(t, at, last, id)
		last = at
	}
	assert.Equal(t, 8*4+2*3, report.Figures, "four of each cell, and three metrics over the distance in each direction")
	for _, text := range []string{"guest-crash", "console.txt (5 bytes)", "invalid (tried again)", "witness-died", "&lt;script&gt;alert(", "The WAN&#39;s certificates",
		"Ledger: acknowledged writes", "Clocks", "disk&#39;s hand-over", "host-a", "6.1.0", "qemu", "heliotrope run ", "&lt;b&gt;the campaign&#39;s file&lt;/b&gt;"} {
		assert.Contains(t, html, text)
	}
	assert.NotContains(t, html, "<script")
	assert.NotRegexp(t, `(src|href)="[^#]`, html, "it asks for nothing")
	assert.NotContains(t, html, "http:")
	assert.NotContains(t, html, "https:")
}

// TestGrid: the matrix shows each cell's median once, the longest with the fullest mark.
func TestGrid(t *testing.T) {
	report := made(t, folder(t), page.Options{})
	html := string(report.HTML())
	grid := html[strings.Index(html, "Blackout, ms: median</caption>"):strings.Index(html, `id="cells"`)]
	assert.Regexp(t, `rtt0 \(0.00 ms\), outbound</th><th scope="col">rtt0 \(0.00 ms\), return</th><th scope="col">rtt60 \(60.0 ms\), outbound`, grid)
	assert.Regexp(t, `drbd C</th><td class="q0"><span class="mark" aria-hidden="true">▁</span>102</td>`, grid)
	assert.Regexp(t, `<td class="q4"><span class="mark" aria-hidden="true">█</span>333</td>`, grid)
}

// TestSameTwice: the same rows give the same report.
func TestSameTwice(t *testing.T) {
	assert.Equal(t, string(made(t, folder(t), page.Options{}).HTML()), string(made(t, folder(t), page.Options{}).HTML()))
}

// TestMetrics: the CSV has the columns of the Parquet file and its rows.
func TestMetrics(t *testing.T) {
	report := made(t, folder(t), page.Options{})
	out := t.TempDir()
	_, err := report.Write(out)
	require.NoError(t, err)
	file, err := os.Open(filepath.Join(out, "metrics.csv"))
	require.NoError(t, err)
	defer file.Close()
	lines, err := csv.NewReader(file).ReadAll()
	require.NoError(t, err)
	want := []string{"testbed_kind"}
	for _, column := range dataset.Metrics.Columns() {
		want = append(want, column.Name)
	}
	assert.Equal(t, want, lines[0])
	rows, err := dataset.All(dataset.ReadMetrics(filepath.Join(out, "metrics.parquet")))
	require.NoError(t, err)
	require.Len(t, lines, 1+len(rows))
	require.NotEmpty(t, rows)
	for i, row := range rows {
		assert.Equal(t, []string{"emulated", row.CellID, row.Direction}, lines[i+1][:3])
	}
}

// TestPNG: on request each figure is a PNG too.
func TestPNG(t *testing.T) {
	report := made(t, scene{kind: "emulated", name: "tiny", blocks: 1, ios: 100, tiny: true}.write(t, t.TempDir()), page.Options{PNG: true})
	out := t.TempDir()
	_, err := report.Write(out)
	require.NoError(t, err)
	pngs, err := filepath.Glob(filepath.Join(out, "figures", "*.png"))
	require.NoError(t, err)
	assert.Len(t, pngs, report.Figures)
}

// TestCancelled: a report that is cancelled gives nothing.
func TestCancelled(t *testing.T) {
	campaign, err := page.Read(folder(t))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = page.Make(ctx, campaign, page.Options{})
	assert.ErrorIs(t, err, context.Canceled)
}

// TestOlderSchema: a dataset that is older than identities, with schema version 1, can be
// reported, too.
func TestOlderSchema(t *testing.T) {
	report := made(t, filepath.Join("..", "dataset", "testdata", "campaign=before"), page.Options{})
	assert.NotZero(t, report.Figures)
	assert.Contains(t, string(report.HTML()), "no copy of its campaign file")
}
