package workflows_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/mock"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"heliotrope/activities"
	"heliotrope/internal/campaign"
	"heliotrope/internal/cause"
	"heliotrope/internal/inventory"
	"heliotrope/internal/trial"
	"heliotrope/workflows"
)

const anything = mock.Anything

// newCampaign is a stage whose plan has some trials and whose child workflows
// end as play says.
func newCampaign(t *testing.T, trials int, play func(input workflows.TrialInput) (workflows.TrialResult, error)) *stage {
	t.Helper()
	s := newStage(t)
	stub(s, "Expand", func(input activities.PlanInput) (activities.Planned, error) {
		planned := activities.Planned{SHA256: "plan"}
		if input.SHA256 == "" {
			planned.Trials = trials
		}
		return planned, nil
	})
	stub(s, "Trials", func(input activities.TrialsInput) ([]campaign.Trial, error) {
		if input.SHA256 != "plan" {
			return nil, fmt.Errorf("plan %q", input.SHA256)
		}
		var piece []campaign.Trial
		for n := input.First; n <= trials && len(piece) < input.Count; n++ {
			piece = append(piece, campaign.Trial{Sequence: n, CellID: "cell"})
		}
		return piece, nil
	})
	stub(s, "Summarise", func(activities.SummariseInput) (activities.Summarised, error) {
		return activities.Summarised{Path: "/data/summary.md", Controls: []string{"pause: too short"}}, nil
	})
	stub(s, "Remove", func(activities.Target) (struct{}, error) { return struct{}{}, nil })
	var one sync.Mutex // the lanes' trials run side by side
	s.env.OnWorkflow(workflows.TrialName, anything, anything).Return(
		func(_ workflow.Context, input workflows.TrialInput) (workflows.TrialResult, error) {
			one.Lock()
			defer one.Unlock()
			return play(input)
		})
	return s
}

func campaignInput(lanes int) workflows.CampaignInput {
	input := workflows.CampaignInput{Name: "test", DataDir: "/data", TrialsPerRun: 10}
	for n := range lanes {
		input.Lanes = append(input.Lanes, workflows.Lane{Name: fmt.Sprintf("sim-%d", n+1), Kind: inventory.Simulated})
	}
	return input
}

func TestCampaignCountsEveryVerdict(t *testing.T) {
	seen := map[int]int{}
	s := newCampaign(t, 8, func(input workflows.TrialInput) (workflows.TrialResult, error) {
		seen[input.Trial.Sequence]++
		verdict, code := trial.Valid, cause.Code("")
		if input.Trial.Sequence == 3 {
			verdict, code = trial.TargetFailed, cause.GuestHung
		}
		return workflows.TrialResult{Verdict: verdict, Cause: code, Attempts: 2, Seconds: 60}, nil
	})
	s.env.ExecuteWorkflow(workflows.CampaignName, campaignInput(3))
	var result workflows.CampaignResult
	if err := s.env.GetWorkflowResult(&result); err != nil {
		t.Fatal(err)
	}
	p := result.Progress
	if p.Total != 8 || p.Done() != 8 || p.Verdicts[trial.Valid] != 7 || p.Verdicts[trial.TargetFailed] != 1 || p.Retried != 8 || len(p.Causes) != 1 || p.Causes[cause.GuestHung] != 1 || p.TrialSeconds != 480 {
		t.Errorf("%+v", p)
	}
	for n := 1; n <= 8; n++ {
		if seen[n] != 1 {
			t.Errorf("trial %d ran %d times", n, seen[n])
		}
	}
	if result.Summary != "/data/summary.md" {
		t.Errorf("summary %q", result.Summary)
	}
	var status workflows.CampaignStatus
	value, err := s.env.QueryWorkflow(workflows.StatusQuery)
	if err != nil || value.Get(&status) != nil || !slices.Equal(status.Controls, []string{"pause: too short"}) {
		t.Errorf("controls %q, %v", status.Controls, err)
	}
}

func TestCampaignContinuesAsNew(t *testing.T) {
	input := campaignInput(2)
	ran := 0
	for run := 1; ; run++ {
		s := newCampaign(t, 25, func(workflows.TrialInput) (workflows.TrialResult, error) {
			ran++
			return workflows.TrialResult{Verdict: trial.Valid, Attempts: 1}, nil
		})
		s.env.ExecuteWorkflow(workflows.CampaignName, input)
		err := s.env.GetWorkflowError()
		var again *workflow.ContinueAsNewError
		if !errors.As(err, &again) {
			if err != nil || run != 3 || ran != 25 {
				t.Errorf("run %d after %d trials: %v, want an end in run 3 after 25", run, ran, err)
			}
			return
		}
		if err := converter.GetDefaultDataConverter().FromPayloads(again.Input, &input); err != nil {
			t.Fatal(err)
		}
		if input.State.Next != run*10+1 || input.State.Done() != run*10 {
			t.Fatalf("run %d carries %+v", run, input.State)
		}
	}
}

// TestTrialWithoutVerdict: one trial that somebody terminates is counted as
// invalid; three in a row end the campaign.
func TestTrialWithoutVerdict(t *testing.T) {
	broken := errors.New("terminated")
	s := newCampaign(t, 6, func(input workflows.TrialInput) (workflows.TrialResult, error) {
		if input.Trial.Sequence == 2 {
			return workflows.TrialResult{}, broken
		}
		return workflows.TrialResult{Verdict: trial.Valid, Attempts: 1}, nil
	})
	s.env.ExecuteWorkflow(workflows.CampaignName, campaignInput(1))
	var result workflows.CampaignResult
	if err := s.env.GetWorkflowResult(&result); err != nil || result.Progress.Verdicts[trial.Invalid] != 1 || result.Progress.Done() != 6 {
		t.Errorf("%+v, %v", result.Progress, err)
	}
	ran := 0
	s = newCampaign(t, 6, func(workflows.TrialInput) (workflows.TrialResult, error) {
		ran++
		return workflows.TrialResult{}, broken
	})
	s.env.ExecuteWorkflow(workflows.CampaignName, campaignInput(1))
	if err := s.env.GetWorkflowError(); err == nil || !strings.Contains(err.Error(), "last 3 trials") || ran != 3 {
		t.Errorf("after %d trials: %v", ran, err)
	}
	if s.count("Summarise") != 1 {
		t.Error("the campaign that failed has no summary")
	}
}

func TestCancelledCampaignIsSummarised(t *testing.T) {
	var s *stage
	s = newCampaign(t, 6, func(input workflows.TrialInput) (workflows.TrialResult, error) {
		if input.Trial.Sequence == 2 {
			s.env.CancelWorkflow()
			return workflows.TrialResult{}, temporal.NewCanceledError()
		}
		return workflows.TrialResult{Verdict: trial.Valid, Attempts: 1}, nil
	})
	s.env.ExecuteWorkflow(workflows.CampaignName, campaignInput(1))
	if err := s.env.GetWorkflowError(); !temporal.IsCanceledError(err) {
		t.Errorf("%v, want a cancellation", err)
	}
	if s.count("Summarise") != 1 {
		t.Error("the cancelled campaign has no summary")
	}
}

// TestCancelledWhileSummarising: a cancellation between two runs of a campaign
// takes the workers off the hosts like any other.
func TestCancelledWhileSummarising(t *testing.T) {
	s := newCampaign(t, 25, func(workflows.TrialInput) (workflows.TrialResult, error) {
		return workflows.TrialResult{Verdict: trial.Valid, Attempts: 1}, nil
	})
	first := true
	s.env.SetOnActivityStartedListener(func(info *activity.Info, _ context.Context, _ converter.EncodedValues) {
		if info.ActivityType.Name == "Summarise" && first {
			first = false
			s.env.CancelWorkflow()
		}
	})
	input := campaignInput(1)
	input.Lanes[0].Kind, input.Lanes[0].Machines = inventory.Emulated, machines(true)
	s.env.ExecuteWorkflow(workflows.CampaignName, input)
	if err := s.env.GetWorkflowError(); !temporal.IsCanceledError(err) {
		t.Errorf("%v, want a cancellation", err)
	}
	if s.count("Remove") != 1 {
		t.Errorf("%v: the worker is still on the hosts", s.called())
	}
}

// Whoever decides whether there is enough is told how many blocks there are, for it
// may decide at some numbers only.
func TestCampaignTellsItsBlocks(t *testing.T) {
	s := newCampaign(t, 6, func(workflows.TrialInput) (workflows.TrialResult, error) {
		return workflows.TrialResult{Verdict: trial.Valid, Attempts: 1}, nil
	})
	stub(s, "Expand", func(activities.PlanInput) (activities.Planned, error) {
		return activities.Planned{SHA256: "plan", Trials: 6, Stop: &campaign.Stop{Metric: "blackout_ms", RelativeCIPercent: 5, Min: 2, Max: 6}}, nil
	})
	stub(s, "Trials", func(input activities.TrialsInput) ([]campaign.Trial, error) {
		var piece []campaign.Trial
		for n := input.First; n <= 6 && len(piece) < input.Count; n++ {
			piece = append(piece, campaign.Trial{Sequence: n, Block: n, CellID: "cell"})
		}
		return piece, nil
	})
	var asked []int
	stub(s, "Precise", func(input activities.PreciseInput) (activities.Precise, error) {
		asked = append(asked, input.Blocks)
		return activities.Precise{Enough: input.Blocks == 4}, nil
	})
	s.env.ExecuteWorkflow(workflows.CampaignName, campaignInput(1))
	var result workflows.CampaignResult
	if err := s.env.GetWorkflowResult(&result); err != nil || result.Progress.Done() != 4 || !slices.Equal(asked, []int{2, 3, 4}) {
		t.Errorf("%v, %d trials, asked after %v blocks", err, result.Progress.Done(), asked)
	}
}
