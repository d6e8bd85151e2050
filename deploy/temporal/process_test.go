package temporal

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"heliotrope/internal/fault"
)

// freeAddress is an address of this machine where nobody listens.
func freeAddress(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

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

func TestEnsureStartsNothingInPlaceOfANamedServer(t *testing.T) {
	marker := filepath.Join(t.TempDir(), "started")
	_, err := Ensure(t.Context(), ServerOptions{
		Settings: Settings{Address: freeAddress(t), Namespace: DefaultNamespace, named: true},
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
				Settings: Settings{Address: freeAddress(t), Namespace: DefaultNamespace},
				StateDir: dir, Binary: fakeServer(t, test.script), UIAddress: freeAddress(t),
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
