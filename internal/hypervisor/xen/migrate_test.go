package xen

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/internal/fault"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/remote"
	"heliotrope/internal/remote/remotetest"
)

// pair is a source with a running guest and an empty target, over ssh; the script
// changes where the guest is.
type pair struct {
	from, to         *Host
	fakeFrom, fakeTo *remotetest.Fake
	moved            atomic.Bool
}

// sendings matches the calls of the sender.
var sendings = remotetest.Prefix("xl", "-T", "migrate")

func newPair(t *testing.T) *pair {
	t.Helper()
	p := &pair{}
	p.from, p.fakeFrom = fakeHost(t, "host-a")
	p.to, p.fakeTo = fakeHost(t, "host-b")
	p.from.machine.Transport, p.to.machine.Transport = "ssh", "ssh"
	list := func(here bool) func(context.Context, remotetest.Call) remotetest.Reply {
		return func(context.Context, remotetest.Call) remotetest.Reply {
			if p.moved.Load() != here {
				return remotetest.Reply{Stdout: listHeader}
			}
			return remotetest.Reply{Stdout: listHeader + line("lab.guest", "3", "-b----", "1.0")}
		}
	}
	p.fakeFrom.OnFunc(lists, list(false))
	p.fakeTo.OnFunc(lists, list(true))
	return p
}

// order moves the guest from /dev/sda at host-a to /dev/sdc at host-b.
func (p *pair) order() hypervisor.Order {
	there := guest
	there.Disk.Path, there.Bridge = "/dev/sdc", "xenbr1"
	return hypervisor.Order{Domain: guest, Target: p.to, AtTarget: there}
}

// sends scripts what the sender does.
func (p *pair) sends(reply remotetest.Reply) {
	p.fakeFrom.OnFunc(sendings, func(context.Context, remotetest.Call) remotetest.Reply {
		p.moved.Store(reply.ExitCode == 0 && reply.Err == nil)
		return reply
	})
}

// TestMigrateOpensTheTargetsDisk: each host has its own path for the disk, and the
// target opens and compares its own.
func TestMigrateOpensTheTargetsDisk(t *testing.T) {
	p := newPair(t)
	p.fakeFrom.OnFunc(sendings, func(_ context.Context, call remotetest.Call) remotetest.Reply {
		at := slices.Index(call.Args, "-C")
		require.Positive(t, at, "%v: the configuration of the source is sent", call.Args)
		config := content(t, p.fakeFrom, call.Args[at+1])
		assert.Contains(t, config, "target=/dev/sdc")
		assert.Contains(t, config, "bridge=xenbr1")
		assert.NotContains(t, config, "/dev/sda")
		assert.Equal(t, "/dev/sdc 8:0 17\n", content(t, p.fakeTo, "/data/lab/xen/lab.guest.block.device"))
		assert.Equal(t, connect, content(t, p.fakeTo, "/data/lab/xen/lab.guest.block"))
		p.moved.Store(true)
		return remotetest.Reply{Stderr: "1000\n"}
	})
	_, err := p.from.Migrate(t.Context(), p.order())
	require.NoError(t, err)
}

// TestWrongDeviceIsTheInfrastructures: the target has opened a wrong device. The
// line is one of libxl's, with the text of connect.
func TestWrongDeviceIsTheInfrastructures(t *testing.T) {
	p := newPair(t)
	p.sends(remotetest.Reply{ExitCode: 1, Stderr: "2500\n" +
		"libxl: error: libxl_device.c:1259:device_hotplug_child_death_cb: script: opened 7:0 (disk 21) is " + refusal + ": /dev/loop1 7:1 (disk 17)\n"})
	_, err := p.from.Migrate(t.Context(), p.order())
	var failed *hypervisor.MigrationError
	assert.False(t, errors.As(err, &failed), "it counts as a failed migration: %v", err)
	assert.Equal(t, fault.Infrastructure, fault.Of(err))
	assert.ErrorContains(t, err, "/dev/sdc")
	assert.ErrorContains(t, err, "host-b")
}

// TestMigrateAgainIsNoMigration tests a retry after a crash that followed a
// successful migration.
func TestMigrateAgainIsNoMigration(t *testing.T) {
	p := newPair(t)
	p.moved.Store(true)
	_, err := p.from.Migrate(t.Context(), p.order())
	require.NoError(t, err)
	for _, args := range p.fakeFrom.Commands() {
		assert.NotContains(t, args, "migrate")
	}
}

func TestMigrateOverSSHCountsAndLogs(t *testing.T) {
	p := newPair(t)
	p.sends(remotetest.Reply{Stderr: "Saving to migration stream\n1000\n2500\nMigration successful.\n"})
	var progress []int64
	order := p.order()
	order.BandwidthMiBPerSecond = 5
	order.Progress = func(p hypervisor.Progress) { progress = append(progress, p.SentBytes) }
	account, err := p.from.Migrate(t.Context(), order)
	require.NoError(t, err)
	assert.Equal(t, int64(2500), account.StreamBytes)
	assert.Equal(t, []int64{1000, 2500}, progress)
	assert.Contains(t, account.Log, "source: Migration successful.")
	assert.NotContains(t, account.Log, "2500")
	transport := strings.Join(slices.Concat(p.fakeFrom.Commands()...), " ")
	assert.Contains(t, transport, "pv -n -b -i 0.5 -L 5m <")
	assert.Contains(t, transport, "| ssh -o BatchMode=yes -o StrictHostKeyChecking=yes -c aes128-gcm@openssh.com 198.18.0.2 xl -T migrate-receive >")
}

// TestAddresses: an IPv6 address is in brackets where socat(1) takes it, and is not where ssh(1) does.
func TestAddresses(t *testing.T) {
	for network, want := range map[string]struct{ listen, tcp, ssh string }{
		"198.18.0.": {"TCP4-LISTEN:8002,bind=198.18.0.2,range=198.18.0.1/32,", " TCP:198.18.0.2:8002 ", " 198.18.0.2 xl "},
		"fd00:198:18::": {"TCP6-LISTEN:8002,bind=[fd00:198:18::2],range=[fd00:198:18::1]/128,", " TCP:[fd00:198:18::2]:8002 ",
			" fd00:198:18::2 xl "},
	} {
		p := newPair(t)
		p.from.machine.Address, p.to.machine.Address = netip.MustParseAddr(network+"1"), netip.MustParseAddr(network+"2")
		m := &migration{from: p.from, to: p.to, order: p.order()}
		assert.Contains(t, m.transport()[3], want.ssh)
		p.from.machine.Transport = "tcp"
		assert.Contains(t, m.transport()[3], want.tcp)
		assert.Contains(t, listenFor(p.from.machine.Address, p.to.machine.Address), want.listen)
	}
}

// TestSocatTakesTheSourceOnly: with the real socat(1), the source's stream reaches the target, and that of
// another machine does not. xl is replaced by one that takes a line, and pv by one that does not count.
func TestSocatTakesTheSourceOnly(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"pv": "exec cat\n", "xl": "read -r line\necho \"got $line\"\n"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+text), 0o700))
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	for name, test := range map[string]struct{ target, source, said string }{
		"IPv4":          {"127.98.0.3", "127.0.0.1", "got stream\n"},
		"IPv4 stranger": {"127.98.0.3", "198.18.0.1", ""},
		"IPv6":          {"::1", "::1", "got stream\n"},
		"IPv6 stranger": {"::1", "fd00:198:18::1", ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t)
			p.from.machine.Transport, p.to.remote = "tcp", remote.Local("host-b")
			p.from.machine.Address, p.to.machine.Address = netip.MustParseAddr(test.source), netip.MustParseAddr(test.target)
			m := &migration{from: p.from, to: p.to, order: p.order()}
			receiving, stop := context.WithCancel(t.Context())
			defer stop()
			ended, err := m.receive(t.Context(), receiving)
			require.NoError(t, err)
			send := exec.CommandContext(t.Context(), "sh", "-c", m.transport()[3])
			send.Stdin = strings.NewReader("stream\n")
			said, err := send.Output()
			assert.Equal(t, test.said, string(said))
			if test.said == "" {
				stop() // it goes on listening for the source
			} else {
				assert.NoError(t, err)
			}
			assert.NoError(t, <-ended)
		})
	}
}

// TestWhatXenHasNot: an order that Xen cannot carry out is refused before a host is
// touched.
func TestWhatXenHasNot(t *testing.T) {
	for name, change := range map[string]func(*hypervisor.Order){
		"post-copy":     func(o *hypervisor.Order) { o.Mode = hypervisor.PostCopy },
		"auto-converge": func(o *hypervisor.Order) { o.AutoConverge = true },
		"downtime":      func(o *hypervisor.Order) { o.MaxDowntime = 1 },
		"another name":  func(o *hypervisor.Order) { o.AtTarget.Name = "lab.other" },
	} {
		p := newPair(t)
		order := p.order()
		change(&order)
		_, err := p.from.Migrate(t.Context(), order)
		assert.Equal(t, fault.BadInput, fault.Of(err), name)
		assert.Empty(t, p.fakeFrom.Commands(), name)
	}
}

// TestWhoseFaultItIs: a failed migration is a result if its stream had begun and it
// is known where the domain is.
func TestWhoseFaultItIs(t *testing.T) {
	for name, c := range map[string]struct {
		reply  remotetest.Reply
		result bool
	}{
		"no memory":         {remotetest.Reply{Stderr: "2500\nxc: error: no memory\n", ExitCode: 1}, true},
		"no pv":             {remotetest.Reply{Stderr: "sh: 1: pv: not found\n", ExitCode: 1}, false},
		"key not known":     {remotetest.Reply{Stderr: "0\nHost key verification failed.\n", ExitCode: 1}, false},
		"connection broken": {remotetest.Reply{Stderr: "2500\n", Err: remote.ErrConnectionLost}, false},
	} {
		p := newPair(t)
		p.sends(c.reply)
		_, err := p.from.Migrate(t.Context(), p.order())
		require.Error(t, err, name)
		var failed *hypervisor.MigrationError
		assert.Equal(t, c.result, errors.As(err, &failed), "%s: %v", name, err)
		assert.NotContains(t, err.Error(), "2500", name)
		if c.result {
			assert.Contains(t, failed.Log, "no memory")
		} else {
			assert.Equal(t, fault.Infrastructure, fault.Of(err), name)
		}
	}
}

// TestPortIsTaken: the listener ends before it listens.
func TestPortIsTaken(t *testing.T) {
	p := newPair(t)
	p.from.machine.Transport = "tcp"
	p.fakeTo.On(remotetest.Prefix("socat"), remotetest.Reply{ExitCode: 1, Stderr: "E bind(5, {AF=2 198.18.0.2:8002}, 16): Address already in use\n"})
	_, err := p.from.Migrate(t.Context(), p.order())
	var failed *hypervisor.MigrationError
	assert.False(t, errors.As(err, &failed), "%v", err)
	assert.ErrorContains(t, err, "not begun")
	assert.ErrorContains(t, err, "already in use")
}

// TestSettle: a host that could not be asked leaves the domain's place unknown, and
// never counts as a host without it.
func TestSettle(t *testing.T) {
	running, suspended := line("lab.guest", "3", "-b----", "1.0"), line("lab.guest", "3", "---ss-", "1.0")
	away := line("lab.guest--migratedaway", "3", "---ss-", "1.0")
	silent := remotetest.Reply{Err: remote.ErrUnreachable}
	there := func(lines string) remotetest.Reply { return remotetest.Reply{Stdout: listHeader + lines} }
	for name, c := range map[string]struct {
		source, target remotetest.Reply
		want           string // "" is a failed migration like any
		result         bool
	}{
		"goes on at the source": {there(running), there(""), "", true},
		"runs at the target":    {there(""), there(running), "", true},
		"suspended":             {there(suspended), there(""), "is shut-down on host-a", true},
		"given away":            {there(away), there(""), "runs nowhere: host-a has it suspended as lab.guest--migratedaway", true},
		"nowhere":               {there(""), there(""), "on neither host", true},
		"on both":               {there(running), there(running), "on both hosts", true},
		"source is silent":      {silent, there(""), "host-a could not be asked", false},
		"target is silent":      {there(running), silent, "host-b could not be asked", false},
		"nobody answers":        {silent, silent, "host-a could not be asked", false},
	} {
		p := newPair(t)
		p.fakeFrom.OnFunc(sendings, func(context.Context, remotetest.Call) remotetest.Reply {
			p.fakeFrom.On(lists, c.source)
			p.fakeTo.On(lists, c.target)
			return remotetest.Reply{ExitCode: 1, Stderr: "2500\n"}
		})
		_, err := p.from.Migrate(t.Context(), p.order())
		var failed *hypervisor.MigrationError
		assert.Equal(t, c.result, errors.As(err, &failed), "%s: %v", name, err)
		assert.ErrorContains(t, err, c.want, name)
		if !c.result {
			assert.Equal(t, fault.Infrastructure, fault.Of(err), name)
			assert.ErrorIs(t, err, hypervisor.ErrUnknown, name)
			assert.NotContains(t, err.Error(), "neither host", name)
		}
	}
}

// TestUnknownBeforehand: no migration begins while a host does not answer.
func TestUnknownBeforehand(t *testing.T) {
	p := newPair(t)
	p.fakeTo.On(lists, remotetest.Reply{Err: remote.ErrUnreachable})
	_, err := p.from.Migrate(t.Context(), p.order())
	assert.ErrorContains(t, err, "not begun: host-b could not be asked")
	assert.Equal(t, fault.Infrastructure, fault.Of(err))
}

// TestCancelEndsTheReceiver: the sender is never ended; it comes to rest by itself
// when its transport is gone.
func TestCancelEndsTheReceiver(t *testing.T) {
	p := newPair(t)
	p.from.machine.Transport = "tcp"
	ctx, cancel := context.WithCancel(t.Context())
	receiving, receiverGone := make(chan struct{}), make(chan struct{})
	p.fakeTo.OnFunc(remotetest.Prefix("socat"), func(ctx context.Context, _ remotetest.Call) remotetest.Reply {
		close(receiving)
		<-ctx.Done()
		close(receiverGone)
		return remotetest.Reply{Stderr: "N listening on AF=2\n", Err: context.Canceled}
	})
	p.fakeFrom.OnFunc(sendings, func(ctx context.Context, _ remotetest.Call) remotetest.Reply {
		<-receiving
		cancel()
		select {
		case <-receiverGone:
		case <-ctx.Done():
			t.Error("the sender was ended")
		}
		return remotetest.Reply{Stderr: "migration sender: failed, resuming\n", ExitCode: 1}
	})
	p.to.remote = &listeningFake{Fake: p.fakeTo}
	_, err := p.from.Migrate(ctx, p.order())
	assert.ErrorIs(t, err, context.Canceled)
	assert.Equal(t, fault.Cancelled, fault.Of(err))
	var failed *hypervisor.MigrationError
	assert.False(t, errors.As(err, &failed), "a cancelled migration counts as a failed one: %v", err)
}

// TestCancelledAndUnknown: an error of cancelling must not hide that it is not
// known where the domain is.
func TestCancelledAndUnknown(t *testing.T) {
	p := newPair(t)
	ctx, cancel := context.WithCancel(t.Context())
	p.fakeFrom.OnFunc(sendings, func(context.Context, remotetest.Call) remotetest.Reply {
		cancel()
		p.fakeTo.On(lists, remotetest.Reply{Err: remote.ErrUnreachable})
		return remotetest.Reply{ExitCode: 1}
	})
	_, err := p.from.Migrate(ctx, p.order())
	assert.ErrorIs(t, err, context.Canceled)
	assert.ErrorIs(t, err, hypervisor.ErrUnknown)
	assert.Equal(t, fault.Infrastructure, fault.Of(err))
}

// listeningFake reports at once that socat listens, while a scripted reply would do
// so only at its end.
type listeningFake struct{ *remotetest.Fake }

func (f *listeningFake) Run(ctx context.Context, command remote.Command) (remote.Result, error) {
	if command.Args[0] == "socat" {
		_, _ = command.Stderr.Write([]byte("socat[1] N listening on AF=2 198.18.0.1:8002\n"))
	}
	return f.Fake.Run(ctx, command)
}

// TestTargetEndsFirst: the toolstack, which keeps its own end open, sees the end of
// the target's output. pv is replaced by one that waits for more, and the target by
// one that takes the whole stream and then fails: at the end of ssh, which is
// replaced too, or of a connection with the real socat(1).
func TestTargetEndsFirst(t *testing.T) {
	for _, transport := range []string{"ssh", "tcp"} {
		t.Run(transport, func(t *testing.T) {
			p := newPair(t)
			p.from.machine.Transport = transport
			p.to.machine.Address = netip.MustParseAddr("127.98.0.2") // nobody else's
			if transport == "tcp" {
				failsOverTCP(t, p.to.machine.Address)
			}
			m := &migration{from: p.from, to: p.to, order: p.order()}
			dir := t.TempDir()
			for name, text := range map[string]string{"pv": "exec cat\n", "ssh": "read -r line\necho \"got $line\"\nexit 1\n"} {
				require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+text), 0o700))
			}
			run := exec.CommandContext(t.Context(), "sh", "-c", m.transport()[3])
			run.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
			in, err := run.StdinPipe()
			require.NoError(t, err)
			defer in.Close()
			out, err := run.StdoutPipe()
			require.NoError(t, err)
			// Long enough for a shell and a socket, and shorter than the two
			// minutes for which socat would wait for the other end.
			require.NoError(t, out.(*os.File).SetReadDeadline(time.Now().Add(time.Minute)))
			require.NoError(t, run.Start())
			_, err = io.WriteString(in, "stream\n")
			require.NoError(t, err)
			said, err := io.ReadAll(out) // with in still open
			require.NoError(t, err)
			assert.Equal(t, "got stream\n", string(said))
			require.NoError(t, in.Close())
			require.NoError(t, run.Wait())
		})
	}
}

// failsOverTCP is a target at an address that takes a line and goes away.
func failsOverTCP(t *testing.T, address netip.Addr) {
	t.Helper()
	listener, err := net.Listen("tcp4", netip.AddrPortFrom(address, tcpPort).String())
	require.NoError(t, err)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		if line, err := bufio.NewReader(conn).ReadString('\n'); err == nil {
			_, _ = io.WriteString(conn, "got "+line) // what arrives is looked at
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-ended
	})
}
