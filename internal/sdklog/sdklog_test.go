package sdklog

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"heliotrope/internal/fault"
	"heliotrope/internal/fault/wire"
)

type input struct {
	Host string
	Fail string
}

func (i input) LogKeys() []any { return []any{"campaign", "c", "trial", "00007.1", "host", i.Host} }

func work(ctx context.Context, in input) error {
	activity.GetLogger(ctx).Info("at work", "step", 1)
	switch in.Fail {
	case "":
		return nil
	case "cancelled":
		return wire.ToTemporal(context.Canceled)
	}
	return wire.ToTemporal(errors.New(in.Fail))
}

// lines are what was logged, those of one message.
func lines(t *testing.T, log *bytes.Buffer, message string) (found []map[string]any) {
	t.Helper()
	for decoder := json.NewDecoder(bytes.NewReader(log.Bytes())); decoder.More(); {
		var line map[string]any
		require.NoError(t, decoder.Decode(&line))
		if line["message"] == message {
			found = append(found, line)
		}
	}
	return found
}

func environment(level zerolog.Level) (suite testsuite.WorkflowTestSuite, options worker.Options, log *bytes.Buffer) {
	log = new(bytes.Buffer)
	suite.SetLogger(Logger{To: zerolog.New(log).Level(level)})
	return suite, worker.Options{Interceptors: []interceptor.WorkerInterceptor{&Interceptor{}}}, log
}

func TestActivitiesLogWhoseTheyAre(t *testing.T) {
	suite, options, log := environment(zerolog.InfoLevel)
	env := suite.NewTestActivityEnvironment()
	env.SetWorkerOptions(options)
	env.RegisterActivityWithOptions(work, activity.RegisterOptions{Name: "Work"})

	_, err := env.ExecuteActivity("Work", input{Host: "host-a", Fail: "the disk is full"})
	require.Error(t, err)
	for message, level := range map[string]string{"at work": "info", "the activity failed": "error"} {
		found := lines(t, log, message)
		require.Len(t, found, 1, "%s in %s", message, log)
		line := found[0]
		require.Equal(t, level, line["level"])
		require.Equal(t, "c", line["campaign"])
		require.Equal(t, "00007.1", line["trial"])
		require.Equal(t, "host-a", line["host"])
		require.Equal(t, "Work", line["ActivityType"])
		require.EqualValues(t, 1, line["Attempt"])
	}
	failed := lines(t, log, "the activity failed")[0]
	require.Equal(t, "the disk is full", failed["error"])
	require.Equal(t, string(fault.Infrastructure), failed["class"])
}

func TestACancelledActivityIsNoFailure(t *testing.T) {
	suite, options, log := environment(zerolog.InfoLevel)
	env := suite.NewTestActivityEnvironment()
	env.SetWorkerOptions(options)
	env.RegisterActivityWithOptions(work, activity.RegisterOptions{Name: "Work"})
	_, err := env.ExecuteActivity("Work", input{Fail: "cancelled"})
	require.Error(t, err)
	require.Len(t, lines(t, log, "at work"), 1)
	require.Empty(t, lines(t, log, "the activity failed"))
}

// TestAFailureElsewhereIsToldByTheWorkflow: a worker on a host logs on that host.
func TestAFailureElsewhereIsToldByTheWorkflow(t *testing.T) {
	suite, options, log := environment(zerolog.InfoLevel)
	env := suite.NewTestWorkflowEnvironment()
	env.SetTestTimeout(time.Minute) // a busy machine is no deadlock
	env.SetWorkerOptions(options)
	env.RegisterActivityWithOptions(work, activity.RegisterOptions{Name: "Work"})
	env.ExecuteWorkflow(func(ctx workflow.Context) error {
		for _, queue := range []string{"", "the guest's"} {
			ctx := workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute, TaskQueue: queue,
				RetryPolicy: &temporal.RetryPolicy{MaximumAttempts: 2}})
			if err := workflow.ExecuteActivity(ctx, "Work", input{Host: "guest", Fail: "no such device"}).Get(ctx, nil); err == nil {
				return errors.New("it did not fail")
			}
		}
		return nil
	})
	require.NoError(t, env.GetWorkflowError())
	found := lines(t, log, "the activity failed for good")
	require.Len(t, found, 1, "of two queues: %s", log)
	require.Equal(t, "no such device", found[0]["error"])
	require.Equal(t, "Work", found[0]["activity"])
	require.Equal(t, "guest", found[0]["host"])
	require.Equal(t, "the guest's", found[0]["queue"])
}

// TestTheSDKRepeatsNothing: lines of the SDK about an error that was logged are left out, and no
// others.
func TestTheSDKRepeatsNothing(t *testing.T) {
	for name, test := range map[string]struct {
		text string
		err  error
		want int
	}{
		"an error of ours":        {"Activity error.", wire.ToTemporal(errors.New("x")), 0},
		"a cancellation":          {"Activity error.", temporal.NewCanceledError(), 0},
		"an input not understood": {"Activity error.", errors.New("unable to decode"), 1},
		"another line":            {"Activity panic.", wire.ToTemporal(errors.New("x")), 1},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			Logger{To: zerolog.New(&log)}.Error(test.text, "Attempt", 1, "Error", test.err)
			require.Len(t, lines(t, &log, test.text), test.want)
		})
	}
}
