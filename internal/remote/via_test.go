package remote_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"heliotrope/internal/remote"
	"heliotrope/internal/remote/remotetest"
)

// chain are three servers, each of which is reached by way of the one before.
type chain struct {
	outer, inner, target *remotetest.Server
	host                 *remote.SSHHost
}

func newChain(t *testing.T, keepAlive time.Duration) chain {
	t.Helper()
	c := chain{outer: remotetest.NewServer(t), inner: remotetest.NewServer(t), target: remotetest.NewServer(t)}
	outer := connect(t, c.outer, func(s *remote.SSHConfig) { s.Name, s.KeepAlive = "outer", keepAlive })
	inner := connect(t, c.inner, func(s *remote.SSHConfig) { s.Name, s.Via, s.KeepAlive = "inner", outer, keepAlive })
	c.host = connect(t, c.target, func(s *remote.SSHConfig) { s.Via, s.KeepAlive = inner, keepAlive })
	return c
}

func TestTwoJumpHosts(t *testing.T) {
	c := newChain(t, 0)
	mustRun(t, c.host)
	mustRun(t, c.host)
	if _, err := c.host.Files(t.Context()); err != nil {
		t.Error(err)
	}
	for name, server := range map[string]*remotetest.Server{"outer": c.outer, "inner": c.inner, "target": c.target} {
		if server.Connections() != 1 {
			t.Errorf("%d connections to %s", server.Connections(), name)
		}
	}
}

// TestEachHostOnTheWayIsVerified: a changed host key, or a refused login, is found at
// whichever host of the path it is, and the error names that host.
func TestEachHostOnTheWayIsVerified(t *testing.T) {
	for name, of := range map[string]func(chain) *remotetest.Server{
		"outer":  func(c chain) *remotetest.Server { return c.outer },
		"inner":  func(c chain) *remotetest.Server { return c.inner },
		"host-a": func(c chain) *remotetest.Server { return c.target },
	} {
		t.Run(name, func(t *testing.T) {
			c := newChain(t, 0)
			of(c).ChangeHostKey(t)
			if err := remote.WaitReady(t.Context(), c.host); !errors.Is(err, remote.ErrHostKey) || !strings.Contains(err.Error(), name+" at "+of(c).Address()) {
				t.Errorf("another key: %v", err)
			}
			if c.target.Connections() != 0 {
				t.Error("it logged in nevertheless")
			}
			c = newChain(t, 0)
			of(c).RefuseLogins()
			if err := remote.WaitReady(t.Context(), c.host); !errors.Is(err, remote.ErrAuthentication) || !strings.Contains(err.Error(), of(c).Address()) {
				t.Errorf("refused login: %v", err)
			}
		})
	}
}

// TestLostJumpHost: an error of a connection that was lost with its jump host names the
// jump host, and the connection is made again.
func TestLostJumpHost(t *testing.T) {
	const byInner, byOuter = "that to the jump host inner is lost", "that to the jump host outer is lost"
	for name, test := range map[string]struct {
		lose        func(chain)
		want, never string
	}{
		"host":          {func(c chain) { c.target.DropConnections() }, "connection lost", "jump host"},
		"inner":         {func(c chain) { c.inner.DropConnections() }, byInner, byOuter},
		"outer":         {func(c chain) { c.outer.DropConnections() }, byInner + ": " + byOuter, "nowhere"},
		"silent inner":  {func(c chain) { c.inner.Freeze() }, byInner, byOuter},
		"silent outer":  {func(c chain) { c.outer.Freeze() }, byInner + ": " + byOuter, "nowhere"},
		"silent target": {func(c chain) { c.target.Freeze() }, "connection lost", "jump host"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			silent, keepAlive := strings.HasPrefix(name, "silent"), time.Duration(0)
			if silent {
				keepAlive = 200 * time.Millisecond
			}
			c := newChain(t, keepAlive)
			_, ended := started(t, t.Context(), c.host, 1, "echo $$; sleep 1000")
			test.lose(c)
			err := <-ended
			if !errors.Is(err, remote.ErrConnectionLost) || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), test.never) {
				t.Errorf("got %v", err)
			}
			if !silent { // a machine that is busy may lose connections whose hosts must answer so soon
				mustRun(t, c.host)
			}
		})
	}
}

// TestJumpHostThatCannot forward is named, with what to do.
func TestJumpHostThatCannot(t *testing.T) {
	c := newChain(t, 0)
	c.inner.RefuseForwards()
	_, err := c.host.Run(t.Context(), quick)
	if !errors.Is(err, remote.ErrUnreachable) || !strings.Contains(err.Error(), "inner: dial "+c.target.Address()) || !strings.Contains(err.Error(), "AllowTcpForwarding") {
		t.Errorf("forwards nothing: %v", err)
	}

	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts, but says nothing
	check(t, err)
	defer silent.Close()
	server := remotetest.NewServer(t)
	gate := connect(t, server, func(s *remote.SSHConfig) { s.Name, s.Address = "gate", silent.Addr().String() })
	host := connect(t, server, func(s *remote.SSHConfig) { s.Via, s.ConnectTimeout = gate, 100*time.Millisecond })
	if _, err = host.Run(t.Context(), quick); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "no answer within 100ms by way of the jump host gate") {
		t.Errorf("silent: %v", err)
	}
	check(t, gate.Close())
	check(t, silent.Close())
	gate = connect(t, server, func(s *remote.SSHConfig) { s.Name, s.Address = "gate", silent.Addr().String() })
	host = connect(t, server, func(s *remote.SSHConfig) { s.Via = gate })
	if _, err = host.Run(t.Context(), quick); !errors.Is(err, remote.ErrUnreachable) || !strings.Contains(err.Error(), "gate: dial ") {
		t.Errorf("away: %v", err)
	}
}
