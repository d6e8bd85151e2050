package agent_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"heliotrope/internal/gate"
	"heliotrope/internal/gate/pass"
	"heliotrope/internal/link"
	"heliotrope/internal/remote"
	"heliotrope/internal/remote/remotetest"
)

const namespace = "gates"

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// startServer starts the Temporal server that `make server` has built, with the namespace.
func startServer(t testing.TB) (address string) {
	t.Helper()
	binary := os.Getenv("HELIOTROPE_SERVER")
	if binary == "" {
		binary = filepath.Join("..", "..", "bin", "heliotrope-server")
	}
	server := exec.Command(binary, "--address", "127.0.0.1:0", "--ui-address", "127.0.0.1:0", "--namespace", namespace,
		"--database", filepath.Join(t.TempDir(), "temporal.db"), "--synchronous", "NORMAL", "--log-level", "error")
	out, err := server.StdoutPipe()
	must(t, err)
	if err := server.Start(); err != nil {
		t.Fatalf("%v: run `make server` first", err)
	}
	t.Cleanup(func() {
		_ = server.Process.Signal(syscall.SIGTERM)
		_ = server.Wait()
	})
	var ready struct {
		Ready   bool   `json:"ready"`
		Address string `json:"address"`
	}
	if err := json.NewDecoder(out).Decode(&ready); err != nil || !ready.Ready {
		t.Fatalf("the server does not get ready: %v", err)
	}
	return ready.Address
}

// build builds a program as it is shipped: static, without symbols.
func build(t testing.TB, folder string) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "worker")
	command := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", binary, folder)
	command.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return binary
}

// pulse has the worker of a queue run the activity Pulse, with no retries.
func pulse(ctx workflow.Context, queue string) (pid int, err error) {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{TaskQueue: queue,
		StartToCloseTimeout: time.Hour, HeartbeatTimeout: time.Minute, WaitForCancellation: true,
		RetryPolicy: &temporal.RetryPolicy{MaximumAttempts: 1}})
	err = workflow.ExecuteActivity(ctx, "Pulse").Get(ctx, &pid)
	return pid, err
}

// beats is a running Pulse, as the server sees it.
type beats struct {
	client.Client
	run  client.WorkflowRun
	last int
}

// startPulse has the worker of a queue run Pulse, by a workflow of this process at the server.
func startPulse(ctx context.Context, t *testing.T, address, queue string) *beats {
	t.Helper()
	temporalClient, err := client.Dial(client.Options{HostPort: address, Namespace: namespace})
	must(t, err)
	t.Cleanup(temporalClient.Close)
	workflows := worker.New(temporalClient, "workflows", worker.Options{})
	workflows.RegisterWorkflow(pulse)
	must(t, workflows.Start())
	t.Cleanup(workflows.Stop)
	run, err := temporalClient.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: "trial", TaskQueue: "workflows"}, pulse, queue)
	must(t, err)
	return &beats{Client: temporalClient, run: run}
}

// mustCancel cancels it, and wants that this is how it ends.
func (b *beats) mustCancel(ctx context.Context, t *testing.T) {
	t.Helper()
	must(t, b.CancelWorkflow(ctx, b.run.GetID(), b.run.GetRunID()))
	if err := b.run.Get(ctx, nil); err == nil || !strings.Contains(err.Error(), "cancel") {
		t.Errorf("the cancelled activity: %v", err)
	}
}

// mustAdvance waits until the server has heard more beats of the same attempt
// than when last looked.
func (b *beats) mustAdvance(ctx context.Context, t *testing.T, by int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	poll := time.NewTicker(200 * time.Millisecond)
	defer poll.Stop()
	for want := b.last + by; b.last < want; {
		select {
		case <-ctx.Done():
			t.Fatalf("the server has heard %d beats, want %d", b.last, want)
		case <-poll.C:
		}
		description, err := b.DescribeWorkflowExecution(ctx, b.run.GetID(), b.run.GetRunID())
		must(t, err)
		if closed := description.GetWorkflowExecutionInfo().GetCloseTime(); closed != nil {
			t.Fatalf("the activity has ended after %d beats: %v", b.last, b.run.Get(ctx, nil))
		}
		for _, activity := range description.GetPendingActivities() {
			if activity.GetHeartbeatDetails() == nil {
				continue
			}
			must(t, converter.GetDefaultDataConverter().FromPayloads(activity.GetHeartbeatDetails(), &b.last))
		}
	}
}

// gatesTo are the gates of one controller to a server.
func gatesTo(t testing.TB, address string) gate.Options {
	t.Helper()
	to, err := client.NewLazyClient(client.Options{HostPort: address, Namespace: namespace})
	must(t, err)
	t.Cleanup(to.Close)
	return gate.Options{To: to.WorkflowService(), Namespace: namespace, Key: bytes.Repeat([]byte{7}, gate.KeyBytes)}
}

// holdLink holds the line to a worker until stop is called, or until the test ends; for
// alive see link.Run.
func holdLink(t *testing.T, host remote.Host, options link.Options, gates gate.Options, alive func()) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	options.Namespace, options.Log = namespace, zerolog.New(zerolog.NewTestWriter(t))
	options.Gate = func(its pass.Pass) (link.Gate, error) {
		gates.Queue, gates.Pass, gates.Log = options.Queue, its, options.Log
		return gate.New(gates)
	}
	ended := make(chan error, 1)
	go func() { ended <- link.Run(ctx, host, options, alive) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() { _ = stop() })
	return stop
}

// TestThroughTheGate: a worker on a host works through its gate. It goes on with the same
// activity when the connection is cut and when another process takes the controller's place,
// and learns of its cancellation. Nobody can do anything else through the gate.
func TestThroughTheGate(t *testing.T) {
	binary, address := build(t, "./testdata/pulse"), startServer(t)
	heard := startPulse(t.Context(), t, address, "host-a")
	server, gates, dir := remotetest.NewServer(t), gatesTo(t, address), filepath.Join(t.TempDir(), "run", "worker")
	its := link.Options{Dir: dir, Binary: binary, Queue: "host-a", Role: "host", Name: "host-a"}
	first := server.Connect(t, "host-a")
	died := holdLink(t, first, its, gates, func() {})
	heard.mustAdvance(t.Context(), t, 1)
	strangers(t, dir)

	server.DropConnections()
	heard.mustAdvance(t.Context(), t, 2)
	must(t, first.Close()) // as when the controller is killed
	if err := died(); err == nil {
		t.Fatal("the line is held without a host")
	}
	ended := holdLink(t, server.Connect(t, "host-a"), its, gates, func() {})
	heard.mustAdvance(t.Context(), t, 3)

	heard.mustCancel(t.Context(), t)
	must(t, ended())
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the worker's folder is still there: %v", err)
	}
}

// TestProgramGetsThrough: the program that hosts get connects through its gate, and ends
// with its link.
func TestProgramGetsThrough(t *testing.T) {
	binary, gates, dir := build(t, "../../cmd/heliotrope-worker"), gatesTo(t, startServer(t)), filepath.Join(t.TempDir(), "run", "worker")
	alive := make(chan struct{}, 1)
	ended := holdLink(t, remotetest.NewServer(t).Connect(t, "host-a"), link.Options{Dir: dir, Binary: binary, Queue: "host-a", Role: "host", Name: "host-a"},
		gates, func() {
			select {
			case alive <- struct{}{}:
			default:
			}
		})
	select {
	case <-alive:
	case <-time.After(time.Minute):
		said, _ := os.ReadFile(filepath.Join(dir, "errors"))
		t.Fatalf("it does not come in, and said %s", said)
	}
	must(t, ended())
}

// strangers tries what users of a host could try at the port that is forwarded there:
// without a pass, with another worker's pass, and with the worker's own.
func strangers(t *testing.T, dir string) {
	t.Helper()
	port, err := os.ReadFile(filepath.Join(dir, "port"))
	must(t, err)
	stolen, err := pass.Read(filepath.Join(dir, "pass"))
	must(t, err)
	own, err := stolen.TLS()
	must(t, err)
	others, err := pass.New().TLS()
	must(t, err)
	options := client.Options{HostPort: net.JoinHostPort("127.0.0.1", strings.TrimSpace(string(port))), Namespace: namespace}
	for name, spoil := range map[string]func(*client.Options){
		"no pass": func(*client.Options) {}, "another pass": func(o *client.Options) { o.ConnectionOptions.TLS = others },
	} {
		with := options
		spoil(&with)
		if c, err := client.DialContext(t.Context(), with); err == nil {
			c.Close()
			t.Errorf("somebody gets in with %s", name)
		}
	}
	options.ConnectionOptions.TLS = own
	c, err := client.DialContext(t.Context(), options)
	must(t, err)
	defer c.Close()
	_, start := c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{TaskQueue: "workflows"}, pulse, "host-a")
	_, query := c.QueryWorkflow(t.Context(), "trial", "", "__stack_trace")
	_, describe := c.DescribeWorkflowExecution(t.Context(), "trial", "")
	for name, err := range map[string]error{"start": start, "query": query, "describe": describe,
		"signal": c.SignalWorkflow(t.Context(), "trial", "", "s", nil), "cancel": c.CancelWorkflow(t.Context(), "trial", ""),
		"terminate": c.TerminateWorkflow(t.Context(), "trial", "", ""),
		"answer":    c.CompleteActivityByID(t.Context(), namespace, "trial", "", "1", nil, nil)} {
		var denied *serviceerror.PermissionDenied
		assert.ErrorAs(t, err, &denied, "somebody with the worker's pass can %s", name)
	}
}
