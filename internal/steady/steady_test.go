package steady_test

import (
	"math"
	"slices"
	"testing"
	"time"

	"heliotrope/internal/steady"
)

func TestJudge(t *testing.T) {
	for _, c := range []struct {
		name   string
		rounds []float64
		window int
		want   steady.Verdict // by limits of 20 % and 10 %
	}{
		{"level", []float64{100, 100, 100, 100, 100}, 5, steady.Verdict{Steady: true, Judged: true, Rounds: 5}},
		// Average 100, from 90 to 110. Slope: (-2·-10 + -1·10 + 1·-5 + 2·5)/10 = 1.5 a round, 6 over the window.
		{"both at or below their limits", []float64{90, 110, 100, 95, 105}, 5,
			steady.Verdict{Steady: true, Judged: true, RangePercent: 20, SlopePercent: 6, Rounds: 5}},
		// 5 a round, 20 over the window of an average of 100.
		{"climbs", []float64{90, 95, 100, 105, 110}, 5, steady.Verdict{Judged: true, RangePercent: 20, SlopePercent: 20, Rounds: 5}},
		{"falls", []float64{110, 105, 100, 95, 90}, 5, steady.Verdict{Judged: true, RangePercent: 20, SlopePercent: 20, Rounds: 5}},
		// Average 100; symmetric, so no slope.
		{"one drop", []float64{105, 105, 80, 105, 105}, 5, steady.Verdict{Judged: true, RangePercent: 25, Rounds: 5}},
		// Average 4 of the last three, 3 and 5 at the ends: 1 a round.
		{"only the window counts", []float64{1000, 0, 3, 4, 5}, 3, steady.Verdict{Judged: true, RangePercent: 50, SlopePercent: 50, Rounds: 5}},
		// Fit over 0 … 3 with average 100: (-1.5·-4 + -0.5·0 + 0.5·0 + 1.5·4)/5 = 2.4 a round, 7.2 over the window.
		{"an even window", []float64{96, 100, 100, 104}, 4, steady.Verdict{Steady: true, Judged: true, RangePercent: 8, SlopePercent: 7.2, Rounds: 4}},
		{"no I/O", []float64{0, 0, 0}, 3, steady.Verdict{Rounds: 3}},
		{"too few rounds", []float64{100, 100}, 3, steady.Verdict{Rounds: 2}},
		{"none", nil, 3, steady.Verdict{}},
		{"no window", []float64{100}, 1, steady.Verdict{Rounds: 1}},
		{"not a number", []float64{100, math.NaN(), 100}, 3, steady.Verdict{Rounds: 3}},
		{"infinite", []float64{100, math.Inf(1), 100}, 3, steady.Verdict{Rounds: 3}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := steady.Judge(c.rounds, c.window, 20, 10)
			if math.Abs(got.RangePercent-c.want.RangePercent) > 1e-9 || math.Abs(got.SlopePercent-c.want.SlopePercent) > 1e-9 {
				t.Errorf("range %g %%, slope %g %%, want %g %% and %g %%", got.RangePercent, got.SlopePercent, c.want.RangePercent, c.want.SlopePercent)
			}
			if got.Steady != c.want.Steady || got.Judged != c.want.Judged || got.Rounds != c.want.Rounds {
				t.Errorf("%+v, want %+v", got, c.want)
			}
		})
	}
}

// TestLimits: the same rounds with other limits.
func TestLimits(t *testing.T) {
	rounds := []float64{90, 95, 100, 105, 110} // 20 % and 20 %
	for _, c := range []struct {
		rangePercent, slopePercent float64
		want                       bool
	}{{20, 20, true}, {19.9, 20, false}, {20, 19.9, false}, {30, 30, true}} {
		if got := steady.Judge(rounds, 5, c.rangePercent, c.slopePercent); got.Steady != c.want {
			t.Errorf("limits of %g %% and %g %%: %+v", c.rangePercent, c.slopePercent, got)
		}
	}
}

func TestRounds(t *testing.T) {
	const second = int64(time.Second)
	from := 1_700_000_000 * second
	at := []int64{from - 1, from + 3*second, from, from + 2*second - 1, from + 1, from + 4*second, from + 7*second, from + 8*second - 1, from + 9*second}
	for _, c := range []struct {
		to    int64
		round time.Duration
		want  []float64
	}{
		// Three in [0 s, 2 s), one in [2 s, 4 s), one in [4 s, 6 s).
		{from + 6*second, 2 * time.Second, []float64{1.5, 0.5, 0.5}},
		{from + 8*second - 1, 2 * time.Second, []float64{1.5, 0.5, 0.5}}, // the fourth is not whole
		{from + 8*second, 2 * time.Second, []float64{1.5, 0.5, 0.5, 1}},
		{from + 20*second, 10 * time.Second, []float64{0.8, 0}},
		{from + second, 2 * time.Second, []float64{}},
		{from, time.Second, nil},
		{from - second, time.Second, nil},
		{from + second, 0, nil},
	} {
		rounds := steady.NewRounds(from, c.to, c.round)
		for _, ns := range at {
			rounds.Add(ns, 1)
		}
		if got := rounds.IOPS(); !slices.Equal(got, c.want) {
			t.Errorf("%d s in rounds of %s: %v, want %v", (c.to-from)/second, c.round, got, c.want)
		}
	}
}
