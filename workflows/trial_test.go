package workflows_test

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"heliotrope/activities"
	"heliotrope/activities/machine"
	"heliotrope/internal/campaign"
	"heliotrope/internal/cause"
	"heliotrope/internal/fault"
	"heliotrope/internal/fault/wire"
	"heliotrope/internal/hooks"
	"heliotrope/internal/inventory"
	"heliotrope/internal/ledger"
	"heliotrope/internal/load/engine"
	"heliotrope/internal/load/spec"
	"heliotrope/internal/trial"
	"heliotrope/internal/witness"
	"heliotrope/workflows"
)

// stage plays the activities of a trial and notes their order.
type stage struct {
	env *testsuite.TestWorkflowEnvironment

	mu    sync.Mutex // activities run at the same time
	calls []string
	fail  map[string][]error // by activity: what its next calls return
	rows  []activities.Known // what Conclude was given
	torn  []activities.TornDownInput
	told  []hooks.Event // what Tell was given
	// looked is what Look sees.
	looked activities.Looked
}

func newStage(t *testing.T) *stage {
	t.Helper()
	return newStageOf(t, workflows.RunLane, workflows.Trial)
}

// newStageOf uses other workflows in place of a lane and a trial.
func newStageOf(t *testing.T, ofLane, ofTrial any) *stage {
	t.Helper()
	var suite testsuite.WorkflowTestSuite
	s := &stage{env: suite.NewTestWorkflowEnvironment(), fail: map[string][]error{}}
	s.env.SetTestTimeout(time.Minute)
	s.env.SetWorkerOptions(worker.Options{DeadlockDetectionTimeout: time.Minute}) // a busy machine is no deadlock
	s.env.RegisterWorkflowWithOptions(ofTrial, workflow.RegisterOptions{Name: workflows.TrialName})
	s.env.RegisterWorkflowWithOptions(ofLane, workflow.RegisterOptions{Name: workflows.LaneName})
	s.env.RegisterWorkflowWithOptions(workflows.Campaign, workflow.RegisterOptions{Name: workflows.CampaignName})
	stub(s, "Raise", func(activities.Target) (struct{}, error) { return struct{}{}, nil })
	stub(s, "Install", func(activities.Target) (struct{}, error) { return struct{}{}, nil })
	stub(s, "Sweep", func(activities.SweepInput) (activities.Swept, error) {
		return activities.Swept{WANHost: "store", WANDevice: "eth2"}, nil
	})
	stub(s, "Provision", func(input activities.ProvisionInput) (activities.Provisioned, error) {
		return activities.Provisioned{Domain: "lab.guest", Precondition: input.Precondition}, nil
	})
	stub(s, "Shape", func(machine.ShapingInput) (struct{}, error) { return struct{}{}, nil })
	stub(s, "Certify", func(activities.CertifyInput) (activities.Certified, error) { return activities.Certified{}, nil })
	stub(s, "StartWitness", func(machine.RecordingInput) (struct{}, error) { return struct{}{}, nil })
	stub(s, "StartLoad", func(machine.RecordingInput) (struct{}, error) { return struct{}{}, nil })
	stub(s, "AwaitSteady", func(machine.SteadyInput) (machine.Steady, error) { return machine.Steady{}, nil })
	stub(s, "Pause", func(activities.PauseInput) (activities.Migrated, error) { return activities.Migrated{}, nil })
	stub(s, "Evidence", func(activities.EvidenceInput) (activities.Found, error) { return activities.Found{}, nil })
	stub(s, "Migrate", func(activities.MigrateInput) (activities.Migrated, error) { return activities.Migrated{}, nil })
	stub(s, "Look", func(activities.LookInput) (activities.Looked, error) { return s.looked, nil })
	stub(s, "Collect", func(activities.CollectInput) (activities.Collected, error) { return activities.Collected{}, nil })
	stub(s, "Verify", func(activities.VerifyInput) (activities.Verified, error) { return activities.Verified{}, nil })
	stub(s, "Retain", func(activities.RetainInput) (struct{}, error) { return struct{}{}, nil })
	stub(s, "Teardown", func(activities.Target) (activities.TornDown, error) { return activities.TornDown{}, nil })
	stub(s, "TornDown", func(input activities.TornDownInput) (struct{}, error) {
		s.torn = append(s.torn, input)
		return struct{}{}, nil
	})
	stub(s, "Conclude", func(input activities.ConcludeInput) (activities.Concluded, error) {
		s.rows = append(s.rows, input.Known)
		return activities.Concluded{Verdict: input.Known.Verdict, Cause: input.Known.Cause, Reason: input.Known.Reason}, nil
	})
	stub(s, "Tell", func(event hooks.Event) (struct{}, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.told = append(s.told, event)
		return struct{}{}, nil
	})
	stub(s, "CheckWAN", func(machine.ShapingInput) (struct{}, error) { return struct{}{}, nil })
	goesOn[activities.LinkInput](s, "Link")
	goesOn[machine.ShapingInput](s, "HoldWAN")
	goesOn[activities.Target](s, "FollowClocks")
	goesOn[machine.RecordingInput](s, "FollowWitness")
	goesOn[machine.RecordingInput](s, "FollowLoad")
	return s
}

// stub registers an activity that returns what play returns, unless it is set to fail.
func stub[I, O any](s *stage, name string, play func(I) (O, error)) {
	s.env.RegisterActivityWithOptions(func(_ context.Context, input I) (O, error) {
		if err := s.call(name); err != nil {
			var none O
			return none, wire.ToTemporal(err)
		}
		return play(input)
	}, activity.RegisterOptions{Name: name})
}

// goesOn registers an activity that goes on until it is cancelled.
func goesOn[I any](s *stage, name string) {
	s.env.RegisterActivityWithOptions(func(ctx context.Context, _ I) error {
		if err := s.call(name); err != nil {
			return wire.ToTemporal(err)
		}
		<-ctx.Done()
		return ctx.Err()
	}, activity.RegisterOptions{Name: name})
}

func (s *stage) call(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, name)
	if next := s.fail[name]; len(next) > 0 {
		s.fail[name] = next[1:]
		return next[0]
	}
	return nil
}

// called are the calls until now. Activities that go on are called concurrently with the
// workflow, possibly even after it has ended.
func (s *stage) called() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

func (s *stage) count(name string) int {
	n := 0
	for _, call := range s.called() {
		if call == name {
			n++
		}
	}
	return n
}

func trialInput(kind inventory.Kind) workflows.TrialInput {
	input := workflows.TrialInput{
		Campaign: "test", DataDir: "/nowhere", Lane: workflows.Lane{Name: "lab", Kind: kind}, Attempt: 1,
		Trial: campaign.Trial{Sequence: 7, CellID: "cell", Cell: campaign.Cell{Storage: "drbd", WAN: "lan"}},
		Settings: activities.Settings{
			Phases: campaign.Phases{WarmUp: 20 * time.Second, Before: 30 * time.Second, After: 30 * time.Second},
			Disk:   campaign.DiskSpec{SizeMiB: 64, LedgerMiB: 8, Precondition: campaign.PreconditionFill},
			Limits: campaign.Limits{Attempts: 3, Migration: 10 * time.Minute, Trial: 30 * time.Minute},
		},
	}
	if kind == inventory.Simulated {
		input.Began = time.Unix(1_800_000_000, 0)
		input.Lane.LocalSteps = true
		input.Lane.Machines = []trial.Machine{{Name: trial.Guest, Witness: true}}
	}
	return input
}

// run executes the trial and returns its result.
func (s *stage) run(t *testing.T, input workflows.TrialInput) workflows.TrialResult {
	t.Helper()
	s.env.ExecuteWorkflow(workflows.TrialName, input)
	if err := s.env.GetWorkflowError(); err != nil {
		t.Fatal(err)
	}
	var result workflows.TrialResult
	if err := s.env.GetWorkflowResult(&result); err != nil {
		t.Fatal(err)
	}
	return result
}

func TestTrialRunsItsStepsInOrder(t *testing.T) {
	s := newStage(t)
	result := s.run(t, trialInput(inventory.Simulated))
	want := []string{"Sweep", "Provision", "Shape", "Certify", "StartWitness", "StartLoad", "AwaitSteady", "Migrate", "Look", "Collect", "Certify", "Verify", "Conclude", "Teardown", "TornDown"}
	if !slices.Equal(s.steps(), want) {
		t.Errorf("activities %v, want %v", s.called(), want)
	}
	if result.Verdict != trial.Valid || result.Attempt != 1 {
		t.Errorf("%+v, want a valid trial in one attempt", result)
	}
	if how := s.rows[0].Provisioned.Precondition; how != campaign.PreconditionFill {
		t.Errorf("the disk was provided with the precondition %q, want the campaign's", how)
	}
}

func TestVerdicts(t *testing.T) {
	differ := int64(4096)
	for _, test := range []struct {
		name     string
		fail     map[string][]error
		differ   *int64
		verdict  trial.Verdict
		reason   string
		collects int
	}{
		{name: "the migration fails: a result, with its samples", verdict: trial.TargetFailed, reason: "did not converge", collects: 1,
			fail: map[string][]error{"Migrate": {fault.New(fault.TargetFailed, "did not converge")}}},
		{name: "replicas differ", verdict: trial.TargetFailed, reason: "differ in 4096 bytes", collects: 1, differ: &differ},
		{name: "the path is wrong: the lane may try again", verdict: trial.Invalid, reason: "no delay",
			fail: map[string][]error{"Certify": {fault.New(fault.Invalid, "no delay")}}},
		{name: "the infrastructure fails once: the activity is tried again", verdict: trial.Valid, collects: 1,
			fail: map[string][]error{"Provision": {errors.New("connection refused")}}},
		{name: "bad input is not tried again", verdict: trial.Invalid, reason: "no storage system",
			fail: map[string][]error{"Provision": {fault.New(fault.BadInput, "no storage system")}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newStage(t)
			s.fail = test.fail
			if s.fail == nil {
				s.fail = map[string][]error{}
			}
			if test.differ != nil {
				s.env.OnActivity("Verify", anything, anything).Return(activities.Verified{OutOfSyncBytes: test.differ}, nil)
			}
			result := s.run(t, trialInput(inventory.Simulated))
			if result.Verdict != test.verdict || !strings.Contains(result.Reason, test.reason) {
				t.Errorf("%+v, want %s because of %q", result, test.verdict, test.reason)
			}
			if s.count("Teardown") != 1 || len(s.rows) != 1 {
				t.Errorf("%d teardowns and %d rows", s.count("Teardown"), len(s.rows))
			}
			if s.count("Collect") != test.collects {
				t.Errorf("collected %d times, want %d", s.count("Collect"), test.collects)
			}
		})
	}
}

// TestTeardownGoesOn: nothing may use the testbed before it is as it was.
func TestTeardownGoesOn(t *testing.T) {
	s := newStage(t)
	for range 3 {
		s.fail["Teardown"] = append(s.fail["Teardown"], errors.New("host does not answer"))
	}
	if result := s.run(t, trialInput(inventory.Simulated)); result.Verdict != trial.Valid || s.count("Teardown") != 4 {
		t.Errorf("%+v after %d teardowns, want valid after 4", result, s.count("Teardown"))
	}
}

// TestRowBeforeTeardown: what was measured is in the dataset, whatever becomes of the
// hosts, and so is the fact that they could not be torn down.
func TestRowBeforeTeardown(t *testing.T) {
	s := newStage(t)
	s.fail["Teardown"] = []error{fault.New(fault.BadInput, "host-b does not answer for 7 days")}
	s.env.ExecuteWorkflow(workflows.TrialName, trialInput(inventory.Simulated))
	require.ErrorContains(t, s.env.GetWorkflowError(), "could not be torn down")
	require.Len(t, s.rows, 1)
	assert.Equal(t, trial.Valid, s.rows[0].Verdict)
	require.Len(t, s.torn, 1)
	assert.Contains(t, s.torn[0].Problem, "host-b does not answer")
}

// TestTornDownWithoutARow: when the row cannot be written, the hosts are still torn down.
func TestTornDownWithoutARow(t *testing.T) {
	s := newStage(t)
	s.fail["Conclude"] = []error{fault.New(fault.BadInput, "another dataset")}
	s.env.ExecuteWorkflow(workflows.TrialName, trialInput(inventory.Simulated))
	require.ErrorContains(t, s.env.GetWorkflowError(), "another dataset")
	assert.Equal(t, 1, s.count("Teardown"))
}

// TestNothingAcquiredNothingTornDown: a trial that is cancelled while it waits for its
// hosts ends at once.
func TestNothingAcquiredNothingTornDown(t *testing.T) {
	for at, waits := range map[string]any{
		"Raise": waiting[activities.Target, struct{}], "Install": waiting[activities.Target, struct{}], "Sweep": waiting[activities.SweepInput, activities.Swept],
	} {
		s := newStage(t)
		s.env.OnActivity(at, anything, anything).Return(waits)
		s.env.SetOnActivityStartedListener(func(info *activity.Info, _ context.Context, _ converter.EncodedValues) {
			if info.ActivityType.Name == at {
				s.env.CancelWorkflow()
			}
		})
		s.env.ExecuteWorkflow(workflows.TrialName, realInput())
		assert.True(t, temporal.IsCanceledError(s.env.GetWorkflowError()), at)
		assert.Equal(t, []int{0, 0}, []int{s.count("Teardown"), s.count("TornDown")}, at)
		require.Len(t, s.rows, 1)
		assert.Equal(t, trial.Skipped, s.rows[0].Verdict)
	}
}

// waiting is an activity that waits for its hosts until it is cancelled.
func waiting[I, O any](ctx context.Context, _ I) (O, error) {
	<-ctx.Done()
	var none O
	return none, ctx.Err()
}

// TestWaitingForTheTestbed: the wait is not part of the attempt's time.
func TestWaitingForTheTestbed(t *testing.T) {
	s := newStage(t)
	input := realInput()
	input.Limits.Trial = 5 * time.Second
	for range 4 { // 2 s, 4 s, 8 s and 16 s of pauses
		s.fail["Raise"] = append(s.fail["Raise"], errors.New("no port is free"))
		s.fail["Sweep"] = append(s.fail["Sweep"], errors.New("host does not answer"))
	}
	if result := s.run(t, input); result.Verdict != trial.Valid || result.Attempt != 1 || s.count("Raise") != 5 {
		t.Errorf("%+v, want one valid attempt; %v", result, s.called())
	}
}

// TestOnlyTestbedsOfTheLabAreRaised: they are started before anything else is done with
// them.
func TestOnlyTestbedsOfTheLabAreRaised(t *testing.T) {
	for kind, want := range map[inventory.Kind]string{inventory.Emulated: "Raise", inventory.VCenterSimulator: "Raise",
		inventory.Hardware: "Install", inventory.Simulated: "Sweep"} {
		s := newStage(t)
		input := realInput()
		if kind == inventory.Simulated {
			input = trialInput(kind)
		}
		input.Lane.Kind = kind
		s.run(t, input)
		raised := 0
		if kind.IsLab() {
			raised = 1
		}
		if len(s.called()) == 0 || s.called()[0] != want || s.count("Raise") != raised {
			t.Errorf("%s: %v, want %s first", kind, s.called(), want)
		}
	}
}

// machines are the machines of a testbed, with workers or without.
func machines(workers bool) []trial.Machine {
	return []trial.Machine{
		{Name: "host-a", Site: "a", Shell: true, Worker: workers, Witness: true, Clock: true},
		{Name: "host-b", Site: "b", Shell: true, Worker: workers, Witness: true, Clock: true},
		{Name: "store", Shell: true, Worker: workers, Witness: true, Clock: true},
		{Name: trial.Guest, Shell: true, Worker: workers, Witness: true},
	}
}

// realInput is a trial on a testbed with workers. Its phases are short: the
// environment does not skip time while activities go on.
func realInput() workflows.TrialInput {
	input := trialInput(inventory.Emulated)
	input.Phases = campaign.Phases{WarmUp: 20 * time.Millisecond, Before: 20 * time.Millisecond, After: 20 * time.Millisecond}
	input.Lane.Machines = machines(true)
	return input
}

func TestWorkersAndRecordings(t *testing.T) {
	s := newStage(t)
	if result := s.run(t, realInput()); result.Verdict != trial.Valid {
		t.Errorf("%+v", result)
	}
	for name, want := range map[string]int{"Install": 1, "Link": 4, "HoldWAN": 1, "FollowClocks": 1, "FollowWitness": 4, "AwaitSteady": 1, "FollowLoad": 1} {
		if s.count(name) != want {
			t.Errorf("%s was called %d times, want %d", name, s.count(name), want)
		}
	}
	s = newStage(t)
	input := realInput()
	input.Lane.Machines = machines(false)
	s.run(t, input)
	if s.count("Install") != 1 || s.count("Link") != 0 || s.count("FollowLoad") != 1 {
		t.Errorf("an agentless testbed: %v", s.called())
	}
}

// inputs runs a trial and returns the input of each kind of step.
func inputs(t *testing.T, workers bool, change func(*stage)) map[string]string {
	t.Helper()
	input := realInput()
	input.Lane.Machines, input.Lane.Inventory = machines(workers), "/lab/inventory.yaml"
	input.Trial.Cell.Access = campaign.AccessSpec{Name: "4k-mixed-random", Outstanding: 1, Lines: []campaign.AccessLine{{SizeBytes: 4096, SharePercent: 100}}}
	s, told := newStage(t), map[string]string{}
	change(s)
	s.env.SetOnActivityStartedListener(func(info *activity.Info, _ context.Context, args converter.EncodedValues) {
		var text json.RawMessage
		if err := args.Get(&text); err != nil {
			t.Error(err)
		}
		told[info.ActivityType.Name] = string(text)
	})
	s.run(t, input)
	return told
}

// TestStepsAreToldWhatTheyUse: inputs of steps are part of the trial's history, which is in
// the server's database for 90 days.
func TestStepsAreToldWhatTheyUse(t *testing.T) {
	const access, timeline, inventory = `"access"`, `"timeline"`, `"inventory"`
	for _, test := range []struct {
		workers       bool
		with, without []string
		steps         []string
	}{
		{true, []string{access, timeline, inventory}, nil, []string{"Provision", "Migrate", "Look", "Collect", "Conclude"}},
		{true, []string{inventory}, []string{access, timeline}, []string{"Install", "Sweep", "Link", "Certify", "FollowClocks", "Verify", "Teardown", "TornDown"}},
		{true, nil, []string{access, timeline, inventory}, []string{"Shape", "HoldWAN", "StartWitness", "FollowWitness", "StartLoad", "FollowLoad", "AwaitSteady"}},
		// Over SSH the controller needs all of it to find the recording.
		{false, []string{access, timeline, inventory}, nil, []string{"Shape", "HoldWAN", "StartWitness", "FollowWitness", "StartLoad", "FollowLoad", "AwaitSteady"}},
	} {
		told := inputs(t, test.workers, func(*stage) {})
		for _, step := range test.steps {
			for _, word := range append(test.with, `"campaign"`, `"wan"`) {
				if !strings.Contains(told[step], word) {
					t.Errorf("workers %t: %s is not told of %s: %s", test.workers, step, word, told[step])
				}
			}
			for _, word := range test.without {
				if strings.Contains(told[step], word) {
					t.Errorf("workers %t: %s is told of %s: %s", test.workers, step, word, told[step])
				}
			}
		}
	}
}

// TestWhoFollowsIsToldWhereThatIs: only the step that starts a recording gets its whole
// configuration, once.
func TestWhoFollowsIsToldWhereThatIs(t *testing.T) {
	own, fio := campaign.AccessSpec{Engine: spec.EngineOwn}, campaign.AccessSpec{Engine: spec.EngineFio}
	for _, test := range []struct {
		workers bool
		access  campaign.AccessSpec
		config  []string // the steps that are told all
		folder  []string // those that are told where it is alone
	}{
		{true, own, []string{"StartWitness", "StartLoad"}, []string{"FollowWitness", "FollowLoad", "AwaitSteady"}},
		{true, fio, []string{"StartWitness", "StartLoad", "FollowLoad", "AwaitSteady"}, []string{"FollowWitness"}},
		{false, own, nil, nil}, // over SSH nothing is said of it
	} {
		provisioned := activities.Provisioned{Load: machine.RecordingSetup{Dir: "/run/of-it", Load: &engine.Config{Access: test.access, Page: "all-of-it"}},
			Witnesses: map[string]machine.RecordingSetup{}}
		for _, m := range machines(test.workers) {
			provisioned.Witnesses[m.Name] = machine.RecordingSetup{Dir: "/run/of-it", Host: &witness.HostConfig{Watcher: "all-of-it"}}
		}
		told := inputs(t, test.workers, func(s *stage) {
			s.env.OnActivity("Provision", anything, anything).Return(provisioned, nil)
		})
		for _, step := range []string{"StartWitness", "FollowWitness", "StartLoad", "FollowLoad", "AwaitSteady"} {
			all, where := slices.Contains(test.config, step), slices.Contains(test.folder, step)
			if strings.Contains(told[step], "all-of-it") != all || strings.Contains(told[step], "/run/of-it") != (all || where) {
				t.Errorf("workers %t, engine %s: %s is told %s", test.workers, test.access.Engine, step, told[step])
			}
		}
	}
}

// TestAttributesOfATrial: the server shows where a trial is while it runs; with local steps
// the server only hears of it at the end.
func TestAttributesOfATrial(t *testing.T) {
	for kind, want := range map[inventory.Kind]int{inventory.Simulated: 1, inventory.Emulated: len(trial.Phases) + 1} {
		s, changes := newStage(t), 0
		s.env.OnUpsertTypedSearchAttributes(anything).Run(func(mock.Arguments) { changes++ }).Return(nil)
		input := realInput()
		if kind == inventory.Simulated {
			input = trialInput(kind)
		}
		s.run(t, input)
		assert.Equal(t, want, changes, kind)
	}
}

// TestActivitiesAtOnce: the controller keeps places for that many activities of each lane;
// a trial that needed more would make a teardown wait for other trials.
func TestActivitiesAtOnce(t *testing.T) {
	const controller = "heliotrope.1234"
	for _, workers := range []bool{false, true} { // what is on a machine's own queue needs no place here
		input := realInput()
		input.Lane.Machines = nil
		for _, name := range []string{"host-a", "host-b", "store", "helper-a", "helper-b", trial.Guest} {
			input.Lane.Machines = append(input.Lane.Machines, trial.Machine{Name: name, Shell: true, Worker: workers, Witness: true, Clock: name != trial.Guest})
		}
		s, running, most := newStage(t), map[string]bool{}, 0
		s.env.SetStartWorkflowOptions(client.StartWorkflowOptions{TaskQueue: controller})
		s.env.SetOnActivityStartedListener(func(info *activity.Info, _ context.Context, _ converter.EncodedValues) {
			s.mu.Lock()
			defer s.mu.Unlock()
			if info.TaskQueue == controller {
				running[info.ActivityID] = true
				most = max(most, len(running))
			}
		})
		ended := func(info *activity.Info) {
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(running, info.ActivityID)
		}
		s.env.SetOnActivityCompletedListener(func(info *activity.Info, _ converter.EncodedValue, _ error) { ended(info) })
		s.env.SetOnActivityCanceledListener(ended)
		if result := s.run(t, input); result.Verdict != trial.Valid {
			t.Errorf("%+v", result)
		}
		t.Logf("with workers %t: %d activities at once", workers, most)
		if most <= len(input.Lane.Machines) || most > workflows.ActivitiesAtOnce {
			t.Errorf("with workers %t: %d activities at once, want more than one for each machine, and at most %d", workers, most, workflows.ActivitiesAtOnce)
		}
	}
}

// TestQueues: everything that a controller begins is for its own queue, or for a queue
// whose name begins with its own, so that two controllers on one server share nothing.
func TestQueues(t *testing.T) {
	const controller = "heliotrope.1234"
	s := newStage(t)
	s.env.SetStartWorkflowOptions(client.StartWorkflowOptions{TaskQueue: controller})
	queues := map[string]bool{}
	s.env.SetOnActivityStartedListener(func(info *activity.Info, _ context.Context, _ converter.EncodedValues) {
		s.mu.Lock()
		defer s.mu.Unlock()
		queues[info.TaskQueue] = true
	})
	if result := s.run(t, realInput()); result.Verdict != trial.Valid {
		t.Errorf("%+v", result)
	}
	lane := realInput().Lane.Name
	for _, want := range []string{controller, controller + "." + lane + ".store", controller + "." + lane + ".guest.test.00007.1"} {
		if !queues[want] {
			t.Errorf("nothing was for the queue %s: %v", want, queues)
		}
	}
	for queue := range queues {
		if queue != controller && !strings.HasPrefix(queue, controller+".") {
			t.Errorf("something was for the queue %s", queue)
		}
	}
}

// TestNothingFollowsTheGuestWhenItsDiskIsVerified: the guest may be switched off for that.
func TestNothingFollowsTheGuestWhenItsDiskIsVerified(t *testing.T) {
	s := newStage(t)
	running := map[string]string{} // by ID
	var began, beside []string     // of the verification
	s.env.SetOnActivityStartedListener(func(info *activity.Info, _ context.Context, args converter.EncodedValues) {
		s.mu.Lock()
		defer s.mu.Unlock()
		name := info.ActivityType.Name
		var link activities.LinkInput
		if name == "Link" && args.Get(&link) == nil {
			name += " " + link.Machine
		}
		if name == "Verify" {
			beside = slices.Sorted(maps.Values(running))
		}
		if strings.HasPrefix(name, "Follow") || strings.HasPrefix(name, "Link") {
			running[info.ActivityID], began = name, append(began, name)
		}
	})
	s.env.SetOnActivityCanceledListener(func(info *activity.Info) {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(running, info.ActivityID)
	})
	s.run(t, realInput())
	if !slices.Contains(began, "Link guest") || !slices.Contains(began, "FollowLoad") {
		t.Errorf("began are %q", began)
	}
	if want := []string{"Link host-a", "Link host-b", "Link store"}; !slices.Equal(beside, want) {
		t.Errorf("beside the verification ran %q, want %q", beside, want)
	}
}

// TestFollowersEndBeforeTheirWorkers: a worker on a host is stopped only when what it runs
// has ended. If it is stopped earlier, nobody answers a cancellation, and the trial's end
// waits for a heartbeat time-out.
func TestFollowersEndBeforeTheirWorkers(t *testing.T) {
	for _, cancelled := range []bool{false, true} {
		s := newStage(t)
		s.env.SetOnActivityStartedListener(func(info *activity.Info, _ context.Context, _ converter.EncodedValues) {
			if cancelled && info.ActivityType.Name == "Migrate" {
				s.env.CancelWorkflow()
			}
		})
		var ended []string
		s.env.SetOnActivityCanceledListener(func(info *activity.Info) {
			if name := info.ActivityType.Name; name == "HoldWAN" || name == "Link" {
				ended = append(ended, name)
			}
		})
		s.env.ExecuteWorkflow(workflows.TrialName, realInput())
		if want := []string{"Link", "HoldWAN", "Link", "Link", "Link"}; !slices.Equal(ended, want) { // the guest's first
			t.Errorf("cancelled %t: %q were ended in this order, want %q", cancelled, ended, want)
		}
	}
}

// TestHostsWithoutAShell: nothing is started or followed on them, and the helpers at the
// sites have witnesses instead.
func TestHostsWithoutAShell(t *testing.T) {
	s := newStage(t)
	var watched []string
	s.env.SetOnActivityStartedListener(func(info *activity.Info, _ context.Context, args converter.EncodedValues) {
		var input machine.RecordingInput
		if name := info.ActivityType.Name; name == "StartWitness" || name == "FollowWitness" {
			if err := args.Get(&input); err != nil {
				t.Error(err)
			}
			s.mu.Lock()
			watched = append(watched, name+" "+input.Machine)
			s.mu.Unlock()
		}
	})
	input := realInput()
	input.Lane.Kind, input.Lane.Machines = inventory.Hardware, []trial.Machine{{Name: "host-a", Site: "a"}, {Name: "host-b", Site: "b"},
		{Name: "helper-a", End: "a", Shell: true, Witness: true, Clock: true}, {Name: "helper-b", End: "b", Shell: true, Witness: true, Clock: true},
		{Name: trial.Guest, Shell: true, Witness: true}}
	if result := s.run(t, input); result.Verdict != trial.Valid {
		t.Errorf("%+v", result)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	slices.Sort(watched)
	want := []string{"FollowWitness guest", "FollowWitness helper-a", "FollowWitness helper-b", "StartWitness guest", "StartWitness helper-a", "StartWitness helper-b"}
	if !slices.Equal(watched, want) || slices.Contains(s.calls, "Link") {
		t.Errorf("watched %q, called %q", watched, s.calls)
	}
}

// TestControls: a trial without a migration, and one with a pause instead.
func TestControls(t *testing.T) {
	for control, want := range map[string][2]int{campaign.ControlNone: {0, 0}, campaign.ControlPause: {0, 1}, campaign.ControlLAN: {1, 0}} {
		s := newStage(t)
		input := trialInput(inventory.Simulated)
		input.Trial.Cell.Control, input.Trial.Cell.Hold = control, 5*time.Second
		if result := s.run(t, input); result.Verdict != trial.Valid {
			t.Errorf("%s: %+v", control, result)
		}
		if s.count("Migrate") != want[0] || s.count("Pause") != want[1] {
			t.Errorf("%s: %v", control, s.called())
		}
	}
}

// TestEvidence: a failure leaves its evidence before the teardown removes it, and what the
// evidence shows counts more than what ended the attempt.
func TestEvidence(t *testing.T) {
	s := newStage(t)
	s.fail["Migrate"] = []error{fault.Because(fault.Invalid, cause.LoadDied, errors.New("fio was killed"))}
	s.env.OnActivity("Evidence", anything, anything).Return(func(context.Context, activities.EvidenceInput) (activities.Found, error) {
		_ = s.call("Evidence")
		return activities.Found{Cause: cause.GuestCrash, Reason: "domain lab.guest is crashed"}, nil
	})
	result := s.run(t, trialInput(inventory.Simulated))
	if result.Verdict != trial.TargetFailed || result.Cause != cause.GuestCrash || result.Attempt != 1 ||
		!strings.Contains(result.Reason, "is crashed") || !strings.Contains(result.Reason, "fio was killed") {
		t.Errorf("%+v", result)
	}
	if at := slices.Index(s.called(), "Evidence"); at < 0 || at > slices.Index(s.called(), "Teardown") {
		t.Errorf("%v: want the evidence before the teardown", s.called())
	}

	s = newStage(t)
	s.fail["Certify"] = []error{fault.Because(fault.Invalid, cause.WANOutOfTolerance, errors.New("no delay"))}
	input := trialInput(inventory.Simulated)
	input.Limits.Attempts = 1
	if result := s.run(t, input); result.Verdict != trial.Invalid || result.Cause != cause.WANOutOfTolerance || s.count("Evidence") != 1 {
		t.Errorf("%+v, %v", result, s.called())
	}
	s = newStage(t)
	if s.run(t, trialInput(inventory.Simulated)); s.count("Evidence") != 0 {
		t.Errorf("a valid trial has evidence: %v", s.called())
	}
}

// TestLostWrite: a lost write is the gravest result.
func TestLostWrite(t *testing.T) {
	s := newStage(t)
	s.env.OnActivity("Verify", anything, anything).Return(activities.Verified{Ledger: []ledger.Report{
		{Copy: "site-b", Host: "host-b", Checked: 90, Found: 90}, {Copy: "replica-a", Host: "host-a", Checked: 90, Found: 88, LostCount: 2}}}, nil)
	result := s.run(t, trialInput(inventory.Simulated))
	if result.Verdict != trial.TargetFailed || result.Cause != cause.LostWrite || result.Attempt != 1 ||
		!strings.Contains(result.Reason, "2 of 90 acknowledged writes are not on replica-a of host-a") {
		t.Errorf("%+v", result)
	}
}

// TestWANChanged: a measurement on another path is not valid, and a failure of the target
// on it is no result either.
func TestWANChanged(t *testing.T) {
	changed := fault.Because(fault.Invalid, cause.WANChanged, errors.New("the path was changed by somebody: delay 2ms instead of 40ms"))
	failed := fault.Because(fault.TargetFailed, cause.MigrationFailed, errors.New("did not converge"))
	for name, fail := range map[string]map[string][]error{
		"found by a renewal":                {"HoldWAN": {changed}},
		"found after the target had failed": {"Migrate": {failed}, "CheckWAN": {changed}},
		"held by another from the start":    {"Shape": {changed}},
	} {
		s := newStage(t)
		input := realInput()
		input.Limits.Attempts = 1
		s.fail = fail
		result := s.run(t, input)
		if result.Verdict != trial.Invalid || result.Cause != cause.WANChanged || !strings.Contains(result.Reason, "delay 2ms instead of 40ms") {
			t.Errorf("%s: %+v", name, result)
		}
		if s.count("HoldWAN") > 1 || s.count("Teardown") != 1 {
			t.Errorf("%s: %v", name, s.called())
		}
	}
	for name, check := range map[string]error{"the path is as it was": nil, "nobody can tell": fault.As(fault.BadInput, errors.New("no host"))} {
		s := newStage(t)
		s.fail["Migrate"], s.fail["CheckWAN"] = []error{failed}, []error{check}
		if result := s.run(t, realInput()); result.Verdict != trial.TargetFailed || result.Cause != cause.MigrationFailed || s.count("CheckWAN") != 1 {
			t.Errorf("%s: %+v, %v", name, result, s.called())
		}
	}
}

// TestLoadEndsByItself: a measurement with a hole is not valid.
func TestLoadEndsByItself(t *testing.T) {
	s := newStage(t)
	input := realInput()
	input.Limits.Attempts = 1
	s.fail["FollowLoad"] = []error{fault.Because(fault.Invalid, cause.LoadDied, errors.New("fio was killed"))}
	result := s.run(t, input)
	if result.Verdict != trial.Invalid || !strings.Contains(result.Reason, "fio was killed") {
		t.Errorf("%+v", result)
	}
	if s.count("Migrate") != 0 || s.count("Teardown") != 1 {
		t.Errorf("%v", s.called())
	}
}

func TestCancelledTrialIsTornDown(t *testing.T) {
	for _, at := range []string{"Provision", "FollowLoad", "Migrate"} {
		t.Run(at, func(t *testing.T) {
			s := newStage(t)
			s.env.SetOnActivityStartedListener(func(info *activity.Info, _ context.Context, _ converter.EncodedValues) {
				if info.ActivityType.Name == at {
					s.env.CancelWorkflow()
				}
			})
			s.env.ExecuteWorkflow(workflows.TrialName, realInput())
			if err := s.env.GetWorkflowError(); !temporal.IsCanceledError(err) {
				t.Errorf("%v, want a cancellation", err)
			}
			if s.count("Teardown") != 1 {
				t.Errorf("%v: want one teardown", s.called())
			}
			if len(s.rows) != 1 || s.rows[0].Verdict != trial.Skipped {
				t.Errorf("rows %+v, want one that is skipped", s.rows)
			}
		})
	}
}

// TestAttemptLimit: an attempt that hangs is ended and torn down.
func TestAttemptLimit(t *testing.T) {
	s := newStage(t)
	input := realInput()
	input.Limits.Attempts, input.Limits.Trial = 1, 2*time.Second
	input.Phases.Before = time.Hour
	result := s.run(t, input)
	if result.Verdict != trial.Invalid || !strings.Contains(result.Reason, "longer than its limit of 2s, in phase before") {
		t.Errorf("%+v", result)
	}
	if s.count("Teardown") != 1 {
		t.Errorf("%v", s.called())
	}
}

// TestNothingRunsBesideTheTeardown: when an activity that must go on has ended, the running
// step is cancelled before the testbed is torn down.
func TestNothingRunsBesideTheTeardown(t *testing.T) {
	s := newStage(t)
	input := realInput()
	input.Limits.Attempts = 1
	moving := make(chan struct{})
	s.env.OnActivity("Migrate", anything, anything).Return(func(ctx context.Context, _ activities.MigrateInput) (activities.Migrated, error) {
		close(moving)
		<-ctx.Done()
		return activities.Migrated{}, ctx.Err()
	})
	s.env.OnActivity("FollowLoad", anything, anything).Return(func(context.Context, machine.RecordingInput) error {
		<-moving
		return wire.ToTemporal(fault.Because(fault.Invalid, cause.LoadDied, errors.New("fio was killed")))
	})
	s.env.SetOnActivityCanceledListener(func(info *activity.Info) { _ = s.call("cancel " + info.ActivityType.Name) })
	result := s.run(t, input)
	if result.Verdict != trial.Invalid || !strings.Contains(result.Reason, "fio was killed") {
		t.Errorf("%+v", result)
	}
	cancelled, torn := slices.Index(s.called(), "cancel Migrate"), slices.Index(s.called(), "Teardown")
	if cancelled < 0 || torn < cancelled || s.count("Teardown") != 1 {
		t.Errorf("%v: want Migrate cancelled before the one teardown", s.called())
	}
}

// TestWhatDoesNotComeBack: a guest that hangs after its migration, and a disk that stays
// away, are results, whatever ended the phase; a guest that hangs is not asked for
// anything.
func TestWhatDoesNotComeBack(t *testing.T) {
	died := fault.Because(fault.Invalid, cause.LoadDied, errors.New("guest: what recorded ended by itself"))
	hung := activities.Looked{Verdict: trial.TargetFailed, Cause: cause.GuestHung, Reason: "nothing was heard of the guest for 31s"}
	lost := activities.Looked{Verdict: trial.TargetFailed, Cause: cause.NoRecovery, Reason: "no I/O has completed for 31s"}
	ended := activities.Looked{Verdict: trial.Invalid, Cause: cause.LoadDied, Reason: "it ended by itself and said EIO"}
	for name, c := range map[string]struct {
		looked activities.Looked
		fail   map[string][]error
		kind   inventory.Kind
		want   activities.Looked
	}{
		"a guest that hangs":               {looked: hung, kind: inventory.Simulated, want: hung},
		"a disk that stays away":           {looked: lost, kind: inventory.Emulated, want: lost},
		"a load that ended just now":       {looked: ended, kind: inventory.Emulated, want: ended},
		"nobody can tell":                  {fail: map[string][]error{"Look": {fault.New(fault.BadInput, "no host")}}, kind: inventory.Emulated, want: activities.Looked{Verdict: trial.Valid}},
		"on a path that somebody changed":  {looked: hung, fail: map[string][]error{"CheckWAN": {fault.Because(fault.Invalid, cause.WANChanged, errors.New("delay 2ms"))}}, kind: inventory.Emulated, want: activities.Looked{Verdict: trial.Invalid, Cause: cause.WANChanged, Reason: "delay 2ms"}},
		"its load died in the warm-up":     {looked: hung, fail: map[string][]error{"AwaitSteady": {died}}, kind: inventory.Emulated, want: activities.Looked{Verdict: trial.Invalid, Cause: cause.LoadDied, Reason: "ended by itself"}},
		"the migration failed for another": {looked: hung, fail: map[string][]error{"Migrate": {fault.Because(fault.TargetFailed, cause.MigrationFailed, errors.New("refused"))}}, kind: inventory.Emulated, want: activities.Looked{Verdict: trial.TargetFailed, Cause: cause.MigrationFailed, Reason: "refused"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			s.fail = map[string][]error{}
			maps.Copy(s.fail, c.fail)
			var collects []activities.CollectInput
			s.env.SetOnActivityStartedListener(func(info *activity.Info, _ context.Context, args converter.EncodedValues) {
				var input activities.CollectInput
				if info.ActivityType.Name == "Collect" && args.Get(&input) == nil {
					collects = append(collects, input)
				}
			})
			s.looked = c.looked
			input := trialInput(inventory.Simulated)
			if c.kind != inventory.Simulated {
				input = realInput()
			}
			input.Limits.Attempts = 1
			result := s.run(t, input)
			if result.Verdict != c.want.Verdict || result.Cause != c.want.Cause || !strings.Contains(result.Reason, c.want.Reason) {
				t.Errorf("%+v, want %+v", result, c.want)
			}
			hung := s.count("Look") > 0 && c.looked.Cause == cause.GuestHung
			for _, collect := range collects {
				if collect.Failed != (c.want.Verdict != trial.Valid) || collect.Hung != hung {
					t.Errorf("collected by %+v", collect)
				}
			}
		})
	}
}

// TestGuestThatIsGone: the end of an activity that follows the guest ends phase after
// early, and Look finds the reason.
func TestGuestThatIsGone(t *testing.T) {
	s := newStage(t)
	s.looked = activities.Looked{Verdict: trial.TargetFailed, Cause: cause.GuestHung, Reason: "nothing was heard of the guest for 31s"}
	moved := make(chan struct{})
	s.env.SetOnActivityCompletedListener(func(info *activity.Info, _ converter.EncodedValue, _ error) {
		if info.ActivityType.Name == "Migrate" {
			close(moved)
		}
	})
	s.env.OnActivity("FollowLoad", anything, anything).Return(func(context.Context, machine.RecordingInput) error {
		<-moved
		return wire.ToTemporal(fault.Because(fault.Invalid, cause.LoadDied, errors.New("guest: what recorded ended by itself")))
	})
	input := realInput()
	input.Phases.After = time.Hour
	if result := s.run(t, input); result.Verdict != trial.TargetFailed || result.Cause != cause.GuestHung || result.Attempt != 1 {
		t.Errorf("%+v, %v", result, s.called())
	}
}

// TestWhatIsNotLookedAt: without a migration there is nothing to come back from.
func TestWhatIsNotLookedAt(t *testing.T) {
	s := newStage(t)
	input := trialInput(inventory.Simulated)
	input.Trial.Cell.Control, input.Trial.Cell.Hold = campaign.ControlNone, time.Second
	if s.run(t, input); s.count("Look") != 0 || s.count("Collect") != 1 {
		t.Errorf("%v", s.called())
	}
}

// TestSplitBrainIsTold: what the storage shows names the failure, and the ledger is read
// from the copies even though the target has failed, and because it has.
func TestSplitBrainIsTold(t *testing.T) {
	s := newStage(t)
	s.fail["Migrate"] = []error{fault.Because(fault.TargetFailed, cause.StorageFailed, errors.New("held open by someone"))}
	s.env.OnActivity("Evidence", anything, anything).Return(activities.Found{Cause: cause.SplitBrain, Reason: "both replicas stand alone"}, nil)
	var verified []activities.VerifyInput
	s.env.OnActivity("Verify", anything, anything).Return(func(_ context.Context, input activities.VerifyInput) (activities.Verified, error) {
		verified = append(verified, input)
		return activities.Verified{Ledger: []ledger.Report{{Copy: "replica-a", Host: "host-a", Checked: 90, Found: 90}}}, nil
	})
	result := s.run(t, trialInput(inventory.Simulated))
	if result.Verdict != trial.TargetFailed || result.Cause != cause.SplitBrain || !strings.Contains(result.Reason, "both replicas stand alone (held open by someone)") {
		t.Errorf("%+v", result)
	}
	if len(verified) != 1 || !verified[0].Failed || len(s.rows) != 1 || len(s.rows[0].Verified.Ledger) != 1 {
		t.Errorf("verified by %+v, the row has %+v", verified, s.rows)
	}
}

// TestResultStandsWhenTheAttemptIsLate: reading a disk that does not come back may take up
// to the attempt's limit.
func TestResultStandsWhenTheAttemptIsLate(t *testing.T) {
	s := newStage(t)
	s.looked = activities.Looked{Verdict: trial.TargetFailed, Cause: cause.NoRecovery, Reason: "no I/O has completed for 31s"}
	s.env.OnActivity("Verify", anything, anything).Return(func(ctx context.Context, _ activities.VerifyInput) (activities.Verified, error) {
		<-ctx.Done()
		return activities.Verified{}, ctx.Err()
	})
	input := realInput()
	input.Limits.Trial = 3 * time.Second
	if result := s.run(t, input); result.Verdict != trial.TargetFailed || result.Cause != cause.NoRecovery || s.count("Teardown") != 1 {
		t.Errorf("%+v, %v", result, s.called())
	}
}
