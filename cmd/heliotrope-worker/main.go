// Command heliotrope-worker is the small program that runs on the measured hosts and in the
// measured guest: a Temporal worker that runs only the activities of its role, on a task
// queue of its own.
//
// It is a static program of about 22 MB that uses at most 30 MB of resident memory, because
// the guest holds it in the memory under test; see package agent for its parts. It reaches
// Temporal through a port of its own machine that the controller forwards (package link),
// and a gate there that recognises the worker by its pass (package gate), so that it needs
// no address, name or key of anything beyond the gate.
//
// Exit codes: 0 success, 1 failure, 2 bad input.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"syscall"

	"github.com/rs/zerolog"
	"go.temporal.io/sdk/worker"

	activities "heliotrope/activities/machine"
	"heliotrope/activities/pulse"
	"heliotrope/internal/gate/pass"
	"heliotrope/workers/agent"
	"heliotrope/workers/machine"
)

// version is set by the linker.
var version = "development"

// Exit codes.
const (
	exitFailure  = 1
	exitBadInput = 2
)

func main() {
	agent.LimitMemory()
	hurryAtSignal()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// hurryAtSignal makes activities heartbeat at once whenever the process gets USR1. With
// that signal the controller says that some of them may have been cancelled.
func hurryAtSignal() {
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGUSR1)
	go func() {
		for range told {
			pulse.HurryAll()
		}
	}()
}

// settings are the arguments of the command line.
type settings struct {
	agent.Options
	role, name string
	passFile   string
	level      zerolog.Level
}

// run does what the arguments ask for, and returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var s settings
	flags := flag.NewFlagSet("heliotrope-worker", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&s.Address, "address", "", "host:port of the gate to Temporal, as this machine reaches it")
	flags.StringVar(&s.passFile, "pass-file", "", "`file` with the pass for that gate, which nobody else may read (mode 0600)")
	flags.StringVar(&s.Namespace, "namespace", "default", "Temporal's namespace")
	flags.StringVar(&s.Queue, "queue", "", "the task queue to take activities from")
	flags.StringVar(&s.role, "role", "", "what this machine is: host or guest")
	flags.StringVar(&s.name, "name", "", "this machine's name in the testbed")
	flags.TextVar(&s.level, "log", zerolog.InfoLevel, "least level to log: debug, info, warn or error")
	showVersion := flags.Bool("version", false, "print the version and exit")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return exitBadInput
	}
	if *showVersion {
		fmt.Fprintln(stdout, "heliotrope-worker", version)
		return 0
	}
	s.Log = agent.NewLog(stderr, s.level).With().Str("worker", s.name).Logger()
	if err := s.check(flags.Args()); err != nil {
		s.Log.Error().Msg(err.Error())
		return exitBadInput
	}
	if err := s.usePass(); err != nil {
		s.Log.Error().Err(err).Msg("cannot use the pass")
		return exitBadInput
	}
	s.Version, s.Identity = version, activities.WorkerIdentity(s.role, s.name, os.Getpid())
	s.Log.Info().Str("version", version).Str("role", s.role).Str("address", s.Address).Msg("starting")
	err := agent.Run(ctx, s.Options, func(registry worker.ActivityRegistry) error {
		return machine.Register(registry, s.role, s.name, s.place(os.Args[0]))
	})
	if err != nil {
		s.Log.Error().Err(err).Msg("cannot work")
		return exitFailure
	}
	return 0
}

// usePass makes the worker show its pass, and demand one from the gate.
func (s *settings) usePass() error {
	p, err := pass.Read(s.passFile)
	if err == nil {
		s.TLS, err = p.TLS()
	}
	return err
}

// place is where Heliotrope's files are on this machine: the folders of our processes are
// next to the worker's own, which has its pass, and our programs are next to the worker
// program.
func (s *settings) place(program string) machine.Place {
	return machine.Place{Runs: filepath.Dir(filepath.Dir(s.passFile)), Programs: filepath.Dir(program)}
}

var namePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// check reports every problem of the command line at once.
func (s settings) check(rest []string) error {
	var problems []error
	bad := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if len(rest) > 0 {
		bad("unknown arguments %q: there are only flags", rest)
	}
	if _, port, err := net.SplitHostPort(s.Address); err != nil || port == "" {
		bad("--address %q: want host:port", s.Address)
	}
	if !filepath.IsAbs(s.passFile) {
		bad("--pass-file %q: want an absolute path in the worker's own folder", s.passFile)
	}
	if s.Namespace == "" {
		bad("--namespace is empty")
	}
	if s.Queue == "" {
		bad("--queue is missing")
	}
	if !slices.Contains([]string{machine.Host, machine.Guest}, s.role) {
		bad("--role %q: want host or guest", s.role)
	}
	if !namePattern.MatchString(s.name) {
		bad("--name %q: want letters, digits, '.', '_' and '-'", s.name)
	}
	return errors.Join(problems...)
}
