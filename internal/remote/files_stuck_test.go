package remote_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"heliotrope/internal/remote"
	"heliotrope/internal/remote/remotetest"
)

// stuckFile is a file whose opening blocks, like one on a dead disk: a FIFO
// that nobody writes to. It is released at the end of the test.
func stuckFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "stuck")
	check(t, syscall.Mkfifo(path, 0o600))
	t.Cleanup(func() {
		// Opening a FIFO for reading and writing releases all of its readers.
		fifo, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Error(err)
			return
		}
		check(t, fifo.Close())
	})
	return path
}

// impatient is a host that waits for no file for long.
func impatient(t *testing.T, server *remotetest.Server) *remote.SSHHost {
	t.Helper()
	return connect(t, server, func(c *remote.SSHConfig) { c.FileLimit, c.Grace = 100*time.Millisecond, time.Millisecond })
}

func TestStuckFile(t *testing.T) {
	here := remote.Local("host-a")
	here.FileLimit, here.Grace = 100*time.Millisecond, time.Millisecond
	for name, host := range map[string]remote.Host{"local": here, "SFTP": impatient(t, remotetest.NewServer(t))} {
		t.Run(name, func(t *testing.T) {
			stuck, fine := stuckFile(t), filepath.Join(t.TempDir(), "fine")
			check(t, os.WriteFile(fine, []byte("x"), 0o600))
			files, err := host.Files(t.Context())
			check(t, err)
			_, err = files.ReadFile(stuck)
			if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, remote.ErrConnectionLost) {
				t.Errorf("got %v", err)
			}
			for _, want := range []string{"host-a: read " + stuck, "no answer within 100ms"} {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%q is not in %v", want, err)
				}
			}
			if err := host.Download(t.Context(), stuck, fine+".copy", nil); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("download: %v", err)
			}
			if content, err := files.ReadFile(fine); err != nil || string(content) != "x" {
				t.Errorf("the next file: %q, %v", content, err)
			}
		})
	}
}

func TestStuckFileEndsWithItsContext(t *testing.T) {
	server := remotetest.NewServer(t)
	for name, host := range map[string]remote.Host{"local": remote.Local("host-a"), "SFTP": server.Connect(t, "host-a")} {
		t.Run(name, func(t *testing.T) {
			stuck := stuckFile(t)
			ctx, cancel := context.WithCancelCause(t.Context())
			files, err := host.Files(ctx)
			check(t, err)
			enough := errors.New("enough of it")
			time.AfterFunc(50*time.Millisecond, func() { cancel(enough) })
			if _, err := files.ReadFile(stuck); !errors.Is(err, enough) {
				t.Errorf("got %v", err)
			}
			if err := files.WriteFile(filepath.Join(t.TempDir(), "late"), nil, 0o600); !errors.Is(err, enough) {
				t.Errorf("begun after the end: %v", err)
			}
			files, err = host.Files(t.Context())
			check(t, err)
			if _, err := files.Stat(stuck); err != nil {
				t.Errorf("the next one: %v", err)
			}
		})
	}
}

func TestStuckFilesTakeNoCommandsPlace(t *testing.T) {
	server := remotetest.NewServer(t)
	host := impatient(t, server)
	_, ended := started(t, t.Context(), host, 1, "echo $$; sleep 1000")
	files, err := host.Files(t.Context())
	check(t, err)
	stuck := stuckFile(t)
	for range 3 {
		if _, err := files.ReadFile(stuck); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		mustRun(t, host)
	}
	if server.Connections() != 1 {
		t.Errorf("%d connections: a stuck file cut a command off", server.Connections())
	}
	// The host may have no more sessions on this connection.
	if _, err := files.ReadFile(stuck); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if err := <-ended; !errors.Is(err, remote.ErrConnectionLost) {
		t.Errorf("the command on the connection that was given up: %v", err)
	}
	mustRun(t, host)
	if _, err := files.Stat(stuck); err != nil || server.Connections() != 2 {
		t.Errorf("%d connections, %v", server.Connections(), err)
	}
}

// TestLongTransferIsNotStuck: a slow host that answers each request in time is
// waited for.
func TestLongTransferIsNotStuck(t *testing.T) {
	server := remotetest.NewServer(t)
	host := connect(t, server, func(c *remote.SSHConfig) { c.FileLimit = time.Second })
	source := filepath.Join(t.TempDir(), "source")
	check(t, os.WriteFile(source, make([]byte, 1<<20), 0o600))
	pause := make(chan struct{})
	go func() {
		defer close(pause)
		for range 15 {
			time.Sleep(100 * time.Millisecond) // the slowness itself
			pause <- struct{}{}
		}
	}()
	err := host.Upload(t.Context(), source, filepath.Join(t.TempDir(), "there"), 0o600, func(int64, int64) { <-pause })
	check(t, err)
}
