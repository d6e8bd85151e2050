package gate_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	deploymentpb "go.temporal.io/api/deployment/v1"
	failurepb "go.temporal.io/api/failure/v1"
	"go.temporal.io/api/operatorservice/v1"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"heliotrope/internal/gate"
	"heliotrope/internal/gate/pass"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// open opens a gate until close is called.
func open(t *testing.T, o gate.Options) (g *gate.Gate, address string, stop func()) {
	t.Helper()
	g, err := gate.New(o)
	require.NoError(t, err)
	listener, served := listen(t), make(chan error, 1)
	go func() { served <- g.Serve(listener) }()
	stop = sync.OnceFunc(func() {
		g.Stop()
		if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.Errorf("serving ended with %v", err)
		}
	})
	t.Cleanup(stop)
	return g, listener.Addr().String(), stop
}

// connect reaches a gate with credentials.
func connect(t *testing.T, address string, with credentials.TransportCredentials) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(with))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// worker is a worker's connection to a gate, with its pass.
func worker(t *testing.T, address string, p pass.Pass) (workflowservice.WorkflowServiceClient, *grpc.ClientConn) {
	t.Helper()
	conn := connect(t, address, credentials.NewTLS(tlsOf(t, p)))
	return workflowservice.NewWorkflowServiceClient(conn), conn
}

func ownPoll() *workflowservice.PollActivityTaskQueueRequest {
	return &workflowservice.PollActivityTaskQueueRequest{Namespace: namespace, TaskQueue: &taskqueuepb.TaskQueue{Name: queue}, Identity: "host@host-a (1)"}
}

// TestErrorsOfTheController: what goes wrong between the controller and Temporal is told to the worker without the
// text, which names files and addresses that are none of its business, and is in the controller's log.
func TestErrorsOfTheController(t *testing.T) {
	s := newSite(t)
	_, address, _ := open(t, s.Options)
	w, _ := worker(t, address, s.Pass)
	s.fail(status.Error(codes.FailedPrecondition, "the key is not in /srv/keys"))
	_, err := w.PollActivityTaskQueue(t.Context(), ownPoll())
	require.Equal(t, codes.FailedPrecondition, status.Code(err))
	require.NotContains(t, err.Error(), "/srv/keys")
	require.Contains(t, s.log.text(), "/srv/keys")
}

// TestStrangers: a connection without this worker's pass is refused before any call of it is read,
// does not count as the worker's, and is logged once.
func TestStrangers(t *testing.T) {
	s := newSite(t)
	g, address, _ := open(t, s.Options)
	unchecked := tlsOf(t, pass.New())
	unchecked.InsecureSkipVerify = true
	for name, with := range map[string]credentials.TransportCredentials{
		"no TLS":         insecure.NewCredentials(),
		"no certificate": credentials.NewTLS(&tls.Config{InsecureSkipVerify: true}),
		"another pass":   credentials.NewTLS(unchecked),
	} {
		t.Run(name, func(t *testing.T) {
			stranger := workflowservice.NewWorkflowServiceClient(connect(t, address, with))
			_, err := stranger.GetSystemInfo(t.Context(), &workflowservice.GetSystemInfoRequest{})
			assert.Equal(t, codes.Unavailable, status.Code(err), "%v", err)
		})
	}
	_, asked := s.last()
	assert.Zero(t, asked, "questions of strangers reached Temporal")
	assert.False(t, g.InUse(), "a stranger is taken for the worker")
	said := func() int { return strings.Count(s.log.text(), "a connection without its pass") }
	require.Eventually(t, func() bool { return said() > 0 }, time.Minute, time.Millisecond)
	assert.Equal(t, 1, said(), s.log.text())
}

// TestOnlyWhatAWorkerNeeds: the gate passes on no other method of Temporal, of any service.
func TestOnlyWhatAWorkerNeeds(t *testing.T) {
	s := newSite(t)
	_, address, _ := open(t, s.Options)
	_, conn := worker(t, address, s.Pass)
	needed := map[string]bool{"GetSystemInfo": true, "DescribeNamespace": true, "PollActivityTaskQueue": true, "RecordActivityTaskHeartbeat": true,
		"RespondActivityTaskCompleted": true, "RespondActivityTaskFailed": true, "RespondActivityTaskCanceled": true, "ShutdownWorker": true}
	methods := []string{operatorservice.OperatorService_DeleteNamespace_FullMethodName, grpc_health_v1.Health_Check_FullMethodName, "/made/Up"}
	for _, method := range workflowservice.WorkflowService_ServiceDesc.Methods {
		if !needed[method.MethodName] {
			methods = append(methods, "/"+workflowservice.WorkflowService_ServiceDesc.ServiceName+"/"+method.MethodName)
		}
	}
	for _, never := range []string{"StartWorkflowExecution", "SignalWorkflowExecution", "QueryWorkflow", "PollWorkflowTaskQueue", "RespondActivityTaskCompletedById"} {
		require.Contains(t, methods, "/temporal.api.workflowservice.v1.WorkflowService/"+never)
	}
	for _, method := range append(methods, methods[0]) {
		err := conn.Invoke(t.Context(), method, &emptypb.Empty{}, &emptypb.Empty{})
		assert.Equal(t, codes.PermissionDenied, status.Code(err), "%s: %v", method, err)
	}
	_, asked := s.last()
	assert.Zero(t, asked, "some of it reached Temporal")
	assert.Equal(t, 1, strings.Count(s.log.text(), "DeleteNamespace"), "it is logged, and once")
	assert.Less(t, strings.Count(s.log.text(), "\n"), 60, "a stranger fills the log")
}

// TestOthersQueues: the worker sees its own queue and namespace only.
func TestOthersQueues(t *testing.T) {
	s := newSite(t)
	_, address, _ := open(t, s.Options)
	w, _ := worker(t, address, s.Pass)
	for name, call := range map[string]func() error{
		"polls another queue": func() error {
			poll := ownPoll()
			poll.TaskQueue.Name = "queue of host-b"
			_, err := w.PollActivityTaskQueue(t.Context(), poll)
			return err
		},
		"polls no queue": func() error {
			_, err := w.PollActivityTaskQueue(t.Context(), &workflowservice.PollActivityTaskQueueRequest{Namespace: namespace})
			return err
		},
		"polls in another namespace": func() error {
			poll := ownPoll()
			poll.Namespace = "default"
			_, err := w.PollActivityTaskQueue(t.Context(), poll)
			return err
		},
		"looks into another namespace": func() error {
			_, err := w.DescribeNamespace(t.Context(), &workflowservice.DescribeNamespaceRequest{Namespace: "default"})
			return err
		},
		"looks for a namespace by its ID": func() error {
			_, err := w.DescribeNamespace(t.Context(), &workflowservice.DescribeNamespaceRequest{Id: "1"})
			return err
		},
		"shuts down another's worker": func() error {
			_, err := w.ShutdownWorker(t.Context(), &workflowservice.ShutdownWorkerRequest{Namespace: namespace, TaskQueue: "queue of host-b"})
			return err
		},
	} {
		assert.Equal(t, codes.PermissionDenied, status.Code(call()), name)
	}
	_, asked := s.last()
	assert.Zero(t, asked, "some of it reached Temporal")
	described, err := w.DescribeNamespace(t.Context(), &workflowservice.DescribeNamespaceRequest{Namespace: namespace, Id: "1"})
	require.NoError(t, err)
	assert.Equal(t, namespace, described.GetNamespaceInfo().GetName())
	assert.NotContains(t, described.String(), "secret", "what others have written into the namespace")
	assert.NotContains(t, described.String(), "person")
}

// TestWhatIsNotKnownIsNotPassedOn: a later SDK may send fields that the gate does not know.
func TestWhatIsNotKnownIsNotPassedOn(t *testing.T) {
	s := newSite(t)
	s.poll = func() *workflowservice.PollActivityTaskQueueResponse {
		return &workflowservice.PollActivityTaskQueueResponse{}
	}
	_, address, _ := open(t, s.Options)
	w, _ := worker(t, address, s.Pass)
	poll := ownPoll()
	poll.DeploymentOptions = &deploymentpb.WorkerDeploymentOptions{DeploymentName: "d", BuildId: "b"}
	poll.WorkerControlTaskQueue = "queue of host-b"
	poll.TaskQueue.NormalName = "queue of host-b"
	forged := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer forged", "temporal-namespace", "default")
	task, err := w.PollActivityTaskQueue(forged, poll)
	require.NoError(t, err)
	assert.Empty(t, task.GetTaskToken(), "there is no task, and one is sealed")
	got, _ := s.last()
	want := ownPoll()
	want.TaskQueue.Kind = 1 // normal
	assert.True(t, proto.Equal(want, got), "Temporal was asked %v", got)
	_, err = w.ShutdownWorker(t.Context(), &workflowservice.ShutdownWorkerRequest{Namespace: namespace, TaskQueue: queue, StickyTaskQueue: "another's", Identity: "i"})
	require.NoError(t, err)
	got, _ = s.last()
	assert.Empty(t, got.(*workflowservice.ShutdownWorkerRequest).GetStickyTaskQueue())
}

// TestTasks: a worker can answer for tasks that it was given, through any gate of this controller,
// and for no others.
func TestTasks(t *testing.T) {
	s := newSite(t)
	const raw = "workflow 00007, activity 5"
	s.poll = func() *workflowservice.PollActivityTaskQueueResponse {
		return &workflowservice.PollActivityTaskQueueResponse{TaskToken: []byte(raw), ActivityId: "5", Input: &commonpb.Payloads{}}
	}
	_, address, stop := open(t, s.Options)
	w, _ := worker(t, address, s.Pass)
	task, err := w.PollActivityTaskQueue(t.Context(), ownPoll())
	require.NoError(t, err)
	assert.Equal(t, "5", task.GetActivityId())
	assert.NotEqual(t, raw, string(task.GetTaskToken()))

	answers := func(w workflowservice.WorkflowServiceClient, token []byte) map[string]error {
		_, beat := w.RecordActivityTaskHeartbeat(t.Context(), &workflowservice.RecordActivityTaskHeartbeatRequest{Namespace: namespace, TaskToken: token})
		_, done := w.RespondActivityTaskCompleted(t.Context(), &workflowservice.RespondActivityTaskCompletedRequest{Namespace: namespace, TaskToken: token})
		_, failed := w.RespondActivityTaskFailed(t.Context(), &workflowservice.RespondActivityTaskFailedRequest{Namespace: namespace, TaskToken: token})
		_, canceled := w.RespondActivityTaskCanceled(t.Context(), &workflowservice.RespondActivityTaskCanceledRequest{Namespace: namespace, TaskToken: token})
		return map[string]error{"heartbeat": beat, "done": done, "failed": failed, "canceled": canceled}
	}
	beat, err := w.RecordActivityTaskHeartbeat(t.Context(), &workflowservice.RecordActivityTaskHeartbeatRequest{Namespace: namespace, TaskToken: task.GetTaskToken(),
		Details: &commonpb.Payloads{Payloads: []*commonpb.Payload{{Data: []byte("3")}}}, Identity: "i", ResourceId: "r"})
	require.NoError(t, err)
	assert.True(t, beat.GetCancelRequested(), "that it is cancelled does not come through")
	got, _ := s.last()
	assert.True(t, proto.Equal(&workflowservice.RecordActivityTaskHeartbeatRequest{Namespace: namespace, TaskToken: []byte(raw),
		Details: &commonpb.Payloads{Payloads: []*commonpb.Payload{{Data: []byte("3")}}}, Identity: "i", ResourceId: "r"}, got), "%v", got)
	_, err = w.RespondActivityTaskFailed(t.Context(), &workflowservice.RespondActivityTaskFailedRequest{Namespace: namespace, TaskToken: task.GetTaskToken(), Failure: &failurepb.Failure{Message: "oops"}})
	require.NoError(t, err)
	got, _ = s.last()
	assert.Equal(t, "oops", got.(*workflowservice.RespondActivityTaskFailedRequest).GetFailure().GetMessage())
	_, err = w.RespondActivityTaskCompleted(t.Context(), &workflowservice.RespondActivityTaskCompletedRequest{Namespace: namespace, TaskToken: task.GetTaskToken()})
	assert.ErrorContains(t, err, "it is over", "what Temporal says does not come through")
	assert.Equal(t, codes.NotFound, status.Code(err))
	_, asked := s.last()

	damaged := bytes.Clone(task.GetTaskToken())
	damaged[len(damaged)-1]++
	for name, token := range map[string][]byte{"of no gate": []byte(raw), "none": nil, "too short": {1}, "changed": damaged} {
		for what, err := range answers(w, token) {
			assert.Equal(t, codes.NotFound, status.Code(err), "%s, of a task whose token is %s: %v", what, name, err)
		}
	}
	_, err = w.RecordActivityTaskHeartbeat(t.Context(), &workflowservice.RecordActivityTaskHeartbeatRequest{Namespace: "default", TaskToken: task.GetTaskToken()})
	assert.Equal(t, codes.PermissionDenied, status.Code(err), "in another namespace")

	for name, change := range map[string]func(*gate.Options){
		"queue":      func(o *gate.Options) { o.Queue = "queue of host-b" },
		"pass":       func(o *gate.Options) { o.Pass = pass.New() },
		"controller": func(o *gate.Options) { o.Key = bytes.Repeat([]byte{8}, gate.KeyBytes) },
	} {
		other := s.Options
		change(&other)
		_, address, _ := open(t, other)
		w, _ := worker(t, address, other.Pass)
		for what, err := range answers(w, task.GetTaskToken()) {
			assert.Equal(t, codes.NotFound, status.Code(err), "%s, of a task that was given to another %s: %v", what, name, err)
		}
	}
	_, now := s.last()
	assert.Equal(t, asked, now, "some of it reached Temporal")

	stop()
	_, address, _ = open(t, s.Options)
	w, _ = worker(t, address, s.Pass)
	for what, err := range answers(w, task.GetTaskToken()) {
		if what == "done" {
			assert.ErrorContains(t, err, "it is over")
			continue
		}
		assert.NoError(t, err, "%s through the gate of a controller that was started again", what)
	}
}

// TestPollsWaitAndEnd: a poll waits at Temporal as long as the worker waits, and no longer.
func TestPollsWaitAndEnd(t *testing.T) {
	s := newSite(t)
	g, address, stop := open(t, s.Options)
	assert.False(t, g.InUse(), "nobody was there yet")
	w, conn := worker(t, address, s.Pass)
	poll := func(ctx context.Context) chan error {
		ended := make(chan error, 1)
		go func() {
			_, err := w.PollActivityTaskQueue(ctx, ownPoll())
			ended <- err
		}()
		return ended
	}
	limited, cancel := context.WithTimeout(t.Context(), time.Hour)
	ended := poll(limited)
	limit, _ := limited.Deadline()
	assert.WithinDuration(t, limit, <-s.polls, time.Minute, "the poll's deadline")
	assert.True(t, g.InUse())
	cancel()
	assert.Equal(t, codes.Canceled, status.Code(<-ended))
	assert.ErrorIs(t, <-s.ended, context.Canceled, "Temporal is not told that a worker has given up")

	ended = poll(t.Context())
	<-s.polls
	_ = conn.Close()
	assert.Error(t, <-ended)
	assert.ErrorIs(t, <-s.ended, context.Canceled, "Temporal is not told that a worker has gone")
	require.Eventually(t, func() bool { return !g.InUse() }, time.Minute, time.Millisecond, "it has gone, and is said to be there")

	w, _ = worker(t, address, s.Pass)
	ended = poll(t.Context())
	<-s.polls
	stop()
	assert.Error(t, <-ended)
	assert.ErrorIs(t, <-s.ended, context.Canceled, "the gate has ended, and what it asked has not")
}

// TestStopWaitsForNoStranger: a connection that sends nothing does not delay Stop.
func TestStopWaitsForNoStranger(t *testing.T) {
	s := newSite(t)
	_, address, stop := open(t, s.Options)
	const connections, least = 20, 4 // 16 may wait at a time
	ends := make(chan error, connections)
	for range connections {
		conn, err := net.Dial("tcp", address)
		require.NoError(t, err)
		defer conn.Close()
		go func() {
			_, err := conn.Read(make([]byte, 1))
			ends <- err
		}()
	}
	for range least {
		require.ErrorIs(t, <-ends, io.EOF)
	}
	stop()
	for range connections - least {
		require.Error(t, <-ends)
	}
}

func TestBadOptions(t *testing.T) {
	good := newSite(t).Options
	for name, spoil := range map[string]func(*gate.Options){
		"no Temporal": func(o *gate.Options) { o.To = nil }, "no namespace": func(o *gate.Options) { o.Namespace = "" },
		"no queue": func(o *gate.Options) { o.Queue = "" }, "no pass": func(o *gate.Options) { o.Pass = pass.Pass{} },
		"no key": func(o *gate.Options) { o.Key = nil }, "short key": func(o *gate.Options) { o.Key = o.Key[1:] },
	} {
		bad := good
		spoil(&bad)
		_, err := gate.New(bad)
		assert.Error(t, err, name)
	}
}

func TestLoadKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	made, err := gate.LoadKey(path)
	require.NoError(t, err)
	assert.Len(t, made, gate.KeyBytes)
	info, err := os.Stat(path)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	again, err := gate.LoadKey(path)
	require.NoError(t, err)
	assert.Equal(t, made, again)
	require.NoError(t, os.WriteFile(path, made[:5], 0o600)) // as after a crash
	other, err := gate.LoadKey(path)
	require.NoError(t, err)
	assert.Len(t, other, gate.KeyBytes)
	assert.NotEqual(t, made, other)
	_, err = gate.LoadKey(filepath.Join(path, "below a file"))
	assert.Error(t, err)
}
