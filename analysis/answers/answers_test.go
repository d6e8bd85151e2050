package answers_test

import (
	"encoding/json"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/analysis/answers"
	"heliotrope/analysis/answers/answerstest"
	"heliotrope/analysis/dataset"
	"heliotrope/analysis/group"
	"heliotrope/analysis/stats"
	"heliotrope/internal/campaign"
	"heliotrope/internal/trial"
)

func of(t *testing.T, kind string, rows answers.Rows) answers.Answers {
	t.Helper()
	got, err := answers.Of("made", kind, rows)
	require.NoError(t, err)
	return got
}

func usual(t *testing.T, change func(*answerstest.Options)) answers.Answers {
	t.Helper()
	options := answerstest.Usual()
	change(&options)
	return of(t, options.Kind, answerstest.Rows(options))
}

// fewResamples makes a test faster that asserts nothing of a bootstrap of random resamples:
// no verdict depends on one.
func fewResamples(t *testing.T) {
	t.Helper()
	before := stats.Default
	t.Cleanup(func() { stats.Default = before })
	stats.Default.Resamples = 40
}

func cell(t *testing.T, of answers.Answers, id, direction string) answers.Cell {
	t.Helper()
	for _, cell := range of.Cells {
		if cell.ID == id && cell.Direction == direction {
			return cell
		}
	}
	t.Fatalf("there is no cell %s, %s", id, direction)
	return answers.Cell{}
}

// comparison of storages in a metric: at a round trip, or over all (-1).
func comparison(t *testing.T, of answers.Answers, a, b, metric string, rtt float64) answers.Comparison {
	t.Helper()
	for _, c := range of.Comparisons {
		if c.A == a && c.B == b && c.Metric == metric && (c.AllRTTs == (rtt < 0)) && (rtt < 0 || c.Factors.RTTMs == rtt) {
			return c
		}
	}
	t.Fatalf("%s and %s are not compared in %s at %v ms", a, b, metric, rtt)
	return answers.Comparison{}
}

func TestEstimates(t *testing.T) {
	rows := answerstest.Rows(answerstest.Usual())
	// In the first cell two trials fail, one is invalid, and one was tried before.
	const id = "kvm-iscsi-rtt0-database"
	changed := 0
	for i := range rows.Trials {
		row := &rows.Trials[i]
		if row.CellID != id {
			continue
		}
		switch changed {
		case 0, 1:
			row.Verdict = string(trial.TargetFailed)
		case 2:
			row.Verdict = string(trial.Invalid)
		}
		if changed++; changed == 4 {
			early := *row
			early.Key, early.Counted, early.Verdict = "00000.0", false, string(trial.Invalid)
			rows.Trials = append(rows.Trials, early)
		}
	}
	got := cell(t, of(t, "emulated", rows), id, campaign.Outbound)
	assert.Equal(t, 9, got.Results)
	assert.Equal(t, [2]int{2, 9}, [2]int{got.Failures.Count, got.Failures.Of})
	assert.InDelta(t, 0.0281, float64(got.Failures.Low), 1e-4) // 2 of 9, as tables of Clopper and Pearson have it
	assert.InDelta(t, 0.6001, float64(got.Failures.High), 1e-4)
	assert.Equal(t, [2]int{1, 10}, [2]int{got.Invalid.Count, got.Invalid.Of})
	response := got.Estimate(group.MaxResponseMs)
	assert.Equal(t, [2]int{9, 2}, [2]int{response.N, response.Infinite})
	assert.InEpsilon(t, 1000*math.Exp(-0.6), float64(response.Median), 0.15)
	assert.Less(t, response.Low, response.Median)
	bytes := got.Estimate(answers.WANMB)
	assert.Equal(t, [2]int{7, 0}, [2]int{bytes.N, bytes.Infinite}, "a failure has no bytes")
	require.NotNil(t, bytes.MoreTrials)
	assert.Positive(t, *bytes.MoreTrials)
	assert.Zero(t, got.Estimate("nonsense").N)
}

// A trial that is marked valid but shows no work is invalid here, too.
func TestNoWork(t *testing.T) {
	rows := answerstest.Rows(answerstest.Usual())
	rows.Trials[0].IORows = new(int64)
	got := of(t, "emulated", rows)
	assert.Equal(t, 1, cell(t, got, rows.Trials[0].CellID, campaign.Outbound).Invalid.Count)
	assert.Len(t, got.Notes, 1)
	assert.Equal(t, string(trial.Valid), rows.Trials[0].Verdict, "the rows are not changed")
}

func TestKindsAreNotMixed(t *testing.T) {
	rows := answerstest.Rows(answerstest.Usual())
	_, err := answers.Of("made", "simulated", rows)
	require.ErrorContains(t, err, "emulated")
}

func TestComparisons(t *testing.T) {
	got := usual(t, func(*answerstest.Options) {})
	far := comparison(t, got, "drbd C", "nfs", group.MaxResponseMs, 160)
	assert.Equal(t, answers.Less, far.Verdict)
	assert.Equal(t, [3]int{10, 10, 0}, [3]int{far.Pairs, far.ALess, far.BLess})
	assert.InEpsilon(t, math.Exp(-1), float64(far.Ratio), 0.1)
	assert.Less(t, far.RatioLow, far.Ratio)
	assert.Greater(t, far.RatioHigh, far.Ratio)
	assert.InEpsilon(t, 1000-2718, float64(far.Difference), 0.15)
	assert.Equal(t, 12, far.Family, "three pairs of storages at four round trips")
	assert.InDelta(t, 2.0/1024, float64(far.P), 1e-12)
	near := comparison(t, got, "drbd C", "nfs", group.MaxResponseMs, 0)
	assert.Equal(t, answers.Greater, near.Verdict)
	same := comparison(t, got, "iscsi", "nfs", group.MaxResponseMs, 160)
	assert.Equal(t, answers.Undecided, same.Verdict)
	all := comparison(t, got, "drbd C", "iscsi", answers.WANMB, -1)
	assert.Equal(t, answers.Less, all.Verdict)
	assert.Equal(t, [2]int{40, 3}, [2]int{all.Pairs, all.Family})
	assert.InEpsilon(t, 0.7, float64(all.Ratio), 0.05)
}

// With too few pairs for the family nothing is decided, however clear the pairs are, and
// the answer says how many are needed.
func TestTooFewPairs(t *testing.T) {
	got := comparison(t, usual(t, func(o *answerstest.Options) { o.Blocks = 6 }), "drbd C", "nfs", group.MaxResponseMs, 160)
	assert.Equal(t, 6, got.ALess)
	assert.Equal(t, answers.Undecided, got.Verdict)
	assert.Equal(t, 9, got.WantPairs)
}

// A failure is worse than everything else, and two failures are equal.
func TestFailuresInPairs(t *testing.T) {
	rows := answerstest.Rows(answerstest.Usual())
	for i := range rows.Trials {
		row := &rows.Trials[i]
		if row.RTTMs != 160 {
			continue
		}
		switch {
		case row.Storage == "nfs" && row.Block <= 7, row.Storage == "drbd" && row.Block <= 2:
			row.Verdict = string(trial.TargetFailed)
		}
	}
	got := comparison(t, of(t, "emulated", rows), "drbd C", "nfs", group.MaxResponseMs, 160)
	assert.Equal(t, [3]int{10, 8, 0}, [3]int{got.Pairs, got.ALess, got.BLess})
	assert.InDelta(t, 0, float64(got.Ratio), 0)
	text, err := json.Marshal(got)
	require.NoError(t, err)
	assert.Contains(t, string(text), `"difference":"-Infinity"`)
}

// Where cells run in both directions in turn, trials of the same direction in two
// neighbouring blocks are a pair.
func TestPairsOfBothDirections(t *testing.T) {
	got := usual(t, func(o *answerstest.Options) { o.Balanced, o.Blocks = true, 12 })
	pairs := 0
	for _, c := range got.Comparisons {
		if c.Metric == answers.WANMB && !c.AllRTTs {
			assert.Equal(t, 6, c.Pairs, "%+v", c)
			pairs++
		}
	}
	assert.Equal(t, 2*3*4, pairs)
	assert.Len(t, got.Cells, 2*3*4)
}

// Cells that differ in more than one factor are not compared, and controls are not.
func TestOneFactorAtATime(t *testing.T) {
	options := answerstest.Usual()
	options.Hypervisors, options.RTTsMs, options.Storages = []string{"kvm", "xen"}, []float64{30}, []string{"nfs", "drbd"}
	rows := answerstest.Rows(options)
	for _, row := range rows.Trials[:2] { // a control, and another depth, of each storage
		for _, change := range []func(*dataset.Trial){
			func(r *dataset.Trial) { r.Control, r.CellID = campaign.ControlNone, r.CellID+"-control-none" },
			func(r *dataset.Trial) { r.CellID += "-qd4" },
		} {
			other := row
			change(&other)
			other.Key = other.CellID
			rows.Trials = append(rows.Trials, other)
		}
	}
	seen := map[string]int{}
	for _, c := range of(t, "emulated", rows).Comparisons {
		if c.Metric == group.MaxResponseMs {
			seen[c.Factor+" "+c.A+" "+c.B]++
			assert.Empty(t, c.Factors.Control)
		}
	}
	// The trials of another depth have no phases, so they are invalid: compared, without a pair.
	assert.Equal(t, map[string]int{"storage drbd C nfs": 3, "hypervisor kvm xen": 2}, seen)
}

// Pairs whose trials are a block apart in an order that was drawn once for the whole campaign
// are counted; where it is drawn for each two blocks, there are none.
func TestFixedOrder(t *testing.T) {
	fewResamples(t)
	options := answerstest.Usual()
	options.Balanced, options.Blocks = true, 8
	for _, c := range of(t, "emulated", answerstest.Rows(options)).Comparisons {
		require.Zero(t, c.FixedOrder)
	}
	options.FixedOrder = true
	rows := answerstest.Rows(options)
	marked := of(t, "emulated", rows)
	// iscsi, nfs and drbd begin in turn: iscsi and drbd in the same blocks, nfs in the others.
	apart := comparison(t, marked, "iscsi", "nfs", answers.WANMB, 90)
	assert.Equal(t, [2]int{4, 4}, [2]int{apart.Pairs, apart.FixedOrder})
	assert.Zero(t, comparison(t, marked, "drbd C", "iscsi", answers.WANMB, 90).FixedOrder)
	assert.Equal(t, 16, comparison(t, marked, "iscsi", "nfs", answers.WANMB, -1).FixedOrder)
	require.Len(t, marked.Notes, 1)
	assert.Contains(t, marked.Notes[0], "Fixed order")
	for _, claim := range marked.Claims {
		assert.Equal(t, 24, claim.Against[1].FixedOrder, "three round trips, four pairs, two directions")
		assert.Contains(t, claim.Why, "24 pairs in a fixed order")
	}
	// Blocks that were added later, and drawn, are not counted.
	for i := range rows.Trials {
		if row := &rows.Trials[i]; row.Block > 6 && row.Storage == "iscsi" && row.RTTMs == 0 {
			row.Direction = map[string]string{campaign.Outbound: campaign.Return, campaign.Return: campaign.Outbound}[row.Direction]
		}
	}
	apart = comparison(t, of(t, "emulated", rows), "iscsi", "nfs", answers.WANMB, 90)
	assert.Equal(t, [2]int{4, 3}, [2]int{apart.Pairs, apart.FixedOrder})
}

// A pair may have its trials in two sittings: that is counted, and what is left without such
// pairs is shown.
func TestBreaks(t *testing.T) {
	fewResamples(t)
	options := answerstest.Usual()
	rows := answerstest.Rows(options)
	whole := comparison(t, of(t, "emulated", rows), "iscsi", "nfs", group.MaxResponseMs, 90)
	assert.Zero(t, whole.AcrossBreaks)
	assert.Equal(t, whole.Tested, whole.Unbroken)
	assert.InDelta(t, 4*240.0/3600, float64(whole.ApartHours), 1e-9)
	const night = int64(10 * time.Hour)
	var late bool
	for i := range rows.Trials {
		row := &rows.Trials[i]
		if late = late || row.Block == 5 && row.Storage == "nfs"; late {
			row.StartedTsNs, row.EndedTsNs = row.StartedTsNs+night, row.EndedTsNs+night
		}
	}
	broken := of(t, "emulated", rows)
	apart := comparison(t, broken, "drbd C", "iscsi", group.MaxResponseMs, 160)
	assert.Equal(t, [2]int{10, 1}, [2]int{apart.Pairs, apart.AcrossBreaks})
	assert.InDelta(t, 10+8*240.0/3600, float64(apart.ApartHours), 1e-9)
	assert.InDelta(t, 2.0/512, float64(apart.Unbroken.P), 1e-12, "nine pairs are left, all of which tend to one side")
	assert.Equal(t, answers.Less, apart.Unbroken.Verdict)
	assert.Zero(t, comparison(t, broken, "drbd C", "nfs", group.MaxResponseMs, 160).AcrossBreaks)
	require.Len(t, broken.Notes, 1)
	assert.Contains(t, broken.Notes[0], "Breaks: 1 times no trial ran for 30 minutes or longer")
	assert.Contains(t, broken.Claims[1].Why, "3 pairs over a break (without them")
}

// identical are campaigns of storages between which there is no difference, with one metric
// only, the longest response time, so that many can be answered quickly.
func identical(seed uint64, sigma float64) answers.Rows {
	options := answerstest.Usual()
	options.Balanced, options.Blocks, options.Seed, options.Sigma = true, 24, seed, sigma
	options.ResponseMs = func(string, float64) float64 { return 1000 }
	rows := answerstest.Rows(options)
	for i := range rows.Trials {
		row := &rows.Trials[i]
		row.BlackoutMs, row.TotalMigrationMs, row.RecoveryMs, row.IOLostS, row.WANBytes = nil, nil, nil, nil, nil
		row.ReadResponse, row.WriteResponse = dataset.Response{}, dataset.Response{}
	}
	for i := range rows.Phases {
		phase := &rows.Phases[i]
		*phase = dataset.Phase{Trial: phase.Trial, Phase: phase.Phase, IOs: phase.IOs}
	}
	rows.Traffic = nil
	return rows
}

// TestIdenticalStoragesDoNotCross: between storages that do not differ, a crossover is stated
// in fewer campaigns than a family may decide anything wrongly, although the medians of most
// of them cross. Where all values are equal, nothing is stated either.
func TestIdenticalStoragesDoNotCross(t *testing.T) {
	fewResamples(t)
	const campaigns = 60 // where none of 60 states one, fewer than 5 % do, with a confidence of 95 %
	stated, nowhere, decided, medians, crossovers := 0, 0, 0, 0, 0
	for seed := range uint64(campaigns) {
		got := of(t, "emulated", identical(seed+1, 0.3))
		require.Len(t, got.Metrics, 1)
		var any [3]bool
		for _, c := range got.Crossovers {
			any[0], any[1] = any[0] || c.Verdict == answers.Crosses, any[1] || c.Verdict == answers.CrossesNowhere
			if crossovers++; c.Crosses {
				medians++
			}
		}
		for _, c := range got.Comparisons {
			any[2] = any[2] || !c.AllRTTs && c.Verdict != answers.Undecided
		}
		for i, count := range []*int{&stated, &nowhere, &decided} {
			if any[i] {
				*count++
			}
		}
	}
	t.Logf("of %d campaigns: %d state a crossover, %d state that there is none, %d decide any comparison; the medians of %d of %d cross", campaigns, stated, nowhere, decided, medians, crossovers)
	assert.Zero(t, stated)
	assert.Zero(t, nowhere)
	assert.LessOrEqual(t, float64(decided), 0.07*campaigns, "5 %, and the play of 60 campaigns")
	assert.Greater(t, float64(medians), 0.8*float64(crossovers))
	equal := of(t, "emulated", identical(1, 0))
	require.Len(t, equal.Crossovers, 6)
	for _, c := range equal.Crossovers {
		assert.Equal(t, answers.CrossoverUndecided, c.Verdict)
		assert.False(t, c.Crosses)
		assert.Empty(t, c.Turns())
	}
}

func TestCrossovers(t *testing.T) {
	got := usual(t, func(o *answerstest.Options) { o.Balanced, o.Blocks = true, 24 })
	found := 0
	for _, c := range got.Crossovers {
		if c.Metric == group.MaxResponseMs && c.A == "drbd C" {
			found++
			require.True(t, c.Crosses)
			require.Equal(t, answers.Crosses, c.Verdict)
			turns := c.Turns()
			require.Len(t, turns, 2)
			assert.Equal(t, [2]float64{30, 90}, [2]float64{turns[0].RTTMs, turns[1].RTTMs})
			assert.Equal(t, [2]string{c.B, c.A}, [2]string{c.Least(turns[0]), c.Least(turns[1])})
			assert.InDelta(t, 60, float64(c.At), 10)
			assert.Less(t, float64(c.Low), 62.0)
			assert.Greater(t, float64(c.High), 58.0)
			assert.Equal(t, c.B, c.Below, "below it the other one is shorter")
			assert.Less(t, float64(c.None), 0.01)
			assert.Len(t, c.Points, 4)
		}
		if c.Metric == answers.WANMB && c.A == "drbd C" {
			assert.False(t, c.Crosses)
			assert.Equal(t, answers.CrossesNowhere, c.Verdict)
			assert.Equal(t, "drbd C", c.Below)
			assert.InDelta(t, 1, float64(c.None), 0.01)
		}
	}
	assert.Equal(t, 4, found, "two rivals, two directions")
	fewResamples(t)
	// With six pairs at each round trip the medians cross as well, and nothing is shown.
	for _, c := range usual(t, func(o *answerstest.Options) { o.Balanced, o.Blocks = true, 12 }).Crossovers {
		assert.Equal(t, answers.CrossoverUndecided, c.Verdict)
	}
	// Two profiles with the same round trip do not make a curve.
	rows := answerstest.Rows(answerstest.Usual())
	for i := range rows.Trials {
		if rows.Trials[i].RTTMs == 90 {
			rows.Trials[i].RTTMs = 30
		}
	}
	twice := of(t, "emulated", rows)
	assert.Empty(t, twice.Crossovers)
	assert.Len(t, twice.Notes, 3)
}

func TestSentinel(t *testing.T) {
	fewResamples(t)
	trend := func(slope float64) answers.Trend {
		got := usual(t, func(o *answerstest.Options) { o.Sentinel, o.SentinelSlope, o.Blocks, o.Sigma = 20, slope, 2, 0.02 })
		require.Len(t, got.Sentinel, 4)
		require.Equal(t, answers.BeforeIOPS, got.Sentinel[0].Metric)
		return got.Sentinel[0]
	}
	assert.Equal(t, answers.Undecided, trend(0).Verdict)
	falling := trend(-100)
	assert.Equal(t, answers.Less, falling.Verdict)
	assert.Equal(t, 20, falling.N)
	assert.InDelta(t, 19*240.0/3600, falling.Hours, 1e-9)
	assert.Less(t, falling.High, answers.Number(0))
	assert.Less(t, falling.Low, falling.PercentPerHour)
	// A slower lane that joins late is no trend, and each lane has its own.
	options := answerstest.Usual()
	options.Sentinel, options.Blocks, options.Sigma = 20, 2, 0.02
	rows, seen := answerstest.Rows(options), 0
	for i := range rows.Trials {
		row := &rows.Trials[i]
		if !row.Sentinel {
			continue
		}
		if row.Lane = "lane-1"; seen >= 12 {
			row.Lane, row.BlackoutMs = "lane-2", new(*row.BlackoutMs*3)
		}
		seen++
	}
	lanes := of(t, "emulated", rows).Sentinel
	require.Len(t, lanes, 8)
	for i, of := range lanes {
		assert.Equal(t, answers.Undecided, of.Verdict, "%+v", of)
		assert.Equal(t, []string{"lane-1", "lane-2"}[i/4], of.Lane)
		assert.Equal(t, []int{12, 8}[i/4], of.N)
	}
	assert.Empty(t, usual(t, func(o *answerstest.Options) { o.Blocks = 1 }).Sentinel)
}

func TestJSON(t *testing.T) {
	got := usual(t, func(o *answerstest.Options) { o.Blocks = 1 }) // hardly anything is known
	text, err := json.Marshal(got)
	require.NoError(t, err)
	assert.Contains(t, string(text), `"testbed_kind":"emulated"`)
	assert.Contains(t, string(text), `"low":null`)
	empty, err := json.Marshal(of(t, "emulated", answers.Rows{}))
	require.NoError(t, err)
	assert.NotContains(t, string(empty), `:null`, "a list without anything is one")
}

func TestSameRowsSameAnswers(t *testing.T) {
	assert.Equal(t, mustJSON(t, usual(t, func(*answerstest.Options) {})), mustJSON(t, usual(t, func(*answerstest.Options) {})))
}

func mustJSON(t *testing.T, value any) string {
	t.Helper()
	text, err := json.Marshal(value)
	require.NoError(t, err)
	return string(text)
}
