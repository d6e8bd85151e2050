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
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"heliotrope/internal/gate/pass"
	"heliotrope/internal/link"
	"heliotrope/internal/procs"
	"heliotrope/internal/record"
	"heliotrope/internal/remote"
	"heliotrope/internal/remote/remotetest"
)

// These tests run this test's own binary as the worker: it connects to its
// --address, shows its pass, says who it is, and answers each line it gets.
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
	address, passFile := args[1], args[3] // after --address and --pass-file
	its, err := pass.Read(passFile)
	if err != nil {
		panic(err)
	}
	for ; ; time.Sleep(20 * time.Millisecond) {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			continue
		}
		fmt.Fprintln(conn, its.Text(), os.Getpid(), strings.Join(args, " "))
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

// visit is one connection of a worker that its gate has let in.
type visit struct {
	net.Conn
	*bufio.Reader
	pid  int
	args string
}

func (v visit) Read(p []byte) (int, error) { return v.Reader.Read(p) }

// temporal is the place that workers reach through their gates.
type temporal struct {
	visits chan visit
	ended  <-chan struct{}
}

func newTemporal(t *testing.T) *temporal {
	t.Helper()
	return &temporal{make(chan visit), t.Context().Done()}
}

// gate stands in for package gate's: the pass is one line.
type gate struct {
	to   *temporal
	pass pass.Pass

	mutex   sync.Mutex
	stopped bool
	closing []io.Closer // the listener, and the connections
	open    atomic.Int64
	passing sync.WaitGroup
}

func (s *temporal) gate(its pass.Pass) (link.Gate, error) { return &gate{to: s, pass: its}, nil }

// closes makes Stop close something; when Stop was called already, it closes it at once.
func (g *gate) closes(c io.Closer) {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	if g.closing = append(g.closing, c); g.stopped {
		_ = c.Close()
	}
}

func (g *gate) Serve(listener net.Listener) error {
	defer g.passing.Wait()
	g.closes(listener)
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		g.closes(conn)
		g.passing.Go(func() { g.let(conn) })
	}
}

func (g *gate) InUse() bool { return g.open.Load() > 0 }

func (g *gate) Stop() {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	g.stopped = true
	for _, c := range g.closing {
		_ = c.Close()
	}
}

// let lets in a worker that has the pass, until either side ends.
func (g *gate) let(conn net.Conn) {
	defer conn.Close()
	from := bufio.NewReader(conn)
	greeting, err := from.ReadString('\n')
	shown, rest, _ := strings.Cut(strings.TrimSpace(greeting), " ")
	if err != nil || shown != g.pass.Text() {
		return
	}
	near, far := net.Pipe()
	defer near.Close()
	v := visit{Conn: far, Reader: bufio.NewReader(far)}
	number, args, _ := strings.Cut(rest, " ")
	v.args = args
	_, _ = fmt.Sscan(number, &v.pid)
	g.open.Add(1)
	defer g.open.Add(-1)
	g.passing.Go(func() {
		_, _ = io.Copy(conn, near)
		_ = conn.Close()
	})
	select {
	case g.to.visits <- v:
	case <-g.to.ended:
		return
	}
	_, _ = io.Copy(near, from)
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
	return holdTo(t, server.Connect(t, "host-a"), temporal, dir)
}

func holdTo(t *testing.T, host remote.Host, temporal *temporal, dir string) *held {
	t.Helper()
	binary, err := os.Executable()
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	h := &held{beats: make(chan struct{}, 1000), hurry: make(chan struct{}), lost: make(chan string, 10), cancel: cancel, ended: make(chan error, 1)}
	go func() {
		h.ended <- link.Run(ctx, host, link.Options{
			Dir: dir, Binary: binary, Queue: "q", Role: "host", Name: "host-a", Namespace: "n s",
			Gate: temporal.gate, Hurry: h.hurry, Lost: func(_ context.Context, why string) error {
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

// beat waits until Run has reported that the worker is alive.
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

// TestWorkerBySudo: the worker of a user who becomes root by sudo is root's, and is ended.
func TestWorkerBySudo(t *testing.T) {
	if !remotetest.CanPlayUser() {
		return
	}
	server, temporal, dir := remotetest.NewServer(t), newTemporal(t), workerDir(t)
	server.PlayUser(t, "Defaults env_keep += "+workerVariable+"\n"+remotetest.User+" ALL=(root) ALL\n")
	config := server.Config("host-a")
	config.User, config.Sudo = remotetest.User, &remote.Sudo{Password: func(context.Context) (string, error) { return remotetest.UserPassword, nil }}
	host, err := remote.SSH(config)
	must(t, err)
	t.Cleanup(func() { _ = host.Close() })
	binary, content := program(t, 1, 1<<20)
	install(t, host, binary, dir)
	expectProgram(t, link.BinaryPath(dir), content)
	h := holdTo(t, host, temporal, filepath.Join(dir, "process"))
	v := temporal.next(t)
	h.beat(t)
	info, err := os.Stat(fmt.Sprintf("/proc/%d", v.pid))
	must(t, err)
	if owner := info.Sys().(*syscall.Stat_t).Uid; owner != 0 {
		t.Errorf("the worker is user %d's", owner)
	}
	h.hurry <- struct{}{}
	if got, err := v.ReadString('\n'); err != nil || got != "hurry\n" {
		t.Errorf("the worker said %q: %v", got, err)
	}
	if err := h.end(); err != nil {
		t.Errorf("Run returned %v", err)
	}
	expectGone(t, v.pid)
}

// TestWorkerIsToldToHurry: an activity on a host must not learn minutes later that it was
// cancelled.
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

// TestPassIsNobodysBusiness: the pass must be in no command line, and in no file that other
// users of the host can read.
func TestPassIsNobodysBusiness(t *testing.T) {
	server, temporal, dir := remotetest.NewServer(t), newTemporal(t), workerDir(t)
	h := hold(t, server, temporal, dir)
	v := temporal.next(t)
	its, err := pass.Read(filepath.Join(dir, "pass")) // which looks at the file's mode
	must(t, err)
	for _, of := range []string{"cmdline", "environ"} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", v.pid, of))
		must(t, err)
		if len(text) == 0 || strings.Contains(string(text), its.Text()) {
			t.Errorf("the worker's %s holds its pass, or nothing: %q", of, text)
		}
	}
	identity, err := os.ReadFile(filepath.Join(dir, "identity"))
	must(t, err)
	if !strings.Contains(string(identity), its.ID()) || strings.Contains(string(identity), its.Text()) {
		t.Errorf("the worker's identity is %s: want what tells passes apart in it, and no pass", identity)
	}
	must(t, h.end())

	again := hold(t, server, temporal, dir)
	temporal.next(t)
	other, err := pass.Read(filepath.Join(dir, "pass"))
	must(t, err)
	if other == its {
		t.Error("another link has the same pass")
	}
	must(t, again.end())
}

// TestUpgraded: when another program is installed than the one that a worker runs from, the
// next holder of the link replaces the worker, and reports before that its activities are
// lost.
func TestUpgraded(t *testing.T) {
	server, temporal, dir := remotetest.NewServer(t), newTemporal(t), workerDir(t)
	own, err := os.Executable()
	must(t, err)
	binary := filepath.Join(t.TempDir(), "worker")
	must(t, os.Symlink(own, binary))
	lost := make(chan string, 10)
	next := func(version string) (v visit, host *remote.SSHHost, ended chan error) {
		must(t, os.WriteFile(binary+".sha256", []byte(version+"\n"), 0o600)) // as Install notes it
		host, ended = server.Connect(t, "host-a"), make(chan error, 1)
		go func() {
			ended <- link.Run(t.Context(), host, link.Options{Dir: dir, Binary: binary, Queue: "q", Role: "host", Name: "host-a", Namespace: "n",
				Gate: temporal.gate, Log: zerolog.Nop(), Lost: func(_ context.Context, why string) error {
					lost <- why
					return nil
				}}, func() {})
		}()
		return temporal.next(t), host, ended
	}
	first, host, ended := next("1")
	<-lost
	must(t, host.Close())
	if err := <-ended; err == nil {
		t.Error("the line is held without a host")
	}
	second, host, ended := next("2")
	for second.pid == first.pid { // it may connect once more before it is replaced
		second = temporal.next(t)
	}
	expectGone(t, first.pid)
	if why := <-lost; why != "its worker has ended" {
		t.Errorf("what it was at is lost because %q", why)
	}
	must(t, host.Close())
	if err := <-ended; err == nil {
		t.Error("the line is held without a host")
	}
	must(t, record.Process{Host: server.Connect(t, "host-a"), Dir: dir}.Remove(context.WithoutCancel(t.Context())))
	expectGone(t, second.pid)
}

// TestWorkerWithoutPassIsReplaced: a worker that runs without a pass is replaced.
func TestWorkerWithoutPassIsReplaced(t *testing.T) {
	server, temporal, dir := remotetest.NewServer(t), newTemporal(t), workerDir(t)
	h := hold(t, server, temporal, dir)
	first := temporal.next(t)
	host := server.Connect(t, "host-a")
	h.cancel()
	must(t, <-h.ended)
	h.ended <- nil
	expectGone(t, first.pid)
	process := record.Process{Host: host, Dir: dir}
	must(t, process.Start(t.Context(), "sh", "-c", "echo 1 > port; echo 1 > identity; exec sleep 600"))
	hold(t, server, temporal, dir)
	temporal.next(t)
	if _, err := pass.Read(filepath.Join(dir, "pass")); err != nil {
		t.Error(err)
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
		// The worker may have missed the first signal.
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
			Gate: temporal.gate, Log: zerolog.Nop(),
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
		Gate: newTemporal(t).gate, Log: zerolog.Nop()}
	for name, test := range map[string]struct {
		spoil func(*link.Options, *remotetest.Server)
		want  string
	}{
		"no queue":        {func(o *link.Options, _ *remotetest.Server) { o.Queue = "" }, "Queue is empty"},
		"no gate":         {func(o *link.Options, _ *remotetest.Server) { o.Gate = nil }, "no Gate"},
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
