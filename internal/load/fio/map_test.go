package fio

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"heliotrope/internal/load/spec"
)

func line(size, share, read, random int) spec.Line {
	return spec.Line{SizeBytes: size, SharePercent: share, ReadPercent: read, RandomPercent: random}
}

func aligned(align int, l spec.Line) spec.Line {
	l.AlignBytes = align
	return l
}

func access(lines ...spec.Line) spec.Access { return spec.Access{Name: "tested", Lines: lines} }

func with(change func(*spec.Access)) spec.Access {
	a := access(line(4096, 50, 100, 100), line(8192, 50, 0, 100))
	change(&a)
	return a
}

func TestUnmappable(t *testing.T) {
	var many []spec.Line
	for i := range 100 {
		many = append(many, line(512*(i+1), 1, 100, 100))
	}
	for _, test := range []struct {
		name   string
		access spec.Access
		want   string // "" when fio does exactly this
	}{
		{"random mix", access(line(4096, 100, 67, 100)), ""},
		{"partly random reads", access(line(4096, 50, 100, 30), line(8192, 50, 100, 30)), ""},
		{"sequential writes, aligned", access(aligned(4096, line(8192, 100, 0, 0))), ""},
		{"random, aligned to more", access(aligned(4096, line(512, 100, 50, 100))), ""},
		{"sector by name and by number", access(line(512, 50, 50, 100), aligned(512, line(1024, 50, 50, 100))), ""},
		{"reads by line", access(line(4096, 50, 100, 100), line(8192, 50, 0, 100)), ""},
		{"a pattern that is never written", spec.Access{Pattern: "repeating", Lines: []spec.Line{line(4096, 100, 100, 0)}}, ""},
		{"two lines of a size make whole percents", access(line(4096, 33, 50, 100), line(4096, 67, 50, 100)), ""},
		{"a burst of the only line", access(spec.Line{SizeBytes: 512, SharePercent: 100, Burst: 9}), ""},
		{"all that it has", with(func(a *spec.Access) {
			a.Engine, a.Outstanding, a.Workers, a.Targets, a.OnError, a.Pattern = "fio", 256, 1, 1, "stop", "random"
		}), ""},

		{"workstation", access(line(8192, 100, 80, 80)), "lines[0].random_percent: " + reasonSharedCursor},
		{"sequential mix by line", access(line(8192, 50, 0, 0), line(8192, 50, 100, 0)), "lines[0].random_percent: " + reasonSharedCursor},
		{"random by line", access(line(512, 50, 0, 100), line(512, 50, 0, 0)), "lines[1].random_percent: 0%, but line 0 has 100%: " + reasonRandomByLine},
		{"alignment by line", access(line(512, 50, 0, 100), aligned(4096, line(512, 50, 0, 100))), "lines[1].align_bytes: 4096, but line 0 has 512: " + reasonAlignByLine},
		{"sequential, aligned to more", access(aligned(4096, line(512, 100, 0, 0))), "lines[0].align_bytes: " + reasonAlignment},
		{"half a percent of reads", access(line(512, 50, 1, 100), line(1024, 50, 0, 100)), "lines: 0.50% of all I/Os are reads: " + reasonSplit},
		{"a third of the reads", access(line(512, 50, 20, 100), line(1024, 50, 40, 100)), "lines[0].read_percent: 33.333% of all reads are of 512 bytes: " + reasonSplit},
		{"a seventh of the writes", access(line(512, 10, 0, 100), line(1024, 60, 0, 100), line(2048, 30, 100, 100)), "lines[0].read_percent: 14.286% of all writes are of 512 bytes: " + reasonSplit},
		{"too many sizes", access(many...), "lines: 100 sizes of reads: fio takes 64"},
		{"delay", access(spec.Line{SizeBytes: 512, SharePercent: 100, DelayMs: 1}), "lines[0].delay_ms: fio has no delay between bursts: " + reasonOther},
		{"burst", access(line(512, 50, 0, 100), spec.Line{SizeBytes: 512, SharePercent: 50, RandomPercent: 100, Burst: 2}), "lines[1].burst: fio draws the line anew"},
		{"reply", access(spec.Line{SizeBytes: 512, SharePercent: 100, ReplyBytes: 512}), "lines[0].reply_bytes: fio has no replies"},
		{"rate", with(func(a *spec.Access) { a.RateIOPS = 100 }), "rate: fio's response times"},
		{"workers", with(func(a *spec.Access) { a.Workers = 2 }), "workers: fio's log"},
		{"targets", with(func(a *spec.Access) { a.Targets = 2 }), "targets: fio has no line"},
		{"goes on", with(func(a *spec.Access) { a.OnError = "continue" }), "on_error: fio ends"},
		{"verify", with(func(a *spec.Access) { a.Verify = "content" }), "verify: fio is not asked"},
		{"pattern", with(func(a *spec.Access) { a.Pattern = "repeating" }), "pattern: fio is not asked"},
		{"fixed seed", with(func(a *spec.Access) { a.FixedSeed = new(uint64) }), "fixed_seed: fio has not"},
	} {
		var texts []string
		for _, problem := range Unmappable(test.access) {
			texts = append(texts, problem.Setting+": "+problem.Message)
		}
		if test.want == "" {
			assert.Empty(t, texts, test.name)
		} else {
			assert.Contains(t, strings.Join(texts, "\n"), test.want, test.name)
		}
	}
}

// TestMixIsWhatTheSharesAre compares fio's percentages with the lines' shares, and holds that
// they sum to 100 in each direction.
func TestMixIsWhatTheSharesAre(t *testing.T) {
	mapped := 0
	for _, standard := range spec.Standard() {
		if Unmappable(standard) != nil {
			continue
		}
		mapped++
		reads, writes := directions(standard.Lines)
		assert.Equal(t, 100*100, reads.all+writes.all, standard.Name)
		for _, d := range []direction{reads, writes} {
			sum := 0
			for _, share := range d.sizes {
				assert.Zero(t, 100*share%d.all, standard.Name)
				sum += 100 * share / d.all
			}
			assert.True(t, sum == 100 || d.all == 0, standard.Name)
		}
	}
	// Of our own specifications all except workstation; of Iometer's the random ones, and those
	// that only read or only write.
	assert.Equal(t, 6+1+3+2*6, mapped)
}
