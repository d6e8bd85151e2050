package remote

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// shell is a Batch of this machine.
type shell struct{ err error }

func (s shell) Do(ctx context.Context, words string, stdin io.Reader, stdout, stderr io.Writer) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", "exec "+words)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stdout, stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && ctx.Err() == nil {
		return exit.ExitCode(), nil
	}
	return 0, err
}

func (shell) Close() error { return nil }

// TestBatch: a command arrives unchanged, and its outcome is reported like that of
// any host's command.
func TestBatch(t *testing.T) {
	host := NewBatch("guest", shell{})
	var passed bytes.Buffer
	result, err := host.Run(t.Context(), Command{Args: []string{"sh", "-c", `cat; printf '<%s>' "$V" "$@"; echo no >&2; exit 3`, "sh", "a b", "it's", "$(x)\n", ""},
		Env: []string{"V=v w"}, Stdin: strings.NewReader("in "), Stdout: &passed})
	code, ended := ExitCode(err)
	require.True(t, ended)
	require.Equal(t, 3, code)
	require.Equal(t, "in <v w><a b><it's><$(x)\n><>", string(result.Stdout))
	require.Equal(t, passed.Bytes(), result.Stdout)
	require.ErrorContains(t, err, "guest: sh -c ")
	require.ErrorContains(t, err, "exit code 3: no")

	_, err = host.Run(t.Context(), Command{Args: []string{"no-such-program"}})
	code, _ = ExitCode(err)
	require.Equal(t, 127, code)
	_, err = host.Run(t.Context(), Command{Args: []string{"sleep", "60"}, Timeout: time.Millisecond})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "guest: sleep 60: timed out after 1ms")
	_, err = host.Run(t.Context(), Command{Args: []string{"a\x00"}})
	require.ErrorContains(t, err, "zero byte")
	_, err = NewBatch("guest", shell{ErrUnreachable}).Run(t.Context(), Command{Args: []string{"true"}})
	require.ErrorIs(t, err, ErrUnreachable)

	_, files := host.Files(t.Context())
	_, dial := host.DialContext(t.Context(), "tcp", "127.0.0.1:1")
	_, listen := host.Listen("tcp", "127.0.0.1:0")
	for _, err := range []error{files, dial, listen, host.Upload(t.Context(), "a", "/b", 0o600, nil), host.Download(t.Context(), "/b", "a", nil)} {
		require.ErrorIs(t, err, errors.ErrUnsupported)
		require.ErrorContains(t, err, "guest: ")
	}
	require.NoError(t, host.Close())
}
