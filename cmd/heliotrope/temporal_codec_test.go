package main

import (
	"context"
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

// TestCodecServer answers at the address that it tells, until it is told to end.
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
