package workflows_test

import (
	"cmp"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"heliotrope/internal/cause"
	"heliotrope/internal/hooks"
	"heliotrope/internal/trial"
	"heliotrope/workflows"
)

// kinds are the events that hooks were told of, in order.
func (s *stage) kinds() []hooks.Kind {
	var kinds []hooks.Kind
	for _, event := range s.told {
		kinds = append(kinds, event.Kind)
	}
	return kinds
}

// TestLaneTells: hooks are told of a failed attempt and of a quarantine, but not of a valid
// attempt.
func TestLaneTells(t *testing.T) {
	s := newLane(t, remember(4, 1))
	s.play = func(input workflows.TrialInput) (trial.Verdict, error) {
		switch input.Trial.Sequence {
		case 2:
			return trial.TargetFailed, nil
		case 3:
			if input.Attempt == 1 {
				return trial.Invalid, nil
			}
		}
		return trial.Valid, nil
	}
	require.NoError(t, s.run(t, laneInput()))
	require.Equal(t, []hooks.Kind{hooks.TrialFailed, hooks.TrialFailed}, s.kinds())
	// Hooks are told in the background, so two events may come in any order.
	slices.SortFunc(s.told, func(a, b hooks.Event) int { return cmp.Compare(a.Trial, b.Trial) })
	require.False(t, s.told[0].When.IsZero())
	s.told[0].When, s.told[1].When = time.Time{}, time.Time{}
	want := hooks.Event{Kind: hooks.TrialFailed, Campaign: "test", Lane: "lab-1", Trial: "00002", Attempt: 1, Cell: "cell", State: "target-failed"}
	require.Equal(t, want, s.told[0])
	want.Trial, want.State, want.Cause, want.Reason = "00003", "invalid", string(cause.Infrastructure), "no route to host-b"
	require.Equal(t, want, s.told[1])
}

func TestLaneTellsOfItsQuarantine(t *testing.T) {
	s := newLane(t, remember(3, 1))
	attempts := 0
	s.play = func(workflows.TrialInput) (trial.Verdict, error) {
		if attempts++; attempts <= 6 {
			return trial.Invalid, nil
		}
		return trial.Valid, nil
	}
	require.NoError(t, s.run(t, laneInput()))
	require.Equal(t, 1, count(s.kinds(), hooks.LaneQuarantined))
	for _, event := range s.told {
		if event.Kind == hooks.LaneQuarantined {
			require.Equal(t, "lab-1", event.Lane)
			require.Contains(t, event.Reason, "6 attempts in a row were not measured")
		}
	}
}

func count(kinds []hooks.Kind, kind hooks.Kind) (number int) {
	for _, other := range kinds {
		if other == kind {
			number++
		}
	}
	return number
}

// TestCampaignTellsOfItsEnd: hooks are told of any end, including a cancellation and a
// failure; when that is not possible, the campaign ends nevertheless.
func TestCampaignTellsOfItsEnd(t *testing.T) {
	s := newCampaign(t, remember(3, 1))
	s.campaign(t, campaignInput(1))
	require.Equal(t, []hooks.Kind{hooks.CampaignEnded}, s.kinds())
	event := s.told[0]
	require.Equal(t, "finished", event.State)
	require.Equal(t, map[string]int{"valid": 3}, event.Trials)
	require.Empty(t, event.Reason)

	s = newCampaign(t, remember(3, 1))
	s.hold = time.Hour
	s.env.RegisterDelayedCallback(s.env.CancelWorkflow, time.Minute)
	s.env.ExecuteWorkflow(workflows.CampaignName, campaignInput(1))
	require.Equal(t, hooks.CampaignEnded, s.told[len(s.told)-1].Kind)
	require.Equal(t, "cancelled", s.told[len(s.told)-1].State)

	s = newCampaign(t, remember(3, 1))
	s.fail["Tell"] = []error{errors.New("no controller"), errors.New("no controller")}
	s.campaign(t, campaignInput(1))
	require.Equal(t, 2, s.count("Tell"))
}
