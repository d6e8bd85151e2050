package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	uiserver "github.com/temporalio/ui-server/v2/server"
	uiconfig "github.com/temporalio/ui-server/v2/server/config"
	uioptions "github.com/temporalio/ui-server/v2/server/server_options"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/server/common/cluster"
	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/dynamicconfig"
	"go.temporal.io/server/common/log"
	"go.temporal.io/server/common/membership/static"
	"go.temporal.io/server/common/metrics"
	"go.temporal.io/server/common/persistence/sql/sqlplugin/sqlite"
	"go.temporal.io/server/common/primitives"
	"go.temporal.io/server/temporal"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// readyWithin is how long the services may take to start; after that the start has failed.
const readyWithin = 60 * time.Second

// historyShards is fixed when a database is made. An SQLite file has one writer, so more shards
// have no benefit.
const historyShards = 1

// serve runs the server until ctx ends.
func serve(ctx context.Context, o options, ready *os.File) (err error) {
	lock, err := lockDatabase(o.database)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	taken, err := takePorts(o)
	if err != nil {
		return err
	}
	defer taken.release()
	o.address, o.uiAddress = taken.frontend.String(), taken.ui.String()
	if err := prepareDatabase(o); err != nil {
		return err
	}
	level, logger := newLogger(o.logLevel)
	server, err := newServer(o, taken, logger)
	if err != nil {
		return err
	}
	if err := server.Start(); err != nil {
		return fmt.Errorf("start Temporal on %s with %s: %w", o.address, o.database, err)
	}
	// During the shutdown every interrupted poll would be logged as an error with its stack.
	defer func() {
		level.SetLevel(zapcore.FatalLevel)
		err = errors.Join(err, server.Stop())
	}()
	if err := waitReady(ctx, o); err != nil {
		return err
	}
	return runUI(ctx, newUI(o), o.uiAddress, func() error {
		taken.release()
		return announce(ready, o.address, o.uiAddress)
	})
}

// newLogger returns a logger of JSON lines on standard error, without stacks, and its level,
// which can be changed.
func newLogger(name string) (zap.AtomicLevel, log.Logger) {
	level := zap.NewAtomicLevel()
	_ = level.UnmarshalText([]byte(name)) // options.check has seen it
	core := zapcore.NewCore(zapcore.NewJSONEncoder(log.DefaultZapEncoderConfig), zapcore.Lock(os.Stderr), level)
	return level, log.NewZapLogger(zap.New(core))
}

// newServer assembles Temporal's services.
func newServer(o options, taken *ports, logger log.Logger) (temporal.Server, error) {
	services := map[primitives.ServiceName]*net.TCPAddr{
		primitives.FrontendService: taken.frontend,
		primitives.HistoryService:  taken.history,
		primitives.MatchingService: taken.matching,
		primitives.WorkerService:   taken.worker,
	}
	hosts := map[primitives.ServiceName]static.Hosts{}
	rpc := map[string]config.Service{}
	for name, address := range services {
		hosts[name] = static.SingleLocalHost(address.String())
		rpc[string(name)] = config.Service{RPC: config.RPC{GRPCPort: address.Port, BindOnIP: address.IP.String()}}
	}
	server, err := temporal.NewServer(
		temporal.WithConfig(serverConfig(o, rpc)),
		temporal.ForServices(temporal.DefaultServices),
		// With static hosts Temporal needs no gossip, and so no ports for it.
		temporal.WithStaticHosts(hosts),
		temporal.WithLogger(logger),
		temporal.WithCustomMetricsHandler(metrics.NoopMetricsHandler),
		temporal.WithDynamicConfigClient(dynamicSettings()),
	)
	if err != nil {
		return nil, fmt.Errorf("put Temporal's services together: %w", err)
	}
	return server, nil
}

// unlimited is more requests a second than one machine can make.
const unlimited = 1_000_000

// cachedWorkflows is how many workflows' states are kept in memory. Temporal's default is
// 128,000, and workflows that have ended stay for an hour: 40 kB for each trial. At any time only
// a campaign and two workflows for each of its lanes are active.
const cachedWorkflows = 1024

// dynamicSettings are the settings that a cluster could change while it runs.
func dynamicSettings() dynamicconfig.StaticClient {
	settings := dynamicconfig.StaticClient{
		dynamicconfig.EnableServerVersionCheck.Key(): false,
		// Search attributes can be used as soon as they are registered.
		dynamicconfig.ForceSearchAttributesCacheRefreshOnRead.Key(): true,
		dynamicconfig.NamespaceCacheRefreshInterval.Key():           500 * time.Millisecond,
		dynamicconfig.HistoryCacheHostLevelMaxSize.Key():            cachedWorkflows,
	}
	// Temporal's limits protect the many users of a cluster from each other, and its database
	// from all of them. Here there is only one user, whose campaign fails when a request is
	// refused, and the database is in this process.
	for _, limit := range []dynamicconfig.Key{
		dynamicconfig.FrontendRPS.Key(),
		dynamicconfig.FrontendMaxNamespaceRPSPerInstance.Key(),
		dynamicconfig.FrontendMaxNamespaceVisibilityRPSPerInstance.Key(),
		dynamicconfig.HistoryRPS.Key(),
		dynamicconfig.MatchingRPS.Key(),
		dynamicconfig.FrontendPersistenceMaxQPS.Key(),
		dynamicconfig.HistoryPersistenceMaxQPS.Key(),
		dynamicconfig.MatchingPersistenceMaxQPS.Key(),
		dynamicconfig.WorkerPersistenceMaxQPS.Key(),
		dynamicconfig.VisibilityPersistenceMaxReadQPS.Key(),
		dynamicconfig.VisibilityPersistenceMaxWriteQPS.Key(),
	} {
		settings[limit] = unlimited
	}
	return settings
}

// serverConfig returns what a configuration file of Temporal would contain.
func serverConfig(o options, services map[string]config.Service) *config.Config {
	return &config.Config{
		Persistence: config.Persistence{
			DefaultStore:     sqlite.PluginName,
			VisibilityStore:  sqlite.PluginName,
			NumHistoryShards: historyShards,
			DataStores:       map[string]config.DataStore{sqlite.PluginName: {SQL: sqlConfig(o.database, "WAL", o.synchronous)}},
		},
		ClusterMetadata: &cluster.Config{
			FailoverVersionIncrement: 10,
			MasterClusterName:        clusterName,
			CurrentClusterName:       clusterName,
			ClusterInformation: map[string]cluster.ClusterInformation{
				clusterName: {Enabled: true, InitialFailoverVersion: 1, RPCAddress: o.address},
			},
		},
		DCRedirectionPolicy: config.DCRedirectionPolicy{Policy: "noop"},
		Services:            services,
		Archival: config.Archival{
			History:    config.HistoryArchival{State: config.ArchivalDisabled},
			Visibility: config.VisibilityArchival{State: config.ArchivalDisabled},
		},
		NamespaceDefaults: config.NamespaceDefaults{Archival: config.ArchivalNamespaceDefaults{
			History:    config.HistoryArchivalNamespaceDefaults{State: config.ArchivalDisabled},
			Visibility: config.VisibilityArchivalNamespaceDefaults{State: config.ArchivalDisabled},
		}},
		PublicClient: config.PublicClient{HostPort: o.address},
	}
}

// waitReady returns when the frontend answers for the namespace.
func waitReady(ctx context.Context, o options) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	c, err := client.NewLazyClient(client.Options{
		HostPort: o.address, Namespace: o.namespace,
		Logger: log.NewSdkLogger(log.NewNoopLogger()),
	})
	if err != nil {
		return fmt.Errorf("ask Temporal on %s: %w", o.address, err)
	}
	defer c.Close()
	err = await(ctx, 50*time.Millisecond, func() error {
		_, err := c.CountWorkflow(ctx, &workflowservice.CountWorkflowExecutionsRequest{Namespace: o.namespace})
		return err
	})
	if err != nil {
		return fmt.Errorf("the server on %s does not answer within %v: %w", o.address, readyWithin, err)
	}
	return nil
}

// waitListening returns when the address accepts connections.
func waitListening(ctx context.Context, address string) error {
	var dialer net.Dialer
	err := await(ctx, 10*time.Millisecond, func() error {
		conn, err := dialer.DialContext(ctx, "tcp", address)
		if err != nil {
			return err
		}
		return conn.Close()
	})
	if err != nil {
		return fmt.Errorf("the Web UI does not listen on %s: %w", address, err)
	}
	return nil
}

// await calls ask again and again, with pauses, until it returns no error. When the context ends
// during a pause, await returns the last error. This module cannot use package poll, which would
// require the whole main module.
func await(ctx context.Context, pause time.Duration, ask func() error) error {
	for {
		err := ask()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause): //nolint:forbidigo // a pause that the context ends
		}
	}
}

// newUI returns the Web UI, which fetches nothing from elsewhere.
func newUI(o options) *uiserver.Server {
	host, _, _ := net.SplitHostPort(o.uiAddress) // options.check has seen it
	address, _ := loopback(o.uiAddress)
	return uiserver.NewServer(uioptions.WithConfigProvider(&uiconfig.Config{
		TemporalGRPCAddress: o.address,
		Host:                host,
		Port:                address.Port,
		EnableUI:            true,
		DefaultNamespace:    o.namespace,
		DisableNewsFetch:    true,
		HideLogs:            true,
		// The page is served without TLS, to this machine only.
		CORS: uiconfig.CORS{CookieInsecure: true},
	}))
}
