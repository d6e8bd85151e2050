package dataset_test

import (
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/trial"
)

// write writes one trial and returns its folder.
func write(t *testing.T, files dataset.TrialFiles) (string, dataset.WrittenTrial) {
	t.Helper()
	files.CampaignFolder, files.Folder, files.Provenance = t.TempDir(), "storage=nfs/rtt_ms=10/trial=0001.1", provenance()
	written, err := dataset.WriteTrial(files)
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(files.CampaignFolder, files.Folder), written
}

// attemptFiles is what an attempt's folder has.
var attemptFiles = []string{"clocks.parquet", "counters.parquet", "domains.parquet", "events.parquet", "heartbeats.parquet", "histograms.parquet", "io.parquet"}

func TestRoundTrip(t *testing.T) {
	for _, n := range []int{0, 1, 1025, 70_001} {
		io, counters, events := someIO(n), someCounters(n), someEvents(n)
		heartbeats, clocks, domains, histograms := someHeartbeats(n), someClocks(n), someDomains(n), someHistograms(n)
		folder, written := write(t, dataset.TrialFiles{
			IO: dataset.Rows(io), Counters: dataset.Rows(counters), Events: dataset.Rows(events),
			Heartbeats: dataset.Rows(heartbeats), Clocks: dataset.Rows(clocks), Domains: dataset.Rows(domains), Histograms: dataset.Rows(histograms)})
		for _, file := range []dataset.File{written.IO, written.Counters, written.Events, written.Heartbeats, written.Clocks, written.Domains, written.Histograms} {
			if file.Rows != int64(n) {
				t.Errorf("%d rows: written %+v", n, file)
			}
		}
		same(t, dataset.ReadHeartbeats(filepath.Join(folder, "heartbeats.parquet")), heartbeats)
		same(t, dataset.ReadClocks(filepath.Join(folder, "clocks.parquet")), clocks)
		same(t, dataset.ReadDomains(filepath.Join(folder, "domains.parquet")), domains)
		same(t, dataset.ReadHistograms(filepath.Join(folder, "histograms.parquet")), histograms)
		same(t, dataset.ReadIO(filepath.Join(folder, "io.parquet")), io)
		same(t, dataset.ReadCounters(filepath.Join(folder, "counters.parquet")), counters)
		same(t, dataset.ReadEvents(filepath.Join(folder, "events.parquet")), events)
		if names := list(t, folder); !slices.Equal(names, attemptFiles) {
			t.Errorf("%d rows leave %q", n, names)
		}
	}
}

// Neighbouring values that are as far apart as possible, and texts of every kind.
func TestRoundTripOfExtremes(t *testing.T) {
	io := []dataset.IO{
		{TsNs: math.MinInt64, LatencyNs: math.MaxInt64, SizeBytes: math.MaxInt32, OffsetBytes: math.MinInt64},
		{TsNs: math.MaxInt64, LatencyNs: math.MinInt64, SizeBytes: math.MinInt32, Op: "write"},
		{},
	}
	events := []dataset.Event{{Detail: "a\nb\x00c é |"}, {Source: "host-a"}, {}}
	folder, _ := write(t, dataset.TrialFiles{IO: dataset.Rows(io), Events: dataset.Rows(events)})
	same(t, dataset.ReadIO(filepath.Join(folder, "io.parquet")), io)
	same(t, dataset.ReadEvents(filepath.Join(folder, "events.parquet")), events)
	same(t, dataset.ReadCounters(filepath.Join(folder, "counters.parquet")), nil)
}

// When only some columns are read, the others are 0, even where batches reuse memory; a
// column that an older file does not have is 0, too.
func TestReadSomeColumns(t *testing.T) {
	io := someIO(70_001)
	folder, _ := write(t, dataset.TrialFiles{IO: dataset.Rows(io)})
	want := slices.Clone(io)
	for i := range want {
		want[i] = dataset.IO{TsNs: io[i].TsNs, LatencyNs: io[i].LatencyNs, Op: io[i].Op, Error: io[i].Error, LateNs: io[i].LateNs}
	}
	same(t, dataset.ReadIO(filepath.Join(folder, "io.parquet"), "late_ns", "op", "error", "ts_ns", "latency_ns"), want)
	old := filepath.Join(before, filepath.FromSlash("storage=drbd/rtt_ms=30/trial=00003.2/io.parquet"))
	rows, err := dataset.All(dataset.ReadIO(old))
	if err != nil || len(rows) == 0 {
		t.Fatal(len(rows), err)
	}
	for i := range rows {
		rows[i] = dataset.IO{TsNs: rows[i].TsNs}
	}
	same(t, dataset.ReadIO(old, "error", "ts_ns"), rows)
	if _, err := dataset.All(dataset.ReadIO(filepath.Join(folder, "io.parquet"), "ts_ns", "lateness")); err == nil || !strings.Contains(err.Error(), "lateness") {
		t.Errorf("a column that there is not: %v", err)
	}
}

// More row groups than one, and batches that do not fit them.
func TestRoundTripOfManyBatches(t *testing.T) {
	io := someIO(1<<18 + 1000)
	folder, _ := write(t, dataset.TrialFiles{IO: func(yield func([]dataset.IO, error) bool) {
		for batch := range slices.Chunk(io, 99_991) {
			if !yield(batch, nil) || !yield(nil, nil) {
				return
			}
		}
	}})
	same(t, dataset.ReadIO(filepath.Join(folder, "io.parquet")), io)
}

// same compares what is read with what was written. The batches' memory may be
// used again, so the rows are copied by All.
func same[R comparable](t *testing.T, batches dataset.Batches[R], want []R) {
	t.Helper()
	got, err := dataset.All(batches)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got, want) {
		t.Errorf("%d rows are read, %d were written, and they differ", len(got), len(want))
	}
}

func list(t *testing.T, folder string) []string {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

// An error of the source leaves the old file, and nothing incomplete.
func TestSourceFails(t *testing.T) {
	folder, _ := write(t, dataset.TrialFiles{IO: dataset.Rows(someIO(10))})
	failure := errors.New("no more log")
	_, err := dataset.WriteTrial(dataset.TrialFiles{
		CampaignFolder: filepath.Dir(folder), Folder: filepath.Base(folder), Provenance: provenance(),
		IO: func(yield func([]dataset.IO, error) bool) {
			_ = yield(someIO(5), nil) && yield(nil, failure)
		}})
	if !errors.Is(err, failure) {
		t.Fatalf("error is %v, want %v", err, failure)
	}
	same(t, dataset.ReadIO(filepath.Join(folder, "io.parquet")), someIO(10))
	if names := list(t, folder); !slices.Equal(names, attemptFiles) {
		t.Errorf("left: %q", names)
	}
}

// A table of I/Os that is not known has no file, even when an earlier try left one.
func TestNoIO(t *testing.T) {
	folder, written := write(t, dataset.TrialFiles{IO: dataset.Rows(someIO(10))})
	var row dataset.Trial
	row.SetFiles(written)
	if !row.HasIO() || *row.IORows != 10 || *row.HistogramRows != 0 {
		t.Errorf("%v I/Os, %v histograms", row.IORows, row.HistogramRows)
	}
	written, err := dataset.WriteTrial(dataset.TrialFiles{CampaignFolder: filepath.Dir(folder), Folder: filepath.Base(folder), Provenance: provenance()})
	if err != nil {
		t.Fatal(err)
	}
	row.SetFiles(written)
	if row.HasIO() || row.IORows != nil || row.HistogramRows != nil || row.HeartbeatRows == nil {
		t.Errorf("%+v", row)
	}
	if names := list(t, folder); slices.Contains(names, "io.parquet") || slices.Contains(names, "histograms.parquet") || len(names) != len(attemptFiles)-2 {
		t.Errorf("left: %q", names)
	}
}

// A second writer must not write into the same files.
func TestOneWriterAtATime(t *testing.T) {
	campaign := t.TempDir()
	files := dataset.TrialFiles{CampaignFolder: campaign, Folder: "trial=0001.1", Provenance: provenance()}
	again := files
	var second error
	files.IO = func(yield func([]dataset.IO, error) bool) {
		_, second = dataset.WriteTrial(again)
		yield(someIO(3), nil)
	}
	if _, err := dataset.WriteTrial(files); err != nil {
		t.Fatal(err)
	}
	if second == nil || !strings.Contains(second.Error(), "trial=0001.1") {
		t.Errorf("a second writer is told %v", second)
	}
	same(t, dataset.ReadIO(filepath.Join(campaign, "trial=0001.1", "io.parquet")), someIO(3))
	if _, err := dataset.WriteTrial(again); err != nil {
		t.Errorf("the lock stays: %v", err)
	}
}

func TestProvenanceIsRequired(t *testing.T) {
	for _, key := range []string{dataset.KeyCampaign, dataset.KeyTestbedKind} {
		incomplete := provenance()
		delete(incomplete, key)
		folder := t.TempDir()
		if _, err := dataset.WriteTrial(dataset.TrialFiles{CampaignFolder: folder, Folder: "x", Provenance: incomplete}); err == nil {
			t.Errorf("a trial without %s is written", key)
		}
		if _, err := dataset.CompactCampaign(folder, incomplete); err == nil {
			t.Errorf("a campaign without %s is compacted", key)
		}
	}
}

func TestReadProvenance(t *testing.T) {
	folder, _ := write(t, dataset.TrialFiles{})
	got, err := dataset.ReadProvenance(filepath.Join(folder, "events.parquet"))
	for key, value := range provenance() {
		if err != nil || got[key] != value {
			t.Errorf("%s is %q, want %q; %v", key, got[key], value, err)
		}
	}
	if _, err := dataset.ReadProvenance(filepath.Join(folder, "none.parquet")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}

func TestReadErrors(t *testing.T) {
	folder, _ := write(t, dataset.TrialFiles{IO: dataset.Rows(someIO(10))})
	var damaged *dataset.DamagedError
	if _, err := dataset.All(dataset.ReadIO(filepath.Join(folder, "none.parquet"))); !errors.Is(err, fs.ErrNotExist) || errors.As(err, &damaged) {
		t.Errorf("a missing file: %v", err)
	}
	// Another table's file is not damaged, and must not be set aside.
	if _, err := dataset.All(dataset.ReadIO(filepath.Join(folder, "events.parquet"))); err == nil || errors.As(err, &damaged) {
		t.Errorf("another table's file: %v", err)
	}
}

// Whatever happens to a file, reading it either ends with an error that names the file, or
// gives as many rows as were written; a truncated file is always an error.
func TestDamagedParquet(t *testing.T) {
	rows := someIO(2000)
	folder, _ := write(t, dataset.TrialFiles{IO: dataset.Rows(rows)})
	path := filepath.Join(folder, "io.parquet")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	read := func(content []byte) (int, error) {
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
		got, err := dataset.All(dataset.ReadIO(path))
		return len(got), err
	}
	var damaged *dataset.DamagedError
	for cut := 0; cut < len(whole); cut += 97 {
		if _, err := read(whole[:cut]); !errors.As(err, &damaged) || damaged.Path != path {
			t.Fatalf("cut at %d: %v", cut, err)
		}
	}
	for at := 0; at < len(whole); at += 61 {
		flipped := slices.Clone(whole)
		flipped[at] ^= 0x55
		n, err := read(flipped)
		if err == nil && n != len(rows) {
			t.Fatalf("byte %d changed: %d rows and no error", at, n)
		}
		if err != nil && errors.As(err, &damaged) && damaged.Path != path {
			t.Fatalf("byte %d changed: %v", at, err)
		}
	}
}

func TestTimeline(t *testing.T) {
	if row := (dataset.Trial{}); len(row.PhaseTsNs) != len(trial.Phases) {
		t.Fatalf("a row has %d phases, a trial has %d", len(row.PhaseTsNs), len(trial.Phases))
	}
	row, _ := someTrial(1, 1)
	timeline := row.Timeline()
	var again dataset.Trial
	again.SetTimeline(timeline)
	if len(timeline) != 8 || !reflect.DeepEqual(again.PhaseTsNs, row.PhaseTsNs) {
		t.Errorf("timeline %v comes back as %v", timeline, again.Timeline())
	}
	row.SetTimeline(timeline[:3])
	if got := row.Timeline(); !reflect.DeepEqual(got, timeline[:3]) {
		t.Errorf("a shorter timeline comes back as %v", got)
	}
}

func TestCampaignFolder(t *testing.T) {
	folder := dataset.CampaignFolder("/data", "quick-1")
	if folder != "/data/campaign=quick-1" || dataset.CampaignName(folder) != "quick-1" || dataset.CampaignName("/data/x") != "" {
		t.Errorf("folder %s, name %q", folder, dataset.CampaignName(folder))
	}
}

// TestEachColumn: all columns are processed, at the same time where they have many rows,
// and a panic of the library does not end the process then.
func TestEachColumn(t *testing.T) {
	for _, rows := range []int{1, 100_000} {
		var done atomic.Int64
		if err := dataset.EachColumn(12, rows, func(column int) error { done.Add(1 << column); return nil }); err != nil || done.Load() != 1<<12-1 {
			t.Errorf("%d rows: columns %b, error %v", rows, done.Load(), err)
		}
	}
	err := dataset.EachColumn(12, 100_000, func(column int) error {
		if column == 3 {
			panic("the library's")
		}
		return nil
	})
	if err == nil || !strings.Contains(err.Error(), "the library's") {
		t.Errorf("a panic becomes %v", err)
	}
}
