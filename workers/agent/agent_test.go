package agent_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/worker"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"heliotrope/internal/gate/pass"
	"heliotrope/workers/agent"
)

// frontend stands in for Temporal's frontend, and has no work.
type frontend struct {
	workflowservice.UnimplementedWorkflowServiceServer
	polls    chan string // the queues that are polled
	goodbyes chan string // the identities of workers that end
	starting chan string // if not nil: a starting worker is let in by two receptions
}

func (frontend) GetSystemInfo(context.Context, *workflowservice.GetSystemInfoRequest) (*workflowservice.GetSystemInfoResponse, error) {
	return &workflowservice.GetSystemInfoResponse{}, nil
}

func (f frontend) DescribeNamespace(ctx context.Context, _ *workflowservice.DescribeNamespaceRequest) (*workflowservice.DescribeNamespaceResponse, error) {
	if f.starting != nil {
		for range 2 {
			select {
			case f.starting <- "starting":
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
	}
	return &workflowservice.DescribeNamespaceResponse{}, nil
}

func (f frontend) PollActivityTaskQueue(ctx context.Context, request *workflowservice.PollActivityTaskQueueRequest) (*workflowservice.PollActivityTaskQueueResponse, error) {
	select {
	case f.polls <- request.GetTaskQueue().GetName():
	case <-ctx.Done():
	}
	<-ctx.Done()
	return &workflowservice.PollActivityTaskQueueResponse{}, nil
}

func (f frontend) ShutdownWorker(_ context.Context, request *workflowservice.ShutdownWorkerRequest) (*workflowservice.ShutdownWorkerResponse, error) {
	f.goodbyes <- request.GetIdentity()
	return &workflowservice.ShutdownWorkerResponse{}, nil
}

// serve serves a frontend on an address until the returned function is called.
func serve(t *testing.T, address string, options ...grpc.ServerOption) (f frontend, stop func()) {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	f = frontend{polls: make(chan string), goodbyes: make(chan string, 1)}
	return f, f.serveOn(t, listener, options...)
}

// serveOn serves it on a listener until the returned function is called.
func (f frontend) serveOn(t *testing.T, listener net.Listener, options ...grpc.ServerOption) (stop func()) {
	t.Helper()
	server := grpc.NewServer(options...)
	workflowservice.RegisterWorkflowServiceServer(server, f)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return server.Stop
}

func expect(t *testing.T, from <-chan string, want string) {
	t.Helper()
	select {
	case got := <-from:
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	case <-time.After(time.Minute):
		t.Fatalf("%q does not come", want)
	}
}

// start runs a worker; wait waits for its end.
func start(t *testing.T, address string, register func(worker.ActivityRegistry) error) (cancel func(), wait func() error) {
	t.Helper()
	return startWith(t, address, nil, register)
}

// startWith is the same with a gate's pass.
func startWith(t *testing.T, address string, its *tls.Config, register func(worker.ActivityRegistry) error) (cancel func(), wait func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- agent.Run(ctx, agent.Options{Address: address, TLS: its, Namespace: "n", Queue: "queue of host-a", Identity: "host-a",
			Version: "1", Log: zerolog.New(zerolog.NewTestWriter(t))}, register)
	}()
	return cancel, func() error {
		select {
		case err := <-ended:
			return err
		case <-time.After(time.Minute):
			t.Fatal("the worker does not end")
			return nil
		}
	}
}

func nothing(worker.ActivityRegistry) error { return nil }

// freeAddress is an address at which nobody listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// TestReconnects: the server comes after the worker, goes, and comes back.
func TestReconnects(t *testing.T) {
	address := freeAddress(t)
	cancel, wait := start(t, address, nothing)
	var f frontend
	for range 2 {
		var stop func()
		f, stop = serve(t, address)
		expect(t, f.polls, "queue of host-a")
		stop()
	}
	f, _ = serve(t, address)
	expect(t, f.polls, "queue of host-a")
	cancel()
	if err := wait(); err != nil {
		t.Error(err)
	}
	expect(t, f.goodbyes, "host-a")
}

// meddler is a server's credentials that report connections which have not shown its pass.
type meddler struct {
	credentials.TransportCredentials
	refused chan<- error
}

func (m meddler) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := m.TransportCredentials.ServerHandshake(raw)
	if err != nil {
		select {
		case m.refused <- err:
		default:
		}
	}
	return conn, info, err
}

// TestImpostor: a user of the host has taken the port while the line was down, and pretends
// to be Temporal. The worker, which may be root, takes no work from that user, and goes on
// when its gate is back.
func TestImpostor(t *testing.T) {
	passes := [2]*tls.Config{}
	for i := range passes {
		var err error
		if passes[i], err = pass.New().TLS(); err != nil {
			t.Fatal(err)
		}
	}
	address, refused := freeAddress(t), make(chan error, 1)
	impostor, stop := serve(t, address, grpc.Creds(meddler{credentials.NewTLS(passes[1]), refused}))
	cancel, wait := startWith(t, address, passes[0], nothing)
	select {
	case err := <-refused:
		t.Log("the impostor found:", err)
	case <-impostor.polls:
		t.Error("the worker takes work from somebody who has not its pass")
	case <-time.After(time.Minute):
		t.Fatal("the worker does not look for its gate")
	}
	stop()
	its, _ := serve(t, address, grpc.Creds(credentials.NewTLS(passes[0])))
	expect(t, its.polls, "queue of host-a")
	cancel()
	if err := wait(); err != nil {
		t.Error(err)
	}
}

func TestEndsWithoutServer(t *testing.T) {
	cancel, wait := start(t, freeAddress(t), nothing)
	cancel()
	if err := wait(); err != nil {
		t.Error(err)
	}
}

// TestEndsWhileStarting: a worker that is told to end while the server still lets it in is
// stopped, and tells the server so.
func TestEndsWhileStarting(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := frontend{polls: make(chan string), goodbyes: make(chan string, 1), starting: make(chan string)}
	f.serveOn(t, listener)
	cancel, wait := start(t, listener.Addr().String(), nothing)
	expect(t, f.starting, "starting")
	cancel()
	expect(t, f.starting, "starting")
	if err := wait(); err != nil {
		t.Error(err)
	}
	expect(t, f.goodbyes, "host-a")
}

func TestRegistrationFails(t *testing.T) {
	broken := errors.New("no such role")
	_, wait := start(t, freeAddress(t), func(worker.ActivityRegistry) error { return broken })
	if err := wait(); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}
