package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"go.temporal.io/sdk/client"

	"heliotrope/internal/hooks"
	"heliotrope/workers"
)

// metricsEnv says where metrics are served when no flag does; also for a serve that run
// starts.
const metricsEnv = "HELIOTROPE_METRICS"

// hooksFile is the file with hooks in the state folder. A campaign file cannot have hooks,
// because it must not run commands on the controller.
const hooksFile = "hooks.yaml"

// telling is how a controller reports on its campaigns: by hooks and by metrics.
type telling struct {
	hooks   hooks.Hooks
	tell    *hooks.Background
	metrics *workers.Metrics // nil: nobody asks for them
	server  *http.Server
	serving sync.WaitGroup
	log     zerolog.Logger
}

// startTelling reads the hooks, and listens for requests for metrics.
func startTelling(options serveOptions, log zerolog.Logger) (*telling, error) {
	t := &telling{log: log}
	path := options.hooks
	if path == "" {
		path = filepath.Join(options.stateDir, hooksFile)
	}
	all, err := hooks.Load(path)
	if err != nil && (options.hooks != "" || !errors.Is(err, fs.ErrNotExist)) {
		return nil, usageError{err}
	}
	t.hooks.All = all
	t.tell = hooks.InBackground(t.hooks, hooks.Patience, log)
	address := options.metrics
	if address == "" {
		address = os.Getenv(metricsEnv)
	}
	if address == "" {
		return t, nil
	}
	return t, t.serveMetrics(address)
}

func (t *telling) serveMetrics(address string) error {
	if host, _, err := net.SplitHostPort(address); err != nil || host == "" {
		return usageError{fmt.Errorf("metrics at %q: want host:port, such as 127.0.0.1:9464; whoever reaches it may read them", address)}
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return usageError{fmt.Errorf("metrics: %w: choose another --metrics", err)}
	}
	if t.metrics, err = workers.NewMetrics(version, t.log); err != nil {
		return errors.Join(err, listener.Close())
	}
	paths := http.NewServeMux()
	paths.Handle("GET /metrics", t.metrics.Handler())
	t.server = &http.Server{Handler: paths, ReadHeaderTimeout: 10 * time.Second}
	t.serving.Go(func() {
		if err := t.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			t.log.Error().Err(err).Msg("metrics are not served any more")
		}
	})
	t.log.Info().Str("url", "http://"+listener.Addr().String()+"/metrics").Msg("metrics are served")
	return nil
}

// sdk is the handler for the SDK's figures; nil when nobody asks for metrics.
func (t *telling) sdk() client.MetricsHandler {
	if t.metrics == nil {
		return nil
	}
	return t.metrics.SDK()
}

// observe observes the campaigns of the controller's queue, when there are hooks or
// metrics, until stop is called.
func (t *telling) observe(ctx context.Context, c client.Client, queue, database string) (stop func()) {
	if t.metrics == nil && len(t.hooks.All) == 0 {
		return func() {}
	}
	observer := &workers.Observer{Client: c, Queue: queue, Database: database, Hooks: t.hooks, Log: t.log}
	if t.metrics != nil {
		observer.Seen = t.metrics.Set
	}
	ctx, cancel := context.WithCancel(ctx)
	var observing sync.WaitGroup
	observing.Go(func() { observer.Run(ctx) })
	return func() { cancel(); observing.Wait() }
}

// close ends the hooks and the metrics.
func (t *telling) close() {
	t.tell.Close()
	if t.metrics == nil {
		return
	}
	_ = t.server.Close() // scrapers ask again
	t.serving.Wait()
	_ = t.metrics.Close() // they are only in memory
}
