package temporal

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"heliotrope/deploy/temporal/codec"
	"heliotrope/internal/cause"
	"heliotrope/internal/gate"
	"heliotrope/internal/gate/pass"
	"heliotrope/workers/agent"
)

// hostQueue is the queue of a measured machine's worker.
const hostQueue = "host-a"

// askHost has that worker run an activity that goes on in its second attempt with what the first one's
// heartbeat said, and one that fails for good. It returns what both have said.
func askHost(ctx workflow.Context, told string) (string, error) {
	options := workflow.ActivityOptions{TaskQueue: hostQueue, StartToCloseTimeout: time.Minute,
		RetryPolicy: &temporal.RetryPolicy{InitialInterval: time.Millisecond, MaximumAttempts: 2}}
	var said, detail string
	if err := workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, options), remembering, told).Get(ctx, &said); err != nil {
		return "", err
	}
	options.RetryPolicy = &temporal.RetryPolicy{MaximumAttempts: 1}
	err := workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, options), refusing, told).Get(ctx, nil)
	var failed *temporal.ApplicationError
	if !errors.As(err, &failed) {
		return "", err
	}
	err = failed.Details(&detail)
	return said + ": " + failed.Message() + ", " + detail, err
}

// remembering fails at first, after a heartbeat.
func remembering(ctx context.Context, told string) (string, error) {
	if !activity.HasHeartbeatDetails(ctx) {
		activity.RecordHeartbeat(ctx, told)
		return "", errors.New("again with what was " + told)
	}
	var before string
	err := activity.GetHeartbeatDetails(ctx, &before)
	return told + " and " + before, err
}

// refusing fails as our activities do, with a cause's code as the detail.
func refusing(_ context.Context, told string) error {
	return temporal.NewApplicationErrorWithCause("because of what was "+told, "kind", errors.New(told), cause.Code(told))
}

// openGate opens a gate for the worker of hostQueue to the server of the settings.
func openGate(t *testing.T, s Settings) (address string, its *tls.Config) {
	t.Helper()
	others, err := ForOthers(s, zerolog.Nop())
	require.NoError(t, err)
	t.Cleanup(others.Close)
	shown := pass.New()
	its, err = shown.TLS()
	require.NoError(t, err)
	g, err := gate.New(gate.Options{To: others.WorkflowService(), Namespace: s.Namespace, Queue: hostQueue, Pass: shown,
		Key: bytes.Repeat([]byte{7}, gate.KeyBytes), Log: zerolog.New(zerolog.NewTestWriter(t))})
	require.NoError(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- g.Serve(listener) }()
	t.Cleanup(func() {
		g.Stop()
		<-served //nolint:errcheck // it was stopped
	})
	return listener.Addr().String(), its
}

// TestAWorkerAtItsGateNeedsNoKey: a measured machine's worker reads and answers in clear what is encrypted at the
// server, where nothing of it can be read.
func TestAWorkerAtItsGateNeedsNoKey(t *testing.T) {
	clearSettings(t)
	path := filepath.Join(t.TempDir(), "keys")
	_, err := codec.AddKey(path)
	require.NoError(t, err)
	server := ensure(t, serverOptions(t))
	settings, err := server.Settings.withKeys(path)
	require.NoError(t, err)
	c := dial(t, settings)
	w := worker.New(c, queue, worker.Options{})
	w.RegisterWorkflow(askHost)
	require.NoError(t, w.Start())
	t.Cleanup(w.Stop)
	address, its := openGate(t, settings)
	ctx, end := context.WithCancel(t.Context())
	defer end()
	ended := make(chan error, 1)
	go func() {
		ended <- agent.Run(ctx, agent.Options{Address: address, TLS: its, Namespace: settings.Namespace, Queue: hostQueue, Identity: hostQueue,
			Version: "test", Log: zerolog.New(zerolog.NewTestWriter(t))}, func(registry worker.ActivityRegistry) error {
			registry.RegisterActivity(remembering)
			registry.RegisterActivity(refusing)
			return nil
		})
	}()

	run, err := c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: "host", TaskQueue: queue, WorkflowRunTimeout: 2 * time.Minute}, askHost, invisible)
	require.NoError(t, err)
	var said string
	failed := run.Get(t.Context(), &said)
	end()
	require.NoError(t, <-ended)
	require.NoError(t, failed)
	assert.Equal(t, invisible+" and "+invisible+": because of what was "+invisible+", "+invisible, said)
	w.Stop()
	wantInvisible(t, server)
}
