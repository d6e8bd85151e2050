package ingest

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/analysis/dataset"
)

// killedEnv makes the test's program ingest the folder that it names into the folder after the colon.
// It prints a line for each read.
const killedEnv = "HELIOTROPE_TEST_INGEST"

func TestMain(m *testing.M) {
	if text := os.Getenv(killedEnv); text != "" {
		os.Exit(ingestToBeKilled(text))
	}
	os.Exit(m.Run())
}

func ingestToBeKilled(text string) int {
	debug.SetMemoryLimit(180 << 20) // as the program has
	folder, data, _ := strings.Cut(text, ":")
	sources, _, err := Find(folder)
	if err == nil {
		_, err = Run(context.Background(), Options{Data: data, Name: "logs", AtOnce: 4, Read: func(int64) { fmt.Println("read") }}, sources)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	fmt.Println(mostMemory, memory.Sys)
	return 0
}

// mostMemory begins the line in which the process says how many bytes of memory it ever had from the system. The race
// detector's are not among them.
const mostMemory = "memory"

// TestMemory: files made to need much memory stay within the limit: four histogram logs at once with I/Os in all
// buckets of all lines, and a document of 600,000 jobs.
func TestMemory(t *testing.T) {
	folder, data := t.TempDir(), t.TempDir()
	text := fullHistograms(300)
	for i := range 4 {
		put(t, folder, fmt.Sprintf("a_clat_hist.%d.log", i+1), text)
	}
	put(t, folder, "jobs.json", `{"fio version": "x", "jobs": [`+strings.Repeat(`{"read": {"total_ios": 1}},`, 600_000)+`{}]}`)
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), killedEnv+"="+folder+":"+data)
	out, err := cmd.Output()
	require.NoError(t, err)
	_, last, found := strings.Cut(string(out), mostMemory+" ")
	require.True(t, found)
	bytes, err := strconv.Atoi(strings.TrimSpace(last))
	require.NoError(t, err)
	t.Logf("%d MiB", bytes>>20)
	assert.Less(t, bytes, 210<<20, "with what the program itself takes, below 256 MiB")
	rows, _ := attempts(t, dataset.CampaignFolder(data, "logs"))
	assert.Len(t, rows, 4)
}

// killAfter ingests in a process of its own and kills it (SIGKILL) after so many reads. It says whether
// the process had ended before that.
func killAfter(t *testing.T, folder, data string, readings int) (ended bool) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), killedEnv+"="+folder+":"+data)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := bufio.NewScanner(out)
	for range readings {
		if !lines.Scan() {
			require.NoError(t, cmd.Wait())
			return true
		}
	}
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait() // it was killed
	return false
}

// TestKilled: the process is killed again and again in the middle of many files of all kinds, and continues.
// In the end each file's rows are there once, and nothing is incomplete.
func TestKilled(t *testing.T) {
	const logs = 30
	folder, data := t.TempDir(), t.TempDir()
	for i := range logs {
		var text strings.Builder
		for n := range 100 * (i + 1) {
			fmt.Fprintf(&text, "%d, %d, %d, 4096, 0, 0\n", n, 1000+i, n%2)
		}
		put(t, folder, fmt.Sprintf("job_lat.%d.log", i+1), text.String())
	}
	put(t, folder, "k.json", captured(t, "fio/testdata/fio-3.33-plus.json"))
	put(t, folder, "k_clat_hist.1.log", captured(t, "fio/testdata/fio-3.33_clat_hist.1.log"))
	put(t, folder, "k.csv", captured(t, "results/testdata/1.1.0.csv"))
	campaign := dataset.CampaignFolder(data, "logs")
	kills := 0
	for readings := 1; !killAfter(t, folder, data, readings); readings += 7 {
		kills++
		// A reader at this moment finds rows of complete files, or none.
		assert.NotPanics(t, func() { _, _ = dataset.Check(campaign) })
	}
	assert.Greater(t, kills, 3)
	t.Logf("killed %d times", kills)

	result := ingest(t, data, folder)
	assert.Empty(t, result.Ingested, "the last of them was not killed")
	assert.Len(t, result.Before, logs+3)
	rows, phases := attempts(t, campaign)
	assert.Len(t, rows, logs+1+1+2, "a job, a histogram log, two of Iometer's tests")
	for i := range logs {
		row, known := rows[fmt.Sprintf("job_lat.%d.log", i+1)]
		require.True(t, known, i)
		ios := rowsOf(t, campaign, row.Key)
		require.Len(t, ios, 100*(i+1))
		assert.Equal(t, int64(100*(i+1)), *row.IORows)
		for _, io := range ios {
			require.Equal(t, int64(1000+i), io.LatencyNs)
		}
	}
	assert.Len(t, phases["k.json: mixed"], 3)
	entries, err := os.ReadDir(filepath.Join(campaign, "ingested"))
	require.NoError(t, err)
	assert.Len(t, entries, len(rows), "no folder of an attempt without a row")
	leftovers := 0
	require.NoError(t, filepath.WalkDir(campaign, func(path string, entry os.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && !strings.HasSuffix(path, ".parquet") && !strings.HasSuffix(path, ".json") && !strings.HasSuffix(path, ".jsonl") && !strings.HasSuffix(path, ".lock") {
			leftovers++
			t.Log(path)
		}
		return err
	}))
	assert.Zero(t, leftovers, "nothing half-written")
}

// TestKilledAndGone: what was begun of a file that is not ingested again is removed.
func TestKilledAndGone(t *testing.T) {
	folder, data := t.TempDir(), t.TempDir()
	put(t, folder, "a_lat.1.log", strings.Repeat("5, 812345, 1, 4096\n", 200_000))
	require.False(t, killAfter(t, folder, data, 3))
	require.NoError(t, os.Remove(filepath.Join(folder, "a_lat.1.log")))
	put(t, folder, "b_lat.1.log", "5, 1, 1, 4096\n")
	result := ingest(t, data, folder)
	rows, _ := attempts(t, result.Folder)
	assert.Len(t, rows, 1)
	entries, err := os.ReadDir(filepath.Join(result.Folder, "ingested"))
	require.NoError(t, err)
	assert.Len(t, entries, 1)
}
