package workflows

import (
	"testing"

	"github.com/stretchr/testify/require"

	"heliotrope/activities"
	"heliotrope/internal/cause"
	"heliotrope/internal/trial"
)

// TestCausesAreShown: the Web UI shows the code by which a trial is counted.
func TestCausesAreShown(t *testing.T) {
	require.Equal(t, "\nVerdict: **target-failed** (`guest-hung`) nothing was heard of it\n",
		verdictText(TrialResult{Verdict: trial.TargetFailed, Cause: cause.GuestHung, Reason: "nothing was heard of it"}))
	require.Equal(t, "\nVerdict: **valid** \n", verdictText(TrialResult{Verdict: trial.Valid}))
	require.Equal(t, "\n```\ncause        trials\nguest-hung   1\nno-recovery  12\n```\n",
		Progress{Causes: map[cause.Code]int{cause.NoRecovery: 12, cause.GuestHung: 1}}.causesTable())
	require.Empty(t, Progress{}.causesTable())
	require.Empty(t, mediansTable(nil))
	require.Equal(t, "\nMedians, when the last summary was written:\n\n```\n"+
		"cell    results  blackout (ms)  longest response (ms)  recovery (ms)\na-cell  3        111            ∞                      –\n```\n",
		mediansTable([]activities.Median{{Cell: "a-cell", Results: 3, Blackout: "111", MaxResponse: "∞", Recovery: "–"}}))
}
