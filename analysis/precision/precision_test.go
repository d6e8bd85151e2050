package precision

import (
	"encoding/json"
	"math"
	"math/rand/v2"
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

func cells(t *testing.T, rows []dataset.Trial, stop campaign.Stop) Result {
	t.Helper()
	result, err := Cells(rows, stop)
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
		low, high, ok := interval(values)
		if !ok || low != float64(k) || high != float64(n+1-k) {
			t.Errorf("of %d: %g to %g, %t, want ranks %d and %d", n, low, high, ok, k, n+1-k)
		}
	}
	for n := range fewest {
		if low, high, ok := interval(make([]float64, n)); ok {
			t.Errorf("of %d values: %g to %g", n, low, high)
		}
	}
	if low, high, ok := interval(make([]float64, 5000)); !ok || low != 0 || high != 0 {
		t.Error("of 5000 values there is none")
	}
}

// TestCoverage: the interval holds the true median as often as it says, for
// skewed values too.
func TestCoverage(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	const rounds = 4000
	for name, draw := range map[string]func() (value, median float64){
		"exponential": func() (float64, float64) { return random.ExpFloat64(), math.Ln2 },
		"log-normal":  func() (float64, float64) { return math.Exp(2 * random.NormFloat64()), 1 },
		"two values":  func() (float64, float64) { return math.Floor(random.Float64() * 1.8), 0 },
	} {
		for _, n := range []int{6, 9, 15, 40} {
			held := 0
			for range rounds {
				values := make([]float64, n)
				var median float64
				for i := range values {
					values[i], median = draw()
				}
				slices.Sort(values)
				if low, high, ok := interval(values); ok && low <= median && median <= high {
					held++
				}
			}
			if share := float64(held) / rounds; share < 0.94 {
				t.Errorf("%s, %d values: the median was in %.1f %% of the intervals", name, n, 100*share)
			}
		}
	}
}

func TestCells(t *testing.T) {
	// Seven values: median 100, interval from the least to the greatest.
	rows := valid("b", 103, 97, 100, 98, 102, 101, 99)
	// Nine: the second to the eighth; the outliers do not matter.
	rows = append(rows, valid("a", 10, 90, 95, 100, 100, 100, 105, 110, 1000)...)
	result := cells(t, rows, stop(12, 5, 20))
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
	// By 5 %, a wants 9 · (10/5)^2 = 36; by at most 20, 11 more.
	result = cells(t, rows, stop(5, 5, 100))
	if result.Enough || result.Cells[0].WantN != 36 || result.Cells[1].WantN != 7 || result.MoreRepetitions != 27 {
		t.Errorf("%+v", result)
	}
	if result = cells(t, rows, stop(5, 5, 20)); result.Enough || result.MoreRepetitions != 11 {
		t.Errorf("%+v", result)
	}
	// Barely too wide: one more. And the last repetition is the last.
	if result = cells(t, rows, stop(9.999, 5, 20)); result.Enough || result.MoreRepetitions != 1 {
		t.Errorf("%+v", result)
	}
	if result = cells(t, rows, stop(1, 5, 7)); !result.Enough || result.Cells[1].Precise {
		t.Errorf("%+v", result)
	}
	// Precise, but not often enough.
	if result = cells(t, rows, stop(12, 10, 20)); result.Enough || result.MoreRepetitions != 3 {
		t.Errorf("%+v", result)
	}
}

// TestFewValues: up to five values are never precise, not even the same ones.
func TestFewValues(t *testing.T) {
	result := cells(t, valid("a", 7, 7, 7, 7, 7), stop(50, 3, 20))
	if got := result.Cells[0]; result.Enough || got.Precise || got.HalfWidthPercent != nil || got.Low != nil || *got.Median != 7 || got.WantN != 6 {
		t.Errorf("%+v", got)
	}
	if result = cells(t, valid("a", 7, 7, 7, 7, 7, 7), stop(50, 3, 20)); !result.Enough || *result.Cells[0].HalfWidthPercent != 0 {
		t.Errorf("%+v", result.Cells[0])
	}
	if result = cells(t, valid("a", 1, 2), stop(50, 3, 4)); result.MoreRepetitions != 2 || result.Enough {
		t.Errorf("%+v", result)
	}
	if result = cells(t, nil, stop(50, 3, 4)); result.Enough {
		t.Error("no rows are enough")
	}
}

// TestWhatCounts: failures are repetitions without a value; what is not
// counted, controls and sentinels are nothing.
func TestWhatCounts(t *testing.T) {
	rows := valid("a", 100, 101, 102, 103, 104, 105)
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
	result := cells(t, rows, stop(1, 5, 100))
	if len(result.Cells) != 2 {
		t.Fatalf("%+v", result)
	}
	a, b := result.Cells[0], result.Cells[1]
	if a.N != 11 || a.Values != 6 || *a.Median != 102.5 || *a.Low != 100 || *a.High != 105 {
		t.Errorf("%+v", a)
	}
	// 2.5/102.5 is 2.439 %: 11 · 2.439^2 is 65.4.
	if a.WantN != 66 {
		t.Errorf("%d repetitions wanted, want 66", a.WantN)
	}
	if b.N != 0 || b.Values != 0 || b.Median != nil || b.WantN != 6 {
		t.Errorf("%+v", b)
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
		result, err := Cells([]dataset.Trial{row}, campaign.Stop{Metric: metric, RelativeCIPercent: 5, Min: 5, Max: 10})
		if err != nil || *result.Cells[0].Median != want {
			t.Errorf("%s: %v, %+v, want %g", metric, err, result, want)
		}
	}
	if _, err := Cells(nil, campaign.Stop{Metric: "seed"}); err == nil {
		t.Error("a metric that there is not")
	}
}

// TestMedianOfNothingLost: a median of 0 has no width in percent of it, unless
// the interval has none at all.
func TestMedianOfNothingLost(t *testing.T) {
	result := cells(t, valid("a", 0, 0, 0, 0, 0, 0, 0), stop(5, 5, 30))
	if !result.Enough {
		t.Errorf("%+v", result)
	}
	result = cells(t, valid("a", 0, 0, 0, 0, 0, 0, 3), stop(5, 5, 30))
	if got := result.Cells[0]; result.Enough || got.HalfWidthPercent != nil || got.WantN != 30 {
		t.Errorf("%+v", got)
	}
}

// TestForecastIsMonotone: more is wanted of wider intervals and for finer
// precision, never fewer than there are, never more than the most.
func TestForecastIsMonotone(t *testing.T) {
	last := 0
	for percent := 0.5; percent < 300; percent *= 1.1 {
		got := forecast(Cell{N: 12, Values: 10, HalfWidthPercent: &percent, Precise: percent <= 5}, stop(5, 5, 200))
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
		got := forecast(Cell{N: 12, Values: 12, HalfWidthPercent: &width}, stop(percent, 5, 5000))
		if want := int(math.Ceil(12 * 400 / percent / percent)); got < min(want, 5000)-1 || got > min(max(want, 13), 5000)+1 {
			t.Fatalf("%g %%: %d, want %d", percent, got, want)
		}
	}
}
