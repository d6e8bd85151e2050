package report_test

import (
	"errors"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"heliotrope/analysis/dataset"
	"heliotrope/analysis/report"
	"heliotrope/internal/clock"
	"heliotrope/internal/trial"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// at is a moment of the trial, ns since 1970.
func at(seconds float64) int64 {
	return start.Add(time.Duration(seconds * float64(time.Second))).UnixNano()
}

func ptr[T any](v T) *T { return &v }

// attempt is a row whose phases begin 10 s after one another, up to the last
// one that is named: before at 40 s, migrate at 50 s, after at 60 s, collect at 70 s.
func attempt(last trial.Phase) dataset.Trial {
	row := dataset.Trial{Key: "0001.1", StartedTsNs: at(0), EndedTsNs: at(100)}
	var timeline trial.Timeline
	for i, phase := range trial.Phases {
		timeline = append(timeline, trial.Mark{Phase: phase, At: start.Add(time.Duration(10*i) * time.Second)})
		if phase == last {
			break
		}
	}
	row.SetTimeline(timeline)
	return row
}

// load is an I/O every 100 ms from 30 s to 75 s, but for a gap in [52 s, 55 s):
// the guest's clock stood still for two of its seconds.
func load() []dataset.IO {
	var ios []dataset.IO
	for i := range 450 {
		seconds := 30 + float64(i)/10
		if seconds >= 52 && seconds < 55 {
			continue
		}
		guest := seconds + 1000
		if seconds >= 55 {
			guest -= 2
		}
		op := dataset.OpRead
		if i%4 == 0 {
			op = dataset.OpWrite
		}
		ios = append(ios, dataset.IO{TsNs: at(seconds), GuestTsNs: at(guest), LatencyNs: int64(i+1) * 1e6, Op: op, SizeBytes: 4096})
	}
	return ios
}

func measure(t *testing.T, row *dataset.Trial, ios []dataset.IO) []dataset.Phase {
	t.Helper()
	phases, err := report.Measure(row, dataset.Rows(ios))
	if err != nil {
		t.Fatal(err)
	}
	return phases
}

func TestMeasure(t *testing.T) {
	ios := load()
	row := attempt(trial.Teardown)
	row.MigrationStartedTsNs = ptr(at(51))
	report.SetGuestClocks(&row, &clock.Offset{Ahead: 1000 * time.Second, Uncertainty: 2 * time.Millisecond},
		&clock.Offset{Ahead: 998 * time.Second, Uncertainty: 3 * time.Millisecond})
	phases := measure(t, &row, ios)

	want := []dataset.Phase{
		{Trial: "0001.1", Phase: "before", StartedTsNs: at(40), EndedTsNs: at(50), Seconds: 10, IOs: 100, Reads: 75, Writes: 25, Bytes: 409600,
			IOPS: 10, MBPerS: 0.04096, MeanMs: ptr(150.5), P50Ms: ptr(150.0), P99Ms: ptr(199.0), P999Ms: ptr(200.0), MaxMs: ptr(200.0)},
		{Trial: "0001.1", Phase: "during", StartedTsNs: at(50), EndedTsNs: at(60), Seconds: 10, IOs: 70, Reads: 53, Writes: 17, Bytes: 286720,
			IOPS: 7, MBPerS: 0.028672, MeanMs: ptr((20*210.5 + 50*275.5) / 70), P50Ms: ptr(265.0), P99Ms: ptr(300.0), P999Ms: ptr(300.0), MaxMs: ptr(300.0)},
		{Trial: "0001.1", Phase: "after", StartedTsNs: at(60), EndedTsNs: at(70), Seconds: 10, IOs: 100, Reads: 75, Writes: 25, Bytes: 409600,
			IOPS: 10, MBPerS: 0.04096, MeanMs: ptr(350.5), P50Ms: ptr(350.0), P99Ms: ptr(399.0), P999Ms: ptr(400.0), MaxMs: ptr(400.0)},
	}
	if !reflect.DeepEqual(phases, want) {
		t.Errorf("phases are\n%+v\nwant\n%+v", deref(phases), deref(want))
	}
	// The last completion before the gap was at 51.9 s, the next one at 55 s.
	for name, value := range map[string]struct {
		got  *float64
		want float64
	}{
		"gap": {row.LongestGapMs, 3100}, "uncertainty": {row.LongestGapUncertaintyMs, 6},
		"gap by the guest's clock": {row.GapGuestClockMs, 1100}, "overhead": {row.OverheadS, 60},
	} {
		if value.got == nil || *value.got != value.want {
			t.Errorf("%s is %v, want %v", name, value.got, value.want)
		}
	}
	if row.IORows != int64(len(ios)) || *row.GuestClockAfterNs != 998e9 {
		t.Errorf("%d rows, clock %d", row.IORows, *row.GuestClockAfterNs)
	}

	// The order of the log does not matter.
	shuffled := attempt(trial.Teardown)
	shuffled.MigrationStartedTsNs = ptr(at(51))
	rand.New(rand.NewPCG(1, 1)).Shuffle(len(ios), func(i, j int) { ios[i], ios[j] = ios[j], ios[i] })
	if again := measure(t, &shuffled, ios); !reflect.DeepEqual(again, want) ||
		*shuffled.LongestGapMs != *row.LongestGapMs || *shuffled.GapGuestClockMs != *row.GapGuestClockMs {
		t.Errorf("shuffled, phases are\n%+v and gaps %v, %v", deref(again), *shuffled.LongestGapMs, *shuffled.GapGuestClockMs)
	}
	if shuffled.LongestGapUncertaintyMs != nil {
		t.Errorf("without clocks, the uncertainty is %v", *shuffled.LongestGapUncertaintyMs)
	}
}

// deref makes phases printable.
func deref(phases []dataset.Phase) []any {
	var all []any
	for _, p := range phases {
		all = append(all, p)
		for _, v := range []*float64{p.MeanMs, p.P50Ms, p.P99Ms, p.P999Ms, p.MaxMs} {
			if v != nil {
				all = append(all, *v)
			}
		}
	}
	return all
}

// Of an attempt that did not get to its end, what is known is told, and no more.
func TestMeasureOfWhatStopped(t *testing.T) {
	for _, c := range []struct {
		last   trial.Phase
		phases int
		gap    bool
	}{{trial.Attest, 0, false}, {trial.Before, 0, false}, {trial.Migrate, 1, false}, {trial.After, 2, true}, {trial.Collect, 3, true}} {
		row := attempt(c.last)
		phases := measure(t, &row, load())
		if len(phases) != c.phases || (row.LongestGapMs != nil) != c.gap {
			t.Errorf("up to %s: %d phases, gap %v", c.last, len(phases), row.LongestGapMs)
		}
		if (row.OverheadS != nil) != (c.last == trial.Collect) {
			t.Errorf("up to %s: overhead %v", c.last, row.OverheadS)
		}
	}
	// No load at all: phases without numbers, and no gap.
	row := attempt(trial.Teardown)
	phases := measure(t, &row, nil)
	if len(phases) != 3 || phases[0].MeanMs != nil || phases[0].IOPS != 0 || row.LongestGapMs != nil || row.GapGuestClockMs != nil {
		t.Errorf("without I/O: %+v, gap %v", phases, row.LongestGapMs)
	}
	// A load that ended before the migration: all of the window is the gap.
	row = attempt(trial.Teardown)
	measure(t, &row, load()[:150])
	if row.LongestGapMs == nil || *row.LongestGapMs != 20_000 || row.GapGuestClockMs != nil {
		t.Errorf("a load that ended: gaps %v, %v", row.LongestGapMs, row.GapGuestClockMs)
	}
}

func TestMeasurePassesErrorsOn(t *testing.T) {
	failure := errors.New("no log")
	row := attempt(trial.Teardown)
	if _, err := report.Measure(&row, func(yield func([]dataset.IO, error) bool) { yield(nil, failure) }); !errors.Is(err, failure) {
		t.Errorf("Measure: %v", err)
	}
	if err := report.MeasureWAN(&row, func(yield func([]dataset.Counter, error) bool) { yield(nil, failure) }); !errors.Is(err, failure) {
		t.Errorf("MeasureWAN: %v", err)
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
		if got := report.Percentile(c.values, c.perMille); got != c.want {
			t.Errorf("percentile %d‰ of %d values is %d, want %d", c.perMille, len(c.values), got, c.want)
		}
	}
}

func TestLongestGap(t *testing.T) {
	for name, c := range map[string]struct {
		completions []int64
		want        report.Gap
	}{
		"none":                   {nil, report.Gap{FromNs: 100, ToNs: 200}},
		"all outside":            {[]int64{1, 300}, report.Gap{FromNs: 100, ToNs: 200}},
		"in the middle":          {[]int64{90, 110, 120, 170, 180, 195, 210}, report.Gap{FromNs: 120, ToNs: 170}},
		"at the start":           {[]int64{50, 160, 170, 199}, report.Gap{FromNs: 100, ToNs: 160}},
		"at the end":             {[]int64{101, 120, 300}, report.Gap{FromNs: 120, ToNs: 200}},
		"the earliest of two":    {[]int64{100, 150, 200}, report.Gap{FromNs: 100, ToNs: 150}},
		"not in order":           {[]int64{180, 120, 170, 110, 195}, report.Gap{FromNs: 120, ToNs: 170}},
		"at the ends themselves": {[]int64{100, 200}, report.Gap{FromNs: 100, ToNs: 200}},
	} {
		if got := report.LongestGap(c.completions, 100, 200); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

func TestMeasureWAN(t *testing.T) {
	// series is a counter's readings every 3 s from a moment on.
	series := func(host, device, name string, from float64, values ...int64) []dataset.Counter {
		var rows []dataset.Counter
		for i, value := range values {
			rows = append(rows, dataset.Counter{TsNs: at(from + 3*float64(i)), Host: host, Device: device, Name: name, Value: value})
		}
		return rows
	}
	sent := series("store", "wan", "tx_bytes", 48, 100, 110, 120, 130, 140, 1000)
	// Migrate is [50, 60): from the reading at 48 s to that at 60 s.
	for name, c := range map[string]struct {
		rows []dataset.Counter
		want *int64
	}{
		"both directions":   {append(series("store", "wan", "rx_bytes", 48, 0, 1000, 2000, 3000, 5000, 9000), sent...), ptr(int64(5040))},
		"begun again at 0":  {append(series("store", "wan", "rx_bytes", 48, 7000, 8000, 10, 20, 30, 40), sent...), ptr(int64(1070))},
		"begun too late":    {append(series("store", "wan", "rx_bytes", 51, 0, 1000, 2000, 3000, 5000), sent...), nil},
		"ended too early":   {append(series("store", "wan", "rx_bytes", 48, 0, 1000, 2000), sent...), nil},
		"one direction":     {sent, nil},
		"other devices":     {series("store", "test-net", "rx_bytes", 48, 0, 1, 2, 3, 4, 5), nil},
		"no counters":       {nil, nil},
		"another host, too": {append(append(series("store", "wan", "rx_bytes", 48, 0, 1, 2, 3, 4, 5), sent...), series("a", "wan", "rx_bytes", 48, 0)...), ptr(int64(44))},
	} {
		row := attempt(trial.Teardown)
		row.WANBytes = ptr(int64(-1))
		if err := report.MeasureWAN(&row, dataset.Rows(c.rows)); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(row.WANBytes, c.want) {
			t.Errorf("%s: %v, want %v", name, row.WANBytes, c.want)
		}
	}
}
