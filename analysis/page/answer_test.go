package page_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/analysis/answers"
	"heliotrope/analysis/group"
	"heliotrope/analysis/page"
)

var longest = answers.About{Name: group.MaxResponseMs, Unit: "ms", Says: "longest response time"}

// TestSentences: the answer says what is shown, by how much and how certain, and what is
// not shown; numbers of a model always name the model.
func TestSentences(t *testing.T) {
	nan := answers.Unknown
	less := answers.Comparison{A: "drbd C", B: "nfs", Metric: group.MaxResponseMs, Direction: "outbound", AllRTTs: true, Ratio: 0.5, RatioLow: 0.4, RatioHigh: 0.6, Pairs: 12,
		Tested: answers.Tested{AdjustedP: 0.0001, Verdict: answers.Less}}
	undecided := answers.Comparison{A: "iscsi", B: "nfs", Metric: group.MaxResponseMs, Direction: "outbound", AllRTTs: true, Ratio: 1, RatioLow: 0.9, RatioHigh: 1.1, Pairs: 12,
		Tested: answers.Tested{AdjustedP: 0.7, Verdict: answers.Undecided}}
	points := func(verdicts ...answers.Verdict) (points []answers.Point) {
		for i, verdict := range verdicts {
			points = append(points, answers.Point{RTTMs: []float64{0, 30, 90, 160}[i], Verdict: verdict})
		}
		return points
	}
	crossing := answers.Crossover{A: "drbd C", B: "nfs", Metric: group.MaxResponseMs, Direction: "return", FromRTTMs: 0, ToRTTMs: 160, Verdict: answers.Crosses,
		Crosses: true, At: 45, Low: 38, High: 52, Below: "nfs", Points: points(answers.Greater, answers.Greater, answers.Undecided, answers.Less)}
	// A change that is decided between 90 and 160 ms, whose medians cross before that.
	elsewhere := crossing
	elsewhere.Points = points(answers.Undecided, answers.Undecided, answers.Greater, answers.Less)
	// Two changes, in a campaign that drew each cell's first direction once.
	twice := crossing
	twice.Points = points(answers.Greater, answers.Less, answers.Less, answers.Greater)
	twice.Points[1].FixedOrder = 6
	// The medians cross, and nothing is decided; with too few pairs for an interval.
	unclear := crossing
	unclear.Verdict, unclear.Low, unclear.High = answers.CrossoverUndecided, nan, nan
	unclear.Points = points(answers.Undecided, answers.Undecided, answers.Undecided, answers.Less)
	none := crossing
	none.Verdict, none.Crosses, none.At, none.Below = answers.CrossesNowhere, false, nan, "drbd C"
	none.Points = points(answers.Less, answers.Less, answers.Less, answers.Less)
	inOrder := less
	inOrder.FixedOrder = 5
	claim := answers.Claim{Statement: "DRBD is better.", Verdict: answers.ClaimUndecided, Hypervisor: "kvm"}
	ordered := claim
	ordered.Against = []answers.Rival{{Pairs: 12, Apart: answers.Apart{FixedOrder: 7}}, {Pairs: 8}}
	for name, test := range map[string]struct {
		a     answers.Answers
		model bool
		want  []string
	}{
		"all": {answers.Answers{Metrics: []answers.About{longest}, Comparisons: []answers.Comparison{undecided, less}, Crossovers: []answers.Crossover{none, unclear, crossing}, Claims: []answers.Claim{claim}}, false, []string{
			"Over all round trips, the longest response time is less with drbd C than with nfs (outbound): × 0.50 (0.40 to 0.60), in 12 pairs, p < 0.001. 1 of 2 comparisons are decided.",
			"Between 0.00 and 160 ms of round trip, a change of places in the longest response time is shown in 1 of 3 comparisons of two storages: " +
				"at 30.0 ms it is less with nfs, at 160 ms with drbd C (drbd C and nfs, return; the medians cross at 45.0 ms, 38.0 to 52.0). " +
				"In 1 the same storage has less at every round trip; of 1 it cannot be told.",
			"Of what was published: “DRBD is better.” is undecided (kvm)."}},
		"nothing is decided": {answers.Answers{Metrics: []answers.About{longest}, Comparisons: []answers.Comparison{undecided}, Crossovers: []answers.Crossover{unclear}}, true, []string{
			"In the model: No difference in the longest response time is shown: none of 1 comparisons over all round trips is decided.",
			"In the model: Between 0.00 and 160 ms of round trip, a change of places in the longest response time is shown in 0 of 1 comparisons of two storages. " +
				"In 0 the same storage has less at every round trip; of 1 it cannot be told.",
			"In the model: The published claims are not tested: the campaign has no trials for them."}},
		"several changes, fixed order": {answers.Answers{Metrics: []answers.About{longest}, Comparisons: []answers.Comparison{inOrder}, Crossovers: []answers.Crossover{elsewhere, twice}, Claims: []answers.Claim{ordered}}, false, []string{
			"Over all round trips, the longest response time is less with drbd C than with nfs (outbound): × 0.50 (0.40 to 0.60), in 12 pairs, p < 0.001, 5 pairs in a fixed order. 1 of 1 comparisons are decided.",
			"Between 0.00 and 160 ms of round trip, a change of places in the longest response time is shown in 2 of 2 comparisons of two storages: " +
				"at 90.0 ms it is less with nfs, at 160 ms with drbd C (drbd C and nfs, return); " +
				"at 0.00 ms it is less with nfs, at 30.0 ms with drbd C, at 90.0 ms with drbd C, at 160 ms with nfs (drbd C and nfs, return; 6 pairs in a fixed order). " +
				"In 0 the same storage has less at every round trip; of 0 it cannot be told.",
			"Of what was published: “DRBD is better.” is undecided (kvm; 7 of 20 pairs in a fixed order)."}},
		"one storage": {answers.Answers{Metrics: []answers.About{longest}, Cells: []answers.Cell{
			{Direction: "outbound", Factors: group.Factors{Storage: "nfs", WAN: "lan"}, Estimates: []answers.Estimate{{Metric: group.MaxResponseMs, N: 3, Median: 7}}},
			{Direction: "outbound", Factors: group.Factors{Storage: "nfs", WAN: "far"}, Estimates: []answers.Estimate{{Metric: group.MaxResponseMs, N: 3, Median: answers.Number(math.Inf(1))}}},
		}}, false, []string{
			"The median of the longest response time is from 7.00 ms (nfs, lan, outbound) to ∞ ms (nfs, far, outbound), over 2 cells; storages cannot be compared inside blocks here.",
			"A round trip at which storages change places cannot be looked for: that takes two storages over two round trips or more.",
			"The published claims are not tested: the campaign has no trials for them."}},
		"nothing": {answers.Answers{}, false, []string{"Nothing can be answered yet: no metric is known of any cell."}},
	} {
		assert.Equal(t, test.want, page.Sentences(test.a, test.model), name)
	}
}

// TestAnswered: the real answers of a campaign in which DRBD's stall is the shorter one.
func TestAnswered(t *testing.T) {
	campaign, err := page.Read(folder(t))
	require.NoError(t, err)
	require.NotEmpty(t, campaign.Answers.Cells)
	html := string(made(t, folder(t), page.Options{}).HTML())
	assert.Contains(t, html, "Medians over migrations, with intervals")
	assert.Contains(t, html, "Published claims, stated before the data were seen")
	assert.Contains(t, html, "Trials: 3 valid, by 4 attempts.", "one was tried again")
}
