package workflows

import (
	"testing"

	"github.com/stretchr/testify/require"

	"heliotrope/internal/cause"
	"heliotrope/internal/trial"
)

// TestCausesAreShown: what a trial is counted by is what the Web UI says.
func TestCausesAreShown(t *testing.T) {
	require.Equal(t, "\nVerdict: **target-failed** (`guest-hung`) nothing was heard of it\n",
		verdictText(TrialResult{Verdict: trial.TargetFailed, Cause: cause.GuestHung, Reason: "nothing was heard of it"}))
	require.Equal(t, "\nVerdict: **valid** \n", verdictText(TrialResult{Verdict: trial.Valid}))
	require.Equal(t, "\n```\ncause        trials\nguest-hung   1\nno-recovery  12\n```\n",
		Progress{Causes: map[cause.Code]int{cause.NoRecovery: 12, cause.GuestHung: 1}}.causesTable())
	require.Empty(t, Progress{}.causesTable())
}
