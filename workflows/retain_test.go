package workflows_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"

	"heliotrope/internal/fault"
	"heliotrope/internal/trial"
	"heliotrope/workflows"
)

// TestRetain: a setup on which the target failed is kept, and torn down afterwards.
func TestRetain(t *testing.T) {
	s := newStage(t)
	s.fail["Migrate"] = []error{fault.New(fault.TargetFailed, "did not converge")}
	input := realInput()
	input.Limits.Retain = time.Second
	var waited time.Duration
	s.env.SetOnTimerScheduledListener(func(_ string, length time.Duration) {
		if s.count("Retain") > 0 {
			waited = max(waited, length)
		}
	})
	result := s.run(t, input)
	assert.Equal(t, trial.TargetFailed, result.Verdict)
	calls := s.called()
	assert.Equal(t, 1, s.count("Retain"))
	assert.Less(t, slices.Index(calls, "Retain"), slices.Index(calls, "Teardown"))
	assert.Equal(t, time.Second, waited)
}

// TestRetainsNothingElse: setups of valid and of invalid trials are not kept, and no setup
// is kept unless the campaign asks for it.
func TestRetainsNothingElse(t *testing.T) {
	s := newStage(t)
	input := realInput()
	input.Limits.Retain = time.Hour
	s.run(t, input)
	assert.Zero(t, s.count("Retain"))
	s = newStage(t)
	s.fail["Certify"] = []error{fault.New(fault.Invalid, "no delay")}
	s.run(t, input)
	assert.Zero(t, s.count("Retain"))
	s = newStage(t)
	s.fail["Migrate"] = []error{fault.New(fault.TargetFailed, "did not converge")}
	s.run(t, realInput())
	assert.Zero(t, s.count("Retain"))
}

// TestCancelEndsRetaining: a user who cancels wants the hosts back now.
func TestCancelEndsRetaining(t *testing.T) {
	s := newStage(t)
	s.fail["Migrate"] = []error{fault.New(fault.TargetFailed, "did not converge")}
	input := realInput()
	input.Limits.Retain = 24 * time.Hour
	s.env.SetOnActivityCompletedListener(func(info *activity.Info, _ converter.EncodedValue, _ error) {
		if info.ActivityType.Name == "Retain" {
			s.env.CancelWorkflow()
		}
	})
	s.env.ExecuteWorkflow(workflows.TrialName, input)
	assert.Equal(t, 1, s.count("Teardown"))
	assert.Equal(t, trial.TargetFailed, s.rows[0].Verdict, "what was found out stands")
}
