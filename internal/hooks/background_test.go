package hooks

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"heliotrope/internal/poll"
)

// lines is a log that a test reads while others write to it.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(text []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(text)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// hanging is a hook whose first try lasts until end, and that exits with a status each time.
func hanging(t *testing.T, status int) (hook Hook, end func()) {
	t.Helper()
	pipe := filepath.Join(t.TempDir(), "pipe")
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	return shell(fmt.Sprintf(`if [ ! -e "$1.tried" ]; then touch "$1.tried"; cat "$1"; fi; exit %d`, status), pipe), func() {
		writer, err := os.OpenFile(pipe, os.O_WRONLY, 0) // waits for who reads
		require.NoError(t, err)
		require.NoError(t, writer.Close())
	}
}

// TestBackgroundIsPatient: Tell does not wait for a hook that hangs, and the log says how
// the hook ended in each case.
func TestBackgroundIsPatient(t *testing.T) {
	for status, want := range map[int]string{0: "the hook that takes long was told", 3: "exit status 3"} {
		var log lines
		hook, end := hanging(t, status)
		b := InBackground(Hooks{All: []Hook{hook}, Limit: time.Hour, Pause: time.Millisecond}, time.Millisecond, zerolog.New(&log))
		require.NoError(t, b.Tell(t.Context(), failed))
		require.Contains(t, log.String(), "is not waited for any more")
		require.NotContains(t, log.String(), want)
		end()
		require.NoError(t, poll.Until(t.Context(), 10*time.Millisecond, func(context.Context) (bool, error) {
			return strings.Contains(log.String(), want), nil
		}))
		b.Close()
	}
}

// TestBackgroundWaits: a hook that does not hang was told when Tell returns, and the log
// stays empty.
func TestBackgroundWaits(t *testing.T) {
	var log lines
	path := filepath.Join(t.TempDir(), "told")
	b := InBackground(Hooks{All: []Hook{shell(`cat > "$1"`, path)}}, time.Hour, zerolog.New(&log))
	defer b.Close()
	require.NoError(t, b.Tell(t.Context(), failed))
	require.FileExists(t, path)
	require.Empty(t, log.String())
	var nobody *Background
	require.NoError(t, nobody.Tell(t.Context(), failed))
	nobody.Close()
}

// TestBackgroundCloses: when the controller ends while a hook runs, Tell says that the event
// must be told again, and no process of the hook is left.
func TestBackgroundCloses(t *testing.T) {
	var log lines
	path := filepath.Join(t.TempDir(), "running")
	b := InBackground(Hooks{All: []Hook{shell(`echo $$ > "$1"; sleep 1000`, path)}, Limit: time.Hour}, time.Hour, zerolog.New(&log))
	over := make(chan error)
	go func() { over <- b.Tell(t.Context(), failed) }()
	require.NoError(t, poll.Until(t.Context(), 10*time.Millisecond, func(context.Context) (bool, error) {
		text, _ := os.ReadFile(path)
		return strings.HasSuffix(string(text), "\n"), nil
	}))
	b.Close()
	require.ErrorIs(t, <-over, ErrClosed)
	require.Contains(t, log.String(), "the controller ends")
	requireGone(t, path)
}
