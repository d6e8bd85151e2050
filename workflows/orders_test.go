package workflows_test

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"heliotrope/activities"
	"heliotrope/internal/trial"
	"heliotrope/workflows"
)

// TestReleasedWhileLookedAt: a release that is forced while the lane looks at its testbed
// takes effect, even when the look fails.
func TestReleasedWhileLookedAt(t *testing.T) {
	s := newLane(t, remember(6, 2))
	ran := 0
	s.play = func(workflows.TrialInput) (trial.Verdict, error) {
		if ran++; ran <= 6 {
			return trial.Invalid, nil
		}
		return trial.Valid, nil
	}
	s.env.OnActivity("Ready", anything, anything).After(20*time.Second).Return(struct{}{}, errors.New("host-b: no route to host"))
	s.env.RegisterDelayedCallback(func() {
		s.env.SignalWorkflow(workflows.OrdersSignal, workflows.Orders{Version: 1, Released: 1, Force: true})
	}, 70*time.Second)
	require.NoError(t, s.run(t, laneInput()))
}

// TestOrderWhileTelling: an order that comes while the lane reports that it is paused is
// obeyed.
func TestOrderWhileTelling(t *testing.T) {
	m := remember(3, 1)
	s := &laneStage{memory: m, play: func(workflows.TrialInput) (trial.Verdict, error) { return trial.Valid, nil }}
	s.stage = newStageOf(t, workflows.RunLane, s.attempt)
	stub(s.stage, "Claim", m.claim)
	s.env.OnSignalExternalWorkflow(anything, workflows.CampaignID("test"), "", workflows.ReportSignal, anything).Return(
		func(_, _, _, _ string, report any) error {
			if report.(workflows.LaneReport).State == workflows.LanePaused {
				s.env.SignalWorkflow(workflows.OrdersSignal, workflows.Orders{Version: 2})
			}
			return nil
		})
	s.env.RegisterDelayedCallback(func() { s.env.CancelWorkflow() }, time.Hour)
	input := laneInput()
	input.Orders = workflows.Orders{Version: 1, Pause: activities.PauseAfterTrial}
	require.NoError(t, s.run(t, input))
	require.Len(t, m.done, 3)
}

// TestCancelledBeforeContinuingAsNew: when a cancellation comes while a lane waits for its
// hooks before it continues as new, the lane ends: the next run would not know of it.
func TestCancelledBeforeContinuingAsNew(t *testing.T) {
	s := newLane(t, remember(5, 1))
	s.env.OnActivity("Tell", anything, anything).After(30*time.Second).Return(struct{}{}, nil)
	s.play = func(workflows.TrialInput) (trial.Verdict, error) {
		s.env.SetCurrentHistoryLength(61)
		return trial.TargetFailed, nil
	}
	s.env.RegisterDelayedCallback(func() { s.env.CancelWorkflow() }, 10*time.Second)
	input := laneInput()
	input.MaxEvents = 60
	err := s.run(t, input)
	require.True(t, temporal.IsCanceledError(err), "%v", err)
}

// TestIdleCampaignContinuesAsNew: the history of a campaign whose lanes report nothing for
// days does not grow without end.
func TestIdleCampaignContinuesAsNew(t *testing.T) {
	s := newTold(t)
	s.env.RegisterDelayedCallback(func() {
		s.tell("lab-1", workflows.LanePaused, 1)
		s.tell("lab-2", workflows.LanePaused, 1)
	}, time.Minute)
	s.env.RegisterDelayedCallback(func() { s.env.SetCurrentHistoryLength(61) }, 2*time.Minute)
	s.env.RegisterDelayedCallback(func() { s.env.CancelWorkflow() }, 24*time.Hour)
	input := campaignInput(2)
	input.MaxEvents = 60
	s.env.ExecuteWorkflow(workflows.CampaignName, input)
	var again *workflow.ContinueAsNewError
	require.ErrorAs(t, s.env.GetWorkflowError(), &again)
}

// lost runs a campaign whose only lane has died after its last report.
func lost(t *testing.T, report workflows.LaneReport, orders workflows.Orders) *told {
	s := newTold(t)
	input := campaignInput(1)
	report.Lane = "lab-1"
	input.State = workflows.CampaignState{Progress: workflows.Progress{Dataset: "folder", Total: 10},
		Orders: map[string]workflows.Orders{"lab-1": orders}, Lanes: map[string]workflows.LaneReport{"lab-1": report}}
	s.env.OnSignalExternalWorkflow(anything, workflows.LaneID("test", "lab-1"), "", workflows.OrdersSignal, anything).Return(
		func(string, string, string, string, any) error { return unknown() })
	s.env.RegisterDelayedCallback(func() { s.env.CancelWorkflow() }, time.Hour)
	s.env.ExecuteWorkflow(workflows.CampaignName, input)
	return s
}

// TestPausedLaneLost: a lane that dies while it is paused does not end its campaign, which
// has trials left.
func TestPausedLaneLost(t *testing.T) {
	s := lost(t, workflows.LaneReport{State: workflows.LanePaused, Orders: 3}, workflows.Orders{Version: 3, Pause: activities.PauseAfterTrial})
	require.Empty(t, s.memory.done)
	require.Error(t, s.env.GetWorkflowError(), "the campaign is finished, with ten trials left")
}

// TestReleaseOfALostLane: when a lane dies before it obeys a release, the lane that takes
// its place obeys it.
func TestReleaseOfALostLane(t *testing.T) {
	s := lost(t, workflows.LaneReport{State: workflows.LaneQuarantined, Orders: 3, Quarantine: &workflows.Quarantine{By: "eva", Reason: "x"}},
		workflows.Orders{Version: 4, Released: 1})
	require.Len(t, s.started, 1)
	state := s.started[0].State
	require.False(t, state.Report.Quarantine != nil && state.Report.Released == 1, "quarantined by %s, and the release counts as carried out", state.Report.Quarantine.By)
}

// TestDrainWhileTheDatasetIsAway: a block that a drained lane could not give back is given
// to the other lanes by the campaign.
func TestDrainWhileTheDatasetIsAway(t *testing.T) {
	m := remember(8, 4)
	s := newSteered(t, m)
	s.lasting(time.Hour)
	away := true
	stub(s.stage, "Claim", func(input activities.ClaimInput) (activities.Claimed, error) {
		if input.GiveBack && away {
			away = false
			return activities.Claimed{}, errors.New("/data is not mounted")
		}
		return m.claim(input)
	})
	s.update(30*time.Minute, "drain", activities.Steering{Lane: "lab-1"})
	s.campaign(t, campaignInput(2))
	require.Len(t, m.done, 8)
}

// TestCancelledBesideATrial: a cancelled lane ends only when the trial that an earlier run
// left has ended, because after a cancellation everything is removed from the testbed.
func TestCancelledBesideATrial(t *testing.T) {
	s := newLane(t, remember(3, 1))
	left := workflows.TrialID("test", 1)
	s.env.OnRequestCancelExternalWorkflow(anything, left, "").Return(func(string, string, string) error { return nil })
	s.env.OnSignalExternalWorkflow(anything, left, "", anything, anything).Return(func(string, string, string, string, any) error {
		if s.alive[left] {
			return nil
		}
		return unknown()
	})
	s.alive[left] = true
	s.env.RegisterDelayedCallback(s.env.CancelWorkflow, time.Minute)
	s.env.RegisterDelayedCallback(func() {
		require.NotContains(t, s.states(), workflows.LaneCancelled)
		s.alive[left] = false
	}, time.Hour)
	input := laneInput()
	input.State.Report.Trial = &workflows.RunningTrial{WorkflowID: left}
	require.True(t, temporal.IsCanceledError(s.run(t, input)))
	require.Equal(t, []string{workflows.LaneWaiting, workflows.LaneCancelled}, s.states())
}
