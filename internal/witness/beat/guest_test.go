package beat

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"heliotrope/internal/ledger"
	"heliotrope/internal/witness"
)

type guestTest struct {
	*guest
	running
	address netip.AddrPort
}

// startGuest starts a guest in a folder of its own. If other is not nil, it is used as the
// ledger.
func startGuest(t *testing.T, config witness.GuestConfig, other records) guestTest {
	t.Helper()
	t.Chdir(t.TempDir())
	g, err := openGuest(config)
	must(t, err)
	if other != nil {
		g.ledger = other
	}
	return guestTest{g, start(t, g.run), localAddress(t, g.socket)}
}

func configFor(p peer) witness.GuestConfig {
	return witness.GuestConfig{Listen: anyPort, SiteA: p.address(), Token: token}
}

// exchange asks the guest once and waits for its answer.
func (p peer) exchange(to netip.AddrPort, number uint64) datagram {
	p.t.Helper()
	p.send(to, datagram{kind: ask, token: token, number: number, sent: now()})
	d, _ := p.next(answer)
	return d
}

func TestHeartbeatsAreNumbered(t *testing.T) {
	siteA := newPeer(t)
	last := now()
	g := startGuest(t, configFor(siteA), nil)
	for number := uint64(1); number <= 5; number++ {
		d, _ := siteA.next(heartbeat)
		if d.number != number || d.sent < last || d.sent > now() || d.acked != 0 || d.asked != 0 || d.received != 0 {
			t.Errorf("heartbeat %+v, want number %d", d, number)
		}
		last = d.sent
	}
	must(t, g.stop())
	text, err := os.ReadFile(witness.BeatsFile)
	must(t, err)
	if want := fmt.Sprintf("%d 0\n", g.sent.Load()); string(text) != want {
		t.Errorf("in the end %s has %q, want %q", witness.BeatsFile, text, want)
	}
}

func TestGuestAnswers(t *testing.T) {
	siteA, siteB := newPeer(t), newPeer(t)
	before := now()
	g := startGuest(t, configFor(siteA), nil)
	siteB.send(g.address, datagram{kind: ask, token: token + 1, number: 1, sent: now()})
	siteB.sendBytes(g.address, make([]byte, datagramBytes+1))
	siteB.send(g.address, datagram{kind: heartbeat, token: token, number: 1, sent: now()})
	siteB.send(g.address, datagram{kind: answer, token: token, number: 1, sent: now()})
	d := siteB.exchange(g.address, 77)
	if d.number != 77 || d.asked < before || d.received < d.asked || d.sent < d.received || d.sent > now() {
		t.Errorf("answer %+v", d)
	}
	if dropped := g.socket.dropped.Load(); dropped != 4 {
		t.Errorf("dropped %d, want 4", dropped)
	}
	must(t, g.stop())
}

// TestNetworkAway: a heartbeat that cannot be sent, or that nobody receives, uses up its number,
// and the guest continues.
func TestNetworkAway(t *testing.T) {
	asker, closed := newPeer(t), newPeer(t)
	must(t, closed.conn.Close())
	for name, siteA := range map[string]netip.AddrPort{
		"the kernel refuses": netip.MustParseAddrPort("127.0.0.1:0"), // EINVAL: there is no such port
		"nobody listens":     closed.address(),
	} {
		t.Run(name, func(t *testing.T) {
			g := startGuest(t, witness.GuestConfig{Listen: anyPort, SiteA: siteA, Token: token}, nil)
			for number := uint64(1); g.sent.Load() < 5; number++ {
				asker.exchange(g.address, number)
			}
			must(t, g.stop())
			if unsent := g.socket.unsent.Load(); (name == "the kernel refuses") != (unsent == int64(g.sent.Load())) {
				t.Errorf("%d of %d were not sent", unsent, g.sent.Load())
			}
		})
	}
}

// TestAnswersLeaveWithAHeartbeat: an ask that arrives between two heartbeats is answered after
// the second, with the time at which it arrived.
func TestAnswersLeaveWithAHeartbeat(t *testing.T) {
	siteA := newPeer(t)
	config := configFor(siteA)
	config.IntervalMs = 50
	g := startGuest(t, config, nil)
	siteA.next(heartbeat)
	for number := range uint64(3) {
		siteA.send(g.address, datagram{kind: ask, token: token, number: number + 1, sent: now()})
	}
	for number := range uint64(3) {
		d, _ := siteA.next(answer)
		if d.number != number+1 || d.received < d.asked || d.sent < d.received {
			t.Errorf("answer %+v, want number %d", d, number+1)
		}
	}
	must(t, g.stop())
}

// stubLedger is a ledger that acknowledges and ends when it is told to.
type stubLedger struct {
	acked  atomic.Uint64
	ends   chan error
	closed bool
}

func (l *stubLedger) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-l.ends:
		return err
	}
}
func (l *stubLedger) Acked() uint64 { return l.acked.Load() }
func (l *stubLedger) Close() error  { l.closed = true; return nil }

// TestHeartbeatsTellWhatIsAcked: and an error of the ledger ends the guest.
func TestHeartbeatsTellWhatIsAcked(t *testing.T) {
	siteA := newPeer(t)
	disk := &stubLedger{ends: make(chan error)}
	g := startGuest(t, configFor(siteA), disk)
	for range 3 {
		if d, _ := siteA.next(heartbeat); d.acked != 0 {
			t.Errorf("heartbeat %d tells of record %d", d.number, d.acked)
		}
	}
	disk.acked.Store(7)
	for {
		d, _ := siteA.next(heartbeat)
		if d.acked == 7 {
			break
		}
		if d.acked != 0 {
			t.Fatalf("heartbeat %d tells of record %d", d.number, d.acked)
		}
	}
	disk.ends <- unix.EROFS
	if err := <-g.ended; !errors.Is(err, unix.EROFS) || !disk.closed {
		t.Errorf("ended with %v, and the ledger is closed: %t", err, disk.closed)
	}
}

// TestToldRecordsAreThere: every record that a heartbeat reports is on the disk.
func TestToldRecordsAreThere(t *testing.T) {
	siteA := newPeer(t)
	config := configFor(siteA)
	config.Device = filepath.Join(t.TempDir(), "disk")
	config.Region = ledger.Region{OffsetBytes: ledger.RecordBytes, SizeBytes: 2 * ledger.RecordBytes, Seed: 5}
	must(t, os.WriteFile(config.Device, make([]byte, 4*ledger.RecordBytes), 0o600))
	if file, err := os.OpenFile(config.Device, os.O_RDWR|unix.O_DIRECT, 0); errors.Is(err, unix.EINVAL) {
		t.Fatalf("%s has no direct I/O; set TMPDIR to a folder that has", config.Device)
	} else {
		must(t, err)
		must(t, file.Close())
	}
	g := startGuest(t, config, nil)
	told := uint64(0)
	for told < 3 { // the third replaces the first
		d, _ := siteA.next(heartbeat)
		if d.acked == told {
			continue
		}
		told = d.acked
		report, err := ledger.Check(config.Device, config.Region, told)
		must(t, err)
		if report.LostCount != 0 || report.Newest < told {
			t.Errorf("told of record %d: %+v", told, report)
		}
	}
	must(t, g.stop())
	text, err := os.ReadFile(witness.BeatsFile)
	must(t, err)
	if want := fmt.Sprintf("%d %d\n", g.sent.Load(), g.ledger.Acked()); string(text) != want {
		t.Errorf("in the end %s has %q, want %q", witness.BeatsFile, text, want)
	}
}

// TestAccountIsAlwaysThere reads the file while it is replaced.
func TestAccountIsAlwaysThere(t *testing.T) {
	t.Chdir(t.TempDir())
	g := &guest{ledger: noRecords{}}
	must(t, g.account())
	written := make(chan error, 1)
	go func() {
		var err error
		for i := uint64(0); i < 300 && err == nil; i++ {
			g.sent.Store(i * 7)
			err = g.account()
		}
		written <- err
	}()
	whole := regexp.MustCompile(`^\d+ 0\n$`)
	for {
		text, err := os.ReadFile(witness.BeatsFile)
		must(t, err)
		if !whole.Match(text) {
			t.Fatalf("it was %q", text)
		}
		select {
		case err := <-written:
			must(t, err)
			return
		default:
		}
	}
}

func TestGuestThatCannotBegin(t *testing.T) {
	t.Chdir(t.TempDir())
	siteA := newPeer(t)
	taken := configFor(siteA)
	taken.Listen = siteA.address()
	disk := configFor(siteA)
	disk.Device, disk.Region = "no-such-disk", ledger.Region{SizeBytes: ledger.RecordBytes}
	for _, config := range []witness.GuestConfig{{}, taken, disk} {
		if _, err := openGuest(config); err == nil {
			t.Errorf("%+v was accepted", config)
		}
	}
	must(t, os.Mkdir(witness.BeatsFile, 0o700)) // nothing can be renamed to that
	g, err := openGuest(configFor(siteA))
	must(t, err)
	if err := g.run(t.Context()); err == nil || !strings.Contains(err.Error(), "how many heartbeats") {
		t.Errorf("ended with %v", err)
	}
}

// guestProcess is the name of the variable that makes this program a guest; its value is site A's
// address.
const guestProcess = "HELIOTROPE_TEST_GUEST_OF"

func TestMain(m *testing.M) {
	siteA := os.Getenv(guestProcess)
	if siteA == "" {
		goleak.VerifyTestMain(m) // which exits
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() { // until its input ends
		_, _ = os.Stdin.Read(make([]byte, 1))
		cancel()
	}()
	if err := Guest(ctx, witness.GuestConfig{Listen: anyPort, SiteA: netip.MustParseAddrPort(siteA), Token: token}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// TestProcessIsPreferred checks the threads of a guest in a process of its own.
func TestProcessIsPreferred(t *testing.T) {
	siteA := newPeer(t)
	program, err := os.Executable()
	must(t, err)
	process := exec.CommandContext(t.Context(), program)
	process.Dir = t.TempDir()
	process.Env = append(os.Environ(), guestProcess+"="+siteA.address().String())
	var said strings.Builder
	process.Stderr = &said
	input, err := process.StdinPipe()
	must(t, err)
	must(t, process.Start())
	for number := uint64(1); number <= 20; number++ {
		if d, _ := siteA.next(heartbeat); d.number != number {
			t.Errorf("heartbeat %d, want %d", d.number, number)
		}
	}
	folder := fmt.Sprintf("/proc/%d/", process.Process.Pid)
	status, err := os.ReadFile(folder + "status")
	must(t, err)
	threads, err := filepath.Glob(folder + "task/*/stat")
	must(t, err)
	preferred := 0
	for _, thread := range threads {
		text, err := os.ReadFile(thread)
		must(t, err)
		_, rest, _ := strings.Cut(string(text), ") ")
		fields := strings.Fields(rest) // from the third field on: proc_pid_stat(5)
		if nice := fields[19-3]; nice == fmt.Sprint(highestNice) {
			preferred++
		}
	}
	must(t, input.Close())
	must(t, process.Wait())
	if os.Geteuid() != 0 {
		// The process may not raise its priority; it says so, and does its work nevertheless.
		if !strings.Contains(said.String(), "like any other") || preferred != 0 {
			t.Errorf("%d threads are preferred without the right to it; it said %q", preferred, said.String())
		}
		return
	}
	if len(threads) == 0 || preferred != len(threads) {
		t.Errorf("%d of %d threads are preferred", preferred, len(threads))
	}
	if regexp.MustCompile(`VmLck:\s+0 kB`).Match(status) {
		t.Errorf("nothing is kept in memory:\n%s", status)
	}
	if !strings.Contains(said.String(), "heartbeats: ") {
		t.Errorf("it said %q", said.String())
	}
}
