package page_test

import (
	"runtime"
	"testing"

	"heliotrope/analysis/page"
)

// BenchmarkReport makes the report of 1,000 trials of 3,000 I/Os each, in eight cells:
// 30 s and 15 MB are what it may take.
func BenchmarkReport(b *testing.B) {
	folder := scene{kind: "emulated", name: "thousand", blocks: 125, ios: 3000}.write(b, b.TempDir())
	for b.Loop() {
		campaign, err := page.Read(folder)
		if err != nil {
			b.Fatal(err)
		}
		report, err := page.Make(b.Context(), campaign, page.Options{Dir: folder})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(len(report.HTML())), "bytes-of-html")
		b.ReportMetric(float64(campaign.Summary.Trials), "trials")
	}
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	b.ReportMetric(float64(memory.Sys)/(1<<20), "MiB-of-memory")
}
