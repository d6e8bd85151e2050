package temporal

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

// serverOptions returns the options of a real server with a folder of its own and free ports.
func serverOptions(t testing.TB) ServerOptions {
	t.Helper()
	binary := os.Getenv("HELIOTROPE_SERVER")
	if binary == "" {
		binary = filepath.Join("..", "..", "bin", binaryName)
	}
	if _, err := os.Stat(binary); err != nil {
		t.Fatalf("these tests need the embedded server: run `make server` (%v)", err)
	}
	return ServerOptions{
		Settings: Settings{Address: anyPort, Namespace: DefaultNamespace},
		StateDir: t.TempDir(), Binary: binary, UIAddress: anyPort,
		Synchronous: "NORMAL", Progress: func(text string) { t.Log(text) },
	}
}

// ensure starts the server, and makes sure that the test leaves none behind.
func ensure(t testing.TB, o ServerOptions) *Server {
	t.Helper()
	server, err := Ensure(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return server
}

func dial(t testing.TB, s Settings) client.Client {
	t.Helper()
	c, err := Dial(t.Context(), s, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

const queue = "test"

var testAttribute = temporal.NewSearchAttributeKeyFloat64("HeliotropeTestMs")

// waitForWord adds the word that it receives to an activity's result for its input.
func waitForWord(ctx workflow.Context, in string) (string, error) {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute})
	var greeting, word string
	if err := workflow.ExecuteActivity(ctx, greet, in).Get(ctx, &greeting); err != nil {
		return "", err
	}
	workflow.GetSignalChannel(ctx, "word").Receive(ctx, &word)
	return greeting + " " + word, nil
}

func greet(_ context.Context, in string) (string, error) { return "hello " + in, nil }

// startWorker runs the workflow's worker until the returned function is called.
func startWorker(t *testing.T, c client.Client) func() {
	t.Helper()
	w := worker.New(c, queue, worker.Options{})
	w.RegisterWorkflow(waitForWord)
	w.RegisterActivity(greet)
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	return sync.OnceFunc(w.Stop)
}

func TestServerKeepsAWorkflowThroughSIGKILL(t *testing.T) {
	o := serverOptions(t)
	server := ensure(t, o)
	if !server.Started {
		t.Fatal("a server was there already")
	}
	c := dial(t, server.Settings)
	checkRetention(t, c)
	attributes := map[string]enumspb.IndexedValueType{
		testAttribute.GetName(): testAttribute.GetValueType(),
		"HeliotropeTest":        enumspb.INDEXED_VALUE_TYPE_KEYWORD,
	}
	for range 2 {
		if err := RegisterSearchAttributes(t.Context(), c, DefaultNamespace, attributes); err != nil {
			t.Fatal(err)
		}
	}
	other := map[string]enumspb.IndexedValueType{testAttribute.GetName(): enumspb.INDEXED_VALUE_TYPE_KEYWORD}
	if err := RegisterSearchAttributes(t.Context(), c, DefaultNamespace, other); err == nil {
		t.Error("an attribute was registered with another type")
	}

	stopWorker := startWorker(t, c)
	run, err := c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{
		ID: "patient", TaskQueue: queue, TypedSearchAttributes: temporal.NewSearchAttributes(testAttribute.ValueSet(1.5)),
	}, waitForWord, "world")
	if err != nil {
		t.Fatal(err)
	}
	stopWorker()
	if err := syscall.Kill(-server.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-server.Exited()
	for _, s := range []Settings{server.Settings, o.Settings} {
		if _, err := Find(t.Context(), s, o.StateDir); !errors.Is(err, ErrNotRunning) {
			t.Fatalf("the server was killed, and at %s: %v", s.Address, err)
		}
	}

	again := ensure(t, o)
	c = dial(t, again.Settings)
	defer startWorker(t, c)()
	if err := c.SignalWorkflow(t.Context(), "patient", "", "word", "again"); err != nil {
		t.Fatal(err)
	}
	var result string
	if err := c.GetWorkflow(t.Context(), "patient", run.GetRunID()).Get(t.Context(), &result); err != nil || result != "hello world again" {
		t.Errorf("the workflow returned %q, %v", result, err)
	}
	if err := again.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(-again.PID, 0); err != syscall.ESRCH {
		t.Errorf("process group %d is still there: %v", again.PID, err)
	}
}

func checkRetention(t *testing.T, c client.Client) {
	t.Helper()
	answer, err := c.WorkflowService().DescribeNamespace(t.Context(), &workflowservice.DescribeNamespaceRequest{Namespace: DefaultNamespace})
	if err != nil {
		t.Fatal(err)
	}
	if got := answer.GetConfig().GetWorkflowExecutionRetentionTtl().AsDuration(); got != 90*24*time.Hour {
		t.Errorf("closed workflows are kept for %v, want 90 days", got)
	}
}

func TestOneServerForAllWhoWantOne(t *testing.T) {
	o := serverOptions(t)
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	o.UIAddress = busy.Addr().String()
	servers := make([]*Server, 3)
	errs := make([]error, len(servers))
	var group sync.WaitGroup
	for i := range servers {
		group.Go(func() { servers[i], errs[i] = Ensure(t.Context(), o) })
	}
	group.Wait()
	started := 0
	for i, server := range servers {
		if errs[i] != nil {
			t.Error(errs[i])
			continue
		}
		t.Cleanup(func() { _ = server.Stop(context.Background()) })
		if server.Started {
			started++
		}
		if server.PID != servers[0].PID || server.UIURL != servers[0].UIURL || server.Settings.Address != servers[0].Settings.Address {
			t.Errorf("two servers: %+v and %+v", servers[0], server)
		}
	}
	if started != 1 || t.Failed() {
		t.Fatalf("%d servers were started, want 1", started)
	}
	response, err := http.Get(servers[0].UIURL)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Errorf("the Web UI answers %s", response.Status)
	}

	moved := o
	moved.Settings.Address = "127.0.0.1:1" // where nobody listens
	_, err = Ensure(t.Context(), moved)
	wantBadInput(t, err, servers[0].Settings.Address, "served already")

	found, err := Find(t.Context(), o.Settings, o.StateDir)
	if err != nil || found.PID != servers[0].PID || found.Settings.Address != servers[0].Settings.Address {
		t.Errorf("the folder's server, wherever it is: %+v, %v", found, err)
	}

	for _, want := range []bool{true, false} {
		stopped, err := StopEmbedded(t.Context(), o.StateDir)
		if err != nil || stopped != want {
			t.Errorf("stopped: %v, %v; want %v", stopped, err, want)
		}
	}
	if _, err := Find(t.Context(), servers[0].Settings, o.StateDir); err == nil {
		t.Error("the server was stopped and still answers")
	}
}

// TestServerWithBusyPorts: a busy port that the user named is an error that names it; the Web UI
// takes another port.
func TestServerWithBusyPorts(t *testing.T) {
	busy, err := net.Listen("tcp", anyPort)
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	o := serverOptions(t)
	o.UIAddress = busy.Addr().String()
	server := ensure(t, o)
	if server.UIURL == "http://"+o.UIAddress || server.Settings.Address == anyPort {
		t.Errorf("the server says it is at %s, and its UI at %s", server.Settings.Address, server.UIURL)
	}
	dial(t, server.Settings)
	if err := server.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}

	// The server itself, without a check of the port beforehand.
	o.StateDir = t.TempDir()
	command := exec.CommandContext(t.Context(), o.Binary, "--address", busy.Addr().String(), "--ui-address", anyPort,
		"--database", filepath.Join(o.StateDir, databaseFile))
	text, err := command.CombinedOutput()
	if command.ProcessState.ExitCode() != exitBadInput || !strings.Contains(string(text), busy.Addr().String()+" is busy") {
		t.Errorf("on a busy port: %v, %s", err, text)
	}
}

// TestManyServersAtOnce: servers that start at the same time take nothing from each other.
func TestManyServersAtOnce(t *testing.T) {
	const servers = 4
	addresses := make(chan string, 2*servers)
	var starting sync.WaitGroup
	for range servers {
		o := serverOptions(t)
		starting.Go(func() {
			server, err := Ensure(t.Context(), o)
			if err != nil {
				t.Error(err)
				return
			}
			addresses <- server.Settings.Address
			addresses <- strings.TrimPrefix(server.UIURL, "http://")
			if err := server.Stop(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
	starting.Wait()
	close(addresses)
	for address := range addresses {
		if strings.HasSuffix(address, ":0") {
			t.Errorf("a server says that it is at %s", address)
		}
	}
}

// TestServerListensOnTheLoopbackInterfaceOnly: because it has no authentication.
func TestServerListensOnTheLoopbackInterfaceOnly(t *testing.T) {
	for _, address := range []string{"0.0.0.0:0", "[::]:0", "192.0.2.1:0"} {
		o := serverOptions(t)
		o.Settings.Address = address
		_, err := Ensure(t.Context(), o)
		wantBadInput(t, err, "loopback address")
		o = serverOptions(t)
		o.UIAddress = address
		_, err = Ensure(t.Context(), o)
		wantBadInput(t, err, "loopback address")
	}
}

func TestServerRefusesADatabaseOfAnotherVersion(t *testing.T) {
	for _, test := range []struct{ name, record, says string }{
		{"another version", `{"temporal":"1.0.7"}`, "1.0.7"},
		{"no version", `{}`, "another --database"},
		{"damaged record", `{"temp`, "another --database"},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := serverOptions(t)
			database := filepath.Join(o.StateDir, databaseFile)
			for path, text := range map[string]string{database: "old", database + ".json": test.record} {
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			_, err := Ensure(t.Context(), o)
			wantBadInput(t, err, test.says)
			if said := err.Error(); strings.Contains(said, "\n") || !strings.Contains(said, o.StateDir) {
				t.Errorf("not one sentence: %s", said)
			}
			if text, err := os.ReadFile(database); err != nil || string(text) != "old" {
				t.Errorf("the old database was touched: %q, %v", text, err)
			}
		})
	}
}

// TestWorkflowsTakeLittleRoom: of Temporal's 61 indexes of workflows, which take 18 kB a
// workflow, those that no query uses do not exist.
func TestWorkflowsTakeLittleRoom(t *testing.T) {
	const workflows, mostBytes = 100, 10_000
	o := serverOptions(t)
	size := func(fill func(client.Client)) int64 {
		server := ensure(t, o)
		c, err := Dial(t.Context(), server.Settings, zerolog.Nop())
		if err != nil {
			t.Fatal(err)
		}
		fill(c)
		c.Close()
		if err := server.Stop(t.Context()); err != nil { // which brings its log into the file
			t.Fatal(err)
		}
		info, err := os.Stat(filepath.Join(o.StateDir, databaseFile))
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	empty := size(func(client.Client) {})
	full := size(func(c client.Client) {
		for range workflows {
			run, err := c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{TaskQueue: queue}, waitForWord, "word")
			if err == nil {
				err = c.TerminateWorkflow(t.Context(), run.GetID(), run.GetRunID(), "")
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	})
	each := (full - empty) / workflows
	t.Logf("a workflow takes %d bytes", each)
	if each > mostBytes {
		t.Errorf("want at most %d bytes", mostBytes)
	}
}

// TestServerRefusesACutDatabase: a database that was cut off is reported at once, also beside the
// write-ahead log of a server that was killed; once it is complete again, it is served.
func TestServerRefusesACutDatabase(t *testing.T) {
	o := serverOptions(t)
	database := filepath.Join(o.StateDir, databaseFile)
	server, err := Ensure(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	server = ensure(t, o) // its log is short now, and the file is complete
	if err := syscall.Kill(-server.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(database)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(database + "-wal"); err != nil {
		t.Fatal("not what is to be tested: ", err)
	}
	if err := os.Truncate(database, int64(len(whole)/2)); err != nil {
		t.Fatal(err)
	}
	_, err = Ensure(t.Context(), o)
	wantBadInput(t, err, "is damaged")
	if said := err.Error(); strings.Contains(said, "\n") || !strings.Contains(said, o.StateDir) {
		t.Errorf("not one sentence: %s", said)
	}
	if err := os.WriteFile(database, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	ensure(t, o)
}

func TestDialNamesAMissingNamespace(t *testing.T) {
	settings := ensure(t, serverOptions(t)).Settings
	settings.Namespace = "elsewhere"
	_, err := Dial(t.Context(), settings, zerolog.Nop())
	if err == nil {
		t.Fatal("a namespace that is not there was accepted")
	}
	for _, word := range []string{settings.Address, "heliotrope temporal setup"} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("the error does not say %q: %v", word, err)
		}
	}
}
