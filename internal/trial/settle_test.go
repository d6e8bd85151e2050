package trial_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"

	"heliotrope/internal/cause"
	"heliotrope/internal/trial"
)

// TestSettle: only attempts that say something about the trial count against its limit.
func TestSettle(t *testing.T) {
	invalid := trial.Outcome{Verdict: trial.Invalid, Cause: cause.ClockJumped}
	away := trial.Outcome{Verdict: trial.Invalid, Cause: cause.Infrastructure}
	cancelled := trial.Outcome{Verdict: trial.Skipped, Cause: cause.Cancelled}
	repeat := func(n int, outcome trial.Outcome) []trial.Outcome { return slices.Repeat([]trial.Outcome{outcome}, n) }
	for name, test := range map[string]struct {
		outcomes []trial.Outcome
		want     trial.Standing
	}{
		"nothing yet":                 {nil, trial.Open},
		"valid":                       {[]trial.Outcome{{Verdict: trial.Valid}}, trial.Settled},
		"the target failed":           {[]trial.Outcome{{Verdict: trial.TargetFailed, Cause: cause.IOError}}, trial.Settled},
		"it cannot be":                {[]trial.Outcome{{Verdict: trial.Invalid, Cause: cause.BadInput}}, trial.Settled},
		"invalid, and again":          {repeat(2, invalid), trial.Open},
		"invalid as often as allowed": {repeat(3, invalid), trial.Settled},
		"cancelled is no attempt":     {repeat(30, cancelled), trial.Open},
		"hosts are no attempt":        {repeat(9, away), trial.Open},
		"hosts hold its block up":     {repeat(10, away), trial.Late},
		"hosts, and still":            {repeat(20, away), trial.Settled},
		"each counted for itself":     {slices.Concat(repeat(2, invalid), repeat(9, away), repeat(5, cancelled)), trial.Open},
		"a result after all":          {append(repeat(12, away), trial.Outcome{Verdict: trial.Valid}), trial.Settled},
	} {
		assert.Equal(t, test.want, trial.Settle(test.outcomes, 3), name)
	}
	assert.Equal(t, trial.Settled, trial.Settle(repeat(1, invalid), 0), "at least one attempt")
}
