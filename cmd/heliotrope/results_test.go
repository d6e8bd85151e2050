package main

import (
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/analysis/dataset"
)

// publishedResults is the folder with a folder for each published campaign, and publishedBytes
// the most that it may hold.
const (
	publishedResults = "../../docs/results"
	publishedBytes   = 10 << 20
)

// TestPublishedResults checks that each campaign in docs/results was measured, that its tables
// are the files that its manifest lists, and that its campaign file is the one in examples/.
func TestPublishedResults(t *testing.T) {
	manifests, err := filepath.Glob(filepath.Join(publishedResults, "*", "manifest.json"))
	require.NoError(t, err)
	require.NotEmpty(t, manifests)
	for _, one := range manifests {
		folder := filepath.Dir(one)
		manifest, err := dataset.ReadManifest(folder)
		require.NoError(t, err)
		assert.Equal(t, "emulated", manifest.TestbedKind, folder)
		assert.Equal(t, textOf(t, "../../examples", manifest.Campaign+".yaml"), textOf(t, folder, "campaign.yaml"), folder)
		assert.Contains(t, textOf(t, folder, "report.md"), "**Measured on a testbed that is: emulated**", folder)
		listed := map[string]string{}
		for _, file := range manifest.Files {
			listed[file.Path] = file.SHA256
		}
		tables, err := os.ReadDir(filepath.Join(folder, "tables"))
		require.NoError(t, err)
		require.NotEmpty(t, tables)
		for _, table := range tables {
			sum := sha256.Sum256([]byte(textOf(t, folder, "tables", table.Name())))
			assert.Equal(t, listed[table.Name()], hex.EncodeToString(sum[:]), "%s/%s", folder, table.Name())
		}
	}
}

// TestPublishedResultsAreQuoted checks that the page about the published results quotes the
// reports word for word: each of its quotations is in one of the reports.
func TestPublishedResultsAreQuoted(t *testing.T) {
	reports, err := filepath.Glob(filepath.Join(publishedResults, "*", "report.md"))
	require.NoError(t, err)
	said := ""
	for _, report := range reports {
		said += textOf(t, report)
	}
	quoted := 0
	for line := range strings.Lines(textOf(t, publishedResults, "README.md")) {
		if quotation, is := strings.CutPrefix(strings.TrimSpace(line), "> "); is {
			quoted++
			assert.Contains(t, said, quotation)
		}
	}
	assert.Positive(t, quoted)
}

// TestPublishedResultsAreSmall checks that the published results do not outgrow a repository.
func TestPublishedResultsAreSmall(t *testing.T) {
	total := int64(0)
	require.NoError(t, filepath.WalkDir(publishedResults, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			total += info.Size()
		}
		return err
	}))
	assert.LessOrEqual(t, total, int64(publishedBytes))
}

// textOf is the content of a file.
func textOf(t *testing.T, path ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(path...))
	require.NoError(t, err)
	return string(text)
}
