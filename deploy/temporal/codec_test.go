package temporal

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"heliotrope/deploy/temporal/codec"
	"heliotrope/internal/fault"
)

// invisible is in everything that the workflow of TestCodec sends.
const invisible = "written with invisible ink"

// tellAll fails with its child's failure, which failed with its activity's: each failure is
// passed on.
func tellAll(ctx workflow.Context, depth int) error {
	if depth > 0 {
		return workflow.ExecuteChildWorkflow(ctx, tellAll, depth-1).Get(ctx, nil)
	}
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute, Summary: invisible,
		RetryPolicy: &temporal.RetryPolicy{MaximumAttempts: 1}})
	return workflow.ExecuteActivity(ctx, failing, invisible).Get(ctx, nil)
}

func failing(_ context.Context, told string) error {
	return temporal.NewApplicationErrorWithCause("because of what was "+told, "kind", errors.New(told), told)
}

// TestCodec encrypts everything that can be in a history: nothing of it is in the server's
// database, and a client without the key, or with another one, is told which key is needed.
func TestCodec(t *testing.T) {
	clearSettings(t)
	path := filepath.Join(t.TempDir(), "keys")
	_, err := codec.AddKey(path)
	require.NoError(t, err)
	server := ensure(t, serverOptions(t))
	with := func(path string) Settings {
		s, err := server.Settings.withKeys(path)
		require.NoError(t, err)
		return s
	}
	c := dial(t, with(path))
	w := worker.New(c, queue, worker.Options{})
	w.RegisterWorkflow(waitForWord)
	w.RegisterWorkflow(tellAll)
	w.RegisterActivity(greet)
	w.RegisterActivity(failing)
	require.NoError(t, w.Start())
	t.Cleanup(w.Stop)

	run, err := c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: "word", TaskQueue: queue, StaticSummary: invisible,
		Memo: map[string]any{"memo": invisible}}, waitForWord, invisible)
	require.NoError(t, err)
	require.NoError(t, c.SignalWorkflow(t.Context(), "word", "", "word", invisible))
	var said string
	require.NoError(t, run.Get(t.Context(), &said))
	assert.Equal(t, "hello "+invisible+" "+invisible, said)
	run, err = c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: "failing", TaskQueue: queue}, tellAll, 2)
	require.NoError(t, err)
	failed := run.Get(t.Context(), nil)
	var told *temporal.ApplicationError
	require.ErrorAs(t, failed, &told)
	var detail string
	require.NoError(t, told.Details(&detail))
	assert.Equal(t, invisible, detail)
	assert.Contains(t, failed.Error(), "because of what was "+invisible)

	other := filepath.Join(t.TempDir(), "keys")
	_, err = codec.AddKey(other)
	require.NoError(t, err)
	for says, settings := range map[string]Settings{CodecEnv: with(""), "is not in " + other: with(other)} {
		_, err := dial(t, settings).GetWorkflowHistory(t.Context(), "word", "", false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT).Next()
		require.ErrorContains(t, err, says)
	}

	w.Stop()
	wantInvisible(t, server)
}

// wantInvisible stops the server, and wants that its database has encrypted payloads, and nothing that can be read.
func wantInvisible(t *testing.T, server *Server) {
	t.Helper()
	require.NoError(t, server.Stop(t.Context()))
	var database []byte
	for _, suffix := range []string{"", "-wal"} {
		text, err := os.ReadFile(Database(server.dir) + suffix)
		if !errors.Is(err, os.ErrNotExist) {
			require.NoError(t, err)
		}
		database = append(database, text...)
	}
	assert.False(t, bytes.Contains(database, []byte(invisible)), "it can be read in the database")
	assert.True(t, bytes.Contains(database, []byte("binary/encrypted")), "nothing encrypted is there at all")
}

// TestAWorkerWithoutTheKey: a payload that it cannot read does not make its workflow fail, but
// waits for the key.
func TestAWorkerWithoutTheKey(t *testing.T) {
	server := ensure(t, serverOptions(t))
	clearSettings(t)
	dir := t.TempDir()
	theirs, ours := filepath.Join(dir, "theirs"), filepath.Join(dir, "ours")
	for _, path := range []string{theirs, ours} {
		_, err := codec.AddKey(path)
		require.NoError(t, err)
	}
	s, err := server.Settings.withKeys(theirs)
	require.NoError(t, err)
	heard := make(chan struct{}, 1)
	c, err := Dial(t.Context(), s, zerolog.New(writerFunc(func(text []byte) (int, error) {
		if bytes.Contains(text, []byte("is not in "+theirs)) {
			select {
			case heard <- struct{}{}:
			default:
			}
		}
		return len(text), nil
	})))
	require.NoError(t, err)
	t.Cleanup(c.Close)
	defer startWorker(t, c)()
	s, err = server.Settings.withKeys(ours)
	require.NoError(t, err)
	asking := dial(t, s)
	run, err := asking.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: "patient", TaskQueue: queue, WorkflowTaskTimeout: time.Second}, waitForWord, "world")
	require.NoError(t, err)
	require.NoError(t, asking.SignalWorkflow(t.Context(), "patient", "", "word", "again"))
	<-heard
	// Whoever shares a server has both keys: the worker goes on encrypting with its own one.
	key, err := os.ReadFile(ours)
	require.NoError(t, err)
	own, err := os.ReadFile(theirs)
	require.NoError(t, err)
	appendTo(t, ours, own)
	appendTo(t, theirs, key)
	var said string
	require.NoError(t, run.Get(t.Context(), &said))
	assert.Equal(t, "hello world again", said)
}

// appendTo adds text to a file.
func appendTo(t *testing.T, path string, text []byte) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	require.NoError(t, err)
	_, err = file.Write(text)
	require.NoError(t, errors.Join(err, file.Close()))
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(text []byte) (int, error) { return f(text) }

// TestKeysOfTheLastController: they are used if the environment says nothing about keys, and not
// if it says that there are none.
func TestKeysOfTheLastController(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	_, err := codec.AddKey(path)
	require.NoError(t, err)
	setUp(t, nil, "")
	s := settingsOf(t, nil)
	assert.Empty(t, s.Keys())
	s, err = s.OrKeys(path)
	require.NoError(t, err)
	assert.Equal(t, path, s.Keys())
	s, err = settingsOf(t, map[string]string{CodecEnv: ""}).OrKeys(path)
	require.NoError(t, err)
	assert.Empty(t, s.Keys())
	assert.Equal(t, path, settingsOf(t, map[string]string{CodecEnv: path}).Keys())

	require.NoError(t, os.Chmod(path, 0o644))
	require.NoError(t, os.Unsetenv(CodecEnv))
	_, err = settingsOf(t, nil).OrKeys(path)
	wantBadInput(t, err, "chmod 600", CodecEnv)
	t.Setenv(CodecEnv, path)
	_, err = LoadSettings()
	assert.Equal(t, fault.BadInput, fault.Of(err))
	require.ErrorContains(t, err, "chmod 600")
}
