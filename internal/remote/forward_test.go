package remote_test

import (
	"errors"
	"io"
	"net"
	"path/filepath"
	"testing"

	"heliotrope/internal/remote"
	"heliotrope/internal/remote/remotetest"
)

// echo accepts one connection and sends back what it gets.
func echo(t *testing.T, listener net.Listener) {
	t.Helper()
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		_, _ = io.Copy(conn, conn)
		_ = conn.Close()
	}()
}

// converse sends a word through a connection and expects it back.
func converse(t *testing.T, conn net.Conn) {
	t.Helper()
	defer conn.Close()
	if _, err := io.WriteString(conn, "hello"); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 5)
	if _, err := io.ReadFull(conn, answer); err != nil || string(answer) != "hello" {
		t.Fatalf("got %q, %v", answer, err)
	}
}

func TestDialAndListen(t *testing.T) {
	eachRunner(t, func(t *testing.T, host remote.Host) {
		here, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		echo(t, here)
		conn, err := host.DialContext(t.Context(), "tcp", here.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		converse(t, conn)

		there, err := host.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		echo(t, there)
		conn, err = net.Dial("tcp", there.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		converse(t, conn)
		if err := there.Close(); err != nil {
			t.Error(err)
		}

		_ = here.Close()
		if _, err := host.DialContext(t.Context(), "tcp", here.Addr().String()); err == nil || errors.Is(err, remote.ErrConnectionLost) {
			t.Errorf("a port where nobody listens: %v", err)
		}
	})
}

func TestDialSocket(t *testing.T) {
	eachRunner(t, func(t *testing.T, host remote.Host) {
		path := filepath.Join(t.TempDir(), "socket")
		here, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		echo(t, here)
		conn, err := host.DialContext(t.Context(), "unix", path)
		if err != nil {
			t.Fatal(err)
		}
		converse(t, conn)
		if _, err := host.DialContext(t.Context(), "unix", path+"-not"); err == nil || errors.Is(err, remote.ErrConnectionLost) {
			t.Errorf("a socket that is not there: %v", err)
		}
	})
}

func TestJumpHost(t *testing.T) {
	outerServer, innerServer := remotetest.NewServer(t), remotetest.NewServer(t)
	outer := outerServer.Connect(t, "jump")
	inner := connect(t, innerServer, func(c *remote.SSHConfig) { c.Via = outer })
	mustRun(t, inner)
	if outerServer.Connections() != 1 || innerServer.Connections() != 1 {
		t.Fatalf("%d and %d connections", outerServer.Connections(), innerServer.Connections())
	}
	_, ended := started(t, t.Context(), inner, 1, "echo $$; sleep 1000")
	outerServer.DropConnections()
	if err := <-ended; !errors.Is(err, remote.ErrConnectionLost) {
		t.Errorf("jump host lost: %v", err)
	}
	mustRun(t, inner)
	innerServer.DropConnections()
	mustRun(t, inner)
	if outerServer.Connections() != 2 || innerServer.Connections() != 3 {
		t.Errorf("%d and %d connections", outerServer.Connections(), innerServer.Connections())
	}
	if err := inner.Close(); err != nil {
		t.Error(err)
	}
	mustRun(t, outer)
}
