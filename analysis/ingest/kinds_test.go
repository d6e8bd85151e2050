package ingest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/analysis/dataset"
	"heliotrope/analysis/stats"
	"heliotrope/internal/load/fio"
	"heliotrope/internal/load/iolog"
)

// captured is one of the files that fio and Iometer wrote.
func captured(tb testing.TB, name string) string {
	tb.Helper()
	text, err := os.ReadFile(filepath.Join("../../internal/load", name))
	require.NoError(tb, err)
	return string(text)
}

// attempts are the rows of a dataset, by the name of their logs.
func attempts(t *testing.T, folder string) (rows map[string]dataset.Trial, phases map[string]map[string]dataset.Phase) {
	t.Helper()
	all, err := dataset.ReadAttempts(folder)
	require.NoError(t, err)
	of, err := dataset.ReadPhases(folder)
	require.NoError(t, err)
	rows, phases = map[string]dataset.Trial{}, map[string]map[string]dataset.Phase{}
	for _, row := range all {
		rows[row.CellID] = row
		phases[row.CellID] = map[string]dataset.Phase{}
		for _, phase := range of {
			if phase.Trial == row.Key {
				phases[row.CellID][phase.Phase] = phase
			}
		}
	}
	problems, err := dataset.Check(folder)
	require.NoError(t, err)
	require.Empty(t, problems)
	return rows, phases
}

func histogramsOf(t *testing.T, folder string, row dataset.Trial) []dataset.Histogram {
	t.Helper()
	rows, err := dataset.All(dataset.ReadHistograms(filepath.Join(folder, row.Folder, "histograms.parquet")))
	require.NoError(t, err)
	return rows
}

// TestThreeViewsOfOneJob: fio 3.33's log of single I/Os, its histogram log and its json+ output of the
// same job give the same numbers, as precisely as fio's buckets allow.
func TestThreeViewsOfOneJob(t *testing.T) {
	folder, data := t.TempDir(), t.TempDir()
	put(t, folder, "a/job_clat.1.log", captured(t, "fio/testdata/fio-3.33_clat.1.log"))
	put(t, folder, "b/job_clat_hist.1.log", captured(t, "fio/testdata/fio-3.33_clat_hist.1.log"))
	put(t, folder, "c/out.json.gz", packed(t, "fio: said something\n"+captured(t, "fio/testdata/fio-3.33-plus.json")))
	result := ingest(t, data, folder)
	require.Empty(t, result.Failed)
	require.Len(t, result.Ingested, 3)
	rows, phases := attempts(t, result.Folder)
	logged, plus, hist := phases["a/job_clat.1.log"], phases["c/out.json.gz: mixed"], phases["b/job_clat_hist.1.log"]
	require.NotNil(t, plus)
	for _, phase := range []string{dataset.WholeLog, dataset.WholeReads, dataset.WholeWrites} {
		want, got := logged[phase], plus[phase]
		assert.Equal(t, []int64{*want.IOs, *want.Reads, *want.Writes, *want.Bytes}, []int64{*got.IOs, *got.Reads, *got.Writes, *got.Bytes}, phase)
		assert.InEpsilon(t, *want.MeanMs, *got.MeanMs, 1e-6, phase)
		assert.InDelta(t, *want.MaxMs, *got.MaxMs, 1e-9, phase)
		for _, pair := range [][2]*float64{{want.P50Ms, got.P50Ms}, {want.P99Ms, got.P99Ms}, {want.P999Ms, got.P999Ms}} {
			assert.InEpsilon(t, *pair[0], *pair[1], 0.016, phase)
		}
		assert.InEpsilon(t, *want.IOPS, *got.IOPS, 0.02, phase)
	}
	assert.Equal(t, "histogram", *rows["c/out.json.gz: mixed"].IODetail)
	assert.Contains(t, rows["c/out.json.gz: mixed"].VersionsJSON, "fio-3.33")
	var ios int64
	for _, h := range histogramsOf(t, result.Folder, rows["c/out.json.gz: mixed"]) {
		of := &stats.Histogram{}
		require.NoError(t, of.AddCounts(h.Counts, h.MaxNs))
		assert.Equal(t, h.IOs, of.Count)
		ios += h.IOs
	}
	assert.Equal(t, int64(240), ios)

	// The histogram log ends with its last whole interval, and its buckets are 16 of fio's.
	var until, counted int64
	for i, h := range histogramsOf(t, result.Folder, rows["b/job_clat_hist.1.log"]) {
		until, counted = max(until, h.TsNs+h.LengthNs), counted+h.IOs
		assert.InDelta(t, 400e6, h.LengthNs, 20e6, i)
		assert.Equal(t, 4096*h.IOs, h.Bytes)
	}
	longest := map[string]int64{}
	for _, io := range rowsOf(t, result.Folder, rows["a/job_clat.1.log"].Key) {
		if io.TsNs <= until {
			counted--
			longest[io.Op] = max(longest[io.Op], io.LatencyNs)
		}
	}
	assert.InDelta(t, 0, counted, 2, "the last millisecond may be divided")
	for phase, want := range logged {
		assert.InEpsilon(t, *want.P50Ms, *hist[phase].P50Ms, 0.3, phase)
	}
	for phase, op := range map[string]string{dataset.WholeReads: dataset.OpRead, dataset.WholeWrites: dataset.OpWrite} {
		assert.GreaterOrEqual(t, *hist[phase].MaxMs*1e6, float64(longest[op]), phase)
		assert.InEpsilon(t, longest[op], *hist[phase].MaxMs*1e6, 0.25, phase)
	}
}

// TestPercentilesAlone: from fio's JSON without bins, percentiles are taken as they are; reads and
// writes together have none, because percentiles are not averaged.
func TestPercentilesAlone(t *testing.T) {
	folder := t.TempDir()
	put(t, folder, "out.json", captured(t, "fio/testdata/fio-3.33-percentiles.json"))
	result := ingest(t, t.TempDir(), folder)
	require.Empty(t, result.Failed)
	rows, phases := attempts(t, result.Folder)
	row := rows["out.json: mixed"]
	assert.Equal(t, DetailSummary, *row.IODetail)
	assert.Nil(t, row.IORows)
	assert.Contains(t, row.Notes, "cannot be merged")
	write := phases["out.json: mixed"][dataset.WholeWrites]
	assert.InDelta(t, 0.014272, *write.P50Ms, 1e-9)
	assert.InDelta(t, 0.016503208, *write.MeanMs, 1e-8)
	assert.InDelta(t, 0.056584, *write.MaxMs, 1e-9)
	assert.InDelta(t, 120/2.001, *write.IOPS, 1e-6)
	all := phases["out.json: mixed"][dataset.WholeLog]
	assert.Equal(t, int64(240), *all.IOs)
	assert.Nil(t, all.P50Ms)
	assert.Nil(t, all.P99Ms)
	assert.NotNil(t, all.MeanMs)
	assert.Equal(t, (int64(1796017293527)-2001)*1e6, row.StartedTsNs, "from when fio ended and how long it ran")
}

// TestJobs: each job of a file is an attempt, and stays the same attempt when the file
// changes; a job that did nothing is none.
func TestJobs(t *testing.T) {
	folder, data := t.TempDir(), t.TempDir()
	job := func(name, io string) string {
		return `{"jobname": "` + name + `", "job_start": 1796000000000, "read": ` + io + `}`
	}
	file := func(jobs ...string) string {
		return `{"fio version": "fio-3.38", "jobs": [` + strings.Join(jobs, ",") + `]}`
	}
	one := `{"total_ios": 10, "io_bytes": 40960, "runtime": 1000, "clat_ns": {"N": 10, "max": 9000000, "mean": 5000000.5, "percentile": {"50.000000": 5000000, "99.000000": 9500000}}}`
	put(t, folder, "out.json", file(job("a", one), job("a", one), job("idle", "{}")))
	result := ingest(t, data, folder)
	require.Empty(t, result.Failed)
	require.Len(t, result.Ingested, 1)
	assert.Equal(t, []string{"00001.1", "00002.1"}, result.Ingested[0].Attempts)
	assert.Equal(t, int64(20), result.Ingested[0].IOs)
	rows, phases := attempts(t, result.Folder)
	require.Len(t, rows, 2)
	all := phases["out.json: a (2)"][dataset.WholeLog]
	assert.Equal(t, []float64{5, 9}, []float64{*all.P50Ms, *all.P99Ms}, "no percentile is above the longest")
	assert.Nil(t, all.P999Ms)
	assert.Equal(t, int64(1796000000000)*1e6, rows["out.json: a"].StartedTsNs)

	put(t, folder, "out.json", file(job("a", one), job("b", one), job("c", one)))
	result = ingest(t, data, folder)
	require.Empty(t, result.Failed)
	rows, _ = attempts(t, result.Folder)
	require.Len(t, rows, 3)
	put(t, folder, "out.json", file(job("a", one)))
	result = ingest(t, data, folder)
	require.Len(t, result.Failed, 1)
	assert.Contains(t, result.Failed[0].Problems[0], "it has 1 jobs or tests, and had 3")
	rows, _ = attempts(t, result.Folder)
	assert.Len(t, rows, 3, "what it was stays")
}

// TestBoth: with unified_rw_reporting=both fio writes the same I/Os twice, and they are counted once.
func TestBoth(t *testing.T) {
	folder := t.TempDir()
	put(t, folder, "out.json", captured(t, "fio/testdata/fio-3.33-both.json"))
	result := ingest(t, t.TempDir(), folder)
	require.Empty(t, result.Failed)
	rows, phases := attempts(t, result.Folder)
	row, of := rows["out.json: both"], phases["out.json: both"]
	assert.Equal(t, iolog.DetailHistogram, *row.IODetail)
	whole, reads, writes := of[dataset.WholeLog], of[dataset.WholeReads], of[dataset.WholeWrites]
	assert.Equal(t, *whole.IOs, *reads.IOs+*writes.IOs)
	assert.Equal(t, *whole.Bytes, 4096**whole.IOs)
	assert.Equal(t, result.Ingested[0].IOs, *whole.IOs)
	assert.NotNil(t, whole.P99Ms)
}

// TestHistogramLogs: what a histogram log does not say is not known.
func TestHistogramLogs(t *testing.T) {
	line := func(head string, counts ...string) string {
		return head + ", " + strings.Join(append(counts, make([]string, 29-len(counts))...), ", ") + "\n"
	}
	zeros := func(text string) string {
		return strings.ReplaceAll(strings.ReplaceAll(text, ", ,", ", 0,"), ", \n", ", 0\n")
	}
	text := line("1000, 0, 4096", "2") + line("1500, 0, 512", "0", "3")
	last := strings.Replace(zeros(line("1500, 1, 512")), ", 0\n", ", 7\n", 1)
	folder := t.TempDir()
	put(t, folder, "a_clat_hist.1.log", strings.ReplaceAll(zeros(strings.ReplaceAll(text, ", ,", ", 0,")), ", ,", ", 0,")+strings.ReplaceAll(last, ", ,", ", 0,"))
	result := ingest(t, t.TempDir(), folder)
	require.Empty(t, result.Failed)
	rows, phases := attempts(t, result.Folder)
	row := rows["a_clat_hist.1.log"]
	got := histogramsOf(t, result.Folder, row)
	require.Len(t, got, 3)
	assert.Equal(t, []int64{500e6, 500e6, 2}, []int64{got[0].TsNs, got[0].LengthNs, got[0].IOs}, "the first is taken as long as the second")
	assert.Equal(t, []int64{1000e6, 500e6, 3}, []int64{got[1].TsNs, got[1].LengthNs, got[1].IOs})
	assert.Equal(t, []int64{0, 1500e6, 7}, []int64{got[2].TsNs, got[2].LengthNs, got[2].IOs}, "and an only one from the beginning on")
	assert.Equal(t, int64(63), got[0].MaxNs)
	writes, reads := phases["a_clat_hist.1.log"][dataset.WholeWrites], phases["a_clat_hist.1.log"][dataset.WholeReads]
	assert.Nil(t, writes.MaxMs, "beyond fio's last bucket")
	assert.Nil(t, writes.P50Ms)
	assert.Nil(t, reads.MBPerS, "of several sizes")
	assert.NotNil(t, reads.P50Ms)
	assert.Contains(t, row.Notes, "7 I/Os took 8.6 s or longer")
}

// TestSpreading: the number of I/Os stays the same, a single I/O is in the middle, and
// nothing is left for the next row.
func TestSpreading(t *testing.T) {
	var s spreading
	s.add(1024, 2048, 1)
	assert.Equal(t, "575:1", s.take(), "128 buckets of 8 ns, from bucket 512 on")
	for _, ios := range []int64{3, 127, 128, 1000, 1 << 40} {
		s.add(1024, 2048, ios)
		h := &stats.Histogram{}
		require.NoError(t, h.AddCounts(s.take(), 2047))
		assert.Equal(t, ios, h.Count)
		assert.InEpsilon(t, 1536, h.Percentile(500), 0.2)
	}
	assert.Empty(t, s.take())
	for bucket := range fio.Buckets {
		from, to := fio.BucketNs(bucket)
		s.add(from, to, 1)
	}
	h := &stats.Histogram{}
	require.NoError(t, h.AddCounts(s.take(), 1))
	assert.Equal(t, int64(fio.Buckets), h.Count)
}

// TestHistogramBatches: batches are bounded in bytes, too: a line of a histogram log can become 50 KB of counts.
func TestHistogramBatches(t *testing.T) {
	log, rows, longest := histogramLog{}, 0, 0
	for batch, err := range log.batches(strings.NewReader(fullHistograms(60))) {
		require.NoError(t, err)
		rows += len(batch)
		for i := range batch {
			longest = max(longest, len(batch[i].Counts))
		}
		assert.Less(t, countsBytes(batch), histogramBytes+2*longest)
	}
	assert.Equal(t, 60, rows)
	assert.Greater(t, longest, 50_000)
}

// fullHistograms is a histogram log whose lines have I/Os in all buckets, and differ.
func fullHistograms(lines int) string {
	var text []byte
	for line := range lines {
		text = fmt.Appendf(text, "%d, 0, 512", 1000*(line+1))
		for bucket := range fio.Buckets {
			text = fmt.Appendf(text, ", %d", 400_000_000+1000*line+bucket)
		}
		text = append(text, '\n')
	}
	return string(text)
}

// TestIometer: a test of each generation of Iometer's results is an attempt, without percentiles.
func TestIometer(t *testing.T) {
	folder := t.TempDir()
	for _, name := range []string{"2006.07.27", "1.1.0-rc1", "1.1.0"} {
		put(t, folder, name+".csv", captured(t, "results/testdata/"+name+".csv"))
	}
	put(t, folder, "other.csv", "time,latency\n1,2\n")
	result := ingest(t, t.TempDir(), folder)
	require.Empty(t, result.Failed)
	require.Len(t, result.Skipped, 1)
	rows, phases := attempts(t, result.Folder)
	for _, name := range []string{"2006.07.27.csv: test 1, 4k mix", "1.1.0.csv: test 1, 4k mix", "1.1.0-rc1.csv: test 2, 4k mix"} {
		require.Contains(t, rows, name)
		assert.Equal(t, "iometer", *rows[name].Engine)
		all, reads := phases[name][dataset.WholeLog], phases[name][dataset.WholeReads]
		assert.Equal(t, []int64{24372, 16328, 8044}, []int64{*all.IOs, *all.Reads, *all.Writes}, name)
		assert.InEpsilon(t, 812.5, *all.IOPS, 1e-4, name)
		assert.InEpsilon(t, 3.328, *all.MBPerS, 1e-3, name)
		assert.Equal(t, []float64{1.23, 31.5, 1.1}, []float64{*all.MeanMs, *all.MaxMs, *reads.MeanMs}, name)
		assert.Nil(t, all.P50Ms, name)
	}
}

// TestBadDocuments: all errors of a document are reported at once, with lines, and nothing of it is in the
// dataset.
func TestBadDocuments(t *testing.T) {
	csv := captured(t, "results/testdata/1.1.0.csv")
	for name, c := range map[string]struct {
		file, text string
		want       []string
	}{
		"a cut JSON":        {"a.json", captured(t, "fio/testdata/fio-3.33-plus.json")[:5000], []string{"ends before its end"}},
		"a wrong JSON":      {"a.json", "{\"fio version\": \"x\", \"jobs\": [\n{\"read\": {\"total_ios\": -1}},\n{\"read\": {\"total_ios\": 1e99}}]}", []string{"line 2: jobs[0].read.total_ios is -1", "line 3: jobs[1].read.total_ios is a number 1e99"}},
		"an idle JSON":      {"a.json", `{"fio version": "x", "jobs": [{"jobname": "a", "read": {}}]}`, []string{"none of its 1 jobs has an I/O"}},
		"a cut CSV":         {"a.csv", csv[:len(csv)*2/3], []string{"line "}},
		"decimal commas":    {"a.csv", strings.Replace(csv, "812.500000,544.266667", "812,500000,544,266667", 1), []string{"decimal commas?"}},
		"a model's CSV":     {"a.csv", strings.Replace(csv, "\n1.1.0 ", "\n1.1.0 (heliotrope v1; SIMULATED — not a measurement)", 1), []string{"of a model"}},
		"negative in a CSV": {"a.csv", strings.Replace(csv, "ALL,All,4k mix,1,1,1,812.5", "ALL,All,4k mix,1,1,1,-812.5", 1), []string{"IOps -812.5, which is not in range"}},
		"packed and cut":    {"a.json.gz", packed(t, captured(t, "fio/testdata/fio-3.33-plus.json"))[:1500], []string{"unexpected EOF"}},
		"three wrong lines": {"a_lat.1.log", "1, 1, 0, 1\n2, x, 0, 1\n3, 1, 7, 1\n4, 1, 0, 1\n4, 1, 0, 1, 1\n", []string{"line 2", "line 3", "line 5"}},
		"a large CSV":       {"a.csv", strings.Repeat(csv, 16<<20/len(csv)+1), []string{"is larger than 16777216 bytes"}},
		"Windows-1252":      {"a.csv", strings.ReplaceAll(csv, "4k mix", "4k M\xfcll"), []string{"is not UTF-8: convert the file"}},
		"many jobs":         {"a.json", `{"fio version": "x", "jobs": [` + strings.Repeat(`{"read": {"total_ios": 1}},`, 5000) + `{}]}`, []string{"has more than 4096 jobs"}},
		"many bytes":        {"a_clat_hist.1.log", "5, 0, 2147483648, 1099511627776" + strings.Repeat(", 0", 28) + "\n", []string{"more I/Os, or larger ones"}},
		"wrong histograms":  {"a_clat_hist.1.log", "5, 0, 4096, 1, 2\n6, 0, 4096, -1\n", []string{"line 1 of the histogram log", "line 2"}},
	} {
		folder := t.TempDir()
		put(t, folder, c.file, c.text)
		put(t, folder, "good_lat.1.log", "5, 812345, 1, 4096\n")
		result := ingest(t, t.TempDir(), folder)
		require.Len(t, result.Ingested, 1, name)
		require.Len(t, result.Failed, 1, name)
		for _, want := range c.want {
			assert.Contains(t, strings.Join(result.Failed[0].Problems, "\n"), want, name)
		}
		assert.GreaterOrEqual(t, len(result.Failed[0].Problems), len(c.want), name)
		rows, _ := attempts(t, result.Folder)
		assert.Len(t, rows, 1, name)
		entries, err := os.ReadDir(filepath.Join(result.Folder, "ingested"))
		require.NoError(t, err)
		assert.Len(t, entries, 1, name)
	}
}

// TestBest: of several logs of a job, the one that says most is taken.
func TestBest(t *testing.T) {
	folder := t.TempDir()
	for _, name := range []string{"a_lat.1.log", "a_clat.1.log", "a_clat_hist.1.log", "b_clat_hist.2.log", "b_slat_hist.2.log", "c_clat.1.log.gz", "c_clat_hist.1.log", "hist_lat.log"} {
		put(t, folder, name, "")
	}
	sources, skipped, err := Find(folder)
	require.NoError(t, err)
	kinds := map[string]Kind{}
	for _, source := range sources {
		kinds[source.Name] = source.Kind
	}
	assert.Equal(t, map[string]Kind{"a_lat.1.log": Log, "b_clat_hist.2.log": Histograms, "c_clat.1.log.gz": Log, "hist_lat.log": Log}, kinds)
	assert.Len(t, skipped, 4)
}
