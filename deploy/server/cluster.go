package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"

	"go.temporal.io/server/common/authorization"
	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/dynamicconfig"
	"go.temporal.io/server/common/log"
	"go.temporal.io/server/common/metrics"
	_ "go.temporal.io/server/common/persistence/sql/sqlplugin/postgresql" // registers the plug-ins postgres12 and postgres12_pgx
	"go.temporal.io/server/common/primitives"
	"go.temporal.io/server/temporal"
	"go.uber.org/zap/zapcore"
	"gopkg.in/yaml.v3"
)

// highestPort is the highest port of a server that works together with others: the database
// stores the ports of all of them in signed 16-bit columns.
const highestPort = 1<<15 - 1

// serveCluster runs the Temporal services that a configuration file describes until ctx ends: the
// named ones, or without names the usual four and internal-frontend where the file has it.
func serveCluster(ctx context.Context, path string, services []string, ready *os.File) (err error) {
	described, err := loadConfig(path)
	if err != nil {
		return err
	}
	if len(services) == 0 {
		services = usualServices(described)
	}
	membershipTLS, err := membershipUsesTLS(described)
	if err == nil {
		err = checkServices(described, services, membershipTLS)
	}
	if err != nil {
		return fmt.Errorf("%w: %s: %w", errBadInput, path, err)
	}
	level, logger := newLogger(described.Log.Level)
	rights := &described.Global.Authorization
	authorizer, err := authorization.GetAuthorizerFromConfig(rights)
	if err != nil {
		return fmt.Errorf("%w: %s: authorization: %w", errBadInput, path, err)
	}
	claims, err := authorization.GetClaimMapperFromConfig(rights, logger)
	if err != nil {
		return fmt.Errorf("%w: %s: authorization: %w", errBadInput, path, err)
	}
	audience, err := authorization.GetAudienceMapperFromConfig(rights)
	if err != nil {
		return fmt.Errorf("%w: %s: authorization: %w", errBadInput, path, err)
	}
	options := []temporal.ServerOption{
		temporal.WithConfig(described),
		temporal.ForServices(services),
		temporal.WithLogger(logger),
		temporal.WithAuthorizer(authorizer),
		temporal.WithClaimMapper(func(*config.Config) authorization.ClaimMapper { return claims }),
		temporal.WithAudienceGetter(func(*config.Config) authorization.JWTAudienceMapper { return audience }),
	}
	if described.Global.Metrics == nil {
		options = append(options, temporal.WithCustomMetricsHandler(metrics.NoopMetricsHandler))
	}
	server, err := temporal.NewServer(options...)
	if err != nil {
		return fmt.Errorf("put Temporal's services together as %s says: %w", path, err)
	}
	if err := server.Start(); err != nil {
		return fmt.Errorf("start Temporal as %s says: %w", path, err)
	}
	defer func() {
		level.SetLevel(zapcore.FatalLevel) // polls that are interrupted at the end would be logged as errors
		err = errors.Join(err, server.Stop())
	}()
	front := described.Services[string(primitives.FrontendService)].RPC
	if err := announce(ready, net.JoinHostPort(listensOn(front), strconv.Itoa(front.GRPCPort)), ""); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// loadConfig reads one of Temporal's configuration files, as
// https://docs.temporal.io/references/configuration describes them. A key that Temporal does not
// know is an error here, although Temporal ignores it: a mistyped key would leave out the
// protection that it was meant to configure.
func loadConfig(path string) (*config.Config, error) {
	text, err := os.ReadFile(path) //nolint:gosec // what the caller names on its command line
	if err != nil {
		return nil, fmt.Errorf("%w: --config: %w", errBadInput, err)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(new(config.Config)); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", errBadInput, path, err)
	}
	described, err := config.Load(config.WithConfigFile(path))
	if err == nil {
		err = described.Validate()
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", errBadInput, path, err)
	}
	if _, err := zapcore.ParseLevel(described.Log.Level); err != nil {
		return nil, fmt.Errorf("%w: %s: log.level %q: want debug, info, warn or error", errBadInput, path, described.Log.Level)
	}
	return described, nil
}

// membershipUsesTLS reports whether the services use global.tls.internode on their membership
// ports, too. This is a dynamic setting of Temporal, system.enableRingpopTLS; without it these ports
// are plain TCP.
func membershipUsesTLS(described *config.Config) (bool, error) {
	if described.DynamicConfigClient == nil {
		return false, nil
	}
	done := make(chan any)
	defer close(done)
	client, err := dynamicconfig.NewFileBasedClient(described.DynamicConfigClient, log.NewNoopLogger(), done)
	if err != nil {
		return false, fmt.Errorf("dynamicConfigClient: %w", err)
	}
	return dynamicconfig.EnableRingpopTLS.Get(dynamicconfig.NewCollection(client, log.NewNoopLogger()))(), nil
}

// usualServices are Temporal's four services, and internal-frontend where the file describes it:
// Temporal's own workers use it instead of the frontend, which may ask its clients for tokens.
func usualServices(described *config.Config) []string {
	services := slices.Clone(temporal.DefaultServices)
	if hasInternalFrontend(described) {
		services = append(services, string(primitives.InternalFrontendService))
	}
	return services
}

func hasInternalFrontend(described *config.Config) bool {
	_, has := described.Services[string(primitives.InternalFrontendService)]
	return has
}

// asksForTokens reports whether the frontend refuses calls without a token. Temporal's authorizer
// alone refuses nobody: without a claim mapper every client has all rights (NewNoopClaimMapper in
// Temporal's common/authorization).
func asksForTokens(rights *config.Authorization) bool {
	return rights.Authorizer != "" && rights.ClaimMapper != ""
}

// checkRights refuses an authorizer with which everybody may do everything, or with which Temporal's
// own workers may do nothing.
func checkRights(described *config.Config) error {
	rights := &described.Global.Authorization
	switch {
	case rights.Authorizer != "" && rights.ClaimMapper == "":
		return errors.New("global.authorization has an authorizer and no claimMapper: every client may do everything; set claimMapper: default")
	case asksForTokens(rights) && !hasInternalFrontend(described):
		return errors.New("global.authorization asks for tokens, and Temporal's own workers have none: describe services.internal-frontend for them")
	}
	return nil
}

// checkServices refuses services that would crash later, or that anyone who can reach their ports
// could misuse. It reports all problems at once.
func checkServices(described *config.Config, services []string, membershipTLS bool) error {
	problems := []error{checkRights(described)}
	bad := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	tls := described.Global.TLS
	for _, name := range services {
		if !slices.Contains(temporal.Services, name) {
			bad("--service %s: want one of %v", name, temporal.Services)
			continue
		}
		service, ok := described.Services[name]
		if !ok {
			bad("services.%s is missing", name)
			continue
		}
		for key, port := range map[string]int{"grpcPort": service.RPC.GRPCPort, "membershipPort": service.RPC.MembershipPort} {
			if port < 1 || port > highestPort {
				bad("services.%s.rpc.%s is %d: want a port from 1 to %d, which the database has room for", name, key, port, highestPort)
			}
		}
		if ip := net.ParseIP(listensOn(service.RPC)); ip != nil && ip.IsLoopback() {
			continue
		}
		const misuse = "services.%s listens on another address than this machine's loopback, and global.tls.%s.server does not ask clients for certificates: " +
			"whoever reaches it could read and change every campaign; set certFile, keyFile, requireClientAuth and clientCaFiles, or bindOnIP: 127.0.0.1"
		if !asksForCertificates(tls.Internode) { // this includes the frontend's membership port
			bad(misuse, name, "internode")
		}
		if !membershipTLS {
			bad("services.%s listens on another address than this machine's loopback, and its membership port is plain TCP: "+
				"whoever reaches it could join the cluster; set system.enableRingpopTLS to true in the file of dynamicConfigClient, or bindOnIP: 127.0.0.1", name)
		}
		if name == string(primitives.FrontendService) && !asksForCertificates(tls.Frontend) && !asksForTokens(&described.Global.Authorization) {
			bad(misuse, name, "frontend")
		}
	}
	return errors.Join(problems...)
}

// asksForCertificates reports whether all servers of the group, by whichever name they are
// addressed, refuse clients without a certificate of an authority that the configuration names.
func asksForCertificates(group config.GroupTLS) bool {
	for _, server := range append(slices.Collect(maps.Values(group.PerHostOverrides)), group.Server) {
		if server.CertFile+server.CertData == "" || !server.RequireClientAuth || len(server.ClientCAFiles)+len(server.ClientCAData) == 0 {
			return false
		}
	}
	return true
}

// listensOn returns the IP address that a service listens on; "" when Temporal chooses one of the
// machine's.
func listensOn(rpc config.RPC) string {
	if rpc.BindOnLocalHost {
		return "127.0.0.1"
	}
	return rpc.BindOnIP
}
