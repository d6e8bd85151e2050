package judge_test

import (
	"reflect"
	"testing"

	"heliotrope/analysis/dataset"
	"heliotrope/analysis/judge"
	"heliotrope/internal/trial"
)

// plain is an I/O every 100 ms from 30 s to 75 s, but for a gap in [52 s, 55 s),
// each slower than the one before by a millisecond.
func plain() []dataset.IO {
	var ios []dataset.IO
	for i := range int64(450) {
		ms := 30_000 + 100*i
		if ms >= 52_000 && ms < 55_000 {
			continue
		}
		op := dataset.OpRead
		if i%4 == 0 {
			op = dataset.OpWrite
		}
		ios = append(ios, dataset.IO{TsNs: at(ms), GuestTsNs: at(ms), LatencyNs: (i + 1) * 1e6, Op: op, SizeBytes: 4096})
	}
	return ios
}

func TestPhases(t *testing.T) {
	row := attempt(trial.Teardown)
	judged := run(t, &row, tables{io: plain()}, judge.DefaultLimits())
	want := []dataset.Phase{
		{Trial: "0001.1", Phase: "before", StartedTsNs: at(40_000), EndedTsNs: at(50_000), Seconds: 10, IOs: count(100), Reads: count(75), Writes: count(25), Bytes: count(409600),
			IOPS: ptr(10.0), MBPerS: ptr(0.04096), MeanMs: ptr(150.5), P50Ms: ptr(150.0), P99Ms: ptr(199.0), P999Ms: ptr(200.0), MaxMs: ptr(200.0)},
		{Trial: "0001.1", Phase: "during", StartedTsNs: at(50_000), EndedTsNs: at(60_000), Seconds: 10, IOs: count(70), Reads: count(53), Writes: count(17), Bytes: count(286720),
			IOPS: ptr(7.0), MBPerS: ptr(0.028672), MeanMs: ptr((20*210.5 + 50*275.5) / 70), P50Ms: ptr(265.0), P99Ms: ptr(300.0), P999Ms: ptr(300.0), MaxMs: ptr(300.0)},
		{Trial: "0001.1", Phase: "after", StartedTsNs: at(60_000), EndedTsNs: at(70_000), Seconds: 10, IOs: count(100), Reads: count(75), Writes: count(25), Bytes: count(409600),
			IOPS: ptr(10.0), MBPerS: ptr(0.04096), MeanMs: ptr(350.5), P50Ms: ptr(350.0), P99Ms: ptr(399.0), P999Ms: ptr(400.0), MaxMs: ptr(400.0)},
	}
	if !reflect.DeepEqual(judged.Phases, want) {
		t.Errorf("phases are\n%+v\nwant\n%+v", deref(judged.Phases), deref(want))
	}
}

func count(n int64) *int64 { return &n }

// deref makes phases printable.
func deref(phases []dataset.Phase) []any {
	var all []any
	for _, p := range phases {
		all = append(all, p)
		for _, v := range []*float64{p.IOPS, p.MBPerS, p.MeanMs, p.P50Ms, p.P99Ms, p.P999Ms, p.MaxMs} {
			if v != nil {
				all = append(all, *v)
			}
		}
	}
	return all
}

// The longest gap is bounded by the window's ends, and needs no witness beside
// the guest; without table clocks, its uncertainty is that of the row's.
func TestLongestGap(t *testing.T) {
	for name, c := range map[string]struct {
		completions []int64 // ms; the window is from 51 s to 70 s
		want        float64
	}{
		"all outside": {[]int64{1000, 75_000}, 19_000}, "in the middle": {[]int64{50_000, 55_000, 59_000, 66_000, 69_000}, 7000},
		"at the start": {[]int64{60_000, 62_000, 69_000}, 9000}, "at the end": {[]int64{52_000, 58_000}, 12_000},
		"not in order": {[]int64{69_000, 55_000, 66_000, 59_000}, 7000}, "at the ends themselves": {[]int64{51_000, 70_000}, 19_000},
	} {
		var ios []dataset.IO
		for _, ms := range c.completions {
			ios = append(ios, dataset.IO{TsNs: at(ms), GuestTsNs: at(ms)})
		}
		row := attempt(trial.Teardown)
		row.GuestClockBeforeUncertNs, row.GuestClockAfterUncertNs = ptr(int64(2e6)), ptr(int64(4e6))
		run(t, &row, tables{io: ios}, judge.DefaultLimits())
		if !near(row.LongestGapMs, c.want) || !near(row.LongestGapUncertaintyMs, 7) {
			t.Errorf("%s: %v ± %v, want %v ± 7", name, value(row.LongestGapMs), value(row.LongestGapUncertaintyMs), c.want)
		}
	}
}

func TestPercentile(t *testing.T) {
	hundred := make([]int64, 100)
	for i := range hundred {
		hundred[i] = int64(i + 1)
	}
	for _, c := range []struct {
		values   []int64
		perMille int
		want     int64
	}{
		{[]int64{7}, 500, 7}, {[]int64{7}, 999, 7}, {[]int64{1, 2}, 500, 1}, {[]int64{1, 2, 3}, 500, 2},
		{hundred, 0, 1}, {hundred, 10, 1}, {hundred, 500, 50}, {hundred, 990, 99}, {hundred, 991, 100}, {hundred, 999, 100}, {hundred, 1000, 100},
	} {
		if got := judge.Percentile(c.values, c.perMille); got != c.want {
			t.Errorf("percentile %d‰ of %d values is %d, want %d", c.perMille, len(c.values), got, c.want)
		}
	}
}
