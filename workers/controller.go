// Package workers puts worker processes together: which workflows and
// activities run in the controller, on a host and in the guest.
//
// It promises that the names by which they are registered do not change: a
// rename breaks running campaigns.
package workers

import (
	"context"
	"crypto/tls"
	"time"

	"github.com/rs/zerolog"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/worker"

	"heliotrope/activities"
	"heliotrope/internal/sdklog"
	"heliotrope/internal/trial"
	"heliotrope/workflows"
)

// ControllerQueue is the controller's task queue.
const ControllerQueue = workflows.ControllerQueue

// heartbeatThrottle lets heartbeats through as often as activities send them:
// they are the live figures of whoever watches.
const heartbeatThrottle = time.Second

// ControllerOptions configure a controller.
type ControllerOptions struct {
	Log     zerolog.Logger
	Version string // of this program, for the dataset's provenance
	// WorkerBinary is the program that is installed on hosts and in the guest.
	WorkerBinary string
	// TemporalAddress is the frontend that remote workers are connected to,
	// as reached from here, and Namespace theirs.
	TemporalAddress string
	Namespace       string
	// TLS, when set, is how to speak to the frontend in their place.
	TLS *tls.Config
	// RaiseLane has a lane's emulated testbed up before a trial, and ends those
	// that take turns with it; nil where there is none.
	RaiseLane activities.Raiser
	// Revive, when set, starts what died of an emulated lane's testbed, and
	// returns at once when all of it runs.
	Revive func(context.Context, trial.Lane) error
}

// Controller is the worker that runs workflows and the controller's own
// activities. Start it, and stop it in the end. Its client must have been dialled
// with agent.PatientHeartbeats.
func Controller(c client.Client, options ControllerOptions) worker.Worker {
	w := worker.New(c, ControllerQueue, worker.Options{
		MaxHeartbeatThrottleInterval:     heartbeatThrottle,
		DefaultHeartbeatThrottleInterval: heartbeatThrottle,
		// The activities' processes on the hosts go on by themselves.
		WorkerStopTimeout: 10 * time.Second,
		// A trial has about ten activities that last as long as it does.
		MaxConcurrentActivityExecutionSize: 400,
		Interceptors:                       []interceptor.WorkerInterceptor{&sdklog.Interceptor{}},
	})
	RegisterController(w, options)
	return w
}
