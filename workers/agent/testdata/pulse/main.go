// Command pulse is a worker for tests. It has the command line of heliotrope-worker and one
// activity, Pulse, which heartbeats the number of the current second and returns its
// process ID. When the activity is started again, it starts at the number of the last
// heartbeat, and so shows gaps.
package main

import (
	"context"
	"flag"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/worker"

	"heliotrope/internal/gate/pass"
	"heliotrope/workers/agent"
)

func main() {
	agent.LimitMemory()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	var options agent.Options
	flag.StringVar(&options.Address, "address", "", "")
	flag.StringVar(&options.Namespace, "namespace", "", "")
	flag.StringVar(&options.Queue, "queue", "", "")
	flag.StringVar(&options.Identity, "name", "", "")
	flag.String("role", "", "")
	passFile := flag.String("pass-file", "", "")
	flag.Parse()
	its, err := pass.Read(*passFile)
	if err == nil {
		options.TLS, err = its.TLS()
	}
	if err != nil {
		panic(err)
	}
	options.Version, options.Log = "test", agent.NewLog(os.Stderr, zerolog.InfoLevel)
	err = agent.Run(ctx, options, func(registry worker.ActivityRegistry) error {
		registry.RegisterActivityWithOptions(pulse, activity.RegisterOptions{Name: "Pulse"})
		return nil
	})
	if err != nil {
		options.Log.Fatal().Err(err).Send()
	}
}

// pulse beats once a second until it is cancelled.
func pulse(ctx context.Context) (pid int, err error) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for beat := 1; ; beat++ {
		activity.RecordHeartbeat(ctx, beat)
		select {
		case <-ctx.Done():
			return os.Getpid(), ctx.Err()
		case <-tick.C:
		}
	}
}
