// Package gate stands between a measured machine's worker and Temporal: the controller
// forwards a port of the machine to it instead of to Temporal itself.
//
// It promises that
//   - only a worker with the pass (package pass) of its link gets in; whoever else may log in on
//     the machine, and connects to the forwarded port, is refused before he can say anything;
//   - the worker can do what it takes to run activities of its own task queue, and nothing
//     else: ask there for work, heartbeat, answer, take its leave. It can start, signal, read
//     or end no workflow, look into no other queue, and answer for no activity but those that
//     it was given here, also when it knows the names of others;
//   - what it is refused is logged, once for each method;
//   - no certificate, key or address of Temporal's is on the machine: what the worker asks is
//     asked again, with the few fields that the gate knows, over the controller's connection;
//   - it remembers nothing: a controller that is started again with the same Key lets the worker go
//     on with what it is at.
//
// Dangerous: whoever is root on a measured machine has the pass, and can give any answer for the
// activities of that machine. Whoever has the controller's Key as well can answer for
// others. A stranger on the machine can still take the port before the worker's connection
// has it back, and so keep the worker from working, but not pretend to be Temporal to it.
package gate

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"heliotrope/internal/gate/pass"
)

const (
	// silence is how long a worker may say nothing on an open connection and still
	// be taken for well: the SDK has gRPC ask for an answer after 30 s.
	silence = time.Minute
	// pingPause is how often it may ask: gRPC would allow that each five minutes only.
	pingPause = 10 * time.Second
	// callsAtOnce is how many calls of a worker go on at a time: two polls, and a heartbeat
	// and an answer for each of its few activities.
	callsAtOnce = 64
	// shownMethods is how many refusals are logged: a stranger can make up names.
	shownMethods = 50
)

// Options of a gate.
type Options struct {
	// To is Temporal's frontend. Its calls must end with their contexts.
	To        workflowservice.WorkflowServiceClient
	Namespace string
	Queue     string // the worker's task queue
	Pass      pass.Pass
	// Key seals the names of activities that the worker is given, so that it can answer for
	// these only; see LoadKey. No machine but the controller's ever has it.
	Key []byte
	Log zerolog.Logger
}

// Gate lets one worker through.
type Gate struct {
	options Options
	server  *grpc.Server

	open    atomic.Int64 // the worker's connections
	heard   atomic.Int64 // when anything last came on one: Unix nanoseconds
	shaking atomic.Int64 // connections that have not shown a pass yet

	stopped context.Context // when Stop was called
	stop    context.CancelFunc

	mutex  sync.Mutex
	logged map[string]bool // refusals
}

// New makes a gate at which nobody waits yet.
func New(o Options) (*Gate, error) {
	if o.To == nil || o.Namespace == "" || o.Queue == "" || len(o.Key) != KeyBytes {
		return nil, errors.New("gate: want Temporal, a namespace, a queue and a key")
	}
	config, err := o.Pass.TLS()
	if err != nil {
		return nil, fmt.Errorf("gate: %w", err)
	}
	g := &Gate{options: o, logged: map[string]bool{}}
	g.stopped, g.stop = context.WithCancel(context.Background())
	g.server = grpc.NewServer(
		grpc.Creds(&doorkeeper{TransportCredentials: credentials.NewTLS(config), gate: g}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: pingPause, PermitWithoutStream: true}),
		grpc.MaxConcurrentStreams(callsAtOnce),
		grpc.UnknownServiceHandler(g.refuse),
		grpc.WaitForHandlers(true),
	)
	service := workflowservice.WorkflowService_ServiceDesc
	service.Methods, service.Streams = allowed(service.Methods), nil
	g.server.RegisterService(&service, &desk{Gate: g})
	return g, nil
}

// Serve lets the worker through that comes in at the listener, until that ends, which is an
// error, or Stop was called.
func (g *Gate) Serve(listener net.Listener) error { return g.server.Serve(listener) }

// Stop closes the listeners and ends what goes on, at once.
func (g *Gate) Stop() {
	g.stop()
	g.server.Stop()
}

// InUse says whether the worker is there: it holds a connection, and says
// something now and then.
func (g *Gate) InUse() bool {
	return g.open.Load() > 0 && time.Since(time.Unix(0, g.heard.Load())) < silence
}

// refuse answers every call that no worker needs, whatever it asks: a grpc.StreamHandler.
func (g *Gate) refuse(_ any, stream grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(stream)
	return g.refused(method, "workers do not need it")
}

// refused is the answer to what is not allowed.
func (g *Gate) refused(method, why string) error {
	g.note(fmt.Sprintf("%.100q: %s", method, why))
	return status.Errorf(codes.PermissionDenied, "the worker of queue %q may not call %.100q: %s", g.options.Queue, method, why)
}

// note logs a refusal, the first time.
func (g *Gate) note(what string) {
	g.mutex.Lock()
	known := g.logged[what] || len(g.logged) >= shownMethods
	if !known {
		g.logged[what] = true
	}
	g.mutex.Unlock()
	if !known {
		g.options.Log.Warn().Str("queue", g.options.Queue).Msg("refused to a worker: " + what)
	}
}

// seal makes of a task's token one that only this worker can use, and only through a gate
// with this key: its authentication code (HMAC-SHA-256, RFC 2104), and then the token.
func (g *Gate) seal(token []byte) []byte { return append(g.code(token), token...) }

// opened is the token that was sealed; false when it was not, for this worker.
func (g *Gate) opened(sealed []byte) ([]byte, bool) {
	if len(sealed) <= sha256.Size {
		return nil, false
	}
	code, token := sealed[:sha256.Size], sealed[sha256.Size:]
	return token, hmac.Equal(code, g.code(token))
}

func (g *Gate) code(token []byte) []byte {
	code := hmac.New(sha256.New, g.options.Key)
	fmt.Fprintf(code, "%q %q %s\n", g.options.Namespace, g.options.Queue, g.options.Pass.ID())
	code.Write(token)
	return code.Sum(nil)
}

// ours refuses what is of another namespace.
func (g *Gate) ours(ctx context.Context, namespace string) error {
	if namespace == g.options.Namespace {
		return nil
	}
	method, _ := grpc.Method(ctx)
	return g.refused(method, "another namespace")
}

// task is the token of the task that a worker speaks of. One that it was not given here is
// not found, as Temporal says it of a task that is over: the worker then ends that activity.
func (g *Gate) task(ctx context.Context, namespace string, sealed []byte) ([]byte, error) {
	if err := g.ours(ctx, namespace); err != nil {
		return nil, err
	}
	token, is := g.opened(sealed)
	if !is {
		method, _ := grpc.Method(ctx)
		g.note(fmt.Sprintf("%.100q: a task that it was not given", method))
		return nil, status.Error(codes.NotFound, "no such task was given to this worker")
	}
	return token, nil
}
