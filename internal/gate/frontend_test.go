package gate_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	namespacepb "go.temporal.io/api/namespace/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"heliotrope/internal/gate"
	"heliotrope/internal/gate/pass"
)

const (
	apiKey    = "the controller's own"
	namespace = "n"
	queue     = "queue of host-a"
)

// frontend stands in for a Temporal that wants a certificate and an API key.
type frontend struct {
	workflowservice.UnimplementedWorkflowServiceServer

	mutex  sync.Mutex
	asked  []proto.Message
	denied int
	failed error // the answer to every call, when it is not nil

	// poll answers a poll; when it is nil, the poll waits until it is cancelled.
	poll  func() *workflowservice.PollActivityTaskQueueResponse
	polls chan time.Time // when a poll that waits has to end
	ended chan error     // why it did
}

// heard records every request and who has sent it.
func (f *frontend) heard(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	f.mutex.Lock()
	f.asked = append(f.asked, request.(proto.Message))
	if sent := metadata.ValueFromIncomingContext(ctx, "authorization"); len(sent) != 1 || sent[0] != "Bearer "+apiKey {
		f.denied++
	}
	failed := f.failed
	f.mutex.Unlock()
	if failed != nil {
		return nil, failed
	}
	return handle(ctx, request)
}

func (f *frontend) fail(err error) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	f.failed = err
}

// last is the newest request, and how many there were.
func (f *frontend) last() (proto.Message, int) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	if len(f.asked) == 0 {
		return nil, 0
	}
	return f.asked[len(f.asked)-1], len(f.asked)
}

func (*frontend) GetSystemInfo(context.Context, *workflowservice.GetSystemInfoRequest) (*workflowservice.GetSystemInfoResponse, error) {
	return &workflowservice.GetSystemInfoResponse{ServerVersion: "1"}, nil
}

func (*frontend) DescribeNamespace(context.Context, *workflowservice.DescribeNamespaceRequest) (*workflowservice.DescribeNamespaceResponse, error) {
	return &workflowservice.DescribeNamespaceResponse{NamespaceInfo: &namespacepb.NamespaceInfo{
		Name: namespace, OwnerEmail: "a person", Data: map[string]string{"key": "secret"}}}, nil
}

func (f *frontend) PollActivityTaskQueue(ctx context.Context, _ *workflowservice.PollActivityTaskQueueRequest) (*workflowservice.PollActivityTaskQueueResponse, error) {
	if f.poll != nil {
		return f.poll(), nil
	}
	limit, _ := ctx.Deadline()
	f.polls <- limit
	<-ctx.Done()
	f.ended <- ctx.Err()
	return nil, status.FromContextError(ctx.Err()).Err()
}

func (*frontend) RecordActivityTaskHeartbeat(context.Context, *workflowservice.RecordActivityTaskHeartbeatRequest) (*workflowservice.RecordActivityTaskHeartbeatResponse, error) {
	return &workflowservice.RecordActivityTaskHeartbeatResponse{CancelRequested: true}, nil
}

func (*frontend) RespondActivityTaskCompleted(context.Context, *workflowservice.RespondActivityTaskCompletedRequest) (*workflowservice.RespondActivityTaskCompletedResponse, error) {
	return nil, serviceerror.ToStatus(serviceerror.NewNotFound("it is over")).Err()
}

func (*frontend) RespondActivityTaskFailed(context.Context, *workflowservice.RespondActivityTaskFailedRequest) (*workflowservice.RespondActivityTaskFailedResponse, error) {
	return &workflowservice.RespondActivityTaskFailedResponse{}, nil
}

func (*frontend) RespondActivityTaskCanceled(context.Context, *workflowservice.RespondActivityTaskCanceledRequest) (*workflowservice.RespondActivityTaskCanceledResponse, error) {
	return &workflowservice.RespondActivityTaskCanceledResponse{}, nil
}

func (*frontend) ShutdownWorker(context.Context, *workflowservice.ShutdownWorkerRequest) (*workflowservice.ShutdownWorkerResponse, error) {
	return &workflowservice.ShutdownWorkerResponse{}, nil
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	return listener
}

func tlsOf(t *testing.T, p pass.Pass) *tls.Config {
	t.Helper()
	config, err := p.TLS()
	require.NoError(t, err)
	return config
}

// lockedBuffer is a log that several write.
type lockedBuffer struct {
	mutex sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return b.Buffer.Write(p)
}

func (b *lockedBuffer) text() string {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return b.String()
}

// site is a frontend, the controller's connection to it, and the options for gates.
type site struct {
	*frontend
	gate.Options
	log *lockedBuffer
}

// newSite starts a frontend that wants mutual TLS and an API key, which the controller has.
func newSite(t *testing.T) *site {
	t.Helper()
	f := &frontend{polls: make(chan time.Time), ended: make(chan error, 10)}
	certificates, listener := tlsOf(t, pass.New()), listen(t)
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(certificates)), grpc.UnaryInterceptor(f.heard), grpc.WaitForHandlers(true))
	workflowservice.RegisterWorkflowServiceServer(server, f)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	to, err := client.NewLazyClient(client.Options{HostPort: listener.Addr().String(), Namespace: namespace,
		Credentials: client.NewAPIKeyStaticCredentials(apiKey), ConnectionOptions: client.ConnectionOptions{TLS: certificates}})
	require.NoError(t, err)
	t.Cleanup(func() {
		to.Close()
		server.Stop()
		t.Log("the frontend has ended:", <-served)
		assert.Zero(t, f.denied, "calls that had not the controller's API key, or a worker's")
	})
	log := &lockedBuffer{}
	return &site{f, gate.Options{To: to.WorkflowService(), Namespace: namespace, Queue: queue, Pass: pass.New(),
		Key: bytes.Repeat([]byte{7}, gate.KeyBytes), Log: zerolog.New(log)}, log}
}
