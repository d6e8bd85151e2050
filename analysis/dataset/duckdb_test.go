package dataset_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"heliotrope/analysis/dataset"
)

// A reader that does not use our library reads every file and finds what we wrote, and its
// check finds what is wrong.
func TestDuckDBReadsTheDataset(t *testing.T) {
	tool, err := filepath.Abs("../../tools/duckdb")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(tool, "node_modules")); err != nil {
		t.Fatal("DuckDB is not installed: run `make test`, or `npm ci` in tools/duckdb")
	}
	node, err := exec.LookPath("node")
	if err != nil {
		t.Fatal("node is not installed: run `make deps`")
	}
	data := t.TempDir()
	run := func() (string, error) {
		out, err := exec.Command(node, filepath.Join(tool, "check.mjs"), data).CombinedOutput()
		return string(out), err
	}
	if out, err := run(); err == nil {
		t.Errorf("a folder without a campaign is fine: %s", out)
	}

	folder := dataset.CampaignFolder(data, "test")
	row, _ := someTrial(1, 1)
	// More rows than a page and than a batch; a table without rows; nulls.
	written, err := dataset.WriteTrial(dataset.TrialFiles{CampaignFolder: folder, Folder: row.Folder, Provenance: provenance(),
		IO: dataset.Rows(someIO(70_001)), Counters: dataset.Rows(someCounters(2000))})
	if err != nil {
		t.Fatal(err)
	}
	row.SetFiles(written)
	all := someAttempt(1, 1)
	all.Trial = row
	noteAll(t, folder, all)
	for sequence := 2; sequence <= 4; sequence++ {
		attempt(t, folder, sequence, 1)
	}
	// More rows than a batch of Parquet's writer, in columns with nulls.
	for sequence := 5; sequence < 1100; sequence++ {
		row, phases := someTrial(sequence, 1)
		row.Folder, row.Verdict = "", "skipped"
		if sequence%2 == 0 {
			row.TotalMigrationMs, row.DRBDProtocol = nil, ptr("C")
		}
		note(t, folder, row, phases)
	}
	compact(t, folder)
	out, err := run()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Log(out)
	if !strings.Contains(out, "37 Parquet files of 1 campaigns read by DuckDB, 0 problems") {
		t.Errorf("DuckDB says:\n%s", out)
	}

	// Folders of schema version 1 are read too, and their attempts are found.
	old, _ := copyOf(t)
	if out, err := exec.Command(node, filepath.Join(tool, "check.mjs"), old, "--sound", "3").CombinedOutput(); err != nil ||
		!strings.Contains(string(out), "42 Parquet files of 1 campaigns read by DuckDB, 0 problems") {
		t.Errorf("DuckDB says of a folder from before: %v\n%s", err, out)
	}

	// The script notices a file that was replaced by another one, and a truncated file.
	name := filepath.Join(folder, row.Folder, "io.parquet")
	whole := load(t, name)
	store(t, name, load(t, filepath.Join(folder, row.Folder, "counters.parquet")))
	if out, err := run(); err == nil || !strings.Contains(out, row.Folder+"/io.parquet: number of rows is 2000") {
		t.Errorf("another table's file: %v\n%s", err, out)
	}
	store(t, name, whole[:len(whole)/2])
	if out, err := run(); err == nil || !strings.Contains(out, row.Folder+"/io.parquet: ") {
		t.Errorf("a file that is cut: %v\n%s", err, out)
	}
}
