package hooks

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"heliotrope/internal/poll"
	"heliotrope/internal/procs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func load(t *testing.T, text string) ([]Hook, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "hooks.yaml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return Load(path)
}

func TestLoad(t *testing.T) {
	all, err := load(t, `
hooks:
  - on: [trial-failed, campaign-ended]
    command: [/usr/local/bin/tell, --who, me]
  - on: [no-valid-trial]
    after: 6h
    webhook: https://chat.example/hooks/secret
`)
	require.NoError(t, err)
	require.Equal(t, []Hook{
		{On: []Kind{TrialFailed, CampaignEnded}, Command: []string{"/usr/local/bin/tell", "--who", "me"}},
		{On: []Kind{NoValidTrial}, Webhook: "https://chat.example/hooks/secret", After: 6 * time.Hour},
	}, all)
}

func TestLoadRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"hooks: [{on: [trial-fails], command: [a]}]":                       "is no event",
		"hooks: [{on: [trial-failed]}]":                                    "tells nobody",
		"hooks: [{command: [a]}]":                                          "on",
		"hooks: [{on: [trial-failed], command: [a], webhook: 'http://a'}]": "make it two hooks",
		"hooks: [{on: [trial-failed], command: []}]":                       "names no program",
		"hooks: [{on: [trial-failed], webhook: 'ftp://a'}]":                "no http or https URL",
		"hooks: [{on: [no-valid-trial], command: [a]}]":                    "wants after",
		"hooks: [{on: [no-valid-trial], command: [a], after: 1s}]":         "want 1m0s or more",
		"hooks: [{on: [trial-failed], command: [a], after: 6h}]":           "is for no-valid-trial",
		"hooks: [{on: [trial-failed], command: [a], shell: true}]":         "shell",
		"on: [trial-failed]":                                               "hooks",
	} {
		_, err := load(t, text)
		require.ErrorContains(t, err, want, text)
	}
}

var failed = Event{Kind: TrialFailed, When: time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC), Campaign: "thesis", Lane: "bench-1",
	Trial: "00007", Cell: "abcd", State: "target-failed", Cause: "migration-failed", Reason: "the target went away"}

func shell(script string, arguments ...string) Hook {
	return Hook{On: []Kind{TrialFailed}, Command: append([]string{"/bin/sh", "-c", script, "hook"}, arguments...)}
}

func TestCommandGetsTheEvent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "told")
	require.NoError(t, Hooks{All: []Hook{shell(`cat > "$1"`, path)}}.Tell(t.Context(), failed))
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	var told Event
	require.NoError(t, json.Unmarshal(text, &told))
	require.Equal(t, failed, told)
	// An event that the hook did not ask for.
	require.NoError(t, os.Remove(path))
	require.NoError(t, Hooks{All: []Hook{shell(`cat > "$1"`, path)}}.Tell(t.Context(), Event{Kind: CampaignEnded}))
	require.NoFileExists(t, path)
}

// TestHangingCommandEndsWithItsChildren: the whole process group ends, including a child
// that ignores TERM and holds the output open.
func TestHangingCommandEndsWithItsChildren(t *testing.T) {
	path := filepath.Join(t.TempDir(), "running")
	hook := shell(`trap "" TERM; echo $$ >> "$1"; sh -c 'echo $$ >> "$1"; sleep 1000' sh "$1" & wait`, path)
	ctx, end := context.WithCancelCause(t.Context())
	over := make(chan error)
	go func() { over <- hook.run(ctx, nil) }()
	require.NoError(t, poll.Until(t.Context(), 10*time.Millisecond, func(context.Context) (bool, error) {
		text, _ := os.ReadFile(path)
		return strings.Count(string(text), "\n") == 2, nil
	}))
	end(errors.New("the limit is over"))
	require.ErrorContains(t, <-over, "the limit is over")
	requireGone(t, path)
}

func TestHangingCommandEndsAtTheLimit(t *testing.T) {
	err := Hooks{All: []Hook{shell(`sleep 1000`)}, Limit: 50 * time.Millisecond, Pause: time.Millisecond}.Tell(t.Context(), failed)
	require.ErrorContains(t, err, "did not end within 50ms")
}

// TestCommandLeavesNobody: a command that succeeds leaves no child behind either, and
// its child does not delay the result.
func TestCommandLeavesNobody(t *testing.T) {
	path := filepath.Join(t.TempDir(), "child")
	require.NoError(t, Hooks{All: []Hook{shell(`sleep 1000 & echo $! > "$1"`, path)}}.Tell(t.Context(), failed))
	requireGone(t, path)
}

// requireGone waits until no process runs whose ID is in the file.
func requireGone(t *testing.T, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	ids := strings.Fields(string(text))
	require.NotEmpty(t, ids)
	for _, id := range ids {
		pid, err := strconv.Atoi(id)
		require.NoError(t, err)
		require.NoError(t, poll.Until(t.Context(), 10*time.Millisecond, func(context.Context) (bool, error) { return !procs.Runs(pid), nil }))
	}
}

// TestCommandFails: it is tried three times, and its output is cut.
func TestCommandFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tries")
	hook := shell(`echo try >> "$1"; head -c 100000 /dev/zero | tr '\0' x; echo; echo no mail server; exit 3`, path)
	err := Hooks{All: []Hook{hook}, Pause: time.Millisecond}.Tell(t.Context(), failed)
	require.ErrorContains(t, err, "exit status 3")
	require.ErrorContains(t, err, "no mail server")
	require.Less(t, len(err.Error()), 2*keptBytes)
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, strings.Repeat("try\n", Tries), string(text))
}

func TestCommandThatIsNotThere(t *testing.T) {
	err := Hooks{All: []Hook{{On: []Kind{TrialFailed}, Command: []string{"/no/such/program"}}}, Pause: time.Millisecond}.Tell(t.Context(), failed)
	require.ErrorContains(t, err, "/no/such/program")
}

func TestWebhook(t *testing.T) {
	var told Event
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, request *http.Request) {
		text, _ := io.ReadAll(request.Body)
		if request.Method == http.MethodPost && request.Header.Get("Content-Type") == "application/json" {
			_ = json.Unmarshal(text, &told)
		}
	}))
	t.Cleanup(server.Close)
	require.NoError(t, Hooks{All: []Hook{{On: []Kind{TrialFailed}, Webhook: server.URL + "/secret"}}}.Tell(t.Context(), failed))
	require.Equal(t, failed, told)
}

// TestWebhookFails: the error names the host and not the whole address, which contains
// the secret; the other hooks are told.
func TestWebhookFails(t *testing.T) {
	var tries atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		tries.Add(1)
		w.WriteHeader(http.StatusForbidden)
		_, _ = fmt.Fprintln(w, "no such token")
	}))
	t.Cleanup(server.Close)
	gone := httptest.NewServer(nil)
	gone.Close()
	path := filepath.Join(t.TempDir(), "told")
	err := Hooks{Pause: time.Millisecond, All: []Hook{
		{On: []Kind{TrialFailed}, Webhook: server.URL + "/secret"},
		{On: []Kind{TrialFailed}, Webhook: gone.URL + "/secret"},
		shell(`cat > "$1"`, path),
	}}.Tell(t.Context(), failed)
	require.ErrorContains(t, err, "403 Forbidden")
	require.ErrorContains(t, err, "connection refused")
	require.ErrorContains(t, err, strings.TrimPrefix(gone.URL, "http://"))
	require.NotContains(t, err.Error(), "secret")
	require.EqualValues(t, Tries, tries.Load())
	require.FileExists(t, path)
}

// TestWebhookIsEchoed: when the answer repeats the address, the error does not, whether
// the address is in the answer's body, in its status line, or in a text that is no HTTP.
func TestWebhookIsEchoed(t *testing.T) {
	for name, answer := range map[string]string{
		"body":        "HTTP/1.1 404 Not Found\r\nContent-Length: 22\r\n\r\nCannot POST /se/cret?k",
		"status line": "HTTP/1.1 404 no /se/cret?k here\r\nContent-Length: 0\r\n\r\n",
		"no HTTP":     "POST /se/cret?k HTTP/1.1\r\n\r\n",
	} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		served := make(chan struct{})
		go func() {
			defer close(served)
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				if request, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
					_, _ = io.Copy(io.Discard, request.Body)
				}
				_, _ = io.WriteString(conn, answer)
				_ = conn.Close()
			}
		}()
		hook := Hook{On: []Kind{TrialFailed}, Webhook: "http://" + listener.Addr().String() + "/se/cret?k"}
		err = Hooks{All: []Hook{hook}, Pause: time.Millisecond}.Tell(t.Context(), failed)
		require.NoError(t, listener.Close())
		<-served
		require.ErrorContains(t, err, listener.Addr().String(), name)
		require.NotContains(t, err.Error(), "cret", name)
	}
}

// TestWebhookHangs: an answer that does not come ends at the limit.
func TestWebhookHangs(t *testing.T) {
	ended := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request) { <-ended }))
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(ended) })
	hook := Hook{On: []Kind{TrialFailed}, Webhook: server.URL + "/secret"}
	err := Hooks{All: []Hook{hook}, Limit: 50 * time.Millisecond, Pause: time.Millisecond}.Tell(t.Context(), failed)
	require.ErrorContains(t, err, "did not end within 50ms")
	require.NotContains(t, err.Error(), "secret")
}
