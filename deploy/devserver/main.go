// Command heliotrope-server is the Temporal server that Heliotrope runs on one
// machine: all of Temporal's services and its Web UI in one process, with one
// SQLite file as its memory.
//
// It promises that
//   - every port it listens on is on the loopback interface and taken before
//     anything starts; a busy one that was asked for is named, but for the Web
//     UI's, which is replaced;
//   - a database is served by one process at a time (a lock beside the file),
//     and only by the Temporal version that made it;
//   - the namespace is there, with its retention, before it says it is ready;
//   - it calls nobody: no version check, no news, no metrics;
//   - SIGINT and SIGTERM end it in order, and SIGKILL loses nothing that a
//     client was told (with --synchronous FULL, a power failure neither).
//
// When it is ready to serve, it prints one line of JSON on standard output,
// {"ready":true,"address":"HOST:PORT","ui":"HOST:PORT"}, with the ports that it
// has, and nothing after it: what it logs goes to standard error. Exit codes: 0 stopped, 1 failure, 2 bad
// input (nothing was started).
//
// Dangerous: there is no authentication. Whoever can reach the address can read
// and change every campaign, which is why it must be a loopback address.
//
// It is a module of its own, so that neither the builds nor the tests of
// Heliotrope ever compile a Temporal server.
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

// errBadInput marks what the caller asked for wrongly; nothing was started.
var errBadInput = errors.New("bad input")

const (
	exitFailure  = 1
	exitBadInput = 2
)

// options are the command line.
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

// run does all of the command but its exit code.
func run(args []string) error {
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
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return fmt.Errorf("%w: %w", errBadInput, err)
	}
	if *showVersion {
		fmt.Printf("heliotrope-server %s temporal %s ui %s\n", version, headers.ServerVersion, linked("github.com/temporalio/ui-server/v2"))
		return nil
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("%w: unexpected argument %q; see --help", errBadInput, flags.Arg(0))
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

// linked is the version of a module in this binary, without its "v".
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

// takeStandardOutput returns standard output for the ready line and lets
// descriptor 1 be standard error from now on: the parent that reads the line
// may end before we do, and a library that then prints would end us by SIGPIPE.
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
