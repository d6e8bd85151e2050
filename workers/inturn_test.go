package workers

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

// TestCancelledStepEndsBeforeTheNext: a cancelled local activity that still does something
// has ended before the next one of its workflow begins.
func TestCancelledStepEndsBeforeTheNext(t *testing.T) {
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestWorkflowEnvironment()
	env.SetTestTimeout(time.Minute) // a busy machine is no deadlock
	env.SetWorkerOptions(worker.Options{DeadlockDetectionTimeout: time.Minute, Interceptors: []interceptor.WorkerInterceptor{&inTurn{}}})
	begun, left := make(chan struct{}), make(chan struct{})
	var over atomic.Bool
	follow := func(ctx context.Context) error {
		close(begun)
		<-ctx.Done()
		<-left // the workflow does not wait for this
		over.Store(true)
		return ctx.Err()
	}
	beside := func(context.Context) error { <-begun; return nil }
	next := func(context.Context) (bool, error) { return over.Load(), nil }
	for name, step := range map[string]any{"follow": follow, "beside": beside, "next": next} {
		env.RegisterActivityWithOptions(step, activity.RegisterOptions{Name: name})
	}
	env.ExecuteWorkflow(func(ctx workflow.Context) (ended bool, err error) {
		ctx = workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{StartToCloseTimeout: time.Minute})
		working, cancel := workflow.WithCancel(ctx)
		followed := workflow.ExecuteLocalActivity(working, "follow")
		if err := workflow.ExecuteLocalActivity(ctx, "beside").Get(ctx, nil); err != nil {
			return false, err
		}
		cancel()
		_ = followed.Get(ctx, nil) // at once
		close(left)
		err = workflow.ExecuteLocalActivity(ctx, "next").Get(ctx, &ended)
		return ended, err
	})
	require.NoError(t, env.GetWorkflowError())
	var ended bool
	require.NoError(t, env.GetWorkflowResult(&ended))
	assert.True(t, ended)
}

// TestWhatIsGivenUp: begin waits for activities that were cancelled, those of another run,
// and an earlier execution of the same activity; others that are running are left alone.
func TestWhatIsGivenUp(t *testing.T) {
	turns := &inTurn{}
	begin := func(run, id string) (*turn, []*turn) {
		mine := &turn{run: run, id: id, ended: make(chan struct{})}
		mine.ctx, mine.cancel = context.WithCancel(t.Context())
		before, err := turns.begin("trial/night/00001", mine)
		require.NoError(t, err)
		return mine, before
	}
	follower, before := begin("first", "1")
	assert.Empty(t, before)
	step, before := begin("first", "2")
	assert.Empty(t, before, "they go on side by side")
	step.cancel()
	again, before := begin("first", "1")
	assert.ElementsMatch(t, []*turn{follower, step}, before)
	require.Error(t, follower.ctx.Err(), "nobody waits for its result any more")
	turns.end("trial/night/00001", follower)
	turns.end("trial/night/00001", step)
	other, before := begin("second", "9")
	assert.Equal(t, []*turn{again}, before)
	turns.end("trial/night/00001", again)
	turns.end("trial/night/00001", other)
	assert.Empty(t, turns.running)
	<-other.ended
	_, err := turns.begin("trial/night/00001", &turn{run: "first", id: "3"})
	require.ErrorIs(t, err, errSuperseded, "it was terminated, and does not know it yet")
	_, err = turns.begin("trial/night/00002", &turn{run: "first", id: "3"})
	require.NoError(t, err, "of another workflow")
}
