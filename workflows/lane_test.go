package workflows_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"heliotrope/activities"
	"heliotrope/internal/campaign"
	"heliotrope/internal/cause"
	"heliotrope/internal/fault"
	"heliotrope/internal/fault/wire"
	"heliotrope/internal/inventory"
	"heliotrope/internal/trial"
	"heliotrope/workflows"
)

// memory is a dataset as a lane sees it.
type memory struct {
	mu       sync.Mutex // lanes claim at the same time
	trials   []campaign.Trial
	attempts int              // how many invalid attempts a trial may have
	tried    map[int]int      // number of begun attempts, by the trial's number
	invalid  map[int]int      // number of attempts that were not measured
	done     map[int]bool     // trials that are done
	held     map[string]int   // blocks, by the lane that holds them
	ran      map[string][]int // blocks of which a lane ran trials, in order
	enough   bool             // the results are precise enough
}

func remember(trials, blocks int) *memory {
	m := &memory{attempts: 3, tried: map[int]int{}, invalid: map[int]int{}, done: map[int]bool{}, held: map[string]int{}, ran: map[string][]int{}}
	for n := 1; n <= trials; n++ {
		m.trials = append(m.trials, campaign.Trial{Sequence: n, Block: 1 + (n-1)*blocks/trials, CellID: "cell"})
	}
	return m
}

// claim does what the dataset's record promises.
func (m *memory) claim(input activities.ClaimInput) (activities.Claimed, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	claimed := activities.Claimed{Next: activities.NextNothing, Dataset: activities.Counts{Total: len(m.trials), Verdicts: map[trial.Verdict]int{}}}
	for sequence := range m.done {
		verdict := trial.Valid
		if m.invalid[sequence] >= m.attempts {
			verdict = trial.Invalid
		}
		claimed.Dataset.Verdicts[verdict]++
		claimed.Dataset.Retried += max(0, m.tried[sequence]-1)
	}
	if input.GiveBack {
		delete(m.held, input.Lane)
		return claimed, nil
	}
	if m.enough {
		claimed.Next = activities.NextEnough
		return claimed, nil
	}
	if input.Lane == "" {
		if len(m.done) < len(m.trials) {
			claimed.Next = activities.NextTrial
		}
		return claimed, nil
	}
	for _, mine := range []bool{true, false} {
		for _, planned := range m.trials {
			if m.done[planned.Sequence] || mine && m.held[input.Lane] != planned.Block || !mine && m.isHeld(planned.Block) {
				continue
			}
			m.held[input.Lane] = planned.Block
			claimed.Next, claimed.Trial, claimed.Attempt = activities.NextTrial, planned, m.tried[planned.Sequence]+1
			return claimed, nil
		}
		delete(m.held, input.Lane)
	}
	return claimed, nil
}

func (m *memory) isHeld(block int) bool {
	for _, held := range m.held {
		if held == block {
			return true
		}
	}
	return false
}

// conclude stores an attempt's row.
func (m *memory) conclude(input workflows.TrialInput, verdict trial.Verdict) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tried[input.Trial.Sequence]++
	m.ran[input.Lane.Name] = append(m.ran[input.Lane.Name], input.Trial.Block)
	switch verdict {
	case trial.Invalid:
		m.invalid[input.Trial.Sequence]++
		m.done[input.Trial.Sequence] = m.invalid[input.Trial.Sequence] >= m.attempts
	case trial.Skipped:
	default:
		m.done[input.Trial.Sequence] = true
	}
	if !m.done[input.Trial.Sequence] {
		delete(m.done, input.Trial.Sequence)
	}
}

// laneStage is a stage for a single lane: its reports to its campaign are kept, and its
// trials end as play says.
type laneStage struct {
	*stage
	memory  *memory
	reports []workflows.LaneReport
	alive   map[string]bool // other workflows that are running
	hears   int             // number of reports that the campaign receives before it is gone; 0: all of them
	play    func(input workflows.TrialInput) (trial.Verdict, error)
	hold    time.Duration // how long the next attempt takes
}

func newLane(t *testing.T, m *memory) *laneStage {
	t.Helper()
	return newLaneOf(t, m, workflows.RunLane)
}

// newLaneOf uses another workflow in place of a lane.
func newLaneOf(t *testing.T, m *memory, ofLane any) *laneStage {
	t.Helper()
	s := &laneStage{memory: m, alive: map[string]bool{workflows.CampaignID("test"): true},
		play: func(workflows.TrialInput) (trial.Verdict, error) { return trial.Valid, nil }}
	s.stage = newStageOf(t, ofLane, s.attempt)
	stub(s.stage, "Claim", m.claim)
	stub(s.stage, "Ready", func(activities.ReadyInput) (struct{}, error) { return struct{}{}, nil })
	s.env.OnSignalExternalWorkflow(anything, workflows.CampaignID("test"), "", workflows.ReportSignal, anything).Return(
		func(_, id, _, _ string, report any) error {
			if !s.alive[id] || s.hears > 0 && len(s.reports) == s.hears {
				return unknown()
			}
			s.reports = append(s.reports, report.(workflows.LaneReport))
			return nil
		})
	return s
}

// attempt is the workflow of a trial.
func (s *laneStage) attempt(ctx workflow.Context, input workflows.TrialInput) (workflows.TrialResult, error) {
	hold := s.hold
	s.hold = 0
	if hold > 0 && workflow.Sleep(ctx, hold) != nil {
		return workflows.TrialResult{}, temporal.NewCanceledError()
	}
	verdict, err := s.play(input)
	if err != nil {
		return workflows.TrialResult{}, err
	}
	s.memory.conclude(input, verdict)
	result := workflows.TrialResult{Verdict: verdict, Attempt: input.Attempt}
	if verdict == trial.Invalid {
		result.Cause, result.Reason = cause.Infrastructure, "no route to host-b"
	}
	return result, nil
}

// unknown is the error for a workflow that is not running.
func unknown() error { return &temporal.UnknownExternalWorkflowExecutionError{} }

func laneInput() workflows.LaneInput {
	return workflows.LaneInput{Campaign: "test", Execution: "run", DataDir: "/data", Dataset: "folder", QuarantineAfter: 6,
		Lane: workflows.Lane{Name: "lab-1", Kind: inventory.Hardware}}
}

// run runs the lane, over all its runs, and returns how it ended.
func (s *laneStage) run(t *testing.T, input workflows.LaneInput) error {
	t.Helper()
	s.env.ExecuteWorkflow(workflows.LaneName, input)
	return s.env.GetWorkflowError()
}

func (s *laneStage) states() []string {
	var states []string
	for _, report := range s.reports {
		states = append(states, report.State)
	}
	return slices.Compact(states)
}

func (s *laneStage) last() workflows.LaneReport { return s.reports[len(s.reports)-1] }

// TestLaneRunsWhatIsLeft: a lane runs each trial once, an invalid one again, and finally
// reports what the dataset holds.
func TestLaneRunsWhatIsLeft(t *testing.T) {
	m := remember(5, 1)
	m.done[2] = true // before this lane was
	s := newLane(t, m)
	var tried []string
	s.play = func(input workflows.TrialInput) (trial.Verdict, error) {
		tried = append(tried, fmt.Sprintf("%d.%d", input.Trial.Sequence, input.Attempt))
		if input.Trial.Sequence == 3 && input.Attempt == 1 {
			return trial.Invalid, nil
		}
		if input.Attempt == 2 {
			require.Equal(t, "no route to host-b", input.Before.Reason)
		}
		return trial.Valid, nil
	}
	require.NoError(t, s.run(t, laneInput()))
	require.Equal(t, []string{"1.1", "3.1", "3.2", "4.1", "5.1"}, tried)
	require.Equal(t, []string{workflows.LaneRunning, workflows.LaneEnded}, s.states())
	require.Equal(t, 5, s.last().Found.Verdicts[trial.Valid])
	require.Equal(t, "run", s.last().Execution)
}

// TestTerminatedTrialIsClaimedAgain: a terminated trial leaves no row, and is run again;
// three in a row put the testbed into quarantine, but end nothing.
func TestTerminatedTrialIsClaimedAgain(t *testing.T) {
	s := newLane(t, remember(3, 1))
	terminated := 0
	s.play = func(input workflows.TrialInput) (trial.Verdict, error) {
		if input.Trial.Sequence == 2 && terminated < 4 {
			terminated++
			return "", errors.New("terminated")
		}
		return trial.Valid, nil
	}
	require.NoError(t, s.run(t, laneInput()))
	require.Equal(t, 4, terminated)
	require.Len(t, s.memory.done, 3)
	require.Equal(t, []string{workflows.LaneRunning, workflows.LaneQuarantined, workflows.LaneRunning, workflows.LaneEnded}, s.states())
	require.Equal(t, 1, s.count("Ready"))
}

// TestQuarantine: a testbed on which nothing can be measured gives its block back, gets no
// trials while it is not fit, and is released when it is.
func TestQuarantine(t *testing.T) {
	s := newLane(t, remember(6, 2))
	s.fail["Ready"] = []error{errors.New("host-b: no route to host"), errors.New("host-b: no route to host")}
	ran := 0
	s.play = func(workflows.TrialInput) (trial.Verdict, error) {
		if ran++; ran <= 6 {
			return trial.Invalid, nil
		}
		return trial.Valid, nil
	}
	began := s.env.Now()
	require.NoError(t, s.run(t, laneInput()))
	// Two trials of three attempts each, which used up their attempts.
	require.Equal(t, []string{workflows.LaneRunning, workflows.LaneQuarantined, workflows.LaneRunning, workflows.LaneEnded}, s.states())
	require.Equal(t, 10, ran)
	require.Equal(t, 3, s.count("Ready"))
	require.Equal(t, 7*time.Minute, s.env.Now().Sub(began).Round(time.Minute)) // 1, 2 and 4
	var told []string
	for _, report := range s.reports {
		if report.State == workflows.LaneQuarantined {
			told = append(told, report.Why)
			require.NotNil(t, report.Quarantine)
			require.Equal(t, cause.Infrastructure, report.Quarantine.Cause)
		}
	}
	require.Equal(t, "6 attempts in a row were not measured, the last: no route to host-b", told[0])
	require.Contains(t, told[len(told)-1], "and now: host-b: no route to host")
}

// TestOneBadTrial: a single trial that cannot be measured does not put its testbed into
// quarantine.
func TestOneBadTrial(t *testing.T) {
	m := remember(3, 1)
	m.attempts = 20
	s := newLane(t, m)
	s.play = func(input workflows.TrialInput) (trial.Verdict, error) {
		if input.Trial.Sequence == 2 {
			return trial.Invalid, nil
		}
		return trial.Valid, nil
	}
	require.NoError(t, s.run(t, laneInput()))
	require.Equal(t, []string{workflows.LaneRunning, workflows.LaneEnded}, s.states())
	require.Equal(t, 20, m.tried[2])
}

// TestLaneWaitsForItsDataset: the lane waits for a disk that is not mounted, and reports
// that; another dataset in its place ends the lane.
func TestLaneWaitsForItsDataset(t *testing.T) {
	s := newLane(t, remember(2, 1))
	s.fail["Claim"] = []error{errors.New("/data is not mounted"), errors.New("/data is not mounted")}
	require.NoError(t, s.run(t, laneInput()))
	require.Equal(t, []string{workflows.LaneWaiting, workflows.LaneRunning, workflows.LaneEnded}, s.states())
	require.Equal(t, "/data is not mounted", s.reports[0].Why)

	s = newLane(t, remember(2, 1))
	s.fail["Claim"] = []error{fault.New(fault.BadInput, "/data is another dataset")}
	require.ErrorContains(t, s.run(t, laneInput()), "another dataset")
	require.Equal(t, []string{workflows.LaneFailed}, s.states())
}

// TestLaneContinuesAsNew: no trial is lost or run twice, whatever orders come meanwhile.
func TestLaneContinuesAsNew(t *testing.T) {
	m, input, ran := remember(25, 5), laneInput(), 0
	input.MaxEvents = 60
	for run := 1; ; run++ {
		s := newLane(t, m)
		here := 0
		s.play = func(workflows.TrialInput) (trial.Verdict, error) {
			ran++
			if here++; here == 5 {
				s.env.SetCurrentHistoryLength(61)
				s.env.SignalWorkflow(workflows.OrdersSignal, workflows.Orders{Version: run, Why: "just so"})
			}
			return trial.Valid, nil
		}
		err := s.run(t, input)
		var again *workflow.ContinueAsNewError
		if !errors.As(err, &again) {
			require.NoError(t, err)
			require.Equal(t, 25, ran)
			require.Equal(t, 6, run)
			return
		}
		input = workflows.LaneInput{}
		require.NoError(t, converter.GetDefaultDataConverter().FromPayloads(again.Input, &input))
		require.Equal(t, run, input.Orders.Version)
		require.Nil(t, input.State.Report.Trial)
	}
}

// TestOrders: a lane pauses and drains after its trial. When told to, it ends the trial at
// once, and runs it again later.
func TestOrders(t *testing.T) {
	s := newLane(t, remember(4, 2))
	s.play = func(input workflows.TrialInput) (trial.Verdict, error) {
		switch {
		case input.Trial.Sequence == 1:
			s.env.SignalWorkflow(workflows.OrdersSignal, workflows.Orders{Version: 1, Pause: activities.PauseAfterTrial, Why: "the power is cut at noon"})
			s.env.RegisterDelayedCallback(func() {
				s.env.SignalWorkflow(workflows.OrdersSignal, workflows.Orders{Version: 2})
				s.env.SignalWorkflow(workflows.OrdersSignal, workflows.Orders{Version: 1, Drain: true}) // it came late
			}, time.Hour)
		case input.Trial.Sequence == 2 && input.Attempt == 1:
			return trial.Skipped, nil
		case input.Trial.Sequence == 3:
			s.env.SignalWorkflow(workflows.OrdersSignal, workflows.Orders{Version: 3, Drain: true, Why: "it is needed elsewhere"})
		}
		return trial.Valid, nil
	}
	require.NoError(t, s.run(t, laneInput()))
	require.Equal(t, []string{workflows.LaneRunning, workflows.LanePaused, workflows.LaneRunning, workflows.LaneDrained}, s.states())
	require.Equal(t, map[int]int{1: 1, 2: 2, 3: 1}, s.memory.tried)
	require.Empty(t, s.memory.held, "what is not done of the block is free")
	require.Equal(t, "it is needed elsewhere", s.last().Why)
}

// TestPauseNow: it ends the running attempt, and no other one.
func TestPauseNow(t *testing.T) {
	s := newLane(t, remember(2, 1))
	s.hold = 24 * time.Hour
	s.env.RegisterDelayedCallback(func() {
		s.env.SignalWorkflow(workflows.OrdersSignal, workflows.Orders{Version: 1, Pause: activities.PauseNow})
	}, time.Hour)
	s.env.RegisterDelayedCallback(func() { s.env.SignalWorkflow(workflows.OrdersSignal, workflows.Orders{Version: 2}) }, 2*time.Hour)
	began := s.env.Now()
	require.NoError(t, s.run(t, laneInput()))
	require.Equal(t, []string{workflows.LaneRunning, workflows.LanePaused, workflows.LaneRunning, workflows.LaneEnded}, s.states())
	require.Len(t, s.memory.done, 2)
	require.Less(t, s.env.Now().Sub(began), 3*time.Hour)
}

// TestQuarantineByOrder: it only ends by an order, and with force without a look.
func TestQuarantineByOrder(t *testing.T) {
	s := newLane(t, remember(2, 1))
	s.play = func(input workflows.TrialInput) (trial.Verdict, error) {
		if input.Trial.Sequence == 1 {
			s.env.SignalWorkflow(workflows.OrdersSignal, workflows.Orders{Version: 1, Quarantine: "its fan is loud", By: "ann"})
			s.env.RegisterDelayedCallback(func() {
				s.env.SignalWorkflow(workflows.OrdersSignal, workflows.Orders{Version: 2, Released: 1, Force: true})
			}, 48*time.Hour)
		}
		return trial.Valid, nil
	}
	require.NoError(t, s.run(t, laneInput()))
	require.Equal(t, []string{workflows.LaneRunning, workflows.LaneQuarantined, workflows.LaneRunning, workflows.LaneEnded}, s.states())
	require.Zero(t, s.count("Ready"))
}

// TestEnough: a lane ends after its trial when the dataset says that the results are
// precise enough.
func TestEnough(t *testing.T) {
	s := newLane(t, remember(3, 1))
	s.play = func(workflows.TrialInput) (trial.Verdict, error) {
		s.memory.mu.Lock()
		defer s.memory.mu.Unlock()
		s.memory.enough = true
		return trial.Valid, nil
	}
	require.NoError(t, s.run(t, laneInput()))
	require.Equal(t, []string{workflows.LaneRunning, workflows.LaneEnded}, s.states())
	require.Len(t, s.memory.done, 1)
}

// TestCancelledLane: it gives its block back, and reports that it was cancelled.
func TestCancelledLane(t *testing.T) {
	s := newLane(t, remember(3, 1))
	s.play = func(input workflows.TrialInput) (trial.Verdict, error) {
		if input.Trial.Sequence == 2 {
			s.env.CancelWorkflow()
			return "", temporal.NewCanceledError()
		}
		return trial.Valid, nil
	}
	require.True(t, temporal.IsCanceledError(s.run(t, laneInput())))
	require.Equal(t, []string{workflows.LaneRunning, workflows.LaneCancelled}, s.states())
	require.Empty(t, s.memory.held)
	require.Empty(t, s.last().Quarantine)
}

// TestOrphan: a lane whose campaign was terminated ends after its trial.
func TestOrphan(t *testing.T) {
	s := newLane(t, remember(3, 1))
	s.hears = 1
	require.NoError(t, s.run(t, laneInput()))
	require.Len(t, s.memory.done, 2)
	require.Empty(t, s.memory.held)
}

// TestNothingRunsBesideATrial: a lane that is started again waits until the trial that it
// was running has ended.
func TestNothingRunsBesideATrial(t *testing.T) {
	s := newLane(t, remember(3, 1))
	left := workflows.TrialID("test", 1)
	cancelled := 0
	s.env.OnRequestCancelExternalWorkflow(anything, left, "").Return(func(string, string, string) error {
		cancelled++
		return nil
	})
	s.env.OnSignalExternalWorkflow(anything, left, "", anything, anything).Return(func(string, string, string, string, any) error {
		if s.alive[left] {
			return nil
		}
		return unknown()
	})
	s.alive[left] = true
	s.env.RegisterDelayedCallback(func() { s.alive[left] = false }, time.Hour)
	input := laneInput()
	input.State.Report.Trial = &workflows.RunningTrial{WorkflowID: left}
	began := s.env.Now()
	s.play = func(workflows.TrialInput) (trial.Verdict, error) {
		require.GreaterOrEqual(t, s.env.Now().Sub(began), time.Hour)
		return trial.Valid, nil
	}
	require.NoError(t, s.run(t, input))
	require.Equal(t, []string{workflows.LaneWaiting, workflows.LaneRunning, workflows.LaneEnded}, s.states())
	require.Contains(t, s.reports[0].Why, left)
	require.Equal(t, 1, cancelled)
}

// TestWrongHypervisor: a lane that could run no trial fails, with the reason.
func TestWrongHypervisor(t *testing.T) {
	m := remember(1, 1)
	m.trials[0].Cell.Hypervisor = "xen"
	s := newLane(t, m)
	input := laneInput()
	input.Lane.Hypervisor = "kvm"
	err := s.run(t, input)
	require.Equal(t, fault.BadInput, wire.Of(err))
	require.Equal(t, "trial 00001: lane lab-1 has no testbed with hypervisor xen", s.last().Why)
	require.Equal(t, []string{workflows.LaneFailed}, s.states())
}
