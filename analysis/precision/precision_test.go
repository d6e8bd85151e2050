package precision

import (
	"encoding/json"
	"math"
	"slices"
	"testing"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/campaign"
	"heliotrope/internal/trial"
)

// valid is rows of a cell with these blackouts.
func valid(cell string, values ...float64) []dataset.Trial {
	var rows []dataset.Trial
	for _, value := range values {
		rows = append(rows, dataset.Trial{CellID: cell, Counted: true, Verdict: string(trial.Valid), BlackoutMs: &value})
	}
	return rows
}

func stop(percent float64, least, most int) campaign.Stop {
	return campaign.Stop{Metric: "blackout_ms", RelativeCIPercent: percent, Min: least, Max: most}
}

// once is a stop rule with one look, after so many repetitions.
func once(percent float64, at int) campaign.Stop { return stop(percent, at, at) }

// cells judges rows after as many blocks as the first look wants.
func cells(t *testing.T, rows []dataset.Trial, stop campaign.Stop) Result {
	t.Helper()
	return after(t, stop.Min, rows, stop)
}

func after(t *testing.T, blocks int, rows []dataset.Trial, stop campaign.Stop) Result {
	t.Helper()
	result, err := Cells(rows, stop, blocks)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// TestInterval: ranks by the tables of the sign test, for example Conover's
// table A3 of the binomial distribution.
func TestInterval(t *testing.T) {
	for n, k := range map[int]int{6: 1, 7: 1, 8: 1, 9: 2, 10: 2, 12: 3, 15: 4, 17: 5, 20: 6, 25: 8, 30: 10, 50: 18, 100: 40} {
		var values []float64
		for i := range n {
			values = append(values, float64(i+1))
		}
		low, high, ok := interval(values, 0.05)
		if !ok || low != float64(k) || high != float64(n+1-k) {
			t.Errorf("of %d: %g to %g, %t, want ranks %d and %d", n, low, high, ok, k, n+1-k)
		}
	}
	for n := range once(5, 6).Fewest() {
		if low, high, ok := interval(make([]float64, n), 0.05); ok {
			t.Errorf("of %d values: %g to %g", n, low, high)
		}
	}
	if low, high, ok := interval(make([]float64, 5000), 0.05); !ok || low != 0 || high != 0 {
		t.Error("of 5000 values there is none")
	}
}

// TestLooks: they are few and fixed beforehand, and the last one is the end.
func TestLooks(t *testing.T) {
	for _, of := range []struct {
		least, most int
		want        []int
	}{
		{5, 30, []int{5, 7, 8, 10, 13, 16, 20, 24, 30}},
		{6, 12, []int{6, 8, 10, 12}},
		{3, 3, []int{3}},
		{3, 5, []int{3, 4, 5}},
		{100, 124, []int{100, 124}},
	} {
		if got := stop(5, of.least, of.most).Looks(); !slices.Equal(got, of.want) {
			t.Errorf("%d to %d: looks %v, want %v", of.least, of.most, got, of.want)
		}
	}
}

// TestInfiniteEnds: failures are the greatest values.
func TestInfiniteEnds(t *testing.T) {
	infinite := math.Inf(1)
	values := []float64{1, 2, 3, 4, 5, 6, 7, infinite, infinite}
	if low, high, ok := interval(values, 0.05); !ok || low != 2 || !math.IsInf(high, 1) {
		t.Errorf("%g to %g, %t", low, high, ok)
	}
}

func TestCells(t *testing.T) {
	// Seven values: median 100, interval from the least to the greatest.
	rows := valid("b", 103, 97, 100, 98, 102, 101, 99)
	// Nine: the second to the eighth; the outliers do not matter.
	rows = append(rows, valid("a", 10, 90, 95, 100, 100, 100, 105, 110, 1000)...)
	result := cells(t, rows, once(12, 9))
	if !result.Enough || result.MoreRepetitions != 0 || len(result.Cells) != 2 {
		t.Fatalf("%+v", result)
	}
	for i, want := range []struct {
		id                      string
		n                       int
		low, high, halfWidthPct float64
	}{{"a", 9, 90, 110, 10}, {"b", 7, 97, 103, 3}} {
		got := result.Cells[i]
		if got.CellID != want.id || got.N != want.n || got.Values != want.n || *got.Median != 100 || *got.Low != want.low ||
			*got.High != want.high || math.Abs(*got.HalfWidthPercent-want.halfWidthPct) > 1e-9 || !got.Precise || got.WantN != want.n {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
	// By 5 %, a wants 9 · (10/5)^2 = 36; by at most 20, all of them.
	result = after(t, 9, rows, once(5, 100))
	if result.Enough || result.Cells[0].WantN != 36 || result.Cells[1].WantN != 7 || result.MoreRepetitions != 91 {
		t.Errorf("%+v", result)
	}
	if result = after(t, 9, rows, once(5, 20)); result.Enough || result.MoreRepetitions != 11 {
		t.Errorf("%+v", result)
	}
	// Barely too wide: one more.
	if result = after(t, 9, rows, once(9.999, 20)); result.Enough || result.Cells[0].WantN != 10 {
		t.Errorf("%+v", result)
	}
}

// TestOnlyALookDecides: a result that is precise between two looks does not end the
// campaign, and each of several looks needs more values than a single look.
func TestOnlyALookDecides(t *testing.T) {
	rule := stop(50, 8, 16) // looks after 8, 10, 13, 16
	rows := valid("a", 100, 100, 100, 100, 100, 100, 100, 100, 100, 100)
	for blocks, want := range map[int]bool{8: true, 9: false, 10: true, 11: false, 12: false, 13: true} {
		result := after(t, blocks, rows, rule)
		if result.Enough != want || !result.Cells[0].Precise {
			t.Errorf("after %d: %+v", blocks, result)
		}
		if more := result.MoreRepetitions; want && more != 0 || blocks == 9 && more != 1 || blocks == 11 && more != 2 {
			t.Errorf("after %d: %d more", blocks, more)
		}
	}
	// Nine values leave out one at either end for 95 %, and none for a quarter of the error.
	rows = valid("a", 1, 100, 100, 100, 100, 100, 100, 100, 999)
	if result := after(t, 9, rows, once(5, 9)); !result.Enough {
		t.Errorf("%+v", result)
	}
	if result := after(t, 8, rows, rule); result.Enough || *result.Cells[0].Low != 1 || *result.Cells[0].High != 999 {
		t.Errorf("%+v", result)
	}
	// What another lane has begun of the next block is left for the next look.
	for i := range rows {
		rows[i].Block = int32(i + 1)
	}
	if result := after(t, 8, rows, rule); result.Cells[0].N != 8 {
		t.Errorf("%+v", result)
	}
}

// TestDirectionsAreGroups: trials in one direction are not put together with those in the
// other, and a repetition gives a cell one trial in one direction.
func TestDirectionsAreGroups(t *testing.T) {
	rows := slices.Concat(valid("a", 100, 100, 100, 100, 100, 100), valid("a", 500, 500, 500, 500, 500, 500))
	for i := range rows[6:] {
		rows[6+i].Direction = campaign.Return
	}
	result := after(t, 12, rows, once(5, 12))
	if !result.Enough || len(result.Cells) != 2 || *result.Cells[0].Median != 100 || *result.Cells[1].Median != 500 ||
		result.Cells[0].Direction != campaign.Outbound || result.Cells[1].Direction != campaign.Return {
		t.Errorf("%+v", result)
	}
	result = after(t, 10, rows[1:], stop(50, 10, 15)) // looks after 10, 13, 15: two more one way are four both ways
	if result.Cells[0].WantN != 7 || result.MoreRepetitions != 5 {
		t.Errorf("%+v", result)
	}
}

// TestFewValues: up to five values are never precise, not even the same ones.
func TestFewValues(t *testing.T) {
	result := cells(t, valid("a", 7, 7, 7, 7, 7), once(50, 20))
	if got := result.Cells[0]; result.Enough || got.Precise || got.HalfWidthPercent != nil || got.Low != nil || *got.Median != 7 || got.WantN != 6 {
		t.Errorf("%+v", got)
	}
	if result = cells(t, valid("a", 7, 7, 7, 7, 7, 7), once(50, 20)); !result.Enough || *result.Cells[0].HalfWidthPercent != 0 {
		t.Errorf("%+v", result.Cells[0])
	}
	if result = after(t, 2, valid("a", 1, 2), once(50, 4)); result.MoreRepetitions != 2 || result.Enough {
		t.Errorf("%+v", result)
	}
	if result = cells(t, nil, once(50, 4)); result.Enough {
		t.Error("no rows are enough")
	}
}

// TestWhatCounts: failures are repetitions with an infinite value; attempts that do not
// count, controls and sentinels are left out.
func TestWhatCounts(t *testing.T) {
	rows := valid("a", 99, 100, 101, 102, 103, 104, 105, 106)
	add := func(change func(*dataset.Trial)) {
		more := valid("a", 9999)[0]
		change(&more)
		rows = append(rows, more)
	}
	add(func(row *dataset.Trial) { row.Verdict, row.BlackoutMs = string(trial.TargetFailed), nil })
	add(func(row *dataset.Trial) { row.Verdict = string(trial.TargetFailed) })
	add(func(row *dataset.Trial) { row.BlackoutMs = nil })
	add(func(row *dataset.Trial) { *row.BlackoutMs = math.NaN() })
	add(func(row *dataset.Trial) { *row.BlackoutMs = math.Inf(1) })
	add(func(row *dataset.Trial) { row.Verdict = string(trial.Invalid) })
	add(func(row *dataset.Trial) { row.Verdict = string(trial.Skipped) })
	add(func(row *dataset.Trial) { row.Counted = false })
	add(func(row *dataset.Trial) { row.Sentinel = true })
	add(func(row *dataset.Trial) { row.Control = campaign.ControlPause })
	add(func(row *dataset.Trial) { row.CellID, row.Verdict = "b", string(trial.Invalid) })
	result := cells(t, rows, once(1, 100))
	if len(result.Cells) != 2 {
		t.Fatalf("%+v", result)
	}
	a, b := result.Cells[0], result.Cells[1]
	// The second to the ninth of ten, of which the last two are infinite.
	if a.N != 13 || a.Values != 10 || a.Infinite != 2 || *a.Median != 103.5 || *a.Low != 100 || a.High != nil || a.HalfWidthPercent != nil || a.WantN != 100 {
		t.Errorf("%+v", a)
	}
	if b.N != 0 || b.Values != 0 || b.Median != nil || b.WantN != 6 {
		t.Errorf("%+v", b)
	}
	if _, err := json.Marshal(result); err != nil {
		t.Error(err)
	}
}

// TestMoreFailThanNot: an infinite median is never certain enough to stop.
func TestMoreFailThanNot(t *testing.T) {
	rows := valid("a", 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
	for i := range rows {
		if i >= 1 {
			rows[i].Verdict = string(trial.TargetFailed)
		}
	}
	result := cells(t, rows, once(50, 10))
	if got := result.Cells[0]; result.Enough || got.Infinite != 9 || got.Median != nil || got.Low != nil || got.Precise {
		t.Errorf("%+v", got)
	}
	if _, err := json.Marshal(result); err != nil {
		t.Error(err)
	}
}

func TestMetrics(t *testing.T) {
	one, two, three, four := 1.0, 2.0, 3.0, 4.0
	row := dataset.Trial{CellID: "a", Counted: true, Verdict: string(trial.Valid),
		BlackoutMs: &one, TotalMigrationMs: &two, RecoveryMs: &three, IOLostS: &four}
	for metric, want := range map[string]float64{"blackout_ms": 1, "total_migration_ms": 2, "recovery_ms": 3, "io_lost_s": 4} {
		result, err := Cells([]dataset.Trial{row}, campaign.Stop{Metric: metric, RelativeCIPercent: 5, Min: 5, Max: 10}, 5)
		if err != nil || *result.Cells[0].Median != want {
			t.Errorf("%s: %v, %+v, want %g", metric, err, result, want)
		}
	}
	if _, err := Cells(nil, campaign.Stop{Metric: "seed"}, 5); err == nil {
		t.Error("a metric that there is not")
	}
}

// TestMedianOfNothingLost: the half width in percent of a median of 0 is not known, unless
// the interval has no width at all.
func TestMedianOfNothingLost(t *testing.T) {
	result := cells(t, valid("a", 0, 0, 0, 0, 0, 0, 0), once(5, 30))
	if !result.Enough {
		t.Errorf("%+v", result)
	}
	result = cells(t, valid("a", 0, 0, 0, 0, 0, 0, 3), once(5, 30))
	if got := result.Cells[0]; result.Enough || got.HalfWidthPercent != nil || got.WantN != 30 {
		t.Errorf("%+v", got)
	}
}

// TestForecastIsMonotone: wider intervals and finer precision need more repetitions, never
// fewer than there are, and never more than the maximum.
func TestForecastIsMonotone(t *testing.T) {
	last := 0
	for percent := 0.5; percent < 300; percent *= 1.1 {
		got := forecast(Cell{N: 12, Values: 10, HalfWidthPercent: &percent, Precise: percent <= 5}, once(5, 200))
		if got < last || got < 12 || got > 200 {
			t.Fatalf("a half width of %g %% wants %d, a smaller one %d", percent, got, last)
		}
		last = got
	}
	if last != 200 {
		t.Errorf("the widest wants %d, want the most", last)
	}
	width := 20.0
	for percent := 19.0; percent > 0.01; percent /= 1.2 {
		got := forecast(Cell{N: 12, Values: 12, HalfWidthPercent: &width}, once(percent, 5000))
		if want := int(math.Ceil(12 * 400 / percent / percent)); got < min(want, 5000)-1 || got > min(max(want, 13), 5000)+1 {
			t.Fatalf("%g %%: %d, want %d", percent, got, want)
		}
	}
}
