package main

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/deploy/temporal"
)

func TestCodecServerRefuses(t *testing.T) {
	t.Setenv(temporal.CodecEnv, "")
	path := filepath.Join(t.TempDir(), "keys")
	wantRun(t, exitBadInput, "no keys", "temporal", "codec-server")
	wantRun(t, exitBadInput, "no such file", "temporal", "codec-server", "--keys", path)
	wantRun(t, 0, "is the newest of "+path, "temporal", "codec-key", path)
	for _, address := range []string{"0.0.0.0:0", "[::]:0", ":0", "localhost:0", "192.0.2.1:0", "127.0.0.1"} {
		wantRun(t, exitBadInput, "loopback", "temporal", "codec-server", "--keys", path, "--listen", address)
	}
	wantRun(t, exitBadInput, "--ui-origin", "temporal", "codec-server", "--keys", path, "--ui-origin", "*")
	require.NoError(t, os.Chmod(path, 0o640))
	wantRun(t, exitBadInput, "chmod 600", "temporal", "codec-server", "--keys", path)
}

// TestCodecServer: it answers at the address that it logs, until it is told to end.
func TestCodecServer(t *testing.T) {
	ctx, end := context.WithCancel(t.Context())
	defer end()
	told := make(chan string, 1)
	log := zerolog.New(writerFunc(func(text []byte) (int, error) {
		_, rest, _ := strings.Cut(string(text), `"url":"`)
		url, _, _ := strings.Cut(rest, `"`)
		told <- url
		return len(text), nil
	}))
	ended := make(chan error, 1)
	go func() {
		ended <- serveCodec(ctx, anyPort, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }), log)
	}()
	answer, err := http.Get(<-told)
	require.NoError(t, err)
	_ = answer.Body.Close()
	assert.Equal(t, http.StatusTeapot, answer.StatusCode)
	http.DefaultClient.CloseIdleConnections()
	end()
	require.NoError(t, <-ended)
}

// TestServeWithoutTheKey: serve does not start without the keys that it was given, nor without the key of a campaign
// that runs. It says what is wanted, and neither it nor its server is left running. With the key it starts.
func TestServeWithoutTheKey(t *testing.T) {
	useServer(t)
	dir, stateDir := t.TempDir(), t.TempDir()
	keys, others, none := filepath.Join(dir, "keys"), filepath.Join(dir, "others"), filepath.Join(dir, "none")
	for _, path := range []string{keys, others} {
		wantRun(t, 0, "is the newest of "+path, "temporal", "codec-key", path)
	}
	t.Setenv(temporal.CodecEnv, keys)
	first := startOwnServe(t, stateDir)
	file := writeCampaign(t, strings.NewReplacer("NAME", "unit", "REPETITIONS", "100").Replace(simulatedSpec))
	wantRun(t, 0, "campaign unit runs", "run", file, "--data", t.TempDir(), "--state-dir", stateDir, "--detach")
	wantRun(t, 0, "", "stop", "--state-dir", stateDir)
	awaitEnd(t, first.PID)

	serveAgain := func(stateDir string) error {
		return startServe(t.Context(), stateDir, []string{ownProgram(t), "serve", "--state-dir", stateDir})
	}
	for name, test := range map[string]struct {
		prepare  func(t *testing.T)
		stateDir string
		says     string
		badInput bool // it is found before a server is started
	}{
		"the file is not there":       {func(t *testing.T) { t.Setenv(temporal.CodecEnv, none) }, t.TempDir(), "HELIOTROPE_CODEC_KEYS: codec keys: stat " + none + ": no such file", true},
		"the last one's file is gone": {func(t *testing.T) { hideKeys(t, keys) }, stateDir, "the last controller here encrypted payloads: codec keys: stat " + keys + ": no such file", true},
		"no keys":                     {func(t *testing.T) { t.Setenv(temporal.CodecEnv, "") }, stateDir, "decrypt a payload of Temporal's: it is encrypted with key ", false},
		"another key":                 {func(t *testing.T) { t.Setenv(temporal.CodecEnv, others) }, stateDir, "is not in " + others, false},
	} {
		t.Run(name, func(t *testing.T) {
			test.prepare(t)
			before, _ := os.ReadFile(serveLog(test.stateDir))
			err := serveAgain(test.stateDir)
			require.ErrorIs(t, err, errServeEnded)
			require.ErrorContains(t, err, test.says)
			var usage usageError
			assert.Equal(t, test.badInput, errors.As(err, &usage), "exit code 2")
			after, err := os.ReadFile(serveLog(test.stateDir))
			require.NoError(t, err)
			assert.Equal(t, !test.badInput, strings.Contains(string(after[len(before):]), "starting Temporal"), "a server was started")
			assert.False(t, bytes.Contains(commandLines(t), []byte(test.stateDir)), "a process is left")
		})
	}
	require.NoError(t, serveAgain(stateDir))
}

// hideKeys takes a file of keys away until the test has ended, and has the environment say nothing of keys.
func hideKeys(t *testing.T, path string) {
	t.Helper()
	t.Setenv(temporal.CodecEnv, "") // puts it back at the end
	require.NoError(t, os.Unsetenv(temporal.CodecEnv))
	require.NoError(t, os.Rename(path, path+".hidden"))
	t.Cleanup(func() { require.NoError(t, os.Rename(path+".hidden", path)) })
}
