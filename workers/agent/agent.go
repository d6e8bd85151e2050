// Package agent is the worker end of a link: the Temporal worker that runs on a measured
// host or in the measured guest, without the rest of Heliotrope.
//
// It promises that
//   - it reconnects for ever: only the end of its context ends it, not an absent server, a
//     namespace that does not exist yet, or a broken forward;
//   - it ends within StopTimeout and a few seconds of the end of its context, even when the
//     server does not answer;
//   - an activity survives every outage that is shorter than its heartbeat time-out
//     (PatientHeartbeats);
//   - it is small: two pollers, a few activities at a time, at most ten log lines a minute,
//     and a Go heap that is collected before it grows (LimitMemory).
//
// Most of its size comes from the SDK: of 21 MB on disk, all but 3 are the SDK with its
// generated API, gRPC and protobuf. Therefore activities of this worker may import internal
// packages, but no SSH, no Arrow and no command-line framework.
//
// Dangerous: a worker that is cut off goes on with the activity that it runs, while the
// server gives that activity to another worker once its heartbeats are missing. Activities
// must be idempotent.
package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/rs/zerolog"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/worker"
	"google.golang.org/grpc"

	"heliotrope/internal/poll"
	"heliotrope/internal/sdklog"
)

// Limits of a worker on a measured machine.
const (
	// maxActivities is how many activities run at a time: one that follows a recording, and
	// some short ones beside it.
	maxActivities = 4
	pollers       = 2
	// heartbeatInterval is the shortest time between two heartbeats to the server. Without
	// it, the SDK would hold them back for most of the heartbeat time-out. See
	// PatientHeartbeats for the consequences.
	heartbeatInterval = time.Second
	// StopTimeout is how long activities may take to end after the worker was told to stop.
	StopTimeout = 2 * time.Second
	// goodbyeTimeout is how long the worker tries to tell the server that it ends.
	goodbyeTimeout = 2 * time.Second

	firstPause = 500 * time.Millisecond
	maxPause   = 10 * time.Second
)

// Memory limits of the Go runtime; see LimitMemory.
const (
	heapLimitBytes   = 20 << 20
	heapGrowthGoal   = 50 // percent
	processorsAtMost = 2
)

// LimitMemory sets up the Go runtime for a machine whose memory and processor belong to the
// measurement. Between collections the heap may grow by half instead of double: the live
// heap is about 5 MB, so this costs at most a collection every few seconds and keeps the
// process below 30 MB. The soft limit of 20 MiB makes the collector work harder before a
// burst takes more. It uses at most two processors, because each keeps a cache of free
// memory and threads of its own.
//
// It ignores GOGC, GOMEMLIMIT and GOMAXPROCS.
func LimitMemory() {
	debug.SetGCPercent(heapGrowthGoal)
	debug.SetMemoryLimit(heapLimitBytes)
	runtime.GOMAXPROCS(min(processorsAtMost, runtime.NumCPU()))
}

// Options are the options of a worker.
type Options struct {
	Address   string      // of Temporal's frontend, or of a gate in front of it (package gate): host:port
	TLS       *tls.Config // TLS settings from the gate's pass; nil for neither TLS nor a pass
	Namespace string
	Queue     string // the task queue
	Identity  string // what Temporal calls this worker
	Version   string // of the program
	Log       zerolog.Logger
}

// Run runs a worker until ctx ends. It returns an error only when register does; it waits
// until problems that can be solved elsewhere are over.
func Run(ctx context.Context, options Options, register func(worker.ActivityRegistry) error) error {
	// Without this the SDK would read and hash the whole program at the start.
	worker.SetBinaryChecksum(options.Version)
	pauses := backoff.NewExponentialBackOff()
	pauses.InitialInterval, pauses.MaxInterval = firstPause, maxPause
	for {
		started := time.Now()
		err := runOnce(ctx, options, register)
		if ctx.Err() != nil {
			return nil
		}
		var broken *registrationError
		if errors.As(err, &broken) {
			return broken.Unwrap()
		}
		if time.Since(started) > maxPause {
			pauses.Reset()
		}
		pause := pauses.NextBackOff()
		options.Log.Warn().Err(err).Dur("pause_ms", pause).Msg("no work to be had; trying again")
		if poll.Pause(ctx, pause) != nil {
			return nil
		}
	}
}

// registrationError is an error in the program, which another try cannot solve.
type registrationError struct{ error }

func (r *registrationError) Unwrap() error { return r.error }

// runOnce runs one worker until ctx ends or the worker gives up.
func runOnce(ctx context.Context, options Options, register func(worker.ActivityRegistry) error) error {
	connection, err := client.NewLazyClient(client.Options{
		HostPort: options.Address, Namespace: options.Namespace, Identity: options.Identity,
		Logger: sdklog.Logger{To: options.Log},
		// What the SDK would report of this machine once a minute is in the recordings, in
		// more detail.
		WorkerHeartbeatInterval: -1,
		ConnectionOptions:       client.ConnectionOptions{TLS: options.TLS, DialOptions: []grpc.DialOption{PatientHeartbeats()}},
	})
	if err != nil {
		return fmt.Errorf("reach Temporal at %s: %w", options.Address, err)
	}
	defer connection.Close()
	failed := make(chan error, 1)
	w := worker.New(connection, options.Queue, worker.Options{
		DisableWorkflowWorker:              true,
		MaxConcurrentActivityExecutionSize: maxActivities,
		MaxConcurrentActivityTaskPollers:   pollers,
		MaxHeartbeatThrottleInterval:       heartbeatInterval,
		DefaultHeartbeatThrottleInterval:   heartbeatInterval,
		WorkerStopTimeout:                  StopTimeout,
		DisableRegistrationAliasing:        true,
		Interceptors:                       []interceptor.WorkerInterceptor{&sdklog.Interceptor{}},
		OnFatalError: func(err error) {
			select {
			case failed <- err:
			default:
			}
		},
	})
	if err := register(w); err != nil {
		return &registrationError{err}
	}
	ended := make(chan error, 1)
	go func() { ended <- work(ctx, w, failed, options) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	// The server may not answer, neither to a worker that starts nor to one that says goodbye.
	select {
	case err := <-ended:
		return err
	case <-time.After(StopTimeout + goodbyeTimeout): //nolint:forbidigo // a limit
		return context.Cause(ctx)
	}
}

// work starts a worker, and stops it when ctx ends or the worker gives up. A worker that has
// started is stopped in any case, also when ctx ended meanwhile.
func work(ctx context.Context, w worker.Worker, failed <-chan error, options Options) error {
	if err := w.Start(); err != nil {
		return fmt.Errorf("reach Temporal at %s: %w", options.Address, err)
	}
	defer w.Stop()
	options.Log.Info().Str("queue", options.Queue).Msg("polling")
	select {
	case <-ctx.Done():
		options.Log.Info().Msg("stopping")
		return nil
	case err := <-failed:
		return err
	}
}
