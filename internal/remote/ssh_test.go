package remote_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"heliotrope/internal/remote"
	"heliotrope/internal/remote/remotetest"
)

var quick = remote.Command{Args: []string{"true"}}

func mustRun(t *testing.T, host remote.Runner) {
	t.Helper()
	if _, err := host.Run(t.Context(), quick); err != nil {
		t.Fatal(err)
	}
}

// connect reaches a server with a changed configuration.
func connect(t *testing.T, server *remotetest.Server, change func(*remote.SSHConfig)) *remote.SSHHost {
	t.Helper()
	config := server.Config("host-a")
	change(&config)
	host, err := remote.SSH(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = host.Close() })
	return host
}

func TestConfigurationIsChecked(t *testing.T) {
	server := remotetest.NewServer(t)
	for name, change := range map[string]func(*remote.SSHConfig){
		"no name":         func(c *remote.SSHConfig) { c.Name = "" },
		"no port":         func(c *remote.SSHConfig) { c.Address = "host" },
		"no key":          func(c *remote.SSHConfig) { c.Key = nil },
		"no host key":     func(c *remote.SSHConfig) { c.HostKeys = nil },
		"no known_hosts":  func(c *remote.SSHConfig) { c.HostKeys, c.KnownHosts = nil, []string{"/nowhere/known_hosts"} },
		"both of them":    func(c *remote.SSHConfig) { c.KnownHosts = []string{"/dev/null"} },
		"bad fingerprint": func(c *remote.SSHConfig) { c.HostKeys = []string{"SHA256:abc"} },
		"bad key":         func(c *remote.SSHConfig) { c.HostKeys = []string{"ssh-ed25519 abc"} },
		"empty host key":  func(c *remote.SSHConfig) { c.HostKeys = append(c.HostKeys, "") },
	} {
		config := server.Config("host-a")
		change(&config)
		if _, err := remote.SSH(config); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if server.Attempts() != 0 {
		t.Error("it connected before it was used")
	}
}

func TestHostKeys(t *testing.T) {
	server := remotetest.NewServer(t)
	line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(server.PublicKey())))
	for name, keys := range map[string][]string{
		"fingerprint": {server.Fingerprint()},
		"public key":  {line},
		"one of many": {"SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", line + " root@host-a"},
	} {
		t.Run(name, func(t *testing.T) {
			mustRun(t, connect(t, server, func(c *remote.SSHConfig) { c.HostKeys = keys }))
		})
	}

	expected, before := server.Fingerprint(), server.Connections()
	host := server.Connect(t, "host-a")
	server.ChangeHostKey(t)
	_, err := host.Run(t.Context(), quick)
	if !errors.Is(err, remote.ErrHostKey) || !errors.Is(err, remote.ErrUnreachable) {
		t.Fatalf("got %v", err)
	}
	for _, want := range []string{expected, server.Fingerprint(), "host-a", server.Address()} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
	if server.Connections() != before {
		t.Error("it logged in nevertheless")
	}
}

func TestRefusedLogin(t *testing.T) {
	server := remotetest.NewServer(t)
	server.RefuseLogins()
	if _, err := server.Connect(t, "host-a").Run(t.Context(), quick); !errors.Is(err, remote.ErrAuthentication) {
		t.Errorf("got %v", err)
	}
}

func TestOneConnectionForAll(t *testing.T) {
	server := remotetest.NewServer(t)
	host := server.Connect(t, "host-a")
	if _, err := host.Files(t.Context()); err != nil {
		t.Fatal(err)
	}
	var runs sync.WaitGroup
	for range 30 {
		runs.Go(func() {
			result, err := host.Run(t.Context(), remote.Command{Args: []string{"sh", "-c", "sleep 0.05; echo done"}})
			if err != nil || string(result.Stdout) != "done\n" {
				t.Errorf("got %q, %v", result.Stdout, err)
			}
		})
	}
	runs.Wait()
	if server.Connections() != 1 || server.MostSessions() > 10 {
		t.Errorf("%d connections, up to %d sessions", server.Connections(), server.MostSessions())
	}
}

// TestRefusedHost: after Refuse every operation fails, and says why.
func TestRefusedHost(t *testing.T) {
	server := remotetest.NewServer(t)
	host := server.Connect(t, "host-a")
	mustRun(t, host)
	host.Refuse("it is another's")
	for name, ask := range map[string]func() error{
		"run":    func() error { _, err := host.Run(t.Context(), quick); return err },
		"files":  func() error { _, err := host.Files(t.Context()); return err },
		"dial":   func() error { _, err := host.DialContext(t.Context(), "tcp", server.Address()); return err },
		"listen": func() error { _, err := host.Listen("tcp", "127.0.0.1:0"); return err },
		"upload": func() error { return host.Upload(t.Context(), "/dev/null", "/dev/null", 0o600, nil) },
	} {
		err := ask()
		if !errors.Is(err, remote.ErrUnreachable) || !strings.Contains(err.Error(), "it is another's") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// silentOnce is a path to a host on which the first try to connect gets no
// answer.
type silentOnce struct{ tries atomic.Int32 }

func (s *silentOnce) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if s.tries.Add(1) == 1 {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return new(net.Dialer).DialContext(ctx, network, address)
}

// TestHostComesUp: a try without an answer is not waited for until the time
// limit.
func TestHostComesUp(t *testing.T) {
	server, way := remotetest.NewServer(t), new(silentOnce)
	mustRun(t, connect(t, server, func(c *remote.SSHConfig) {
		c.Via, c.DialAgain, c.ConnectTimeout = way, 20*time.Millisecond, time.Minute
	}))
	if tries := way.tries.Load(); tries < 2 {
		t.Errorf("%d tries", tries)
	}
}

// refusing is a path to a host that refuses connections.
type refusing struct{ tries atomic.Int32 }

func (r *refusing) DialContext(context.Context, string, string) (net.Conn, error) {
	r.tries.Add(1)
	return nil, syscall.ECONNREFUSED
}

// TestHostRefuses: a refusal counts as an answer, and is not tried again.
func TestHostRefuses(t *testing.T) {
	server, way := remotetest.NewServer(t), new(refusing)
	host := connect(t, server, func(c *remote.SSHConfig) { c.Via, c.ConnectTimeout = way, time.Minute })
	if _, err := host.Run(t.Context(), quick); !errors.Is(err, syscall.ECONNREFUSED) || !errors.Is(err, remote.ErrUnreachable) {
		t.Errorf("got %v", err)
	}
	if tries := way.tries.Load(); tries != 1 {
		t.Errorf("%d tries", tries)
	}
}

func TestConcurrentFirstUseConnectsOnce(t *testing.T) {
	server := remotetest.NewServer(t)
	host := server.Connect(t, "host-a")
	var runs sync.WaitGroup
	for range 10 {
		runs.Go(func() {
			if _, err := host.Run(t.Context(), quick); err != nil {
				t.Error(err)
			}
		})
	}
	runs.Wait()
	if server.Attempts() != 1 {
		t.Errorf("%d connections", server.Attempts())
	}
}

func TestReconnectAfterLoss(t *testing.T) {
	server := remotetest.NewServer(t)
	host := server.Connect(t, "host-a")
	files, err := host.Files(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(t.TempDir(), "log")
	for range 5 {
		server.DropConnections()
		if _, err := host.Run(t.Context(), remote.Command{Args: []string{"sh", "-c", `echo run >>"$0"`, log}}); err != nil {
			t.Fatal(err)
		}
	}
	if content, err := files.ReadFile(log); err != nil || strings.Count(string(content), "run\n") != 5 {
		t.Errorf("got %q, %v", content, err)
	}
	if server.Connections() != 6 {
		t.Errorf("%d connections", server.Connections())
	}
}

func TestLossDuringCommand(t *testing.T) {
	for name, lose := range map[string]func(*remotetest.Server){
		"cut off": (*remotetest.Server).DropConnections,
		"silent":  (*remotetest.Server).Freeze,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := remotetest.NewServer(t)
			host := connect(t, server, func(c *remote.SSHConfig) { c.KeepAlive = 200 * time.Millisecond })
			_, ended := started(t, t.Context(), host, 1, "echo $$; sleep 1000")
			lose(server)
			err := <-ended
			if !errors.Is(err, remote.ErrConnectionLost) || errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
			if _, known := remote.ExitCode(err); known {
				t.Error("its exit code cannot be known")
			}
			if server.Connections() != 1 {
				t.Error("the command was started again")
			}
			mustRun(t, host)
		})
	}
}

func TestUnreachable(t *testing.T) {
	server := remotetest.NewServer(t)
	silent, err := remote.Local("here").Listen("tcp", "127.0.0.1:0") // accepts, but says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	host := connect(t, server, func(c *remote.SSHConfig) {
		c.Address, c.ConnectTimeout = silent.Addr().String(), 100*time.Millisecond
	})
	_, err = host.Run(t.Context(), quick)
	if !errors.Is(err, remote.ErrUnreachable) || !strings.Contains(err.Error(), "no answer within 100ms") {
		t.Errorf("got %v", err)
	}
	_ = silent.Close()
	if _, err = host.Run(t.Context(), quick); !errors.Is(err, remote.ErrUnreachable) {
		t.Errorf("got %v", err)
	}
}

func TestClose(t *testing.T) {
	server := remotetest.NewServer(t)
	host := server.Connect(t, "host-a")
	_, ended := started(t, t.Context(), host, 1, "echo $$; sleep 1000")
	if err := host.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, remote.ErrConnectionLost) {
		t.Errorf("a command under way: %v", err)
	}
	if _, err := host.Run(t.Context(), quick); !errors.Is(err, remote.ErrClosed) {
		t.Errorf("a command afterwards: %v", err)
	}
	if _, err := host.Files(t.Context()); !errors.Is(err, remote.ErrClosed) {
		t.Errorf("files afterwards: %v", err)
	}
}

func TestWaitReady(t *testing.T) {
	server := remotetest.NewServer(t)
	flag := filepath.Join(t.TempDir(), "flag")
	host := server.Connect(t, "host-a")
	fake := remotetest.NewFake(t, "host-b")
	fake.On(remotetest.Exactly("xl", "info"), remotetest.Reply{ExitCode: 1}, remotetest.Reply{Err: remote.ErrUnreachable}, remotetest.Reply{})
	if err := remote.WaitReady(t.Context(), fake, "xl", "info"); err != nil || len(fake.Calls()) != 3 {
		t.Errorf("%d calls, %v", len(fake.Calls()), err)
	}
	if err := os.WriteFile(flag, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := remote.WaitReady(t.Context(), host, "test", "-e", flag); err != nil {
		t.Error(err)
	}

	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	err := remote.WaitReady(ctx, host, "sh", "-c", "echo not yet >&2; exit 4")
	if code, _ := remote.ExitCode(err); !errors.Is(err, context.DeadlineExceeded) || code != 4 || !strings.Contains(err.Error(), "not yet") {
		t.Errorf("got %v", err)
	}

	attempts := server.Attempts()
	stranger := server.Connect(t, "host-a")
	server.ChangeHostKey(t)
	if err := remote.WaitReady(t.Context(), stranger); !errors.Is(err, remote.ErrHostKey) || server.Attempts() != attempts+1 {
		t.Errorf("changed host key: %v", err)
	}
	server.RefuseLogins()
	if err := remote.WaitReady(t.Context(), server.Connect(t, "host-a")); !errors.Is(err, remote.ErrAuthentication) {
		t.Errorf("refused login: %v", err)
	}
	if err := stranger.Close(); err != nil {
		t.Fatal(err)
	}
	if err := remote.WaitReady(t.Context(), stranger); !errors.Is(err, remote.ErrClosed) {
		t.Errorf("closed host: %v", err)
	}
}
