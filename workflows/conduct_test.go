package workflows_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"

	"heliotrope/activities"
	"heliotrope/activities/machine"
	"heliotrope/internal/cause"
	"heliotrope/internal/fault"
	"heliotrope/internal/inventory"
	"heliotrope/internal/poll"
	"heliotrope/internal/steady"
	"heliotrope/internal/trial"
	"heliotrope/workflows"
)

// steps are the calls until now, without activities that are followed, which have no order,
// and without calls that only real testbeds get.
func (s *stage) steps() []string {
	return slices.DeleteFunc(s.called(), func(name string) bool {
		return goesOnBeside(name) || name == "Raise" || name == "Install"
	})
}

func goesOnBeside(name string) bool {
	return name == "HoldWAN" || name == "Link" || strings.HasPrefix(name, "Follow")
}

// beside are the activities that are followed when no worker of ours is on any machine.
var beside = []string{"HoldWAN", "FollowClocks", "FollowWitness", "FollowLoad"}

// TestSameStepsOnAModel: a trial on a model takes the steps of a real one in the same
// order, and follows the same activities until its data is collected, with both kinds of
// steps, and however it ends.
func TestSameStepsOnAModel(t *testing.T) {
	for name, fail := range map[string]map[string][]error{
		"valid":                  {},
		"the migration fails":    {"Migrate": {fault.New(fault.TargetFailed, "did not converge")}},
		"the path is wrong":      {"Certify": {fault.New(fault.Invalid, "no delay")}},
		"the load ends":          {"AwaitSteady": {fault.Because(fault.Invalid, cause.LoadDied, errors.New("fio was killed"))}},
		"the infrastructure":     {"Collect": {errors.New("connection refused")}},
		"nothing can be started": {"StartWitness": {fault.New(fault.BadInput, "no such machine")}},
	} {
		t.Run(name, func(t *testing.T) {
			played := func(input workflows.TrialInput) *stage {
				s := newStage(t)
				for name, errs := range fail {
					s.fail[name] = slices.Clone(errs)
				}
				input.Lane.Machines = []trial.Machine{{Name: trial.Guest, Witness: true}}
				input.Limits.Retain = 10 * time.Millisecond
				s.env.OnActivity("Collect", anything, anything).Return(func(ctx context.Context, _ activities.CollectInput) (activities.Collected, error) {
					if err := s.call("Collect"); err != nil {
						return activities.Collected{}, err
					}
					return activities.Collected{}, poll.Until(ctx, time.Millisecond, func(context.Context) (bool, error) {
						return !slices.ContainsFunc(beside, func(name string) bool { return s.count(name) == 0 }), nil
					})
				})
				s.run(t, input)
				return s
			}
			want := played(realInput())
			for _, local := range []bool{false, true} {
				input := trialInput(inventory.Simulated)
				input.Lane.LocalSteps = local
				found := played(input)
				assert.Equal(t, want.steps(), found.steps(), "local: %v", local)
				for _, name := range beside {
					assert.LessOrEqual(t, found.count(name), 1, name)
				}
				assert.Equal(t, want.rows[0].Verdict, found.rows[0].Verdict)
				assert.Equal(t, want.rows[0].Cause, found.rows[0].Cause)
			}
		})
	}
}

// TestRealStepsAreNeverLocal: what runs on a host is known to the server, whatever a lane's
// settings say.
func TestRealStepsAreNeverLocal(t *testing.T) {
	s := newStage(t)
	s.env.SetOnLocalActivityStartedListener(func(info *activity.Info, _ context.Context, _ []any) {
		t.Errorf("%s is a local activity", info.ActivityType.Name)
	})
	input := realInput()
	input.Lane.LocalSteps = true
	assert.Equal(t, trial.Valid, s.run(t, input).Verdict)
}

// TestVirtualTime: it passes as the steps and the phases say, and no timer is waited for.
func TestVirtualTime(t *testing.T) {
	s := newStage(t)
	s.env.SetOnTimerScheduledListener(func(string, time.Duration) { t.Error("a timer, on virtual time") })
	input := trialInput(inventory.Simulated)
	began := input.Began
	s.env.OnActivity("AwaitSteady", anything, anything).Return(machine.Steady{Verdict: steady.Verdict{Steady: true}, Now: began.Add(20 * time.Second)}, nil)
	s.env.OnActivity("Migrate", anything, anything).Return(activities.Migrated{Now: began.Add(time.Minute)}, nil)
	var ended activities.ConcludeInput
	s.env.OnActivity("Conclude", anything, anything).Return(func(_ context.Context, input activities.ConcludeInput) (activities.Concluded, error) {
		ended = input
		return activities.Concluded{Verdict: input.Known.Verdict}, nil
	})
	s.run(t, input)
	for phase, after := range map[trial.Phase]time.Duration{trial.WarmUp: 0, trial.Before: 20 * time.Second, trial.Migrate: 50 * time.Second,
		trial.After: time.Minute, trial.Collect: 90 * time.Second} {
		at, begun := ended.Ref.Timeline.Start(phase)
		require.True(t, begun, phase)
		assert.Equal(t, after, at.Sub(began), phase)
	}
	assert.Equal(t, 90*time.Second, ended.Ended.Sub(began))
}

// TestVirtualLimit: an attempt's limit is counted in its own time, which waits and steps
// let pass.
func TestVirtualLimit(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*workflows.TrialInput, *stage)
		phase  trial.Phase
	}{
		"in a wait": {func(input *workflows.TrialInput, _ *stage) { input.Phases.Before = time.Hour }, trial.Before},
		"in a step": {func(input *workflows.TrialInput, s *stage) {
			s.env.OnActivity("Migrate", anything, anything).Return(activities.Migrated{Now: input.Began.Add(2 * time.Hour)}, nil)
		}, trial.After}, // it is noticed when the step is over
	} {
		for _, local := range []bool{false, true} {
			s := newStage(t)
			input := trialInput(inventory.Simulated)
			input.Lane.LocalSteps, input.Limits.Trial = local, 30*time.Minute
			test.change(&input, s)
			result := s.run(t, input)
			assert.Equal(t, trial.Invalid, result.Verdict, name)
			assert.Equal(t, cause.TimeOut, result.Cause, name)
			assert.Contains(t, result.Reason, "longer than its limit of 30m0s, in phase "+string(test.phase), name)
			assert.Equal(t, 0, s.count("Collect"), name)
			assert.Equal(t, 1, s.count("Teardown"), name)
		}
	}
}

// TestRetainOnAModel: the setup is kept for a virtual time.
func TestRetainOnAModel(t *testing.T) {
	s := newStage(t)
	s.fail["Migrate"] = []error{fault.New(fault.TargetFailed, "did not converge")}
	input := trialInput(inventory.Simulated)
	input.Limits.Retain = 2 * time.Hour
	s.run(t, input)
	require.Len(t, s.torn, 1)
	assert.GreaterOrEqual(t, s.torn[0].Began.Sub(input.Began), 2*time.Hour)
	assert.Equal(t, 1, s.count("Retain"))
}
