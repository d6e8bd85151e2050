package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"heliotrope/activities"
	"heliotrope/activities/machine"
	"heliotrope/deploy/temporal"
	"heliotrope/internal/fault"
	"heliotrope/internal/poll"
	"heliotrope/internal/procs"
)

// TestControllersIdentity checks that a state folder has one controller for ever, and that
// a file that cannot be read is not replaced: the folder's campaigns wait for the identity
// in it.
func TestControllersIdentity(t *testing.T) {
	folder := t.TempDir()
	first, err := identify(folder)
	require.NoError(t, err)
	assert.Regexp(t, controllerID, first)
	again, err := identify(folder)
	require.NoError(t, err)
	assert.Equal(t, first, again)
	other, err := identify(t.TempDir())
	require.NoError(t, err)
	assert.NotEqual(t, first, other)
	path := filepath.Join(folder, controllerFile)
	for _, text := range []string{"", "{", `{"id": "../x"}`} {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		_, err := identify(folder)
		var usage usageError
		require.ErrorAs(t, err, &usage)
		assert.ErrorContains(t, err, path)
		kept, err := os.ReadFile(path)
		require.NoError(t, err)
		assert.Equal(t, text, string(kept))
	}
}

// TestWhoLives: for processes of this machine the kernel decides, whatever the server
// remembers of them; others count as alive for as long as they may be waiting for an
// answer.
func TestWhoLives(t *testing.T) {
	const id = "0123456789ab"
	own, err := identity(id)
	require.NoError(t, err)
	now := time.Now()
	p := parsePoller(own, now.Add(-time.Hour))
	assert.Equal(t, id, p.ID)
	assert.Equal(t, os.Getpid(), p.process.PID)
	assert.True(t, p.lives(now), "this process")

	child := exec.Command("sleep", "1000")
	require.NoError(t, child.Start())
	killed := p
	killed.process, err = procs.Look(child.Process.Pid)
	require.NoError(t, err)
	killed.seen = now
	assert.True(t, killed.lives(now))
	require.NoError(t, child.Process.Kill())
	require.Error(t, child.Wait())
	assert.False(t, killed.lives(now), "it was killed a moment ago")

	killed.place = "another machine"
	assert.True(t, killed.lives(now.Add(pollFresh-time.Second)))
	assert.False(t, killed.lives(now.Add(pollFresh)))

	for _, foreign := range []string{"", "4711@host@", "heliotrope/host/boot.1/12/13", "heliotrope.0123456789ab/host/boot.1/twelve/13"} {
		p := parsePoller(foreign, now)
		assert.Empty(t, p.ID, foreign)
		assert.True(t, p.lives(now), foreign)
	}
}

// TestServeEndsWithAWorkerThatGaveUp: a controller that no longer does anything would look
// as if it worked.
func TestServeEndsWithAWorkerThatGaveUp(t *testing.T) {
	stopped := false
	keep := func(ctx context.Context) error {
		<-ctx.Done()
		return nil
	}
	start := func(failed func(error)) (func(), error) {
		go failed(errors.New("the namespace was deleted"))
		return func() { stopped = true }, nil
	}
	assert.ErrorContains(t, work(t.Context(), start, keep), "refuses the controller, which does nothing any more: the namespace was deleted")
	assert.True(t, stopped)

	asked, end := context.WithCancel(t.Context())
	end()
	quiet := func(func(error)) (func(), error) { return func() {}, nil }
	assert.NoError(t, work(asked, quiet, keep), "it was asked to end")
}

// blocking is a worker with that identity, whose workflow "block" runs one activity that
// heartbeats too seldom for its absence to be noticed.
func blocking(c client.Client, queue, identity string, block func(context.Context) error) worker.Worker {
	w := worker.New(c, queue, worker.Options{Identity: identity})
	w.RegisterWorkflowWithOptions(func(ctx workflow.Context) error {
		options := workflow.ActivityOptions{StartToCloseTimeout: time.Hour, HeartbeatTimeout: time.Hour}
		return workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, options), "Block").Get(ctx, nil)
	}, workflow.RegisterOptions{Name: "block"})
	w.RegisterActivityWithOptions(block, activity.RegisterOptions{Name: "Block"})
	return w
}

// TestWorkOfAKilledControllerGoesOn: an activity whose process was killed is retried when
// the controller is back, without waiting for the heartbeat time-out.
func TestWorkOfAKilledControllerGoesOn(t *testing.T) {
	const id, other = "0123456789ab", "ba9876543210"
	var queue string
	release := make(chan struct{})
	c, _ := serveWith(t, zerolog.Nop(), func(c client.Client, _ temporal.Settings) worker.Worker {
		queue = controllerQueue(id)
		return blocking(c, queue, queue+"/elsewhere/boot.1/4711/1", func(context.Context) error {
			<-release
			return nil
		})
	})
	t.Cleanup(func() { close(release) }) // before the worker stops
	run, err := c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{TaskQueue: queue}, "block")
	require.NoError(t, err)
	pending := func(ctx context.Context) *workflowpb.PendingActivityInfo {
		description, err := c.DescribeWorkflowExecution(ctx, run.GetID(), "")
		require.NoError(t, err)
		for _, one := range description.GetPendingActivities() {
			return one
		}
		return nil
	}
	const pause = 20 * time.Millisecond
	require.NoError(t, poll.Until(t.Context(), pause, func(ctx context.Context) (bool, error) {
		return pending(ctx).GetState() == enumspb.PENDING_ACTIVITY_STATE_STARTED, nil
	}))
	require.NoError(t, failOrphans(t.Context(), c, temporal.DefaultNamespace, other, zerolog.Nop()))
	require.Nil(t, pending(t.Context()).GetLastFailure(), "it is another controller's")
	require.NoError(t, poll.Until(t.Context(), pause, func(ctx context.Context) (bool, error) {
		if err := failOrphans(ctx, c, temporal.DefaultNamespace, id, zerolog.Nop()); err != nil {
			return false, err
		}
		return pending(ctx).GetLastFailure() != nil, nil // when the server lists its workflow
	}))
	require.Equal(t, "the controller was killed in the middle of it (process 4711 on elsewhere)", pending(t.Context()).GetLastFailure().GetMessage())
}

// TestWorkOfAKilledWorkerGoesOn: what a machine's worker was doing when it was killed is
// retried once its link has seen that the worker is gone: such activities heartbeat too
// seldom for their absence to be noticed.
func TestWorkOfAKilledWorkerGoesOn(t *testing.T) {
	const queue = "store"
	begun, release := make(chan int32, 2), make(chan struct{})
	c, _ := serveWith(t, zerolog.Nop(), func(c client.Client, _ temporal.Settings) worker.Worker {
		return blocking(c, queue, machine.WorkerIdentity("host", "store", 4711), func(ctx context.Context) error {
			begun <- activity.GetInfo(ctx).Attempt
			<-release
			return nil
		})
	})
	t.Cleanup(func() { close(release) }) // before the worker stops
	run, err := c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{TaskQueue: queue}, "block")
	require.NoError(t, err)
	require.EqualValues(t, 1, <-begun)
	lose := func(name string) []string {
		names, err := activities.FailLost(t.Context(), c, temporal.DefaultNamespace, run.GetID(), run.GetRunID(), func(worker string, _ time.Time) error {
			if !machine.IsWorker(worker, "host", name) {
				return nil
			}
			return fault.New(fault.Infrastructure, "%s: its worker has ended", name)
		})
		require.NoError(t, err)
		return names
	}
	require.Empty(t, lose("stor"), "another machine's")
	require.Equal(t, []string{"Block"}, lose("store"))
	require.EqualValues(t, 2, <-begun)
	require.NoError(t, c.TerminateWorkflow(t.Context(), run.GetID(), run.GetRunID(), "it is over"))
	require.Empty(t, lose("store"), "a workflow that has ended is at nothing")
}
