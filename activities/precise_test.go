package activities

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/analysis/dataset"
	"heliotrope/analysis/precision"
	"heliotrope/internal/campaign"
	"heliotrope/internal/trial"
)

// A campaign is only said to be precise at a look. Otherwise it is said which group is not
// precise enough, and why.
func TestPrecise(t *testing.T) {
	stop := campaign.Stop{Metric: "blackout_ms", RelativeCIPercent: 10, Min: 10, Max: 20}
	var rows []dataset.Trial
	for _, direction := range []string{campaign.Outbound, campaign.Return} {
		for range 10 {
			value := 100.0
			rows = append(rows, dataset.Trial{CellID: "kvm-nfs", Direction: direction, Counted: true, Verdict: string(trial.Valid), BlackoutMs: &value})
		}
	}
	says := func(blocks int) Precise {
		t.Helper()
		result, err := precision.Cells(rows, stop, blocks)
		require.NoError(t, err)
		return preciseOf(result, stop, blocks, 2.5)
	}
	assert.True(t, says(10).Enough)
	assert.Equal(t, "blackout_ms is known to ± 10 % in all 2 groups.", says(10).String())
	assert.False(t, says(11).Enough)
	assert.Equal(t, "blackout_ms is known to ± 10 % in all 2 groups; it is decided after block 13: about 5 more trials.", says(11).String())
	*rows[19].BlackoutMs, *rows[18].BlackoutMs, *rows[17].BlackoutMs = 200, 200, 200
	assert.Equal(t, "blackout_ms is known to ± 50.0 % in the worst group, kvm-nfs return; ± 10 % is wanted, which 1 of 2 groups miss: about 25 more trials.",
		says(10).String())
	rows[19].Verdict = string(trial.TargetFailed)
	assert.Equal(t, "blackout_ms is ∞ in 1 of 10 trials in the worst group, kvm-nfs return; ± 10 % is wanted, which 1 of 2 groups miss: about 25 more trials.",
		says(10).String())
}
