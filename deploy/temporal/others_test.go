package temporal

import (
	"context"
	"net"
	"testing"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"heliotrope/internal/gate/pass"
)

// keyed is a frontend that records the API keys it is shown, and has no work.
type keyed struct {
	workflowservice.UnimplementedWorkflowServiceServer
	polls chan []string // the keys that were shown
	ended chan error
}

func (k *keyed) PollActivityTaskQueue(ctx context.Context, _ *workflowservice.PollActivityTaskQueueRequest) (*workflowservice.PollActivityTaskQueueResponse, error) {
	k.polls <- metadata.ValueFromIncomingContext(ctx, "authorization")
	<-ctx.Done()
	k.ended <- ctx.Err()
	return nil, status.FromContextError(ctx.Err()).Err()
}

// uncounted fails a test if anything is counted.
type uncounted struct {
	client.MetricsHandler
	t *testing.T
}

func (u uncounted) WithTags(map[string]string) client.MetricsHandler { return u }

func (u uncounted) Counter(name string) client.MetricsCounter {
	u.t.Errorf("%s is counted as one of ours", name)
	return client.MetricsNopHandler.Counter(name)
}

// TestForOthers: calls of workers on other machines use the controller's certificate and API key,
// end with their contexts, and are not counted in any metrics.
func TestForOthers(t *testing.T) {
	certificates, err := pass.New().TLS()
	require.NoError(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	frontend := &keyed{polls: make(chan []string), ended: make(chan error, 1)}
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(certificates)))
	workflowservice.RegisterWorkflowServiceServer(server, frontend)
	go func() { _ = server.Serve(listener) }()
	defer server.Stop()

	settings := Settings{Address: listener.Addr().String(), Namespace: "n", options: client.Options{
		Credentials: client.NewAPIKeyStaticCredentials("k"), ConnectionOptions: client.ConnectionOptions{TLS: certificates}}}
	others, err := ForOthers(settings.WithMetrics(uncounted{client.MetricsNopHandler, t}), zerolog.Nop())
	require.NoError(t, err)
	defer others.Close()
	ctx, cancel := context.WithCancel(t.Context())
	polled := make(chan error, 1)
	go func() {
		_, err := others.WorkflowService().PollActivityTaskQueue(ctx, &workflowservice.PollActivityTaskQueueRequest{Namespace: "n"})
		polled <- err
	}()
	assert.Equal(t, []string{"Bearer k"}, <-frontend.polls)
	cancel()
	assert.Error(t, <-polled)
	assert.ErrorIs(t, <-frontend.ended, context.Canceled)

	settings.options.Credentials = client.NewMTLSCredentials(certificates.Certificates[0]) // beside others, which cannot be
	_, err = ForOthers(settings, zerolog.Nop())
	assert.ErrorContains(t, err, settings.Address)
}
