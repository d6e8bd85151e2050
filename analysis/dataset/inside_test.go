package dataset

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/internal/fault"
)

// TestRowsStayInTheFolder: a dataset may come from a stranger, so no row of it may lead out of its
// folder.
func TestRowsStayInTheFolder(t *testing.T) {
	const inside = "storage=nfs/rtt_ms=60/attempt=00001.1"
	for name, c := range map[string]struct {
		row  Trial
		good bool
	}{
		"inside":            {Trial{Key: "00001.1", Folder: inside, Evidence: "evidence/00001.1"}, true},
		"none":              {Trial{Key: "00001.1"}, true},
		"above":             {row: Trial{Key: "00001.1", Folder: "../../etc"}},
		"above, hidden":     {row: Trial{Key: "00001.1", Folder: inside + "/../../../../x"}},
		"absolute":          {row: Trial{Key: "00001.1", Folder: "/etc"}},
		"absolute evidence": {row: Trial{Key: "00001.1", Folder: inside, Evidence: "/root/.ssh"}},
	} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			for file, table := range map[string]*Table[Trial]{attemptsFile: Attempts, trialsFile: Trials} {
				_, err := writeParquet(table, filepath.Join(folder, file), metadata(table, Provenance{KeyCampaign: "test", KeyTestbedKind: "simulated"}), Rows([]Trial{c.row}))
				require.NoError(t, err)
			}
			_, attemptsErr := ReadAttempts(folder)
			_, trialsErr := All(ReadTrials(folder))
			for _, err := range []error{attemptsErr, trialsErr} {
				var damaged *DamagedError
				if c.good {
					assert.NoError(t, err)
				} else if assert.ErrorAs(t, err, &damaged) {
					assert.Contains(t, err.Error(), "outside of the campaign's folder")
				}
			}
		})
	}
}

// TestFrozenNames: names of files and lanes that a workflow gives must be names of files in the plan's folder.
func TestFrozenNames(t *testing.T) {
	for _, name := range []string{"..", ".", "", "../x", "a/b", "/etc/x"} {
		for what, frozen := range map[string]Frozen{"file": {Files: map[string][]byte{name: nil}}, "lane": {Inventories: map[string][]byte{name: nil}}} {
			_, err := frozen.write(t.TempDir())
			assert.Equal(t, fault.BadInput, fault.Of(err), "%s %q", what, name)
		}
	}
	_, err := Frozen{Files: map[string][]byte{"office.icf": nil}, Inventories: map[string][]byte{"lab-1": nil}}.write(t.TempDir())
	require.NoError(t, err)
}

// TestManifestStaysInTheFolder: files outside of the folder that a manifest names are not
// read.
func TestManifestStaysInTheFolder(t *testing.T) {
	for _, path := range []string{"../x", "/etc/passwd", "a/../../x", ""} {
		file := File{Path: path}
		require.ErrorContains(t, Verify(t.TempDir(), Manifest{Files: []File{file}}), "not in the campaign's folder", path)
		assert.Equal(t, []string{"is not in the campaign's folder"}, file.check(t.TempDir(), Manifest{}), path)
		assert.Equal(t, "is not in the campaign's folder", file.checkEvidence(t.TempDir()), path)
	}
}

// TestLongTexts: a row group, which is in memory while it is written or read, ends when its texts are long, however
// few rows it has.
func TestLongTexts(t *testing.T) {
	const rows, each = 400, 64 << 10
	var want []Histogram
	for i := range rows {
		want = append(want, Histogram{Op: OpRead, IOs: int64(i), Counts: fmt.Sprintf("%d:1 ", i) + strings.Repeat(fmt.Sprintf("%d:%d ", i, 7*i), each/10)})
	}
	path := filepath.Join(t.TempDir(), "histograms.parquet")
	batches := func(yield func([]Histogram, error) bool) {
		for batch := range slices.Chunk(want, 16) {
			if !yield(batch, nil) {
				return
			}
		}
	}
	_, err := writeParquet(Histograms, path, metadata(Histograms, Provenance{KeyCampaign: "test", KeyTestbedKind: "hardware"}), batches)
	require.NoError(t, err)
	var got []Histogram
	for batch, err := range ReadHistograms(path) {
		require.NoError(t, err)
		texts := 0
		for i := range batch {
			texts += len(batch[i].Counts)
		}
		assert.Less(t, texts, groupTexts+17*each)
		got = append(got, batch...)
	}
	assert.Equal(t, want, got)
}
