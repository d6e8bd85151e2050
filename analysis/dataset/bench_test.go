package dataset_test

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"heliotrope/analysis/dataset"
)

// cpuTime is the time that this process has spent on processors.
func cpuTime(b *testing.B) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// BenchmarkWriteIO writes a trial of a million I/Os.
func BenchmarkWriteIO(b *testing.B) {
	rows := someIO(1_000_000)
	folder := b.TempDir()
	var bytes int64
	started := cpuTime(b)
	for b.Loop() {
		written, err := dataset.WriteTrial(dataset.TrialFiles{CampaignFolder: folder, Folder: "trial=0001.1",
			Provenance: provenance(), IO: dataset.Rows(rows)})
		if err != nil {
			b.Fatal(err)
		}
		bytes = written.IO.Bytes
	}
	b.ReportMetric(float64(b.N*len(rows))/(cpuTime(b)-started).Seconds(), "rows/CPU-s")
	b.ReportMetric(float64(bytes)/float64(len(rows)), "bytes/row")
}

// BenchmarkSmallTrials writes trials of 3,000 I/Os with all their files, and
// compacts the campaign after every 50.
func BenchmarkSmallTrials(b *testing.B) {
	folder := dataset.CampaignFolder(b.TempDir(), "bench")
	io, counters, events, heartbeats := someIO(3000), someCounters(600), someEvents(30), someHeartbeats(12000)
	started := cpuTime(b)
	n := 0
	for b.Loop() {
		n++
		row, phases := someTrial(n, 1)
		written, err := dataset.WriteTrial(dataset.TrialFiles{CampaignFolder: folder, Folder: row.Folder, Provenance: provenance(),
			IO: dataset.Rows(io), Counters: dataset.Rows(counters), Events: dataset.Rows(events), Heartbeats: dataset.Rows(heartbeats)})
		if err != nil {
			b.Fatal(err)
		}
		row.SetFiles(written)
		if err := dataset.WriteAttempt(folder, dataset.Attempt{Trial: row, Phases: phases}); err != nil {
			b.Fatal(err)
		}
		if n%50 == 0 {
			compacted, err := dataset.CompactCampaign(folder, provenance())
			if err != nil || len(compacted.Problems) > 0 {
				b.Fatal(err, compacted.Problems)
			}
		}
	}
	b.ReportMetric((cpuTime(b)-started).Seconds()*1000/float64(n), "CPU-ms/trial")
}

func ExampleTrialFolder() {
	fmt.Println(dataset.TrialFolder("drbd", 40, "0007.1"))
	fmt.Println(dataset.TrialFolder("iscsi", 2.5, "0008.2"))
	// Output:
	// storage=drbd/rtt_ms=40/attempt=0007.1
	// storage=iscsi/rtt_ms=2.5/attempt=0008.2
}
