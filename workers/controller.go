// Package workers puts worker processes together: it says which workflows and activities
// run in the controller, on a host and in the guest.
//
// It promises that the names by which they are registered do not change: a new name would
// break running campaigns.
package workers

import (
	"cmp"
	"context"
	"time"

	"github.com/rs/zerolog"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/worker"

	"heliotrope/activities"
	"heliotrope/internal/campaign"
	"heliotrope/internal/gate"
	"heliotrope/internal/hooks"
	"heliotrope/internal/sdklog"
	"heliotrope/internal/trial"
	"heliotrope/workflows"
)

// heartbeatThrottle lets heartbeats through as often as activities send them. That is
// seldom, except where they carry live figures for people who watch (package pulse).
const heartbeatThrottle = time.Second

// ControllerOptions configure a controller.
type ControllerOptions struct {
	Log zerolog.Logger
	// Queue is the controller's task queue; "" is workflows.DefaultQueue.
	Queue string
	// Identity is the name that the server and its UI show for this process; "" stands for
	// the SDK's PID@HOST@.
	Identity string
	// Failed is called with the reason when the controller stops working by itself, because
	// the server refuses it for good. After that the controller does nothing.
	Failed  func(error)
	Version string // of this program, for the dataset's provenance
	// WorkerBinary is the program that is installed on hosts and in the guest.
	WorkerBinary string
	// Gate has the options that the gates of all workers on other machines share: the
	// frontend (by a connection of its own without agent.PatientHeartbeats), the namespace
	// and the key.
	Gate gate.Options
	// Hooks are told what happens to campaigns; nil when there are none.
	Hooks *hooks.Background
	// RaiseLane starts a lane's emulated testbed before a trial, and ends the testbeds that
	// take turns with it; nil when there is none.
	RaiseLane activities.Raiser
	// Revive, when set, starts the parts of an emulated lane's testbed that have died, and
	// returns at once when all parts run.
	Revive func(context.Context, trial.Lane) error
}

// Controller is the worker that runs workflows and the controller's own activities. The
// caller starts it, and stops it in the end. Its client must have been dialled with
// agent.PatientHeartbeats and PromptCancellations.
func Controller(c client.Client, options ControllerOptions) worker.Worker {
	// Without this the SDK would hash the whole program, and write the hash into every
	// third event.
	worker.SetBinaryChecksum(options.Version)
	w := worker.New(c, cmp.Or(options.Queue, workflows.DefaultQueue), options.worker())
	RegisterController(w, options)
	return w
}

func (o ControllerOptions) worker() worker.Options {
	return worker.Options{
		MaxHeartbeatThrottleInterval:     heartbeatThrottle,
		DefaultHeartbeatThrottleInterval: heartbeatThrottle,
		// The activities' processes on the hosts go on without the controller.
		WorkerStopTimeout: 10 * time.Second,
		// A lane's activities last as long as its trial, and need next to no resources. If
		// the activities of other lanes took all places, the teardown of a trial would have
		// to wait for them.
		MaxConcurrentActivityExecutionSize:      workflows.ActivitiesAtOnce * campaign.MaxLanes,
		MaxConcurrentLocalActivityExecutionSize: workflows.ActivitiesAtOnce * campaign.MaxLanes,
		Interceptors:                            []interceptor.WorkerInterceptor{&sdklog.Interceptor{}, &inTurn{}},
		Identity:                                o.Identity,
		OnFatalError:                            o.Failed,
	}
}

// Presence is a worker for workflows.DefaultQueue that gets no work. It lets people who do
// not know a controller's queue find the controller among the workers that poll that queue.
func Presence(c client.Client, options ControllerOptions) worker.Worker {
	w := worker.New(c, workflows.DefaultQueue, worker.Options{
		DisableWorkflowWorker: true, MaxConcurrentActivityTaskPollers: 1,
		Identity: options.Identity, OnFatalError: options.Failed,
	})
	w.RegisterActivityWithOptions(func(context.Context) (string, error) { return options.Identity, nil },
		activity.RegisterOptions{Name: "Present"})
	return w
}
