package link_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"heliotrope/internal/link"
	"heliotrope/internal/procs"
	"heliotrope/internal/remote"
	"heliotrope/internal/remote/remotetest"
)

// These tests run this test's own binary as the worker: it connects to its
// --address, says who it is, and answers each line it gets.
const workerVariable = "HELIOTROPE_TEST_WORKER"

func TestMain(m *testing.M) {
	if os.Getenv(workerVariable) != "" {
		echoWorker(os.Args[1:])
		return
	}
	if err := os.Setenv(workerVariable, "1"); err != nil { // for the processes that the tests start
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// echoWorker connects for ever, and says when it is told to hurry.
func echoWorker(args []string) {
	hurry := make(chan os.Signal, 1)
	signal.Notify(hurry, syscall.SIGUSR1)
	address := args[1] // after --address
	for ; ; time.Sleep(20 * time.Millisecond) {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			continue
		}
		fmt.Fprintln(conn, os.Getpid(), strings.Join(args, " "))
		gone := make(chan struct{})
		go func() {
			select {
			case <-hurry:
				fmt.Fprintln(conn, "hurry")
			case <-gone:
			}
		}()
		_, _ = io.Copy(conn, conn)
		close(gone)
		_ = conn.Close()
	}
}

// visit is one connection of a worker, as Temporal sees it.
type visit struct {
	net.Conn
	*bufio.Reader
	pid  int
	args string
}

func (v visit) Read(p []byte) (int, error) { return v.Reader.Read(p) }

// temporal stands in for Temporal's frontend.
type temporal struct {
	net.Listener
	visits chan visit
}

func newTemporal(t *testing.T) *temporal {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	server := &temporal{listener, make(chan visit)}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				v := visit{Conn: conn, Reader: bufio.NewReader(conn)}
				greeting, err := v.ReadString('\n')
				if err != nil {
					return
				}
				pid, rest, _ := strings.Cut(strings.TrimSpace(greeting), " ")
				_, _ = fmt.Sscan(pid, &v.pid)
				v.args = rest
				select {
				case server.visits <- v:
				case <-t.Context().Done():
				}
			}()
		}
	}()
	return server
}

// next is the next connection of a worker.
func (s *temporal) next(t *testing.T) visit {
	t.Helper()
	select {
	case v := <-s.visits:
		t.Cleanup(func() { _ = v.Close() })
		return v
	case <-time.After(time.Minute):
		t.Fatal("no worker connects")
		return visit{}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// workerDir is the folder of a worker's process, which is made and removed with it.
func workerDir(t *testing.T) string { return filepath.Join(t.TempDir(), "run", "worker") }

// held is a line that is held in the background.
type held struct {
	beats  chan struct{}
	hurry  chan struct{}
	lost   chan string
	cancel context.CancelFunc
	ended  chan error
}

func hold(t *testing.T, server *remotetest.Server, temporal *temporal, dir string) *held {
	t.Helper()
	binary, err := os.Executable()
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	h := &held{beats: make(chan struct{}, 1000), hurry: make(chan struct{}), lost: make(chan string, 10), cancel: cancel, ended: make(chan error, 1)}
	host := server.Connect(t, "host-a")
	go func() {
		h.ended <- link.Run(ctx, host, link.Options{
			Dir: dir, Binary: binary, Queue: "q", Role: "host", Name: "host-a", Namespace: "n s",
			TemporalAddress: temporal.Addr().String(), Hurry: h.hurry, Lost: func(_ context.Context, why string) error {
				h.lost <- why
				return nil
			}, Log: zerolog.New(zerolog.NewTestWriter(t)),
		}, func() { h.beats <- struct{}{} })
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-h.ended; err != nil {
			t.Logf("Run returned %v", err)
		}
	})
	return h
}

// beat waits until the worker was said to be alive.
func (h *held) beat(t *testing.T) {
	t.Helper()
	select {
	case <-h.beats:
	case <-time.After(time.Minute):
		t.Fatal("the worker is not said to be alive")
	}
}

// end ends the line and returns what Run returned.
func (h *held) end() error {
	h.cancel()
	err := <-h.ended
	h.ended <- err
	return err
}

// expectGone waits until a process has ended.
func expectGone(t *testing.T, pid int) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); procs.Runs(pid); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("process %d still runs", pid)
		}
	}
}

// TestWorkerIsToldToHurry: an activity that was cancelled on a host must not learn of it
// minutes later.
func TestWorkerIsToldToHurry(t *testing.T) {
	server, temporal, dir := remotetest.NewServer(t), newTemporal(t), workerDir(t)
	h := hold(t, server, temporal, dir)
	v := temporal.next(t)
	h.beat(t)
	h.hurry <- struct{}{}
	if got, err := v.ReadString('\n'); err != nil || got != "hurry\n" {
		t.Errorf("the worker said %q: %v", got, err)
	}
	if !procs.Runs(v.pid) {
		t.Error("it has ended")
	}
	if err := h.end(); err != nil {
		t.Errorf("Run returned %v", err)
	}
}

func TestForwardCarriesBytesAndEndsClean(t *testing.T) {
	server, temporal, dir := remotetest.NewServer(t), newTemporal(t), workerDir(t)
	h := hold(t, server, temporal, dir)
	v := temporal.next(t)
	for _, want := range []string{"--namespace n s --queue q --role host --name host-a"} {
		if !strings.Contains(v.args, want) {
			t.Errorf("the worker's arguments are %q, want %q in them", v.args, want)
		}
	}
	text := strings.Repeat("heartbeat ", 100_000) + "\n"
	go func() { _, _ = io.WriteString(v, text) }()
	if got, err := v.ReadString('\n'); err != nil || got != text {
		t.Errorf("%d bytes came back of %d: %v", len(got), len(text), err)
	}
	h.beat(t)
	if err := h.end(); err != nil {
		t.Errorf("Run returned %v", err)
	}
	expectGone(t, v.pid)
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the worker's folder is still there (%v)", err)
	}
}

func TestConnectionCut(t *testing.T) {
	server, temporal := remotetest.NewServer(t), newTemporal(t)
	h := hold(t, server, temporal, workerDir(t))
	first := temporal.next(t)
	h.beat(t)
	for range 2 {
		server.DropConnections()
		again := temporal.next(t)
		// It may have missed that it was told to.
		if got, err := again.ReadString('\n'); err != nil || got != "hurry\n" {
			t.Errorf("after the loss, the worker said %q: %v", got, err)
		}
		if again.pid != first.pid || again.args != first.args {
			t.Errorf("after the loss, worker %d (%s) connects instead of %d (%s)", again.pid, again.args, first.pid, first.args)
		}
	}
	must(t, h.end())
	expectGone(t, first.pid)
}

// TestPortTaken: while the line is down somebody else takes the worker's port.
func TestPortTaken(t *testing.T) {
	server, temporal := remotetest.NewServer(t), newTemporal(t)
	h := hold(t, server, temporal, workerDir(t))
	first := temporal.next(t)
	address := strings.Fields(first.args)[1]
	server.DropConnections()
	var other net.Listener
	for other == nil {
		other, _ = net.Listen("tcp", address) // until the server has let go of it
	}
	defer other.Close()
	for {
		again := temporal.next(t)
		if again.pid != first.pid {
			if !strings.HasPrefix(again.args, "--address") || strings.Contains(again.args, address+" ") {
				t.Errorf("the new worker's arguments are %q", again.args)
			}
			break
		}
	}
	expectGone(t, first.pid)
	must(t, h.end())
}

func TestWorkerKilled(t *testing.T) {
	server, temporal := remotetest.NewServer(t), newTemporal(t)
	h := hold(t, server, temporal, workerDir(t))
	first := temporal.next(t)
	must(t, syscall.Kill(first.pid, syscall.SIGKILL))
	second := temporal.next(t)
	for range 2 { // before the first was started too: there may have been one that nobody knew of
		select {
		case why := <-h.lost:
			if why != "its worker has ended" {
				t.Errorf("what it was at is lost because %q", why)
			}
		default:
			t.Error("another worker was started, and nobody was told that what the one before was at is lost")
		}
	}
	if second.pid == first.pid || second.args != first.args {
		t.Errorf("worker %d (%s) after %d (%s)", second.pid, second.args, first.pid, first.args)
	}
	must(t, h.end())
	expectGone(t, second.pid)
}

// TestTakenOver: a controller that died leaves its worker; the next one takes
// it over as it is, on the port that it knows.
func TestTakenOver(t *testing.T) {
	server, temporal, dir := remotetest.NewServer(t), newTemporal(t), workerDir(t)
	binary, err := os.Executable()
	must(t, err)
	host := server.Connect(t, "host-a")
	died := make(chan error, 1)
	go func() {
		died <- link.Run(t.Context(), host, link.Options{
			Dir: dir, Binary: binary, Queue: "q", Role: "host", Name: "host-a", Namespace: "n s",
			TemporalAddress: temporal.Addr().String(), Log: zerolog.Nop(),
		}, func() {})
	}()
	first := temporal.next(t)
	must(t, host.Close()) // as the end of the controller's process would
	if err := <-died; err == nil {
		t.Fatal("Run goes on without a host")
	}
	h := hold(t, server, temporal, dir)
	if second := temporal.next(t); second.pid != first.pid {
		t.Errorf("worker %d instead of %d", second.pid, first.pid)
	}
	must(t, h.end())
	expectGone(t, first.pid)
}

func TestWaitingMendsNothing(t *testing.T) {
	good := link.Options{Dir: "/run/heliotrope/worker", Binary: "/b", Queue: "q", Role: "host", Name: "n", Namespace: "n",
		TemporalAddress: "127.0.0.1:1", Log: zerolog.Nop()}
	for name, test := range map[string]struct {
		spoil func(*link.Options, *remotetest.Server)
		want  string
	}{
		"no address":      {func(o *link.Options, _ *remotetest.Server) { o.TemporalAddress = "" }, "TemporalAddress is empty"},
		"relative folder": {func(o *link.Options, _ *remotetest.Server) { o.Dir = "worker" }, `"worker"`},
		"high folder":     {func(o *link.Options, _ *remotetest.Server) { o.Dir = "/worker" }, `"/worker"`},
		"refused login":   {func(_ *link.Options, s *remotetest.Server) { s.RefuseLogins() }, remote.ErrAuthentication.Error()},
		"other host key":  {func(_ *link.Options, s *remotetest.Server) { s.ChangeHostKey(t) }, remote.ErrHostKey.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			server, options := remotetest.NewServer(t), good
			host := server.Connect(t, "host-a")
			test.spoil(&options, server)
			err := link.Run(t.Context(), host, options, func() { t.Error("said to be alive") })
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}
