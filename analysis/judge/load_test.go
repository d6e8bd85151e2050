package judge_test

import (
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
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
	for i := range want {
		for _, of := range []struct{ got, want **float64 }{{&judged.Phases[i].P50Ms, &want[i].P50Ms}, {&judged.Phases[i].P99Ms, &want[i].P99Ms}} {
			if math.Abs(**of.got / **of.want - 1) > 0.001 {
				t.Errorf("phase %s: a percentile is %v ms, want %v within 0.1 %%", want[i].Phase, **of.got, **of.want)
			}
			*of.got = *of.want
		}
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

// The longest gap is limited by the window's ends, and needs no witness other than the
// guest; without table clocks, its uncertainty is that in the row.
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

// A failed I/O is no completed work, however soon it fails, but its caller has waited for
// it.
func TestFailedIO(t *testing.T) {
	row, rows := attempt(trial.Teardown), migration()
	for i := range rows.io {
		if rows.io[i].TsNs >= at(60_000) {
			rows.io[i].Error = 5
		}
	}
	rows.io = append(rows.io, dataset.IO{TsNs: at(69_000), GuestTsNs: at(69_000), LatencyNs: 13e9, Op: dataset.OpWrite, Error: 5})
	judged := run(t, &row, rows, judge.DefaultLimits())
	if after := judged.Phases[2]; *after.IOs != 0 || after.MaxMs != nil || !near(row.LongestGapMs, 10_100) || row.LevelAfterIOPS != nil || row.RecoveryMs != nil {
		t.Errorf("%d I/Os, gap %v, level %v", *after.IOs, value(row.LongestGapMs), value(row.LevelAfterIOPS))
	}
	if *row.IORows != int64(len(rows.io)) {
		t.Errorf("%d rows", *row.IORows)
	}
	if !near(row.WriteResponse.Ms, 13_000) {
		t.Errorf("the longest is %v", value(row.WriteResponse.Ms))
	}
}

// percentile is the exact percentile of sorted values by nearest rank.
func percentile(sorted []int64, perMille int) int64 {
	return sorted[max((len(sorted)*perMille+999)/1000, 1)-1]
}

// Percentiles come from histograms: they are within 0.1 % of the exact ones for all
// distributions of response times. Counts, sums and maxima are exact.
func TestPercentiles(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 7))
	for name, draw := range map[string]func(i int) int64{
		"equal": func(int) int64 { return 123_456 }, "some ns": func(i int) int64 { return int64(i % 300) }, "nothing": func(int) int64 { return 0 },
		"log-normal": func(int) int64 { return int64(80_000 * math.Exp(random.NormFloat64())) },
		"two humps":  func(i int) int64 { return 90_000 + int64(i%50/49)*70_000_000 + random.Int64N(1000) },
		"days":       func(int) int64 { return 3e14 + random.Int64N(1e14) },
	} {
		for _, count := range []int{1, 2, 3, 10, 999, 1000, 1001, 20_000} {
			var ios []dataset.IO
			var exact []int64
			sum := 0.0
			for i := range count {
				ns := draw(i)
				ios = append(ios, dataset.IO{TsNs: at(40_000) + int64(i), LatencyNs: ns, Op: []string{dataset.OpRead, dataset.OpWrite}[i%2]})
				exact = append(exact, ns)
				sum += float64(ns)
			}
			slices.Sort(exact)
			row := attempt(trial.Migrate)
			phase := run(t, &row, tables{io: ios}, judge.DefaultLimits()).Phases[0]
			for perMille, got := range map[int]*float64{500: phase.P50Ms, 990: phase.P99Ms, 999: phase.P999Ms} {
				if want := float64(percentile(exact, perMille)) / 1e6; math.Abs(*got-want) > 0.001*want {
					t.Errorf("%s: the percentile %d of %d is %v, want %v", name, perMille, count, *got, want)
				}
			}
			if *phase.MaxMs != float64(exact[count-1])/1e6 || *phase.IOs != int64(count) || math.Abs(*phase.MeanMs*1e6/(sum/float64(count))-1) > 1e-12 && sum > 0 {
				t.Errorf("%s: %d I/Os of %v ms, %v at most", name, *phase.IOs, *phase.MeanMs, *phase.MaxMs)
			}
		}
	}
}
