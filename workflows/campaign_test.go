package workflows_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"heliotrope/activities"
	"heliotrope/internal/fault"
	"heliotrope/internal/inventory"
	"heliotrope/internal/trial"
	"heliotrope/workflows"
)

const anything = mock.Anything

// newCampaign is a stage for a campaign with its lanes.
func newCampaign(t *testing.T, m *memory) *laneStage {
	t.Helper()
	return newCampaignOf(t, m, workflows.RunLane)
}

func newCampaignOf(t *testing.T, m *memory, ofLane any) *laneStage {
	t.Helper()
	s := newLaneOf(t, m, ofLane)
	s.env.SetStartWorkflowOptions(client.StartWorkflowOptions{ID: workflows.CampaignID("test")})
	stub(s.stage, "Expand", func(activities.PlanInput) (activities.Planned, error) {
		return activities.Planned{Dataset: "folder", SHA256: "plan", Began: s.env.Now(), Counts: activities.Counts{Total: len(m.trials)}}, nil
	})
	stub(s.stage, "Summarise", func(activities.SummariseInput) (activities.Summarised, error) {
		return activities.Summarised{Path: "/data/summary.md", Controls: []string{"pause: too short"}}, nil
	})
	stub(s.stage, "Remove", func(activities.Target) (struct{}, error) { return struct{}{}, nil })
	return s
}

func campaignInput(lanes int) workflows.CampaignInput {
	input := workflows.CampaignInput{Name: "test", DataDir: "/data"}
	for n := range lanes {
		input.Lanes = append(input.Lanes, workflows.Lane{Name: fmt.Sprintf("lab-%d", n+1), Kind: inventory.Hardware})
	}
	return input
}

// campaign runs a campaign, and returns how it ended.
func (s *laneStage) campaign(t *testing.T, input workflows.CampaignInput) workflows.CampaignResult {
	t.Helper()
	s.env.ExecuteWorkflow(workflows.CampaignName, input)
	var result workflows.CampaignResult
	require.NoError(t, s.env.GetWorkflowResult(&result))
	return result
}

func (s *laneStage) status(t *testing.T) workflows.CampaignStatus {
	t.Helper()
	var status workflows.CampaignStatus
	value, err := s.env.QueryWorkflow(workflows.StatusQuery)
	require.NoError(t, err)
	require.NoError(t, value.Get(&status))
	return status
}

// states are the states of the lanes.
func states(status workflows.CampaignStatus) []string {
	var all []string
	for _, lane := range status.Lanes {
		all = append(all, lane.State)
	}
	return all
}

// TestBlocksAreComplete: every trial is run once, and each block on one lane.
func TestBlocksAreComplete(t *testing.T) {
	m := remember(24, 6)
	s := newCampaign(t, m)
	result := s.campaign(t, campaignInput(3))
	require.Equal(t, 24, result.Progress.Total)
	require.Equal(t, map[trial.Verdict]int{trial.Valid: 24}, result.Progress.Verdicts)
	require.Equal(t, "/data/summary.md", result.Summary)
	ran := map[int]string{}
	for lane, blocks := range m.ran {
		require.NotEmpty(t, blocks)
		for _, block := range blocks {
			require.Contains(t, []string{"", lane}, ran[block], "block %d", block)
			ran[block] = lane
		}
	}
	for sequence, tries := range m.tried {
		require.Equal(t, 1, tries, "trial %d", sequence)
	}
	status := s.status(t)
	require.Equal(t, "finished", status.State)
	require.Equal(t, []string{"pause: too short"}, status.Controls)
	require.Empty(t, status.Running)
}

// TestDeadLaneStopsNobody: a testbed on which nothing can be measured is in quarantine, and
// the other lanes finish everything, including its block; then it is told to end.
func TestDeadLaneStopsNobody(t *testing.T) {
	m := remember(24, 6)
	s := newCampaign(t, m)
	stub(s.stage, "Ready", func(activities.ReadyInput) (struct{}, error) {
		return struct{}{}, errors.New("host-b: no route to host")
	})
	s.play = func(input workflows.TrialInput) (trial.Verdict, error) {
		if input.Lane.Name == "lab-1" {
			return "", errors.New("host-b died")
		}
		return trial.Valid, nil
	}
	began := s.env.Now()
	result := s.campaign(t, campaignInput(3))
	require.Equal(t, 24, result.Progress.Verdicts[trial.Valid])
	require.Empty(t, m.ran["lab-1"])
	require.Equal(t, []string{workflows.LaneDrained, workflows.LaneEnded, workflows.LaneEnded}, states(s.status(t)))
	require.Less(t, s.env.Now().Sub(began), 10*time.Minute)
}

// TestWaitsForATestbed: with all testbeds in quarantine a campaign waits until one is fit.
func TestWaitsForATestbed(t *testing.T) {
	m := remember(4, 2)
	s := newCampaign(t, m)
	var repaired atomic.Bool
	s.env.RegisterDelayedCallback(func() { repaired.Store(true) }, 24*time.Hour)
	stub(s.stage, "Ready", func(activities.ReadyInput) (struct{}, error) {
		if !repaired.Load() {
			return struct{}{}, errors.New("host-b: no route to host")
		}
		return struct{}{}, nil
	})
	s.play = func(workflows.TrialInput) (trial.Verdict, error) {
		if !repaired.Load() {
			return "", errors.New("host-b died")
		}
		return trial.Valid, nil
	}
	s.env.RegisterDelayedCallback(func() {
		require.Equal(t, []string{workflows.LaneQuarantined, workflows.LaneQuarantined}, states(s.status(t)))
	}, 12*time.Hour)
	result := s.campaign(t, campaignInput(2))
	require.Equal(t, 4, result.Progress.Verdicts[trial.Valid])
}

// TestFailedLane: trials that no lane can run fail the campaign, which still has its
// summary.
func TestFailedLane(t *testing.T) {
	m := remember(2, 2)
	s := newCampaign(t, m)
	s.fail["Claim"] = []error{fault.New(fault.BadInput, "no such plan"), fault.New(fault.BadInput, "no such plan")}
	s.env.ExecuteWorkflow(workflows.CampaignName, campaignInput(2))
	require.ErrorContains(t, s.env.GetWorkflowError(), "no such plan")
	require.Equal(t, 1, s.count("Summarise"))

	s = newCampaign(t, m) // one lane suffices
	s.fail["Claim"] = []error{fault.New(fault.BadInput, "no such testbed")}
	require.Equal(t, 2, s.campaign(t, campaignInput(2)).Progress.Verdicts[trial.Valid])
}

// TestCancelledCampaign: it shows that it is being cancelled, waits for its trials, and is
// summarised.
func TestCancelledCampaign(t *testing.T) {
	s := newCampaign(t, remember(6, 3))
	s.play = func(input workflows.TrialInput) (trial.Verdict, error) {
		if input.Trial.Sequence == 2 {
			s.hold = 24 * time.Hour
		}
		return trial.Valid, nil
	}
	s.env.RegisterDelayedCallback(s.env.CancelWorkflow, time.Hour)
	s.env.SetOnChildWorkflowCanceledListener(func(info *workflow.Info) {
		if info.WorkflowType.Name == workflows.LaneName {
			require.Equal(t, "cancelling", s.status(t).State)
		}
	})
	input := campaignInput(1)
	input.Lanes[0].Machines = machines(true)
	s.env.ExecuteWorkflow(workflows.CampaignName, input)
	require.True(t, temporal.IsCanceledError(s.env.GetWorkflowError()))
	require.Equal(t, 1, s.count("Summarise"))
	require.Equal(t, 1, s.count("Remove"))
	status := s.status(t)
	require.Equal(t, "cancelled", status.State)
	require.Equal(t, []string{workflows.LaneCancelled}, states(status))
	require.Equal(t, 2, status.Progress.Done())
}

// TestCancellationIsNoted: who cancels a campaign and why is in its dataset, even when the
// campaign has continued as new since that was sent. When it cannot be written, the
// campaign is cancelled nevertheless.
func TestCancellationIsNoted(t *testing.T) {
	why := activities.Steering{By: "eva@ws1", Why: "the disk is bad"}
	for _, full := range []bool{false, true} {
		s := newSteered(t, remember(8, 4))
		s.lasting(time.Hour)
		if full {
			s.fail["Amend"] = []error{errors.New("no space left on device")}
		}
		s.env.RegisterDelayedCallback(func() {
			s.env.SignalWorkflow(workflows.CancelSignal, why)
			s.env.CancelWorkflow()
		}, 90*time.Minute)
		s.env.ExecuteWorkflow(workflows.CampaignName, campaignInput(2))
		require.True(t, temporal.IsCanceledError(s.env.GetWorkflowError()))
		require.Equal(t, 1, s.count("Amend"))
		if !full {
			require.Len(t, s.noted, 1)
			require.Equal(t, "cancel", s.noted[0].Update)
			require.Equal(t, why, s.noted[0].Steering)
		}
	}
	s := newTold(t)
	s.env.RegisterDelayedCallback(func() {
		s.env.SetCurrentHistoryLength(61)
		s.env.SignalWorkflow(workflows.CancelSignal, why)
	}, time.Minute)
	input := campaignInput(2)
	input.MaxEvents = 60
	s.env.ExecuteWorkflow(workflows.CampaignName, input)
	var again *workflow.ContinueAsNewError
	require.ErrorAs(t, s.env.GetWorkflowError(), &again)
	var next workflows.CampaignInput
	require.NoError(t, converter.GetDefaultDataConverter().FromPayloads(again.Input, &next))
	require.Equal(t, &why, next.State.Canceller)
}

// TestNothingIsLeftAtTheEnd: when a campaign ends, everything of it is removed from all its
// testbeds, whatever they are and whether they ran anything. A testbed that is away does
// not keep a campaign from ending.
func TestNothingIsLeftAtTheEnd(t *testing.T) {
	s := newCampaign(t, remember(1, 1))
	var mu sync.Mutex
	swept := map[string]int{}
	stub(s.stage, "Remove", func(target activities.Target) (struct{}, error) {
		mu.Lock()
		defer mu.Unlock()
		swept[target.Lane.Name]++
		if target.Lane.Name == "lab-2" {
			return struct{}{}, errors.New("host-b: no route to host")
		}
		return struct{}{}, nil
	})
	input := campaignInput(3)
	input.Lanes[2].Kind = inventory.Simulated
	began := s.env.Now()
	s.campaign(t, input)
	require.Equal(t, map[string]int{"lab-1": 1, "lab-2": 3, "lab-3": 1}, swept)
	require.Less(t, s.env.Now().Sub(began), 10*time.Minute)
}

// TestCancelledWhileSummarising: it ends as cancelled, or with everything that it wrote.
func TestCancelledWhileSummarising(t *testing.T) {
	s := newCampaign(t, remember(2, 1))
	s.env.SetOnActivityStartedListener(func(info *activity.Info, _ context.Context, _ converter.EncodedValues) {
		if info.ActivityType.Name == "Summarise" {
			s.env.CancelWorkflow()
		}
	})
	require.Equal(t, "/data/summary.md", s.campaign(t, campaignInput(1)).Summary)
}

// told plays lanes only through their reports.
type told struct {
	*laneStage
	started []workflows.LaneInput
}

func newTold(t *testing.T) *told {
	t.Helper()
	s := &told{}
	s.laneStage = newCampaignOf(t, remember(10, 10), func(ctx workflow.Context, input workflows.LaneInput) error {
		s.started = append(s.started, input)
		end := workflow.GetSignalChannel(ctx, "end")
		_, err := workflow.AwaitWithTimeout(ctx, 1000*time.Hour, func() bool { return end.Len() > 0 })
		return err
	})
	return s
}

func (s *told) tell(lane, state string, valid int) {
	s.env.SignalWorkflow(workflows.ReportSignal, workflows.LaneReport{Lane: lane, Execution: s.started[0].Execution, State: state,
		Found: activities.Counts{Total: 10, Verdicts: map[trial.Verdict]int{trial.Valid: valid}}})
}

// TestCampaignContinuesAsNew: reports and orders of lanes are carried over, and no lane is
// started again.
func TestCampaignContinuesAsNew(t *testing.T) {
	s := newTold(t)
	s.env.RegisterDelayedCallback(func() {
		s.tell("lab-1", workflows.LaneRunning, 1)
		s.tell("lab-2", workflows.LanePaused, 1)
	}, time.Minute)
	s.env.RegisterDelayedCallback(func() {
		s.env.SetCurrentHistoryLength(61)
		s.tell("lab-1", workflows.LaneRunning, 4)
		s.tell("lab-1", workflows.LaneRunning, 3) // of a lane that looked before
	}, 2*time.Minute)
	input := campaignInput(2)
	input.MaxEvents, input.SpecYAML = 60, "version: 1"
	s.env.ExecuteWorkflow(workflows.CampaignName, input)
	var again *workflow.ContinueAsNewError
	require.ErrorAs(t, s.env.GetWorkflowError(), &again)
	var next workflows.CampaignInput
	require.NoError(t, converter.GetDefaultDataConverter().FromPayloads(again.Input, &next))
	require.Equal(t, 4, next.State.Progress.Done())
	require.Equal(t, workflows.LanePaused, next.State.Lanes["lab-2"].State)
	require.Equal(t, time.Minute, next.State.Heard["lab-1"].Sub(next.State.Heard["lab-2"]))
	require.Empty(t, next.SpecYAML)
	require.Equal(t, "folder", next.State.Progress.Dataset)

	second := newTold(t)
	second.started = s.started
	second.env.RegisterDelayedCallback(func() {
		for n := range 2 {
			second.env.SignalWorkflow(workflows.ReportSignal, workflows.LaneReport{Lane: fmt.Sprintf("lab-%d", n+1), Execution: s.started[0].Execution,
				State: workflows.LaneEnded})
		}
		second.memory.mu.Lock()
		defer second.memory.mu.Unlock()
		for n := range 10 {
			second.memory.done[n+1] = true
		}
	}, time.Minute)
	result := second.campaign(t, next)
	require.Len(t, second.started, 2, "both in the first run")
	require.Equal(t, 10, result.Progress.Done())
}

// TestSilentLane: a lane that has been silent for long is asked, and when it is not there,
// it is started again with the trial that it last reported.
func TestSilentLane(t *testing.T) {
	s := newTold(t)
	input := campaignInput(1)
	input.State = workflows.CampaignState{Progress: workflows.Progress{Dataset: "folder", Total: 10},
		Orders: map[string]workflows.Orders{"lab-1": {Version: 3}},
		Lanes: map[string]workflows.LaneReport{"lab-1": {Lane: "lab-1", State: workflows.LaneRunning, Orders: 3,
			Trial: &workflows.RunningTrial{WorkflowID: "trial/test/00004"}}}}
	s.env.OnSignalExternalWorkflow(anything, workflows.LaneID("test", "lab-1"), "", workflows.OrdersSignal, anything).Return(
		func(string, string, string, string, any) error { return unknown() })
	s.env.RegisterDelayedCallback(func() {
		require.Len(t, s.started, 1)
		require.Equal(t, "trial/test/00004", s.started[0].State.Report.Trial.WorkflowID)
		require.Equal(t, 3, s.started[0].Orders.Version)
		s.env.CancelWorkflow()
	}, 11*time.Minute)
	s.env.ExecuteWorkflow(workflows.CampaignName, input)
	require.True(t, temporal.IsCanceledError(s.env.GetWorkflowError()))
}

// TestSilentInShortRuns: a campaign with many lanes continues as new before any lane has been
// silent for long in one run. The silence in the runs before counts.
func TestSilentInShortRuns(t *testing.T) {
	s := newTold(t)
	input := campaignInput(1)
	input.State = workflows.CampaignState{Progress: workflows.Progress{Dataset: "folder", Total: 10},
		Orders: map[string]workflows.Orders{"lab-1": {}}, Heard: map[string]time.Time{"lab-1": s.env.Now().Add(-9 * time.Minute)},
		Lanes: map[string]workflows.LaneReport{"lab-1": {Lane: "lab-1", State: workflows.LaneRunning}}}
	s.env.OnSignalExternalWorkflow(anything, workflows.LaneID("test", "lab-1"), "", workflows.OrdersSignal, anything).Return(
		func(string, string, string, string, any) error { return unknown() })
	s.env.RegisterDelayedCallback(func() {
		require.Len(t, s.started, 1)
		s.env.CancelWorkflow()
	}, 2*time.Minute)
	s.env.ExecuteWorkflow(workflows.CampaignName, input)
	require.True(t, temporal.IsCanceledError(s.env.GetWorkflowError()))
}

// TestGivenBack: lanes that had nothing left to do are started again when another one gives
// its block back.
func TestGivenBack(t *testing.T) {
	s := newTold(t)
	over := func(lane, state string) {
		report := workflows.LaneReport{Lane: lane, Execution: s.started[0].Execution, State: state}
		s.env.SignalWorkflow(workflows.ReportSignal, report)
		require.NoError(t, s.env.SignalWorkflowByID(workflows.LaneID("test", lane), "end", nil))
	}
	s.env.RegisterDelayedCallback(func() { over("lab-1", workflows.LaneEnded) }, time.Minute)
	s.env.RegisterDelayedCallback(func() {
		require.Len(t, s.started, 2)
		over("lab-2", workflows.LaneFailed)
	}, 2*time.Minute)
	s.env.RegisterDelayedCallback(func() {
		require.Len(t, s.started, 3)
		require.Equal(t, "lab-1", s.started[2].Lane.Name)
		s.env.CancelWorkflow()
	}, 3*time.Minute)
	s.env.ExecuteWorkflow(workflows.CampaignName, campaignInput(2))
	require.True(t, temporal.IsCanceledError(s.env.GetWorkflowError()))
}

// TestForeignReports: reports from a lane of an earlier campaign with the same name are
// ignored.
func TestForeignReports(t *testing.T) {
	s := newTold(t)
	s.env.RegisterDelayedCallback(func() {
		s.env.SignalWorkflow(workflows.ReportSignal, workflows.LaneReport{Lane: "lab-1", Execution: "another", State: workflows.LaneEnded,
			Found: activities.Counts{Total: 99}})
		s.env.SignalWorkflow(workflows.ReportSignal, workflows.LaneReport{Lane: "lab-9", Execution: s.started[0].Execution, State: workflows.LaneEnded})
	}, time.Minute)
	s.env.RegisterDelayedCallback(func() {
		status := s.status(t)
		require.Equal(t, []string{workflows.LaneRunning}, states(status))
		require.Equal(t, 10, status.Progress.Total)
		s.env.CancelWorkflow()
	}, 2*time.Minute)
	s.env.ExecuteWorkflow(workflows.CampaignName, campaignInput(1))
	require.True(t, temporal.IsCanceledError(s.env.GetWorkflowError()))
}

// TestImpossibleCampaign: without lanes, or with an impossible plan, there is nothing to
// summarise.
func TestImpossibleCampaign(t *testing.T) {
	s := newCampaign(t, remember(1, 1))
	s.env.ExecuteWorkflow(workflows.CampaignName, campaignInput(0))
	require.ErrorContains(t, s.env.GetWorkflowError(), "no lane")
	s = newCampaign(t, remember(1, 1))
	s.fail["Expand"] = []error{fault.New(fault.BadInput, "the folder is another campaign's")}
	s.env.ExecuteWorkflow(workflows.CampaignName, campaignInput(1))
	require.ErrorContains(t, s.env.GetWorkflowError(), "another campaign's")
	require.Empty(t, slices.DeleteFunc(s.called(), func(name string) bool { return name == "Expand" || name == "Tell" }))
}
