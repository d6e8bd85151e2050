// Package gate stands between the worker on a measured machine and Temporal: the controller
// forwards a port of the machine to a gate instead of to Temporal itself.
//
// It promises that
//   - only a worker that has the pass (package pass) of its link gets in; anybody else who may log in on
//     the machine and connects to the forwarded port is refused before any of his calls is read;
//   - the worker can do what it takes to run activities of its own task queue: poll for tasks,
//     heartbeat, return results, and say that it shuts down. It can do nothing else: it cannot start, signal, read
//     or end a workflow, poll another queue, or answer for an activity that this gate did not give
//     it, even when it knows that activity's name;
//   - each method that is refused to the worker is logged once;
//   - the machine holds no certificate, key or address of Temporal: the gate repeats each of the worker's
//     requests, with the few fields that it knows, over the controller's own connection;
//   - where payloads are encrypted at Temporal, that connection encrypts and decrypts them, and the
//     machine holds no key for it;
//   - the gate keeps no state: when a controller is restarted with the same Key, the worker goes on with the
//     activities that it runs.
//
// Dangerous: root on a measured machine has the pass, and can give any answer for the activities of
// that machine. Whoever has the controller's Key as well can answer for others too. A stranger on the
// machine can still take the port before the worker's connection has it back; that keeps the worker
// from working, but the stranger cannot pretend to be Temporal to it.
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
	// silence is how long an open connection may be silent while the worker still counts as
	// present: the SDK has gRPC ping the server after 30 s.
	silence = time.Minute
	// pingPause is how often the worker may ping; by default gRPC would allow one ping in five
	// minutes.
	pingPause = 10 * time.Second
	// callsAtOnce is how many calls of a worker may run at a time: it needs two polls, and a
	// heartbeat and an answer for each of its few activities.
	callsAtOnce = 64
	// shownMethods is how many different refusals are logged: a stranger can make up names without
	// end.
	shownMethods = 50
)

// Options of a gate.
type Options struct {
	// To is the client of Temporal's frontend. Its calls must end when their contexts end, and
	// where payloads are encrypted at Temporal, it must encrypt and decrypt them.
	To        workflowservice.WorkflowServiceClient
	Namespace string
	Queue     string // the worker's task queue
	Pass      pass.Pass
	// Key seals the task tokens that the worker is given, so that it can answer for the tasks of
	// these only; see LoadKey. It never leaves the controller.
	Key []byte
	Log zerolog.Logger
}

// Gate lets one worker through.
type Gate struct {
	options Options
	server  *grpc.Server

	open    atomic.Int64 // how many connections the worker holds
	heard   atomic.Int64 // when any of them last received data: Unix nanoseconds
	shaking atomic.Int64 // how many connections have not shown the pass yet

	stopped context.Context // ends when Stop is called
	stop    context.CancelFunc

	mutex  sync.Mutex
	logged map[string]bool // messages that were logged
}

// New makes a gate that does not listen yet; see Serve.
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

// Serve lets the worker in that connects to the listener. It returns when the listener fails, with
// an error, or after Stop.
func (g *Gate) Serve(listener net.Listener) error { return g.server.Serve(listener) }

// Stop closes the listeners and ends running calls, at once.
func (g *Gate) Stop() {
	g.stop()
	g.server.Stop()
}

// InUse says whether the worker is there: it holds a connection, and something was heard of it
// within the last minute.
func (g *Gate) InUse() bool {
	return g.open.Load() > 0 && time.Since(time.Unix(0, g.heard.Load())) < silence
}

// refuse answers every call that no worker needs, whatever its request. It is a grpc.StreamHandler.
func (g *Gate) refuse(_ any, stream grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(stream)
	return g.refused(method, "workers do not need it")
}

// refused logs that a call is not allowed, and is the error to answer it with.
func (g *Gate) refused(method, why string) error {
	g.note(fmt.Sprintf("%.100q: %s", method, why))
	return status.Errorf(codes.PermissionDenied, "the worker of queue %q may not call %.100q: %s", g.options.Queue, method, why)
}

// note logs a refusal, but only the first time.
func (g *Gate) note(what string) { g.logOnce("refused to a worker: " + what) }

// logOnce logs a message, but only the first time.
func (g *Gate) logOnce(what string) {
	g.mutex.Lock()
	known := g.logged[what] || len(g.logged) >= shownMethods
	if !known {
		g.logged[what] = true
	}
	g.mutex.Unlock()
	if !known {
		g.options.Log.Warn().Str("queue", g.options.Queue).Msg(what)
	}
}

// seal turns a task's token into one that only this worker can use, and only through a gate with
// this Key: the token's authentication code (HMAC-SHA-256, RFC 2104), followed by the token.
func (g *Gate) seal(token []byte) []byte { return append(g.code(token), token...) }

// opened is the token inside a sealed one; false when it was not sealed for this worker.
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

// ours refuses requests for another namespace.
func (g *Gate) ours(ctx context.Context, namespace string) error {
	if namespace == g.options.Namespace {
		return nil
	}
	method, _ := grpc.Method(ctx)
	return g.refused(method, "another namespace")
}

// task is the token of the task that the worker's request is about. When this gate did not give the
// worker that task, the error is NotFound, which is Temporal's answer for a task that is over: the
// worker then ends that activity.
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
