package workflows_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/workflow"

	"heliotrope/activities"
	"heliotrope/internal/campaign"
	"heliotrope/internal/fault"
	"heliotrope/internal/fault/wire"
	"heliotrope/internal/trial"
	"heliotrope/workflows"
)

// steered is a campaign, with its noted updates and their results.
type steered struct {
	*laneStage
	noted   []activities.AmendInput
	answers map[string]string // by the update's ID
	errs    map[string]error
}

func newSteered(t *testing.T, m *memory) *steered {
	t.Helper()
	s := &steered{laneStage: newCampaign(t, m), answers: map[string]string{}, errs: map[string]error{}}
	stub(s.stage, "Amend", func(input activities.AmendInput) (activities.Amended, error) {
		for _, before := range s.noted {
			if before.ID == input.ID {
				return activities.Amended{}, fmt.Errorf("update %s twice", input.ID)
			}
		}
		s.noted = append(s.noted, input)
		amended := activities.Amended{Answer: input.Answer, Total: len(m.trials), Stop: input.Steering.Stop}
		switch input.Update {
		case "repeat":
			for range input.Steering.Times {
				last := m.trials[len(m.trials)-1]
				m.trials = append(m.trials, campaign.Trial{Sequence: last.Sequence + 1, Block: last.Block + 1, CellID: input.Steering.Cell})
			}
			amended.Answer, amended.Total = "more", len(m.trials)
		case "skip":
			m.done[input.Steering.Trial] = true
		}
		return amended, nil
	})
	return s
}

// update sends an update to the campaign after some time.
func (s *steered) update(after time.Duration, name string, what activities.Steering) (id string) {
	id = fmt.Sprint(name, " after ", after)
	s.env.RegisterDelayedCallback(func() { s.env.UpdateWorkflow(name, id, s.callbacks(id), because(what)) }, after)
	return id
}

func because(what activities.Steering) activities.Steering {
	what.By, what.Why = "eva@ws1", "lunch"
	return what
}

func (s *steered) callbacks(id string) *update { return &update{s, id} }

// update is the result of an update.
type update struct {
	of *steered
	id string
}

func (u *update) Accept()          {}
func (u *update) Reject(err error) { u.of.errs[u.id] = err }

func (u *update) Complete(success any, err error) {
	if err != nil {
		u.of.errs[u.id] = err
		return
	}
	u.of.answers[u.id] = fmt.Sprint(success)
}

// lasting makes each attempt from now on last this long.
func (s *steered) lasting(length time.Duration) {
	s.hold = length
	s.play = func(workflows.TrialInput) (trial.Verdict, error) {
		s.hold = length
		return trial.Valid, nil
	}
}

// TestRefusedUpdate: it changes neither the dataset nor an order.
func TestRefusedUpdate(t *testing.T) {
	s := newSteered(t, remember(2, 2))
	s.lasting(time.Hour)
	refused := []string{
		s.update(time.Minute, "pause", activities.Steering{Lane: "lab-9"}),
		s.update(time.Minute, "repeat", activities.Steering{Cell: "cell"}),
		s.update(time.Minute, "release", activities.Steering{Lane: "lab-1"}),
		s.update(time.Minute, "until", activities.Steering{Until: time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)}),
		s.update(time.Minute, "skip", activities.Steering{Trial: 3}),
	}
	s.campaign(t, campaignInput(1))
	for _, id := range refused {
		require.Equal(t, fault.BadInput, wire.Of(s.errs[id]), id)
	}
	require.Zero(t, s.count("Amend"))
}

// TestImpossibleAmendment: when the dataset refuses an update, the answer says so, and no
// order follows.
func TestImpossibleAmendment(t *testing.T) {
	s := newSteered(t, remember(2, 2))
	s.lasting(time.Hour)
	s.fail["Amend"] = []error{fault.New(fault.BadInput, "the plan has no cell x")}
	id := s.update(time.Minute, "repeat", activities.Steering{Cell: "x", Times: 2})
	result := s.campaign(t, campaignInput(1))
	require.Equal(t, "the plan has no cell x", wire.Reason(s.errs[id]))
	require.Equal(t, fault.BadInput, wire.Of(s.errs[id]))
	require.Equal(t, 2, result.Progress.Total)
	require.Equal(t, 1, s.count("Amend"), "it is not tried again")
}

// TestPauseAfterTrial: the running trial goes on, no other one is begun until resume, and
// both updates are noted before they are carried out.
func TestPauseAfterTrial(t *testing.T) {
	m := remember(4, 4)
	s := newSteered(t, m)
	s.lasting(time.Hour)
	paused := s.update(90*time.Minute, "pause", activities.Steering{})
	s.env.RegisterDelayedCallback(func() {
		require.Equal(t, []string{workflows.LanePaused}, states(s.status(t)))
		require.Len(t, m.done, 2)
	}, 10*time.Hour)
	resumed := s.update(24*time.Hour, "resume", activities.Steering{Lane: "lab-1"})
	began := s.env.Now()
	s.campaign(t, campaignInput(1))
	require.Empty(t, s.errs)
	require.Equal(t, "all lanes: paused after their trials, until resume", s.answers[paused])
	require.Equal(t, "lane lab-1: go on", s.answers[resumed])
	require.Len(t, m.done, 4)
	require.WithinDuration(t, began.Add(26*time.Hour), s.env.Now(), time.Minute)
	require.Len(t, s.noted, 2)
	first := s.noted[0] // another run may have an update of the same ID
	require.Equal(t, activities.AmendInput{Campaign: "test", DataDir: "/data", Dataset: "folder", ID: "default-test-run-id/" + paused, At: first.At, Update: "pause",
		Steering: activities.Steering{By: "eva@ws1", Why: "lunch"}, Answer: s.answers[paused]}, first)
	require.WithinDuration(t, began.Add(90*time.Minute), first.At, time.Second)
}

// TestAskedToPauseNow: the running attempt is ended, its trial is not done, and is run
// after resume; that says nothing about the testbed.
func TestAskedToPauseNow(t *testing.T) {
	m := remember(2, 2)
	s := newSteered(t, m)
	s.lasting(10 * time.Hour)
	s.update(time.Hour, "pause", activities.Steering{Lane: "lab-1", Now: true})
	s.env.RegisterDelayedCallback(func() {
		status := s.status(t)
		require.Equal(t, []string{workflows.LanePaused}, states(status))
		require.Empty(t, status.Running)
		require.Empty(t, m.done)
		s.lasting(time.Hour)
	}, 2*time.Hour)
	s.update(3*time.Hour, "resume", activities.Steering{})
	began := s.env.Now()
	s.campaign(t, campaignInput(1))
	require.Empty(t, s.errs)
	require.Len(t, m.done, 2)
	require.WithinDuration(t, began.Add(5*time.Hour), s.env.Now(), time.Minute)
}

// TestRepeat: more trials are run, including by lanes that had nothing left.
func TestRepeat(t *testing.T) {
	m := remember(2, 2)
	s := newSteered(t, m)
	s.play = func(input workflows.TrialInput) (trial.Verdict, error) {
		if input.Trial.Sequence == 1 {
			s.hold = time.Hour
		}
		return trial.Valid, nil
	}
	s.hold = time.Hour
	id := s.update(30*time.Minute, "repeat", activities.Steering{Cell: "cell", Times: 6})
	result := s.campaign(t, campaignInput(2))
	require.Empty(t, s.errs)
	require.Equal(t, "more", s.answers[id])
	require.Equal(t, 8, result.Progress.Total)
	require.Equal(t, 8, result.Progress.Verdicts[trial.Valid])
	require.NotEmpty(t, m.ran["lab-1"])
	require.NotEmpty(t, m.ran["lab-2"])
}

// TestRepeatAtTheEnd: trials that are added while the last trial is being counted are run.
func TestRepeatAtTheEnd(t *testing.T) {
	m := remember(1, 1)
	s := newSteered(t, m)
	asked := false
	stub(s.stage, "Claim", func(input activities.ClaimInput) (activities.Claimed, error) {
		claimed, err := m.claim(input)
		if input.Lane == "" && !asked { // the campaign asks whether anything is left
			asked = true
			s.env.UpdateWorkflow("repeat", "late", s.callbacks("late"), because(activities.Steering{Cell: "cell", Times: 2}))
		}
		return claimed, err
	})
	result := s.campaign(t, campaignInput(1))
	require.NoError(t, s.errs["late"])
	require.Equal(t, 3, result.Progress.Verdicts[trial.Valid])
}

// TestQuarantineByHand: another lane runs everything, and after release, and a look at the
// testbed, the lane runs trials again.
func TestQuarantineByHand(t *testing.T) {
	m := remember(12, 6)
	s := newSteered(t, m)
	s.lasting(time.Hour)
	s.update(30*time.Minute, "quarantine", activities.Steering{Lane: "lab-2"})
	s.env.RegisterDelayedCallback(func() {
		require.Equal(t, []string{workflows.LaneRunning, workflows.LaneQuarantined}, states(s.status(t)))
		require.Zero(t, s.count("Ready"), "what a person has ordered only a person ends")
	}, 4*time.Hour)
	released := s.update(5*time.Hour, "release", activities.Steering{Lane: "lab-2"})
	s.campaign(t, campaignInput(2))
	require.Empty(t, s.errs)
	require.Equal(t, "lane lab-2: released when its testbed is found fit", s.answers[released])
	require.Equal(t, 1, s.count("Ready"))
	require.Len(t, m.done, 12)
	require.Greater(t, len(m.ran["lab-2"]), 1)
}

// TestAskedToDrain: it ends a lane, and resume brings the lane back.
func TestAskedToDrain(t *testing.T) {
	m := remember(12, 6)
	s := newSteered(t, m)
	s.lasting(time.Hour)
	s.update(30*time.Minute, "drain", activities.Steering{Lane: "lab-2"})
	s.env.RegisterDelayedCallback(func() {
		require.Equal(t, []string{workflows.LaneRunning, workflows.LaneDrained}, states(s.status(t)))
	}, 4*time.Hour)
	s.update(5*time.Hour, "resume", activities.Steering{Lane: "lab-2"})
	s.campaign(t, campaignInput(2))
	require.Empty(t, s.errs)
	require.Len(t, m.done, 12)
	require.Greater(t, len(m.ran["lab-2"]), 1)
}

// TestAskedForATime: no trial is begun after the time, which can be taken back.
func TestAskedForATime(t *testing.T) {
	m := remember(8, 8)
	s := newSteered(t, m)
	s.lasting(time.Hour)
	s.update(time.Minute, "until", activities.Steering{Until: s.env.Now().Add(90 * time.Minute)})
	s.update(time.Hour+time.Minute, "until", activities.Steering{None: true})
	s.update(2*time.Hour, "until", activities.Steering{Until: s.env.Now().Add(4*time.Hour + time.Minute)})
	untilOf := []time.Time{}
	stub(s.stage, "Claim", func(input activities.ClaimInput) (activities.Claimed, error) {
		untilOf = append(untilOf, input.Until)
		claimed, err := m.claim(input)
		if !input.Until.IsZero() && !input.Now.Before(input.Until) {
			claimed = activities.Claimed{Next: activities.NextUntil, Dataset: claimed.Dataset}
		}
		return claimed, err
	})
	s.campaign(t, campaignInput(1))
	require.Empty(t, s.errs)
	require.Len(t, m.done, 5, "those that were begun in time; %v", untilOf)
}

// TestStopRule: the lanes claim by the new rule.
func TestStopRule(t *testing.T) {
	m := remember(3, 3)
	s := newSteered(t, m)
	s.lasting(time.Hour)
	rule := &campaign.Stop{Metric: "io_lost_s", RelativeCIPercent: 5, Min: 5, Max: 20}
	s.update(30*time.Minute, "stop-rule", activities.Steering{Stop: rule})
	var rules []*campaign.Stop
	stub(s.stage, "Claim", func(input activities.ClaimInput) (activities.Claimed, error) {
		rules = append(rules, input.Stop)
		return m.claim(input)
	})
	s.campaign(t, campaignInput(1))
	require.Empty(t, s.errs)
	require.Nil(t, rules[0])
	require.Equal(t, rule, rules[1])
}

// TestSteerALane: a lane takes updates of its own, and its campaign, which alone gives
// orders, carries them out.
func TestSteerALane(t *testing.T) {
	m := remember(8, 8)
	s := newSteered(t, m)
	s.lasting(time.Hour)
	ask := func(after time.Duration, name, id string, what activities.Steering) {
		s.env.RegisterDelayedCallback(func() {
			require.NoError(t, s.env.UpdateWorkflowByID(workflows.LaneID("test", "lab-2"), name, id, s.callbacks(id), what))
		}, after)
	}
	ask(time.Minute, "pause", "stranger", because(activities.Steering{Lane: "lab-1"}))
	ask(time.Minute, "pause", "silent", activities.Steering{})
	ask(30*time.Minute, "pause", "pause", because(activities.Steering{}))
	s.env.RegisterDelayedCallback(func() {
		require.Equal(t, []string{workflows.LaneRunning, workflows.LanePaused}, states(s.status(t)))
	}, 2*time.Hour)
	ask(3*time.Hour, "resume", "resume", because(activities.Steering{}))
	s.campaign(t, campaignInput(2))
	require.Equal(t, "lane lab-2: paused after its trial, until resume", s.answers["pause"])
	require.Contains(t, wire.Reason(s.errs["stranger"]), `campaign test has no lane "lab-1": want lab-2`)
	require.Contains(t, wire.Reason(s.errs["silent"]), "say why")
	require.Len(t, s.errs, 2)
	require.Len(t, s.noted, 2)
	require.Equal(t, "lab-2", s.noted[0].Steering.Lane)
	require.Len(t, m.done, 8)
	require.Greater(t, len(m.ran["lab-2"]), 1)
}

// TestSteerOverContinueAsNew: a campaign does not continue as new in the middle of an
// update, and orders are carried over.
func TestSteerOverContinueAsNew(t *testing.T) {
	s := newTold(t)
	noted := 0
	stub(s.stage, "Amend", func(input activities.AmendInput) (activities.Amended, error) {
		noted++
		s.env.SetCurrentHistoryLength(61) // from now on it is long
		return activities.Amended{Answer: input.Answer, Total: 10}, nil
	})
	of := &steered{laneStage: s.laneStage, answers: map[string]string{}, errs: map[string]error{}}
	id := of.update(time.Minute, "pause", activities.Steering{Lane: "lab-2"})
	s.env.RegisterDelayedCallback(func() { s.tell("lab-1", workflows.LaneRunning, 1) }, 2*time.Minute)
	input := campaignInput(2)
	input.MaxEvents = 60
	s.env.ExecuteWorkflow(workflows.CampaignName, input)
	var again *workflow.ContinueAsNewError
	require.ErrorAs(t, s.env.GetWorkflowError(), &again)
	require.Empty(t, of.errs)
	require.Equal(t, "lane lab-2: paused after its trial, until resume", of.answers[id])
	require.Equal(t, 1, noted)
	var next workflows.CampaignInput
	require.NoError(t, converter.GetDefaultDataConverter().FromPayloads(again.Input, &next))
	require.Equal(t, workflows.Orders{Version: 1, Pause: activities.PauseAfterTrial, Why: "lunch"}, next.State.Orders["lab-2"])
	require.Zero(t, next.State.Orders["lab-1"].Version)

	second := newTold(t)
	second.started = s.started
	second.env.OnSignalExternalWorkflow(anything, workflows.LaneID("test", "lab-2"), "", workflows.OrdersSignal, anything).Return(nil)
	of = &steered{laneStage: second.laneStage, answers: map[string]string{}, errs: map[string]error{}}
	id = of.update(time.Minute, "pause", activities.Steering{Lane: "lab-2"})
	second.env.RegisterDelayedCallback(func() {
		for _, lane := range []string{"lab-1", "lab-2"} {
			second.tell(lane, workflows.LaneEnded, 1)
		}
		for n := range 10 {
			second.memory.done[n+1] = true
		}
	}, 2*time.Minute)
	second.campaign(t, next)
	require.Contains(t, wire.Reason(of.errs[id]), "lane lab-2 is paused already", "the next run knows it")
}

// TestBeginsAsItWasTold: a campaign that begins again on its folder gives its lanes the
// orders that people had given them: one is paused, one drained, one in quarantine, and
// each goes on when it is told to.
func TestBeginsAsItWasTold(t *testing.T) {
	m := remember(12, 6)
	s := newSteered(t, m)
	s.lasting(time.Hour)
	stub(s.stage, "Expand", func(activities.PlanInput) (activities.Planned, error) {
		return activities.Planned{Dataset: "folder", SHA256: "plan", Counts: activities.Counts{Total: 12}, Orders: map[string]activities.Orders{
			"lab-1": {Pause: activities.PauseAfterTrial, Why: "a backup"}, "lab-2": {Drain: true, Why: "lent out"},
			"lab-3": {Quarantine: "its clocks jump", By: "eva@ws1"}}}, nil
	})
	s.env.RegisterDelayedCallback(func() {
		status := s.status(t)
		require.Equal(t, []string{workflows.LanePaused, workflows.LaneDrained, workflows.LaneQuarantined}, states(status))
		require.Equal(t, "a backup", status.Lanes[0].Why)
		require.Equal(t, "lent out", status.Lanes[1].Why)
		require.Equal(t, "its clocks jump", status.Lanes[2].Why)
		require.Equal(t, "eva@ws1", status.Lanes[2].Quarantine.By)
		require.Empty(t, m.ran)
	}, 10*time.Hour)
	s.update(11*time.Hour, "resume", activities.Steering{Lane: "lab-1"})
	s.update(12*time.Hour, "resume", activities.Steering{Lane: "lab-2"})
	s.update(13*time.Hour, "release", activities.Steering{Lane: "lab-3"})
	s.campaign(t, campaignInput(3))
	require.Empty(t, s.errs)
	require.Len(t, m.done, 12)
	require.Len(t, m.ran, 3)
}

// TestKeepsItsReason: another order during a pause does not change the reason for the pause.
func TestKeepsItsReason(t *testing.T) {
	s := newSteered(t, remember(2, 2))
	s.lasting(time.Hour)
	s.env.RegisterDelayedCallback(func() {
		s.env.UpdateWorkflow("pause", "u", s.callbacks("u"), activities.Steering{Why: "a backup"})
	}, time.Minute)
	s.update(2*time.Hour, "until", activities.Steering{Until: s.env.Now().Add(1000 * time.Hour)})
	s.env.RegisterDelayedCallback(func() { require.Equal(t, "a backup", s.status(t).Lanes[0].Why) }, 3*time.Hour)
	s.update(4*time.Hour, "resume", activities.Steering{})
	s.campaign(t, campaignInput(1))
	require.Empty(t, s.errs)
}
