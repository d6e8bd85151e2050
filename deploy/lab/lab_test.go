package lab

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"heliotrope/deploy/lab/image"
	"heliotrope/internal/inventory"
)

func testLab(t *testing.T) *Lab {
	t.Helper()
	options := DefaultOptions()
	options.Name = "unit"
	l := &Lab{Dir: filepath.Join(t.TempDir(), options.Name), Options: options}
	for _, name := range NodeNames {
		if err := os.MkdirAll(l.node(name).dir(), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

func TestOptionsReportEveryProblem(t *testing.T) {
	if err := DefaultOptions().Check(); err != nil {
		t.Fatalf("the defaults: %v", err)
	}
	bad := Options{Name: "No Good", MemoryMiB: 10, MTU: 20, CPUs: 65, DataMiB: 1, GuestMiB: 5000, Accel: "magic", FirstPort: 80}
	err := bad.Check()
	if !errors.Is(err, ErrBadInput) {
		t.Fatalf("error: %v", err)
	}
	for _, want := range []string{"testbed name", "node memory", "65 processors", "MTU", "data memory", "guest memory", "acceleration", "first port"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not reported in: %v", want, err)
		}
	}
}

// TestProcessorsOfNodes: they are as many as was asked for, and of a testbed from before
// that could be asked for one.
func TestProcessorsOfNodes(t *testing.T) {
	l := testLab(t)
	l.Options.CPUs = 2
	for _, name := range NodeNames {
		if args := strings.Join(nodeArgs(l.node(name), l.Options, image.Image{Dir: "/image"}, 0), " "); !strings.Contains(args, " -smp 2 ") {
			t.Errorf("%s: %s", name, args)
		}
	}
	if err := os.WriteFile(filepath.Join(l.Dir, stateFile), []byte(`{"name":"unit","hypervisor":"kvm","memory_mib":1024}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if older, err := Open(filepath.Dir(l.Dir), "unit"); err != nil || older.Options.CPUs != 1 {
		t.Errorf("%+v, %v", older, err)
	}
}

func TestUnknownNodeAndTestbed(t *testing.T) {
	if _, err := testLab(t).ConsolePath("host-c"); !errors.Is(err, ErrBadInput) || !strings.Contains(err.Error(), HostA) {
		t.Errorf("unknown node: %v", err)
	}
	if _, err := Open(t.TempDir(), "absent"); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "lab up --name absent") {
		t.Errorf("unknown testbed: %v", err)
	}
	if _, err := Open(t.TempDir(), "../../etc"); !errors.Is(err, ErrBadInput) {
		t.Errorf("a path as name: %v", err)
	}
}

// TestQEMUIsConfined holds what the package promises about the network.
func TestQEMUIsConfined(t *testing.T) {
	l := testLab(t)
	for _, name := range NodeNames {
		args := strings.Join(nodeArgs(l.node(name), l.Options, image.Image{Dir: "/image"}, 0), " ")
		if strings.Count(args, "-netdev user") != strings.Count(args, "restrict=on") || !strings.Contains(args, "restrict=on") {
			t.Errorf("%s: a user network without restrict=on: %s", name, args)
		}
		for _, word := range strings.Fields(args) {
			if strings.Contains(word, "hostfwd=") && !strings.Contains(word, "hostfwd=tcp:127.0.0.1:") {
				t.Errorf("%s: a forward beyond the loopback: %s", name, word)
			}
			if strings.HasPrefix(word, "stream,") && !strings.Contains(word, "addr.type=unix") {
				t.Errorf("%s: a link beyond Unix sockets: %s", name, word)
			}
		}
		if strings.Contains(args, "tap") || strings.Contains(args, "bridge,") {
			t.Errorf("%s: a tap or a bridge: %s", name, args)
		}
	}
}

// fakeQEMU is a process that only has a node's name, with a child process. The pipe ends when the
// whole process group has ended.
func fakeQEMU(t *testing.T, n node) (ended <-chan error, group *os.File) {
	t.Helper()
	dir := t.TempDir()
	script, pipe := filepath.Join(dir, "qemu"), filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(script, []byte("#!/bin/sh\nexec 3> "+pipe+"\nsleep 1000 &\nwait\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	ended, err := n.start([]string{script, "-name", n.title(), "-more"})
	if err != nil {
		t.Fatal(err)
	}
	group, err = os.Open(pipe)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = group.Close() })
	return ended, group
}

// TestCardsHaveNoEventIndex: with one, a card of QEMU 7.2 can stop sending for ever (docs/lab.md, "Traps").
func TestCardsHaveNoEventIndex(t *testing.T) {
	l := testLab(t)
	for _, name := range NodeNames {
		cards := 0
		for _, arg := range nodeArgs(l.node(name), l.Options, image.Image{Dir: "/image"}, 0) {
			if strings.HasPrefix(arg, "virtio-net") {
				cards++
				if !strings.Contains(arg, ",event_idx=off") {
					t.Errorf("%s: %s", name, arg)
				}
			}
		}
		if cards < 2 {
			t.Errorf("%s has %d cards", name, cards)
		}
	}
}

func TestDownEndsExactlyItsOwn(t *testing.T) {
	ctx := context.Background()
	mine, other := testLab(t), testLab(t) // the same name, in another folder
	ended, group := fakeQEMU(t, mine.node(HostA))
	fakeQEMU(t, other.node(HostA))
	t.Cleanup(func() { _ = other.Down(ctx) })

	// Between its fork and its exec, the shell's child looks like the shell.
	var pids []int
	var err error
	for ok := false; !ok && t.Context().Err() == nil; ok = err != nil || len(pids) == 1 {
		pids, err = mine.node(HostA).find()
	}
	if err != nil || len(pids) != 1 {
		t.Fatalf("found %v, %v", pids, err)
	}
	if err := mine.Down(ctx); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil {
		t.Error("no end was told")
	}
	if _, err := io.ReadAll(group); err != nil { // returns when the whole group has ended
		t.Error(err)
	}
	if !other.node(HostA).running() {
		t.Error("another testbed's node was ended")
	}
	if err := mine.Down(ctx); err != nil {
		t.Errorf("down again: %v", err)
	}
}

func TestEarlyEndTellsWhy(t *testing.T) {
	n := testLab(t).node(Store)
	script := filepath.Join(t.TempDir(), "qemu")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho no such machine >&2\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	ended, err := n.start([]string{script})
	if err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, ErrNotRunning) || !strings.Contains(err.Error(), "no such machine") {
		t.Errorf("error: %v", err)
	}
}

func TestFailedBootShowsTheConsole(t *testing.T) {
	l := testLab(t)
	text := "early\r\nheliotrope: NOT READY: xenstored does not start\r\n"
	if err := os.WriteFile(l.node(HostB).console(), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	err := l.awaitReady(context.Background(), HostB, make(chan error))
	if err == nil || !strings.Contains(err.Error(), "host-b: its boot failed") || !strings.Contains(err.Error(), "xenstored does not start") {
		t.Errorf("error: %v", err)
	}
}

func TestTakenPortIsNamed(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	l := testLab(t)
	port := listener.Addr().(*net.TCPAddr).Port
	_, err = l.startNode(context.Background(), HostA, nil, image.Image{}, port)
	if err == nil || !strings.Contains(err.Error(), fmt.Sprint(port)) || !strings.Contains(err.Error(), "--first-port") {
		t.Errorf("error: %v", err)
	}
}

func TestMissingQEMUNamesTheCommand(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	base := t.TempDir()
	_, err := Up(context.Background(), UpRequest{BaseDir: base, Options: DefaultOptions(),
		Cache: image.Cache{Dir: t.TempDir()}, Progress: func(string) {}})
	if err == nil || !strings.Contains(err.Error(), "apt-get install --no-install-recommends qemu-system-x86 qemu-utils") {
		t.Errorf("error: %v", err)
	}
	if left, _ := os.ReadDir(base); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestMonitorPort(t *testing.T) {
	n := testLab(t).node(HostA)
	t.Chdir(n.dir()) // a socket's path is short
	listener, err := net.Listen("unix", monitorSocket)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		in := bufio.NewReader(conn)
		table := `{"return": "Hub -1 (management):\r\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n  TCP[HOST_FORWARD]   3       127.0.0.1 44511       10.0.2.15    22     0     0\r\n"}`
		for _, answer := range []string{`{"QMP": {}}`, `{"event": "RESUME"}` + "\n" + `{"return": {}}`, table} {
			fmt.Fprintln(conn, answer)
			if _, err := in.ReadString('\n'); err != nil {
				return
			}
		}
	}()
	port, err := n.sshPort(context.Background())
	if err != nil || port != 44511 {
		t.Errorf("port %d, %v", port, err)
	}
}

func TestSeedAndInventory(t *testing.T) {
	l := testLab(t)
	img := image.Image{Dir: t.TempDir()}
	if err := os.WriteFile(img.Path(image.GuestInitrdFile), []byte("base"), 0o600); err != nil {
		t.Fatal(err)
	}
	ring, err := l.keys()
	if err != nil {
		t.Fatal(err)
	}
	again, err := l.keys()
	if err != nil || again.fingerprint(controllerKey) != ring.fingerprint(controllerKey) {
		t.Fatalf("the keys change: %v", err)
	}
	if err := l.writeSeed(HostA, ring, img); err != nil {
		t.Fatal(err)
	}
	seed, err := os.Open(filepath.Join(l.node(HostA).dir(), "seed.tar"))
	if err != nil {
		t.Fatal(err)
	}
	defer seed.Close()
	var names []string
	for reader := tar.NewReader(seed); ; {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, header.Name)
	}
	for _, want := range []string{"etc/heliotrope/node.conf", "etc/ssh/ssh_host_ed25519_key", "etc/heliotrope/guest-initrd"} {
		if !slices.Contains(names, want) {
			t.Errorf("the seed has no %s: %v", want, names)
		}
	}
	var inv *inventory.Inventory
	for accel, heartbeatMs := range map[Accel]int{AccelKVM: 10, AccelTCG: 100} {
		l.Options.Accel = accel
		if err := l.writeInventory(ring, map[string]int{HostA: 1, HostB: 2, Store: 3}); err != nil {
			t.Fatal(err)
		}
		if inv, err = inventory.Load(l.InventoryPath()); err != nil {
			t.Fatalf("our own inventory is refused: %v", err)
		}
		if inv.Guest.HeartbeatMs != heartbeatMs {
			t.Errorf("%s: heartbeats each %d ms, want %d", accel, inv.Guest.HeartbeatMs, heartbeatMs)
		}
	}
	if got := inv.SiteB().SSH.HostKeys[0]; got != ring.fingerprint(nodeHostKey(HostB)) {
		t.Errorf("host key of B: %s", got)
	}
}
