package page_test

import (
	"encoding/csv"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/analysis/ingest"
	"heliotrope/analysis/page"
)

// ingested is the folder of a dataset of logs that others wrote: so many logs, each of 400
// I/Os in 40 s. The first has reads of 1 to 200 ms, and writes of 2 ms; the others have reads only.
func ingested(t *testing.T, logs int) string {
	t.Helper()
	folder, data := t.TempDir(), t.TempDir()
	for n := range logs {
		var text strings.Builder
		for i := range 200 {
			fmt.Fprintf(&text, "%d, %d, 0, 4096, 0, 0\n", 200*i, (i+1)*1_000_000)
			if n == 0 {
				fmt.Fprintf(&text, "%d, 2000000, 1, 8192, 0, 0\n", 200*i)
			}
		}
		require.NoError(t, os.WriteFile(filepath.Join(folder, fmt.Sprintf("job<%03d>_lat.1.log", n)), []byte(text.String()), 0o644))
	}
	sources, _, err := ingest.Find(folder)
	require.NoError(t, err)
	result, err := ingest.Run(t.Context(), ingest.Options{Data: data, Name: "tuning", AtOnce: 2, Version: "v1"}, sources)
	require.NoError(t, err)
	require.Len(t, result.Ingested, logs)
	return result.Folder
}

// TestIngested: a folder of logs becomes a table and figures that say that others measured
// the data; migrations are not mentioned, because there were none.
func TestIngested(t *testing.T) {
	folder := ingested(t, 2)
	read, err := page.Read(folder)
	require.NoError(t, err)
	assert.Zero(t, read.Answers, "logs are not compared with each other")
	report := made(t, folder, page.Options{PNG: true})
	html := string(report.HTML())
	main := html[strings.Index(html, "<body>"):]
	assert.Less(t, strings.Index(main, "INGESTED — measured by others"), strings.Index(main, "<h1>"))
	assert.Contains(t, html, "<title>INGESTED, measured by others: ingested logs tuning</title>")
	assert.Equal(t, 2*4+1, report.Figures, "four of each log, and the reads of both side by side")
	titles := regexp.MustCompile(`<title id="[^"]*">([^<]*)</title>`).FindAllStringSubmatch(html, -1)
	require.Len(t, titles, report.Figures)
	for _, title := range titles {
		assert.True(t, strings.HasPrefix(title[1], "INGESTED, measured by others"), title[1])
	}
	for _, text := range []string{"response times by operation", "response time over time", "I/Os a second over time", "MB/s over time", "job&lt;000&gt;_lat.1.log"} {
		assert.Contains(t, html, text)
	}
	for _, word := range []string{"migration", "blackout", "witness", "switchover", "WAN", "ledger", "storage", "no figure"} {
		assert.NotContains(t, strings.ToLower(main), strings.ToLower(word))
	}

	out := t.TempDir()
	files, err := report.Write(out)
	require.NoError(t, err)
	assert.Equal(t, []string{"report.html", "report.md", "logs.csv"}, []string{filepath.Base(files[0]), filepath.Base(files[1]), filepath.Base(files[2])})
	assert.Len(t, files, 3)
	pngs, err := filepath.Glob(filepath.Join(out, "figures", "*.png"))
	require.NoError(t, err)
	assert.Len(t, pngs, report.Figures)
	markdown, err := os.ReadFile(files[1])
	require.NoError(t, err)
	assert.True(t, strings.HasPrefix(string(markdown), "**INGESTED — measured by others"))
	// 200 I/Os in the 39.8 s from the first to the last of them: 5.03 a second, 4,096 bytes each.
	assert.Contains(t, string(markdown), `| 1 | job&lt;000>\_lat.1.log | read | 200 | 5.03 | 0.021 | 100 | 99.9 | 198 | 200 | 200 | single I/Os |`)
	file, err := os.Open(files[2])
	require.NoError(t, err)
	defer file.Close()
	lines, err := csv.NewReader(file).ReadAll()
	require.NoError(t, err)
	require.Len(t, lines, 1+3+2)
	assert.Equal(t, []string{"ingested", "job<000>_lat.1.log", "whole", "fio"}, lines[1][:4])
}

// TestIngestedMany: when there are more logs than a page can show, all of them are in the
// table, and the page says which have no figures.
func TestIngestedMany(t *testing.T) {
	report := made(t, ingested(t, 202), page.Options{})
	html := string(report.HTML())
	assert.Contains(t, html, "Figures are of the first 200 logs only")
	assert.Contains(t, html, "202. job&lt;201&gt;_lat.1.log")
	assert.NotContains(t, html, `id="log-201-slower"`)
	assert.Contains(t, html, `id="log-200-slower"`)
	assert.Less(t, len(html), 15_000_000)
	t.Logf("%d figures, %.1f MB", report.Figures, float64(len(html))/1e6)
}

// TestIngestedBrowser: the page of logs in a browser, as that of a campaign.
func TestIngestedBrowser(t *testing.T) { render(t, made(t, ingested(t, 8), page.Options{}), 1) }
