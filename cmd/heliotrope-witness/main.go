// Command heliotrope-witness is the small program that, for the length of a trial, watches on the
// hosts and reports from the measured guest. It also runs the load in the guest, fills disks, and
// is both ends of measurements of the WAN. It needs only Linux on the machine, and knows nothing
// of Temporal.
//
// It works in the folder in which it is started: see package witness for the files that it leaves
// there. TERM ends it in an orderly way, with all files complete. When one of its parts fails, the
// whole program ends.
//
// Exit codes: 0 success, 1 failure, 2 bad input.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"heliotrope/internal/ledger"
	"heliotrope/internal/wan/throughput"
	"heliotrope/internal/witness"
)

// version is set by the linker.
var version = "development"

// Exit codes.
const (
	exitFailure  = 1
	exitBadInput = 2
)

const usage = `usage: heliotrope-witness COMMAND
  host CONFIG               watch on a host until TERM
  guest CONFIG              report from the guest until TERM
  load CONFIG               run a load in the guest until TERM; it writes over its targets
  fill PATH FROM TO SEED    write over a disk, from byte FROM to byte TO, what follows from SEED
  ledger DEVICE REGION ACKED
                            read the ledger back up to record ACKED, and print the report
  receive ADDRESS:PORT      measure what comes in by one connection, and print the result
  send ADDRESS:PORT SECONDS BYTES
                            send for at most so long and so much, and print what arrived
  probe-receive ADDRESS:PORT PLAN
                            measure what comes in by UDP, and print what came of each load
  probe-send ADDRESS:PORT PLAN
                            send the datagrams of a plan
  version                   print the version
  help                      print this
CONFIG, REGION, PLAN and what is printed are JSON.
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// badInput is an error made by the caller of the program.
type badInput struct{ error }

// misuse is bad input after which the usage is printed. Other errors are one line, because
// whoever starts the program on a host shows its last lines of output.
type misuse struct{ error }

// run does what the arguments ask for, and returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	err := dispatch(ctx, args, stdout)
	if err == nil {
		return 0
	}
	fmt.Fprintf(stderr, "heliotrope-witness: %v\n", err)
	var misused misuse
	var bad badInput
	switch {
	case errors.As(err, &misused):
		fmt.Fprint(stderr, usage)
		return exitBadInput
	case errors.As(err, &bad):
		return exitBadInput
	}
	return exitFailure
}

// commands by their names, with the numbers of their arguments.
var commands = map[string]struct {
	arguments int
	run       func(ctx context.Context, args []string, stdout io.Writer) error
}{
	"host":    {1, runHost},
	"guest":   {1, runGuest},
	"load":    {1, runLoad},
	"fill":    {4, runFill},
	"ledger":  {3, runLedger},
	"receive": {1, runReceive},
	"send":    {3, runSend},

	"probe-receive": {2, runProbeReceive},
	"probe-send":    {2, runProbeSend},
	"version": {0, func(_ context.Context, _ []string, stdout io.Writer) error {
		_, err := fmt.Fprintln(stdout, witness.Program, version)
		return err
	}},
	"help": {0, func(_ context.Context, _ []string, stdout io.Writer) error {
		_, err := io.WriteString(stdout, usage)
		return err
	}},
}

func dispatch(ctx context.Context, args []string, stdout io.Writer) error {
	if len(args) == 0 {
		return misuse{errors.New("no command")}
	}
	command, found := commands[args[0]]
	if !found {
		return misuse{fmt.Errorf("unknown command %q", args[0])}
	}
	if len(args)-1 != command.arguments {
		return misuse{fmt.Errorf("%s: want %d arguments, not %d", args[0], command.arguments, len(args)-1)}
	}
	if err := command.run(ctx, args[1:], stdout); err != nil {
		return fmt.Errorf("%s: %w", args[0], err)
	}
	return nil
}

// decode reads one JSON value without unknown fields into the target.
func decode(what, text string, target any) error {
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(target); err != nil {
		return badInput{fmt.Errorf("%s %.200q: %w", what, text, err)}
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return badInput{fmt.Errorf("%s %.200q: more than one value", what, text)}
	}
	return nil
}

func runLedger(_ context.Context, args []string, stdout io.Writer) error {
	var region ledger.Region
	if err := decode("region", args[1], &region); err != nil {
		return err
	}
	acked, err := strconv.ParseUint(args[2], 10, 64)
	if err != nil {
		return badInput{fmt.Errorf("acked %q: want a number of a record", args[2])}
	}
	report, err := ledger.Check(args[0], region, acked)
	if err != nil {
		return err
	}
	return json.NewEncoder(stdout).Encode(report)
}

func runReceive(ctx context.Context, args []string, stdout io.Writer) error {
	listen, err := parseAddress(args[0])
	if err != nil {
		return err
	}
	// Once this line is printed, the sender may send.
	ready := func() { fmt.Fprintln(stdout, "ready") }
	result, err := throughput.Serve(ctx, listen, ready)
	if err != nil {
		return err
	}
	return json.NewEncoder(stdout).Encode(result)
}

func runSend(ctx context.Context, args []string, stdout io.Writer) error {
	to, err := parseAddress(args[0])
	if err != nil {
		return err
	}
	seconds, err := strconv.ParseFloat(args[1], 64)
	if err != nil || !(seconds > 0 && seconds <= 3600) {
		return badInput{fmt.Errorf("seconds %q: want a number above 0, at most 3600", args[1])}
	}
	limit, err := strconv.ParseInt(args[2], 10, 64)
	if err != nil || limit <= 0 {
		return badInput{fmt.Errorf("bytes %q: want a number above 0", args[2])}
	}
	result, err := throughput.Send(ctx, to, time.Duration(seconds*float64(time.Second)), limit)
	if err != nil {
		return err
	}
	return json.NewEncoder(stdout).Encode(result)
}

func parseAddress(text string) (netip.AddrPort, error) {
	address, err := netip.ParseAddrPort(text)
	if err != nil {
		return address, badInput{fmt.Errorf("%q: want an IP address and a port, such as 198.18.0.1:5001", text)}
	}
	return address, nil
}
