// Command heliotrope-server is the Temporal server that Heliotrope runs on one machine: all of
// Temporal's services and its Web UI in one process, with one SQLite file as its storage.
//
// It promises that
//   - every port that it listens on is on the loopback interface and is taken before
//     anything starts. A busy port that was asked for is named in the error; only a
//     busy port of the Web UI is replaced by another;
//   - a database is served by one process at a time (a lock beside the file),
//     and only by the Temporal version that made it;
//   - the namespace exists, with its retention, before the server says that it is ready;
//   - it contacts nobody: no version check, no news, no metrics;
//   - SIGINT and SIGTERM end it in order, and SIGKILL loses nothing that a
//     client was told; with --synchronous FULL, neither does a power failure.
//
// When it is ready to serve, it prints one line of JSON on standard output,
// {"ready":true,"address":"HOST:PORT","ui":"HOST:PORT"}, with its ports, and nothing after that:
// its log goes to standard error. Exit codes: 0 stopped, 1 failure, 2 bad input (nothing was
// started).
//
// Dangerous: there is no authentication. Anyone who can reach the address can read and change
// every campaign; that is why it must be a loopback address.
//
// With a command it is what deploy/production installs, on PostgreSQL:
//
//	heliotrope-server cluster --config FILE   Temporal's services, as its configuration file says
//	heliotrope-server schema --config FILE    brings the tables of both databases up to this version
//	heliotrope-server ui --config FILE        the Web UI, as its configuration file says
//
// These are Temporal's own server, schema tool and Web UI, with Temporal's formats of
// configuration files. One program contains all of them because they are the same code except for
// the database's plug-in: a second program would take as long to compile, and be another 150 MB.
// It refuses what Temporal would accept: unknown keys, ports that crash it later, addresses
// other than loopback on which nobody is asked for a certificate, and an authorizer that refuses nobody.
//
// It is a module of its own, so that neither the builds nor the tests of Heliotrope ever compile
// a Temporal server.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"go.temporal.io/server/common/headers"
	"golang.org/x/sys/unix"
)

// version is set by the linker.
var version = "development"

// errBadInput marks a wrong request of the caller; nothing was started.
var errBadInput = errors.New("bad input")

const (
	exitFailure  = 1
	exitBadInput = 2
)

// options are the options on the command line.
type options struct {
	address     string // host:port of the frontend; port 0 for any
	uiAddress   string // host:port of the Web UI; port 0 for any
	database    string // path of the SQLite file
	namespace   string
	retention   time.Duration // of closed workflows
	logLevel    string
	synchronous string // SQLite's pragma: FULL or NORMAL
}

func main() {
	err := run(os.Args[1:])
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
	case errors.Is(err, errBadInput):
		fmt.Fprintln(os.Stderr, "heliotrope-server:", err)
		os.Exit(exitBadInput)
	default:
		fmt.Fprintln(os.Stderr, "heliotrope-server:", err)
		os.Exit(exitFailure)
	}
}

// run runs the command; main turns its error into an exit code.
func run(args []string) error {
	if len(args) > 0 {
		switch args[0] {
		case "cluster", "schema", "ui":
			return runConfigured(args[0], args[1:])
		}
	}
	return runEmbedded(args)
}

// runConfigured runs a command that needs a configuration file.
func runConfigured(command string, args []string) error {
	flags := flag.NewFlagSet("heliotrope-server "+command, flag.ContinueOnError)
	path := flags.String("config", "", "`path` of the configuration file")
	var services []string
	if command == "cluster" {
		flags.Func("service", "run this `service` only, and others that are named: frontend, internal-frontend, history, matching, worker", func(name string) error {
			services = append(services, name)
			return nil
		})
	}
	if err := parse(flags, args); err != nil {
		return err
	}
	if *path == "" {
		return fmt.Errorf("%w: --config: a path is needed", errBadInput)
	}
	if command == "schema" {
		return updateSchemas(*path, os.Stdout)
	}
	ready, err := takeStandardOutput()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if command == "ui" {
		return serveUI(ctx, *path, ready)
	}
	return serveCluster(ctx, *path, services, ready)
}

// parse parses flags; remaining arguments are bad input.
func parse(flags *flag.FlagSet, args []string) error {
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return err
	} else if err != nil {
		return fmt.Errorf("%w: %w", errBadInput, err)
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("%w: unexpected argument %q; see --help", errBadInput, flags.Arg(0))
	}
	return nil
}

// runEmbedded runs the server for one machine.
func runEmbedded(args []string) error {
	var o options
	flags := flag.NewFlagSet("heliotrope-server", flag.ContinueOnError)
	flags.StringVar(&o.address, "address", "127.0.0.1:7233", "`host:port` for clients and workers, on the loopback interface; port 0 is any that is free")
	flags.StringVar(&o.uiAddress, "ui-address", "127.0.0.1:8233", "`host:port` for the Web UI, on the loopback interface; a busy port is replaced, and 0 is any that is free")
	flags.StringVar(&o.database, "database", "", "`path` of the SQLite file; it is made when absent")
	flags.StringVar(&o.namespace, "namespace", "heliotrope", "`name` of the namespace that is made when absent")
	flags.DurationVar(&o.retention, "retention", 90*24*time.Hour, "how long closed workflows are kept, in a namespace that is made")
	flags.StringVar(&o.logLevel, "log-level", "warn", "debug, info, warn or error")
	flags.StringVar(&o.synchronous, "synchronous", "FULL", "FULL: a power failure loses nothing; NORMAL: faster, it may lose the last moments")
	showVersion := flags.Bool("version", false, "print the versions and exit")
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), `heliotrope-server --database FILE            Temporal for one machine
heliotrope-server cluster --config FILE      Temporal's services, as their configuration file says
heliotrope-server schema --config FILE       bring the tables of its PostgreSQL databases up to this version
heliotrope-server ui --config FILE           Temporal's Web UI, as its configuration file says

Flags of the first:
`)
		flags.PrintDefaults()
	}
	if err := parse(flags, args); err != nil {
		return err
	}
	if *showVersion {
		fmt.Printf("heliotrope-server %s temporal %s ui %s\n", version, headers.ServerVersion, linked("github.com/temporalio/ui-server/v2"))
		return nil
	}
	if err := o.check(); err != nil {
		return err
	}
	ready, err := takeStandardOutput()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return serve(ctx, o, ready)
}

// linked returns the version of a module in this binary, without its "v".
func linked(module string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, dependency := range info.Deps {
		if dependency.Path == module {
			return dependency.Version[1:]
		}
	}
	return "unknown"
}

// takeStandardOutput returns standard output for the ready line, and makes descriptor 1 standard
// error from then on. The parent process that reads the line may end before this one does, and a
// library that printed afterwards would end this process with SIGPIPE.
func takeStandardOutput() (*os.File, error) {
	out, err := unix.FcntlInt(1, unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, fmt.Errorf("keep standard output: %w", err)
	}
	if err := unix.Dup3(2, 1, 0); err != nil {
		return nil, fmt.Errorf("redirect standard output: %w", err)
	}
	return os.NewFile(uintptr(out), "ready"), nil
}

// announce prints the ready line and closes out.
func announce(out io.WriteCloser, address, ui string) error {
	line := struct {
		Ready   bool   `json:"ready"`
		Address string `json:"address"`
		UI      string `json:"ui"`
	}{true, address, ui}
	if err := json.NewEncoder(out).Encode(line); err != nil {
		return fmt.Errorf("print the ready line: %w", err)
	}
	return out.Close()
}
