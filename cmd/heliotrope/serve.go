package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"go.temporal.io/sdk/client"

	"heliotrope/deploy/temporal"
	"heliotrope/internal/gate"
	"heliotrope/internal/hooks"
	"heliotrope/internal/procs"
	"heliotrope/internal/trial"
	"heliotrope/workers"
	"heliotrope/workflows"
)

func newServe() *cobra.Command {
	shared := &campaignCommand{}
	options := serveOptions{}
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the controller, and a Temporal server where none answers",
		Long: `Run the controller in the foreground, and with it a Temporal server with its Web UI
where the environment names none. This is what a service manager would run; run
starts one in the background when there is none. One can run for each state
folder. Ctrl-C or SIGTERM ends the controller and then the server that it
started; campaigns that run wait and go on with the next serve. A second Ctrl-C
ends it at once, and leaves the server to the next one.`,
		Example: `  heliotrope serve
  heliotrope serve --address 127.0.0.1:17233 --ui-address 127.0.0.1:18233
  TEMPORAL_ADDRESS=temporal.example:7233 heliotrope serve`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if options.stateDir, err = shared.dir(); err != nil {
				return err
			}
			return serve(cmd.Context(), options, newLog(cmd.ErrOrStderr()))
		},
	}
	shared.flags(cmd)
	flags := cmd.Flags()
	flags.StringVar(&options.address, "address", "", "host:port of the embedded server, port 0 for any that is free; default: as the last time, "+temporal.DefaultAddress+" at first")
	flags.StringVar(&options.uiAddress, "ui-address", "", "host:port of its Web UI; default: as the last time, "+temporal.DefaultUIAddress+" at first; a busy one is replaced")
	flags.StringArrayVar(&options.giveUp, "give-up", nil, "end a running `campaign` that this program cannot carry; its dataset keeps the trials that it has")
	flags.StringVar(&options.hooks, "hooks", "", "`file` that says who is told what happens to campaigns; default: "+hooksFile+" in the state folder, where there is one")
	flags.StringVar(&options.metrics, "metrics", "", "`host:port` to serve metrics for Prometheus at; default: $"+metricsEnv+", otherwise none")
	return cmd
}

type serveOptions struct {
	stateDir  string
	address   string
	uiAddress string
	giveUp    []string // campaigns
	hooks     string   // file
	metrics   string   // host:port
}

// settings say where the server is: the server that the environment names, or else an
// embedded one, at the address that is wanted or that it had the last time.
func (o serveOptions) settings() (temporal.Settings, error) {
	settings, err := temporal.LoadSettings()
	if err != nil {
		return settings, err
	}
	last := lastServe(o.stateDir)
	if last != nil {
		if settings, err = settings.OrKeys(last.CodecKeys); err != nil {
			return settings, err
		}
	}
	switch {
	case o.address != "" && settings.Configured():
		return settings, usageError{fmt.Errorf("--address is where the embedded server listens, but the environment names another server, %s: give one of both", settings.Address)}
	case o.address != "":
		settings.Address = o.address
	case last != nil && last.Embedded && !settings.Configured():
		settings.Address = last.Address
	}
	return settings, nil
}

// wantedUI is the address that is wanted for the embedded server's UI, or the one that it
// had the last time.
func (o serveOptions) wantedUI() string {
	if last := lastServe(o.stateDir); o.uiAddress == "" && last != nil && last.Embedded {
		return strings.TrimPrefix(last.UI, "http://")
	}
	return o.uiAddress
}

// serve runs the controller until ctx ends. It then ends everything that it started, in
// reverse order.
func serve(ctx context.Context, options serveOptions, log zerolog.Logger) (err error) {
	settings, err := options.settings()
	if err != nil {
		return err
	}
	unlock, err := lockServe(ctx, options.stateDir)
	if err != nil {
		return err
	}
	defer unlock()
	defer collectSeldom()()
	told, err := startTelling(options, log)
	if err != nil {
		return err
	}
	defer told.close()
	server, err := ownServer(ctx, temporal.ServerOptions{Settings: settings, StateDir: options.stateDir,
		UIAddress: options.wantedUI(), Log: log, Progress: func(text string) { log.Info().Msg(text) }})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.stop(context.WithoutCancel(ctx))) }()
	return control(ctx, options, told, server, log)
}

// control runs the controller until ctx ends, and keeps the server running meanwhile. It
// ends by itself when the server refuses the controller for good.
func control(ctx context.Context, options serveOptions, told *telling, server *ownedServer, log zerolog.Logger) error {
	stateDir, settings, ui := options.stateDir, server.now.Settings.WithMetrics(told.sdk()), server.now.UIURL
	session, err := dial(ctx, settings, stateDir, ui, log)
	if err != nil {
		return err
	}
	defer session.client.Close()
	if err := prepareServer(ctx, session.client, settings); err != nil {
		return err
	}
	id, err := identify(stateDir)
	if err != nil {
		return err
	}
	if err := refuseTwin(ctx, session.client, id, stateDir); err != nil {
		return err
	}
	if err := takeOver(ctx, session.client, controllerQueue(id), options, log); err != nil {
		return err
	}
	if err := failOrphans(ctx, session.client, settings.Namespace, id, log); err != nil {
		log.Warn().Err(err).Msg("what was begun is tried again only when it counts as lost")
	}
	start := func(failed func(error)) (stop func(), err error) {
		return startWorkers(session.client, id, options, settings, told.tell, log, failed)
	}
	return work(ctx, start, func(ctx context.Context) error {
		if err := announce(stateDir, id, settings, ui); err != nil {
			return err
		}
		log.Info().Str("controller", id).Str("temporal", settings.Address).Str("ui", ui).Int("pid", os.Getpid()).Msg("the controller is ready")
		database := "" // not known for another server
		if !settings.Configured() {
			database = temporal.Database(stateDir)
		}
		defer told.observe(ctx, session.client, controllerQueue(id), database)()
		server.keep(ctx)
		log.Info().Msg("the controller ends; campaigns that run wait for the next one")
		return nil
	})
}

// prepareServer makes sure that the server knows our search attributes. A server that the
// user named is only asked: its administrator runs `heliotrope temporal setup`.
func prepareServer(ctx context.Context, c client.Client, settings temporal.Settings) error {
	if settings.Configured() {
		return temporal.Check(ctx, c, settings, workflows.SearchAttributes)
	}
	return temporal.RegisterSearchAttributes(ctx, c, settings.Namespace, workflows.SearchAttributes)
}

// work starts workers, and keeps them until ctx ends or one of them has failed; that
// failure is then the error.
func work(ctx context.Context, start func(failed func(error)) (stop func(), err error), keep func(context.Context) error) error {
	working, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	stop, err := start(fail)
	if err != nil {
		return err
	}
	defer stop()
	err = keep(working)
	if err == nil && ctx.Err() == nil {
		err = fmt.Errorf("the Temporal server refuses the controller, which does nothing any more: %w", context.Cause(working))
	}
	return err
}

// startWorkers starts the controller, and the worker that shows its presence.
func startWorkers(c client.Client, id string, serving serveOptions, settings temporal.Settings, told *hooks.Background, log zerolog.Logger, failed func(error)) (stop func(), err error) {
	own, err := identity(id)
	if err != nil {
		return nil, err
	}
	key, err := gate.LoadKey(filepath.Join(serving.stateDir, gateKeyFile))
	if err != nil {
		return nil, err
	}
	others, err := temporal.ForOthers(settings, log)
	if err != nil {
		return nil, err
	}
	options := workers.ControllerOptions{Log: log, Version: version, Queue: controllerQueue(id), Identity: own, Failed: failed,
		WorkerBinary: workerBinary(), Gate: gate.Options{To: others.WorkflowService(), Namespace: settings.Namespace, Key: key},
		Hooks:     told,
		RaiseLane: raiseLab,
		Revive: func(ctx context.Context, lane trial.Lane) error {
			return reviveLab(ctx, lane, func(text string) { log.Warn().Str("lane", lane.Name).Msg(text) })
		}}
	controller, presence := workers.Controller(c, options), workers.Presence(c, options)
	if err := controller.Start(); err != nil {
		others.Close()
		return nil, fmt.Errorf("start the controller: %w", err)
	}
	if err := presence.Start(); err != nil {
		controller.Stop()
		others.Close()
		return nil, fmt.Errorf("start the controller: %w", err)
	}
	return func() {
		presence.Stop()
		controller.Stop()
		others.Close()
	}, nil
}

// announce tells other commands that this serve is ready.
func announce(stateDir, controller string, settings temporal.Settings, ui string) error {
	own, err := procs.Look(os.Getpid())
	if err != nil {
		return err
	}
	state := serveState{PID: own.PID, StartTicks: own.StartTicks, Controller: controller, Version: version, Address: settings.Address, Embedded: !settings.Configured(),
		Namespace: settings.Namespace, CodecKeys: settings.Keys(), UI: ui, Started: time.Now().UTC()}
	if err := state.write(stateDir); err != nil {
		return fmt.Errorf("tell that the controller is ready: %w", err)
	}
	return nil
}

// workerBinary is the path of the program for measured hosts and guests, which is installed
// next to this program.
func workerBinary() string {
	own, err := os.Executable()
	if err != nil {
		own = os.Args[0]
	}
	return filepath.Join(filepath.Dir(own), "heliotrope-worker")
}
