package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"heliotrope/internal/drivers"
	"heliotrope/internal/gather"
	"heliotrope/internal/inventory"
	"heliotrope/internal/problem"
	"heliotrope/internal/testbed"
)

// workerCommand is what the commands below worker share.
type workerCommand struct {
	connect func(*inventory.Inventory) (*testbed.Testbed, error)
	binary  string // this machine's copy of the worker
	asJSON  bool
}

func newWorker() *cobra.Command {
	w := &workerCommand{connect: testbed.Connect, binary: workerBinary()}
	return w.command()
}

func (w *workerCommand) command() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "worker",
		Short: "Show, install or remove the worker and the witness on the hosts of an inventory",
		Long: `Show, install or remove Heliotrope's programs on the hosts of an inventory: the worker
and the witness. A campaign installs them when it begins and removes them when it ends,
so no campaign needs these commands. Use them to install the programs beforehand, for
instance over a slow line, and to see what is on the hosts.`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(w.status(), w.install(), w.remove())
	cmd.PersistentFlags().BoolVar(&w.asJSON, "json", false, "print JSON: testbed, hosts and problems")
	return cmd
}

func (w *workerCommand) status() *cobra.Command {
	return w.onHosts(&cobra.Command{
		Use:   "status INVENTORY",
		Short: "Show which of Heliotrope's programs are on each host, and which workers run there",
		Long: `Show for each host of an inventory which of Heliotrope's programs are there, by their
SHA-256, and whether they are the same as this machine's, if this machine has copies to
compare them with (a missing one is a warning); to whom the host is leased; and
for each worker its testbed, its state, when it was started, its process ID, resident
memory, processor time, and the last lines of its file errors. Workers of other testbeds
that have the same data folder on a host are listed, too.

Exit codes: 0 all hosts were asked, 1 a host could not be asked, 2 bad input.`,
		Example: `  heliotrope worker status inventories/lab-1.yaml
  heliotrope worker status inventories/lab-1.yaml --json | jq -r '.hosts[] | select(.programs | any(.same | not)) | .host'`,
	}, copiesCompared, w.statusOf)
}

func (w *workerCommand) install() *cobra.Command {
	return w.onHosts(&cobra.Command{
		Use:   "install INVENTORY",
		Short: "Install or upgrade the worker and the witness on all hosts",
		Long: `Install this version's worker and witness on all hosts of an inventory, as a campaign does
when it begins: compare them by SHA-256, upload them over SSH where they differ or are
missing, check them, and rename them into place. A second time it changes nothing. With a
newer heliotrope it is the upgrade. With mode: agentless in the inventory it installs the
witness alone.

A host that a running campaign or another command has leased is refused, unless nothing
has to be changed there: a campaign's controller installs its own version with the next
trial.

Exit codes: 0 all hosts have the programs, 1 a host has not, 2 bad input.`,
		Example: `  heliotrope worker install inventories/lab-1.yaml
  heliotrope worker install inventories/lab-1.yaml --json | jq -r '.hosts[].programs[].done'`,
	}, copiesInstalled, w.installOn)
}

func (w *workerCommand) remove() *cobra.Command {
	return w.onHosts(&cobra.Command{
		Use:   "remove INVENTORY",
		Short: "Remove the testbed's worker and programs from all hosts that nobody measures on",
		Long: `Remove the testbed's programs from all hosts of an inventory, and end its worker if one
was left running: the folders LABEL.programs and LABEL.run/worker of the data folder,
where LABEL is the testbed's name. Everything else stays: heliotrope sweep removes what
trials have left, and nothing without the testbed's label is touched.

A host that a running campaign or another command has leased is refused.

Exit codes: 0 they are gone from all hosts, 1 a host was refused or could not be asked, 2 bad input.`,
		Example: `  heliotrope worker remove inventories/lab-1.yaml`,
	}, copiesUnused, w.removeFrom)
}

// workerReport is the answer of each of these commands.
type workerReport struct {
	Testbed  string            `json:"testbed"`
	Hosts    []workerHost      `json:"hosts"`
	Problems []problem.Problem `json:"problems"`
}

// copies says what a command does with this machine's copies of the programs.
type copies int

const (
	copiesUnused    copies = iota
	copiesCompared         // a missing copy is a warning
	copiesInstalled        // a missing copy is bad input, and no host is asked
)

// missingCopies says why this machine's copies of the programs that belong on the testbed's hosts cannot be read, an error for
// each copy.
func (w *workerCommand) missingCopies(bed *testbed.Testbed) (missing []error) {
	seen := map[string]bool{}
	for i := range bed.Inventory.Machines {
		for _, program := range bed.Programs(&bed.Inventory.Machines[i], w.binary) {
			if seen[program.Binary] {
				continue
			}
			seen[program.Binary] = true
			file, err := os.Open(program.Binary)
			if err != nil {
				missing = append(missing, err)
				continue
			}
			_ = file.Close() // it was only opened
		}
	}
	return missing
}

// onHosts makes a command call do for all hosts of its inventory at once, and print what it returns. A host for which do
// fails is a problem, and keeps no other host from being done.
func (w *workerCommand) onHosts(cmd *cobra.Command, use copies, do func(context.Context, *testbed.Testbed, *inventory.Machine) (workerHost, error)) *cobra.Command {
	cmd.Args = usageArgs(cobra.ExactArgs(1))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		inv, err := inventory.Load(args[0])
		if err == nil {
			err = drivers.CheckInventory(inv)
		}
		if err != nil {
			return usageError{err}
		}
		bed, err := w.connect(inv)
		if err != nil {
			return err
		}
		defer bed.Close() //nolint:errcheck // the process ends
		warnings := []problem.Problem{}
		for _, err := range w.missingCopies(bed) {
			switch use {
			case copiesInstalled:
				return usageError{fmt.Errorf("%w; want it beside heliotrope, where `make build` puts it", err)}
			case copiesCompared:
				warnings = append(warnings, problem.Warn("", "this machine's copies of the programs", err.Error(),
					"to compare the hosts' versions with it, put it beside heliotrope, where `make build` puts it"))
			}
		}
		return w.tell(cmd.Context(), cmd.OutOrStdout(), bed, warnings, do)
	}
	return cmd
}

// tell calls do for each host that answers, and prints the report, which begins its problems with the warnings.
func (w *workerCommand) tell(ctx context.Context, out io.Writer, bed *testbed.Testbed, warnings []problem.Problem,
	do func(context.Context, *testbed.Testbed, *inventory.Machine) (workerHost, error),
) error {
	silent := problem.Of(bed.Reach(ctx))
	var machines []*inventory.Machine
	var names []string
	for i := range bed.Inventory.Machines {
		host := &bed.Inventory.Machines[i]
		isSilent := slices.ContainsFunc(silent, func(p problem.Problem) bool { return p.Host == host.Name })
		if host.Has(inventory.Shell) && !isSilent {
			machines, names = append(machines, host), append(names, host.Name)
		}
	}
	answers, err := gather.Results(machines, func(host *inventory.Machine) (workerHost, error) { return do(ctx, bed, host) })
	if err := ctx.Err(); err != nil {
		return err
	}
	said := workerReport{Testbed: bed.Name(), Hosts: answers, Problems: append(warnings, slices.Concat(silent, problem.Of(err, names...))...)}
	if w.asJSON {
		err = printJSON(out, said)
	} else {
		err = said.print(out)
	}
	if err == nil && slices.ContainsFunc(said.Problems, func(p problem.Problem) bool { return !p.Warning }) {
		err = exitCode(exitFailure)
	}
	return err
}
