package temporal

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"heliotrope/internal/fault"
)

// anyPort is an address for which a server takes any free port.
const anyPort = "127.0.0.1:0"

// fakeServer is a program that does what the script says.
func fakeServer(t *testing.T, script string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), binaryName)
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func wantBadInput(t *testing.T, err error, says ...string) {
	t.Helper()
	if err == nil || fault.Of(err) != fault.BadInput {
		t.Fatalf("want bad input, got %v", err)
	}
	for _, word := range says {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("the error does not say %q: %v", word, err)
		}
	}
}

func TestEnsureRefusesABusyPort(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte("220 mail.example ESMTP\r\n"))
			_ = conn.Close()
		}
	}()
	address := listener.Addr().String()
	marker := filepath.Join(t.TempDir(), "started")
	_, err = Ensure(t.Context(), ServerOptions{
		Settings: Settings{Address: address, Namespace: DefaultNamespace},
		StateDir: t.TempDir(), Binary: fakeServer(t, "touch "+marker),
	})
	wantBadInput(t, err, address, "TEMPORAL_ADDRESS")
	if _, err := os.Stat(marker); err == nil {
		t.Error("a server was started all the same")
	}
}

// TestFindOfAServerThatEnds: the server accepted the connection, and was then killed.
func TestFindOfAServerThatEnds(t *testing.T) {
	listener, err := net.Listen("tcp", anyPort)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for range 2 { // the first connection checks that somebody listens, the second asks for Temporal
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
		}
		_ = listener.Close()
	}()
	_, err = Find(t.Context(), Settings{Address: listener.Addr().String(), Namespace: DefaultNamespace}, t.TempDir())
	if !errors.Is(err, ErrNotRunning) {
		t.Errorf("got %v", err)
	}
}

func TestEnsureStartsNothingInPlaceOfANamedServer(t *testing.T) {
	marker := filepath.Join(t.TempDir(), "started")
	_, err := Ensure(t.Context(), ServerOptions{
		Settings: Settings{Address: anyPort, Namespace: DefaultNamespace, named: true},
		StateDir: t.TempDir(), Binary: fakeServer(t, "touch "+marker),
	})
	if !errors.Is(err, ErrNotRunning) {
		t.Errorf("want ErrNotRunning, got %v", err)
	}
	if _, err := os.Stat(marker); err == nil {
		t.Error("a server was started all the same")
	}
}

func TestEnsureTellsWhyTheServerEnded(t *testing.T) {
	for _, test := range []struct {
		name, script string
		class        fault.Class
	}{
		{"bad input", "echo the moon is full >&2; exit 2", fault.BadInput},
		{"failure", "echo the moon is full >&2; exit 1", fault.Infrastructure},
		{"not the ready line", "echo the moon is full >&2; echo hello; exec sleep 1000", fault.Infrastructure},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			_, err := Ensure(t.Context(), ServerOptions{
				Settings: Settings{Address: anyPort, Namespace: DefaultNamespace},
				StateDir: dir, Binary: fakeServer(t, test.script), UIAddress: anyPort,
			})
			if err == nil || !strings.Contains(err.Error(), "the moon is full") {
				t.Errorf("the error does not tell what the server said: %v", err)
			}
			if fault.Of(err) != test.class {
				t.Errorf("class %s, want %s: %v", fault.Of(err), test.class, err)
			}
			if _, ok := readState(dir); ok {
				t.Error("a server that never ran is recorded")
			}
		})
	}
}

// TestEnsureStartsAgainWhenAPortIsTaken: another process takes the port that the server has
// chosen, before the server listens.
func TestEnsureStartsAgainWhenAPortIsTaken(t *testing.T) {
	const taken = `echo '{"level":"fatal","error":"listen tcp 127.0.0.1:40001: bind: address already in use"}' >&2; exit 1`
	for name, test := range map[string]struct{ failures, starts int }{
		"twice":      {2, 3},
		"every time": {1000, portTries},
	} {
		t.Run(name, func(t *testing.T) {
			starts := filepath.Join(t.TempDir(), "starts")
			script := fmt.Sprintf("echo >> %[1]s; [ $(wc -l < %[1]s) -gt %[2]d ] || { %[3]s; }\n", starts, test.failures, taken) +
				`echo '{"ready":true,"address":"127.0.0.1:40002","ui":"127.0.0.1:40003"}'; exec sleep 1000`
			server, err := Ensure(t.Context(), ServerOptions{Settings: Settings{Address: anyPort, Namespace: DefaultNamespace},
				StateDir: t.TempDir(), Binary: fakeServer(t, script), UIAddress: anyPort})
			if text, readErr := os.ReadFile(starts); readErr != nil || len(text) != test.starts {
				t.Errorf("it was started %d times, want %d (%v)", len(text), test.starts, readErr)
			}
			if test.failures >= test.starts {
				if !errors.Is(err, errPortTaken) || !strings.Contains(err.Error(), "address already in use") {
					t.Errorf("got %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if server.Settings.Address != "127.0.0.1:40002" || server.UIURL != "http://127.0.0.1:40003" {
				t.Errorf("the server is at %s, its UI at %s", server.Settings.Address, server.UIURL)
			}
			if err := server.Stop(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestFindBinary(t *testing.T) {
	fake := fakeServer(t, "true")
	t.Run("named", func(t *testing.T) {
		t.Setenv("HELIOTROPE_SERVER", fake)
		if path, err := FindBinary(); err != nil || path != fake {
			t.Errorf("got %s, %v", path, err)
		}
	})
	t.Run("named, not there", func(t *testing.T) {
		t.Setenv("HELIOTROPE_SERVER", fake+"-not")
		_, err := FindBinary()
		wantBadInput(t, err, "HELIOTROPE_SERVER")
	})
	t.Run("on the PATH", func(t *testing.T) {
		t.Setenv("HELIOTROPE_SERVER", "")
		t.Setenv("PATH", filepath.Dir(fake))
		if path, err := FindBinary(); err != nil || path != fake {
			t.Errorf("got %s, %v", path, err)
		}
	})
	t.Run("nowhere", func(t *testing.T) {
		t.Setenv("HELIOTROPE_SERVER", "")
		t.Setenv("PATH", t.TempDir())
		if path, err := FindBinary(); err == nil || !strings.Contains(err.Error(), "make server") {
			t.Errorf("got %s, %v", path, err)
		}
	})
}
