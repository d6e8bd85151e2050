// Command heliotrope measures a VM's disk I/O while the VM is live-migrated over a WAN.
//
// Exit codes: 0 success, 1 failure, 2 bad input (nothing was touched); `lab ssh NODE --
// CMD` has the exit code of CMD.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"heliotrope/deploy/lab"
	"heliotrope/internal/fault"
	"heliotrope/internal/fault/wire"
	"heliotrope/internal/strict"
)

// version is set by the linker.
var version = "development"

// Exit codes.
const (
	exitFailure  = 1
	exitBadInput = 2
)

func main() {
	ctx, stop := untilSignalled()
	err := newRoot(os.Stdout, os.Stderr).ExecuteContext(ctx)
	stop()
	if err != nil {
		os.Exit(report(os.Stderr, err))
	}
}

// untilSignalled returns a context that the first Ctrl-C, SIGTERM or SIGHUP ends. A second Ctrl-C or SIGTERM has
// its usual effect: it ends the process at once. A second SIGHUP has none, because a terminal that closes may send
// two, one by the kernel and one by the shell. A command that nohup(1) has started ignores SIGHUP.
func untilSignalled() (ctx context.Context, stop context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) {
		signal.Notify(signals, syscall.SIGHUP)
	}
	go func() {
		defer cancel()
		select {
		case <-signals:
		case <-ctx.Done():
		}
		signal.Ignore(syscall.SIGHUP)
		signal.Stop(signals) // before anybody learns of the first one
	}()
	return ctx, cancel
}

// report prints the error and returns its exit code.
func report(out io.Writer, err error) int {
	var code exitCode
	if errors.As(err, &code) {
		return int(code)
	}
	fmt.Fprintln(out, "heliotrope:", strings.TrimSpace(err.Error()))
	var refused cannotCarryError
	if errors.As(err, &refused) {
		return exitCannotCarry
	}
	var usage usageError
	var invalid *strict.Error
	if errors.As(err, &usage) || errors.As(err, &invalid) || errors.Is(err, lab.ErrBadInput) ||
		wire.Of(err) == fault.BadInput {
		return exitBadInput
	}
	return exitFailure
}

// exitCode is the exit code of a command that we ran for the user.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

// usageError says that a command line, or a file that it names, is wrong.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// newRoot builds the command line.
func newRoot(stdout, stderr io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use:   "heliotrope",
		Short: "Measure a VM's disk I/O during live migration over a WAN",
		Long: `Measure a VM's disk I/O during live migration over a WAN.

Ctrl-C ends a command in order, and a second one at once, whatever it has left to do:
campaigns are not lost by either.`,
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          usageArgs(cobra.NoArgs),
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.PersistentPreRun = func(cmd *cobra.Command, _ []string) { rememberGiven(cmd) }
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w; see `%s --help`", err, cmd.CommandPath())}
	})
	root.AddCommand(newRun(), newWatch(), newStatus(), newCancel(), newServe(), newStop(), newCheck(), newCompact(), newJudge(), newCompare(), newReport())
	root.AddCommand(newValidate(), newPlan(), newIometer(), newIngest())
	root.AddCommand(newDoctor(), newWorker(), newSweep())
	root.AddCommand(newSteering()...)
	root.AddCommand(newLab(), newGuest(), newTemporal())
	root.AddCommand(newVersion(), newManual())
	addCompletion(root)
	root.InitDefaultVersionFlag() // now: so that the manual has it
	return root
}

// addCompletion adds cobra's own commands that write completions for shells. It does so now instead of when the
// command line is run, so that the manual has them. A shell that they do not know is bad input.
func addCompletion(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		if cmd.Name() != "completion" {
			continue
		}
		for _, one := range append(cmd.Commands(), cmd) {
			one.Args = usageArgs(one.Args)
		}
		cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	}
}

// usageArgs makes a wrong number of arguments bad input.
func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usageError{fmt.Errorf("%w; see `%s --help`", err, cmd.CommandPath())}
		}
		return nil
	}
}

// newLog logs for people on a terminal, and JSON lines otherwise. It leaves out what the
// SDK does at each step.
func newLog(out io.Writer) zerolog.Logger {
	if file, ok := out.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		out = zerolog.ConsoleWriter{Out: out, TimeFormat: "15:04:05"}
	}
	return zerolog.New(out).Level(zerolog.InfoLevel).With().Timestamp().Logger()
}
