package judge_test

import (
	"math/rand/v2"
	"path/filepath"
	"runtime/metrics"
	"syscall"
	"testing"
	"time"

	"heliotrope/analysis/dataset"
	"heliotrope/analysis/judge"
	"heliotrope/internal/trial"
)

// memory is the peak of what Go has taken from the system, minus what it gave back.
type memory struct {
	samples []metrics.Sample
	most    uint64
}

func newMemory() *memory {
	return &memory{samples: []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}}
}

func (m *memory) look() {
	metrics.Read(m.samples)
	m.most = max(m.most, m.samples[0].Value.Uint64()-m.samples[1].Value.Uint64())
}

// cpuTime is the processor time of this process, which other work of the machine does not
// affect.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// busy gives an attempt's I/Os from its warm-up to the end of phase after, in batches:
// log-normal response times, two workers whose rows are not quite in order, and a
// stall from 52 s to 55 s.
func busy(count int64, memory *memory) dataset.Batches[dataset.IO] {
	return func(yield func([]dataset.IO, error) bool) {
		random := rand.New(rand.NewPCG(1, 1))
		var responses [4096]int64
		for i := range responses {
			responses[i] = int64(80_000 * (1 + random.ExpFloat64()))
		}
		const length = 37_000_000_000 // without the stall
		rows := make([]dataset.IO, 32*1024)
		for n := int64(0); n < count; {
			filled := rows[:min(int64(len(rows)), count-n)]
			for i := range filled {
				ns := length/count*(n^1) + n%7
				if ns >= 22_000_000_000 {
					ns += 3_000_000_000
				}
				op := dataset.OpRead
				if n%3 == 0 {
					op = dataset.OpWrite
				}
				filled[i] = dataset.IO{TsNs: at(30_000) + ns, GuestTsNs: at(30_000) + ns, LatencyNs: responses[n&4095], Op: op, SizeBytes: 4096, OffsetBytes: n << 12}
				n++
			}
			if !yield(filled, nil) {
				return
			}
			memory.look()
		}
	}
}

// judged judges I/Os, and reports rate and memory.
func judged(b *testing.B, count int64, ios dataset.Batches[dataset.IO], memory *memory) {
	b.Helper()
	var row dataset.Trial
	began, processor := time.Now(), cpuTime(b)
	for b.Loop() {
		row = attempt(trial.Teardown)
		raw := migration().raw()
		raw.IO = ios
		result, err := judge.Judge(&row, raw, judge.DefaultLimits())
		if err != nil || result.Verdict != "" {
			b.Fatal(err, result.Reason)
		}
	}
	memory.look()
	if *row.IORows != count || !near(row.RecoveryMs, 0) {
		b.Fatalf("%d I/Os, recovery %v", *row.IORows, value(row.RecoveryMs))
	}
	millions := float64(count) * float64(b.N) / 1e6
	b.ReportMetric(millions/time.Since(began).Seconds(), "MIO/s")
	b.ReportMetric(millions/(cpuTime(b)-processor).Seconds(), "MIO/CPU-s")
	b.ReportMetric(float64(memory.most)/(1<<20), "MiB")
}

// BenchmarkJudge judges an attempt of 100 million I/Os that are made while they are
// judged: at least 4 million of them a second, in 512 MiB at most.
func BenchmarkJudge(b *testing.B) {
	memory := newMemory()
	judged(b, 100_000_000, busy(100_000_000, memory), memory)
}

// BenchmarkJudgeParquet judges an attempt of 5 million I/Os from its file.
func BenchmarkJudgeParquet(b *testing.B) {
	const count = 5_000_000
	folder := b.TempDir()
	written, err := dataset.WriteTrial(dataset.TrialFiles{CampaignFolder: folder, Folder: "trial=0001.1", IO: busy(count, newMemory()),
		Provenance: dataset.Provenance{dataset.KeyCampaign: "bench", dataset.KeyTestbedKind: "simulated"}})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(written.IO.Bytes)/count, "bytes/IO")
	memory := newMemory()
	from := judge.ReadIO(filepath.Join(folder, filepath.FromSlash(written.IO.Path)))
	judged(b, count, func(yield func([]dataset.IO, error) bool) {
		for rows, err := range from {
			memory.look()
			if !yield(rows, err) {
				return
			}
		}
	}, memory)
}
