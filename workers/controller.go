// Package workers puts worker processes together: which workflows and
// activities run in the controller, on a host and in the guest.
//
// It promises that the names by which they are registered do not change: a
// rename breaks running campaigns.
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

// heartbeatThrottle lets heartbeats through as often as activities send them, which
// is seldom but where they are the live figures of whoever watches (package pulse).
const heartbeatThrottle = time.Second

// ControllerOptions configure a controller.
type ControllerOptions struct {
	Log zerolog.Logger
	// Queue is the controller's task queue; "" is workflows.DefaultQueue.
	Queue string
	// Identity is what the server and its UI call this process; "" is the SDK's
	// PID@HOST@.
	Identity string
	// Failed is told why the controller has stopped working by itself: the
	// server refuses it for good. It does nothing from then on.
	Failed  func(error)
	Version string // of this program, for the dataset's provenance
	// WorkerBinary is the program that is installed on hosts and in the guest.
	WorkerBinary string
	// Gate is what the gates of the workers on other machines have in common: the
	// frontend, by a connection of its own without agent.PatientHeartbeats, the
	// namespace and the key.
	Gate gate.Options
	// Hooks are told what happens to campaigns; nil where there are none.
	Hooks *hooks.Background
	// RaiseLane has a lane's emulated testbed up before a trial, and ends those
	// that take turns with it; nil where there is none.
	RaiseLane activities.Raiser
	// Revive, when set, starts what died of an emulated lane's testbed, and
	// returns at once when all of it runs.
	Revive func(context.Context, trial.Lane) error
}

// Controller is the worker that runs workflows and the controller's own
// activities. Start it, and stop it in the end. Its client must have been dialled
// with agent.PatientHeartbeats and PromptCancellations.
func Controller(c client.Client, options ControllerOptions) worker.Worker {
	// The SDK would hash the whole program, and write that into every third event.
	worker.SetBinaryChecksum(options.Version)
	w := worker.New(c, cmp.Or(options.Queue, workflows.DefaultQueue), options.worker())
	RegisterController(w, options)
	return w
}

func (o ControllerOptions) worker() worker.Options {
	return worker.Options{
		MaxHeartbeatThrottleInterval:     heartbeatThrottle,
		DefaultHeartbeatThrottleInterval: heartbeatThrottle,
		// The activities' processes on the hosts go on by themselves.
		WorkerStopTimeout: 10 * time.Second,
		// Activities of a lane last as long as its trial, and take next to nothing. When
		// others had all places, the teardown of a trial would wait for them.
		MaxConcurrentActivityExecutionSize:      workflows.ActivitiesAtOnce * campaign.MaxLanes,
		MaxConcurrentLocalActivityExecutionSize: workflows.ActivitiesAtOnce * campaign.MaxLanes,
		Interceptors:                            []interceptor.WorkerInterceptor{&sdklog.Interceptor{}, &inTurn{}},
		Identity:                                o.Identity,
		OnFatalError:                            o.Failed,
	}
}

// Presence is a worker for workflows.DefaultQueue that gets no work: whoever
// looks for a controller whose queue he does not know finds it among those who
// ask there.
func Presence(c client.Client, options ControllerOptions) worker.Worker {
	w := worker.New(c, workflows.DefaultQueue, worker.Options{
		DisableWorkflowWorker: true, MaxConcurrentActivityTaskPollers: 1,
		Identity: options.Identity, OnFatalError: options.Failed,
	})
	w.RegisterActivityWithOptions(func(context.Context) (string, error) { return options.Identity, nil },
		activity.RegisterOptions{Name: "Present"})
	return w
}
