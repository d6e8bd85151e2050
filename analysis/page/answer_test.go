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
	less := answers.Comparison{A: "drbd C", B: "nfs", Metric: group.MaxResponseMs, Direction: "outbound", AllRTTs: true, Ratio: 0.5, RatioLow: 0.4, RatioHigh: 0.6, Pairs: 12, AdjustedP: 0.0001, Verdict: answers.Less}
	undecided := answers.Comparison{A: "iscsi", B: "nfs", Metric: group.MaxResponseMs, Direction: "outbound", AllRTTs: true, Ratio: 1, RatioLow: 0.9, RatioHigh: 1.1, Pairs: 12, AdjustedP: 0.7, Verdict: answers.Undecided}
	crossing := answers.Crossover{A: "drbd C", B: "nfs", Metric: group.MaxResponseMs, Direction: "return", FromRTTMs: 0, ToRTTMs: 160, Crosses: true, At: 45, Low: 38, High: 52, Below: "nfs"}
	none := crossing
	none.Crosses, none.At, none.Below = false, nan, "drbd C"
	claim := answers.Claim{Statement: "DRBD is better.", Verdict: answers.ClaimUndecided, Hypervisor: "kvm"}
	for name, test := range map[string]struct {
		a     answers.Answers
		model bool
		want  []string
	}{
		"all": {answers.Answers{Metrics: []answers.About{longest}, Comparisons: []answers.Comparison{undecided, less}, Crossovers: []answers.Crossover{none, crossing}, Claims: []answers.Claim{claim}}, false, []string{
			"Over all round trips, the longest response time is less with drbd C than with nfs (outbound): × 0.50 (0.40 to 0.60), in 12 pairs, p < 0.001. 1 of 2 comparisons are decided.",
			"Places change in 1 of 2 comparisons of the longest response time between 0.00 and 160 ms of round trip: beyond 45.0 ms (38.0 to 52.0) it is less with drbd C than with nfs (return).",
			"Of what was published: “DRBD is better.” is undecided (kvm)."}},
		"nothing is decided": {answers.Answers{Metrics: []answers.About{longest}, Comparisons: []answers.Comparison{undecided}, Crossovers: []answers.Crossover{none}}, true, []string{
			"In the model: No difference in the longest response time is shown: none of 1 comparisons over all round trips is decided.",
			"In the model: No two storages change places in the longest response time between 0.00 and 160 ms of round trip: none in the range, in 1 comparisons.",
			"In the model: The published claims are not tested: the campaign has no trials for them."}},
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
