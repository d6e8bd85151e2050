package ingest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/fault"
)

// leave begins to ingest a folder, as Run does, and stops after some steps like a process that is killed: nothing
// that was begun is undone, and nothing is compacted.
func leave(t *testing.T, data, folder string, steps func(r *run, source Source) error) {
	t.Helper()
	sources, _, err := Find(folder)
	require.NoError(t, err)
	r := &run{Options: Options{Data: data, Name: "logs"}, result: Result{Folder: dataset.CampaignFolder(data, "logs")}}
	unlock, err := r.open(t.Context())
	require.NoError(t, err)
	defer unlock()
	for _, source := range sources {
		require.NoError(t, steps(r, source))
	}
}

// versions are two contents of a file, and the longest response time of each.
var versions = map[string][2]string{
	"job_lat.1.log": {"5, 1000000, 1, 4096\n", "5, 2000000, 1, 4096\n6, 1000000, 1, 4096\n"},
	"out.json": {
		`{"fio version": "x", "jobs": [{"read": {"total_ios": 1, "clat_ns": {"N": 1, "max": 1000000, "mean": 1000000, "bins": {"1000000": 1}}}}]}`,
		`{"fio version": "x", "jobs": [{"read": {"total_ios": 2, "clat_ns": {"N": 2, "max": 2000000, "mean": 1000000, "bins": {"1000000": 2}}}}]}`,
	},
}

// requireVersion requires that the dataset has a version of the file, in all tables.
func requireVersion(t *testing.T, campaign string, version int, why string) {
	t.Helper()
	rows, phases := attempts(t, campaign)
	require.Len(t, rows, 1, why)
	for name, row := range rows {
		whole := phases[name][dataset.WholeLog]
		require.Equal(t, []float64{float64(version), float64(version)}, []float64{*whole.MaxMs, float64(*whole.IOs)}, why)
		count := int64(0)
		if row.HistogramRows != nil && *row.HistogramRows > 0 {
			for _, h := range histogramsOf(t, campaign, row) {
				count += h.IOs
			}
		} else {
			count = int64(len(rowsOf(t, campaign, row.Key)))
		}
		require.Equal(t, int64(version), count, why)
	}
}

// TestKilledWhileReplacing: whenever the process is killed while a changed file replaces its earlier version, the dataset
// has one of the two as a whole; and the next run takes the file as it is then.
func TestKilledWhileReplacing(t *testing.T) {
	begin := func(r *run, source Source) error {
		_, err := r.journal.begin(source, 1)
		return err
	}
	files := func(r *run, source Source) error {
		e, err := r.journal.begin(source, 1)
		require.NoError(t, err)
		_, err = dataset.WriteTrial(dataset.TrialFiles{CampaignFolder: r.result.Folder, Folder: e.folder(0), Provenance: r.provenance()})
		return err
	}
	rows := func(r *run, source Source) error {
		in, err := r.read(t.Context(), source)
		require.NoError(t, err)
		defer in.file.Close()
		if source.Kind == Log {
			_, err = r.stream(source, in)
		} else {
			_, err = r.document(source, in)
		}
		return err
	}
	taken := func(r *run, source Source) error {
		_, err := r.take(t.Context(), source)
		return err
	}
	for name, texts := range versions {
		for step, steps := range map[string]func(*run, Source) error{"begun": begin, "files": files, "rows": rows, "taken": taken} {
			for next, with := range map[string]string{"the first": "begun files rows taken", "the second": "rows taken", "gone": "rows taken", "damaged": "rows"} {
				if !strings.Contains(with, step) {
					continue
				}
				why := fmt.Sprintf("%s: %s, then %s", name, step, next)
				folder, data := t.TempDir(), t.TempDir()
				put(t, folder, name, texts[0])
				campaign := ingest(t, data, folder).Folder
				put(t, folder, name, texts[1])
				leave(t, data, folder, steps)
				before, err := dataset.ReadAttempts(campaign)
				require.NoError(t, err, why)
				require.Len(t, before, 1, why)
				_, err = os.Stat(filepath.Join(campaign, before[0].Folder, "counters.parquet"))
				require.NoError(t, err, "%s: the files of the row are there all the time", why)

				want := map[bool]int{false: 1, true: 2}[step == "taken"] // what stays when the file is gone or damaged
				switch next {
				case "the first":
					put(t, folder, name, texts[0])
					want = 1
				case "the second":
					want = 2
				case "gone":
					require.NoError(t, os.Remove(filepath.Join(folder, name)))
				case "damaged":
					put(t, folder, name, texts[1][:len(texts[1])-2])
				}
				result := ingest(t, data, folder)
				requireVersion(t, campaign, want, why)
				assert.Len(t, result.Failed, map[bool]int{true: 1}[next == "damaged"], why)
				kept, err := filepath.Glob(filepath.Join(campaign, "ingested*", "*"))
				require.NoError(t, err)
				assert.Len(t, kept, 1, "%s: no other version's files are left", why)
			}
		}
	}
}

// TestJournal: the journal grows by two lines for each file and by none for one that is there; a last line that a crash cut
// off does not count; any other damage, and a folder of an earlier version of the program, are refused.
func TestJournal(t *testing.T) {
	const logs = 40
	folder, data := t.TempDir(), t.TempDir()
	for i := range logs {
		put(t, folder, fmt.Sprintf("job_lat.%d.log", i+1), "5, 1000000, 1, 4096\n")
	}
	path := filepath.Join(ingest(t, data, folder).Folder, journalFile)
	lines := func() []byte {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		return text
	}
	text := lines()
	assert.Equal(t, 2*logs, bytes.Count(text, []byte("\n")))
	require.Len(t, ingest(t, data, folder).Before, logs)
	assert.Equal(t, text, lines())

	require.NoError(t, os.WriteFile(path, append(text, `{"state":"beg`...), 0o644))
	require.Len(t, ingest(t, data, folder).Before, logs)
	assert.Equal(t, text, lines())

	for _, damaged := range []string{"\n", "{}\n", `{"state":"other","version":1,"attempts":["00001.1"],"source":"x"}` + "\n",
		`{"state":"taken","version":1,"attempts":["../x"],"source":"x"}` + "\n", `{"state":"taken","version":0,"attempts":["00001.1"],"source":"x"}` + "\n"} {
		require.NoError(t, os.WriteFile(path, []byte(damaged+string(text)), 0o644))
		_, err := Run(t.Context(), Options{Data: data, Name: "logs"}, nil)
		assert.ErrorContains(t, err, "line 1 of "+path, damaged)
		assert.Equal(t, fault.BadInput, fault.Of(err), damaged)
	}
	put(t, data, "campaign=old/ingested.json", "[]")
	put(t, data, "campaign=old/"+lockFile, "")
	_, err := Run(t.Context(), Options{Data: data, Name: "old"}, nil)
	assert.ErrorContains(t, err, "earlier version of this program")
}

// TestNumbers: no file gets the number of an attempt that is in the dataset, whatever failed before.
func TestNumbers(t *testing.T) {
	folder, data := t.TempDir(), t.TempDir()
	put(t, folder, "a_lat.1.log", "5, 1000000, 1, 4096\n")
	put(t, folder, "b_lat.1.log", "cut")
	require.Len(t, ingest(t, data, folder).Failed, 1)
	put(t, folder, "c_lat.1.log", strings.Repeat("5, 1000000, 1, 4096\n", 2))
	require.Len(t, ingest(t, data, folder).Failed, 1)
	put(t, folder, "b_lat.1.log", strings.Repeat("5, 1000000, 1, 4096\n", 3))
	result := ingest(t, data, folder)
	rows, _ := attempts(t, result.Folder)
	for name, ios := range map[string]int{"a_lat.1.log": 1, "b_lat.1.log": 3, "c_lat.1.log": 2} {
		assert.Len(t, rowsOf(t, result.Folder, rows[name].Key), ios, name)
	}
}
