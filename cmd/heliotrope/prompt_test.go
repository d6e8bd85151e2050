package main

import (
	"context"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"heliotrope/activities/pulse"
	"heliotrope/deploy/temporal"
)

// TestCancellationsArePrompt: activities that go on until they are cancelled heartbeat
// seldom, but are told of their cancellation at once: a teardown ends them one after the
// other.
func TestCancellationsArePrompt(t *testing.T) {
	begun, prompt := make(chan struct{}), make(chan bool, 3)
	follow := func(ctx context.Context) error {
		working, p, stop := pulse.Start(ctx, time.Hour)
		defer stop()
		p.Quiet()
		begun <- struct{}{}
		<-working.Done()
		select {
		case <-p.Hurried():
			prompt <- true
		default:
			prompt <- false
		}
		return working.Err()
	}
	trial := func(ctx workflow.Context) error {
		ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
			StartToCloseTimeout: time.Hour, HeartbeatTimeout: 2 * pulse.QuietBeat, WaitForCancellation: true,
		})
		var ends []func()
		for range cap(prompt) {
			working, cancel := workflow.WithCancel(ctx)
			future := workflow.ExecuteActivity(working, "follow")
			ends = append(ends, func() {
				cancel()
				_ = future.Get(ctx, nil) // it was cancelled
			})
		}
		workflow.GetSignalChannel(ctx, finishSignal).Receive(ctx, nil)
		for _, end := range ends {
			end()
		}
		return nil
	}
	c, _ := serveWith(t, zerolog.Nop(), func(c client.Client, _ temporal.Settings) worker.Worker {
		w := worker.New(c, "prompt", worker.Options{MaxHeartbeatThrottleInterval: time.Second})
		w.RegisterWorkflowWithOptions(trial, workflow.RegisterOptions{Name: "trial"})
		w.RegisterActivityWithOptions(follow, activity.RegisterOptions{Name: "follow"})
		return w
	})
	started, err := c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: "trial/1", TaskQueue: "prompt"}, "trial")
	require.NoError(t, err)
	for range cap(prompt) {
		<-begun
	}
	require.NoError(t, c.SignalWorkflow(t.Context(), started.GetID(), started.GetRunID(), finishSignal, nil))
	require.NoError(t, started.Get(t.Context(), nil))
	for range cap(prompt) {
		require.True(t, <-prompt, "it learnt of its cancellation by a heartbeat in turn")
	}
}
