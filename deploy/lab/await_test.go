package lab

import (
	"context"
	"errors"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestAwaitNodes: what prevents a node from becoming ready is reported at once.
func TestAwaitNodes(t *testing.T) {
	broken := errors.New("no such machine type")
	for name, test := range map[string]struct {
		console string
		ended   bool
		want    string
	}{
		"its QEMU ends":   {"Booting", true, "host-a: QEMU ended: no such machine type; the end of its console"},
		"its boot fails":  {"heliotrope: NOT READY", false, "host-a: its boot failed; the end of its console"},
		"both, told once": {"heliotrope: NOT READY", true, "host-a: its boot failed; the end of its console"},
	} {
		t.Run(name, func(t *testing.T) {
			l := testLab(t)
			require.NoError(t, os.WriteFile(l.node(HostA).console(), []byte(test.console+"\n"), 0o600))
			ended := make(chan error, 1)
			if test.ended {
				ended <- broken
			}
			err := l.awaitReady(t.Context(), HostA, ended)
			assert.ErrorContains(t, err, test.want)
		})
	}
	l := testLab(t)
	ended := make(chan error, 1)
	ended <- broken
	_, err := l.awaitMonitor(t.Context(), HostA, ended)
	assert.ErrorIs(t, err, broken)
	assert.ErrorContains(t, err, "host-a: QEMU ended")

	stopped := errors.New("stopped")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(stopped)
	assert.Equal(t, stopped, l.awaitReady(ctx, HostA, nil))
}

// TestAwaitAll: the first node that fails ends the wait for the others, and only its failure is
// reported.
func TestAwaitAll(t *testing.T) {
	broken := errors.New("no such machine type")
	l := testLab(t)
	ended := make(chan error, 1)
	ended <- broken
	err := l.awaitAll(t.Context(), map[string]<-chan error{HostB: ended}, func(string) {})
	assert.ErrorIs(t, err, broken)
	assert.NotErrorIs(t, err, context.Canceled)
	assert.ErrorContains(t, err, "host-b")
}
