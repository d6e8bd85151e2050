// Command heliotrope-worker is the small program that runs on the measured
// hosts and in the measured guest. So far it only tells its version: what it
// does there comes with campaigns.
//
// Exit codes: 0 success, 2 bad input.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/rs/zerolog"
	"golang.org/x/term"
)

// version is set by the linker.
var version = "development"

// exitBadInput is for a command line that cannot be understood, or followed.
const exitBadInput = 2

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run does what the arguments ask for and returns the exit code.
func run(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("heliotrope-worker", flag.ContinueOnError)
	flags.SetOutput(stderr)
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
	log := newLog(stderr)
	log.Error().Str("version", version).Strs("arguments", flags.Args()).
		Msg("this worker has no role yet: roles come with campaigns; only --version works")
	return exitBadInput
}

// newLog logs for people on a terminal, and JSON lines otherwise.
func newLog(out io.Writer) zerolog.Logger {
	if file, ok := out.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		out = zerolog.ConsoleWriter{Out: out, TimeFormat: "15:04:05"}
	}
	return zerolog.New(out).With().Timestamp().Logger()
}
