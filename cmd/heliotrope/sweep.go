package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"heliotrope/deploy/lab"
	"heliotrope/internal/campaign"
	"heliotrope/internal/drivers"
	"heliotrope/internal/inventory"
	"heliotrope/internal/owner"
	"heliotrope/internal/testbed"
)

// sweepBed is a testbed that can be swept.
type sweepBed interface {
	Name() string
	// Ours lists what the testbed has left on its machines, by machine.
	Ours(ctx context.Context) (map[string][]string, error)
	Leases() owner.Hosts
	// Forgo prevents anything more from being done on the named hosts, for the given
	// reasons.
	Forgo(away map[string]error)
	Sweep(ctx context.Context) error
	Close() error
}

// sweeper is the command sweep.
type sweeper struct {
	connect func(*inventory.Inventory) (sweepBed, error)
	testbed string // name of the emulated testbed
	yes     bool
	force   string // owner whose lease is ignored
}

func newSweep() *cobra.Command {
	s := &sweeper{connect: func(inv *inventory.Inventory) (sweepBed, error) { return testbed.Connect(inv) }}
	return s.command()
}

func (s *sweeper) command() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sweep INVENTORY|FILE",
		Short: "Remove everything of ours from a testbed's hosts; without --yes only list it",
		Long: `Remove everything of ours from the hosts of an inventory, or of those that a campaign
file names: guests, disks, targets, exports, mounts, the shaping of the WAN, and our
programs. What is ours is told by its labels and marks alone, so it needs neither a
campaign nor a controller that knows of it; everything else is left alone.

Without --yes it lists what it would remove, by host, and changes nothing. Hosts that
somebody measures on are leased, and so are hosts that another command works on: they are
refused unless --force names that owner, whose work there is then spoilt.

Exit codes: 0 done, 1 a host could not be asked or something is left, 2 bad input.`,
		Example: `  heliotrope sweep inventories/lab-1.yaml
  heliotrope sweep inventories/lab-1.yaml --yes
  heliotrope sweep campaign.yaml --yes --force "campaign night of controller 1a2b3c4d"`,
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.run(cmd.Context(), cmd.OutOrStdout(), args[0])
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&s.yes, "yes", false, "remove what was listed")
	flags.StringVar(&s.force, "force", "", "the `owner` whose lease is to be ended, as the refusal names it")
	flags.StringVar(&s.testbed, "testbed-name", lab.DefaultOptions().Name, "which emulated testbed a campaign file means")
	return cmd
}

// run sweeps the testbeds of a file one after the other, and skips those that cannot be
// swept.
func (s *sweeper) run(ctx context.Context, out io.Writer, file string) error {
	paths, err := s.inventories(file)
	if err != nil {
		return err
	}
	var errs []error
	for _, path := range paths {
		if err := s.sweep(ctx, out, file, path); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// inventories are the paths of the inventories that a file names, or of the file itself
// when it is one.
func (s *sweeper) inventories(file string) ([]string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, usageError{fmt.Errorf("sweep: %w", err)}
	}
	var is struct{ Machines, Sites any }
	if yaml.Unmarshal(text, &is) == nil && (is.Machines != nil || is.Sites != nil) {
		return []string{file}, nil
	}
	r, err := loadRequest(file, "")
	if err != nil {
		return nil, err
	}
	switch r.spec.Testbed {
	case campaign.TestbedSimulated:
		return nil, usageError{fmt.Errorf("%s: its testbed is simulated: there is no host to sweep", file)}
	case campaign.TestbedEmulated:
		return s.labs(r)
	}
	return r.inventories(), nil
}

// labs are the inventories of those emulated testbeds of a campaign that were made.
func (s *sweeper) labs(r *request) ([]string, error) {
	options := runOptions{testbed: s.testbed}
	var paths []string
	for _, hypervisor := range hypervisorsOf(r.trials) {
		l, err := options.openLab(hypervisor, len(paths) == 0)
		if err != nil {
			return nil, err
		}
		if _, err := os.Stat(l.InventoryPath()); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		paths = append(paths, l.InventoryPath())
	}
	if len(paths) == 0 {
		return nil, usageError{fmt.Errorf("the emulated testbed %s was never up: there is nothing to sweep", s.testbed)}
	}
	return paths, nil
}

// sweep lists what is ours on one testbed, and removes it when asked to.
func (s *sweeper) sweep(ctx context.Context, out io.Writer, file, path string) error {
	inv, err := inventory.Load(path)
	if err == nil {
		err = drivers.CheckInventory(inv)
	}
	if err != nil {
		return usageError{err}
	}
	bed, err := s.connect(inv)
	if err != nil {
		return err
	}
	defer bed.Close() //nolint:errcheck // the process ends
	if s.yes {
		return s.remove(ctx, out, bed)
	}
	count, err := list(ctx, out, bed)
	owners, askErr := bed.Leases().State(ctx)
	for _, held := range owners {
		fmt.Fprintf(out, "%s is leased to %s until %s\n", held.Host, held.Owner, held.Until.Format(time.TimeOnly))
	}
	switch {
	case count == 0 && err == nil:
		fmt.Fprintf(out, "testbed %s: nothing of ours is there\n", bed.Name())
	case count > 0:
		fmt.Fprintf(out, "testbed %s: nothing was removed; `heliotrope sweep %s --yes` removes %s\n", bed.Name(), file, things(count))
	}
	return errors.Join(err, askErr)
}

// remove removes what is ours under a lease of its own. It skips hosts that do not answer:
// they may be leased to another owner.
func (s *sweeper) remove(ctx context.Context, out io.Writer, bed sweepBed) error {
	hosts, name := bed.Leases(), ownerOf("sweep")
	taken, err := hosts.TakeAnswering(ctx, name, owner.Lease, s.force)
	var held *owner.HeldError
	if errors.As(err, &held) {
		return fmt.Errorf("testbed %s: nothing was removed: %w; or end its lease with --force %q, which spoils what it does there", bed.Name(), held, held.Owner)
	}
	away := taken.Err()
	if err != nil || len(taken.Leased) == 0 && len(hosts) > 0 {
		return fmt.Errorf("testbed %s: nothing was removed: %w", bed.Name(), errors.Join(err, away))
	}
	bed.Forgo(taken.Away)
	defer taken.Leased.Release(context.WithoutCancel(ctx), name) //nolint:errcheck // it ends by itself
	return taken.Leased.Keep(ctx, name, func(ctx context.Context) error { return sweepLeased(ctx, out, bed, away) })
}

// sweepLeased removes what is ours from hosts that are leased to this command. Away says why others are not.
func sweepLeased(ctx context.Context, out io.Writer, bed sweepBed, away error) error {
	before, err := list(ctx, out, bed)
	swept := bed.Sweep(ctx)
	if err := errors.Join(away, err, swept); err != nil {
		return err
	}
	left, err := bed.Ours(ctx)
	if err != nil {
		return err
	}
	for _, host := range slices.Sorted(maps.Keys(left)) {
		return fmt.Errorf("testbed %s: %s still has %s after the sweep", bed.Name(), host, left[host][0])
	}
	fmt.Fprintf(out, "testbed %s: removed %s\n", bed.Name(), things(before))
	return nil
}

// list prints what is ours on a testbed, by host, and counts it.
func list(ctx context.Context, out io.Writer, bed sweepBed) (count int, err error) {
	ours, err := bed.Ours(ctx)
	for _, host := range slices.Sorted(maps.Keys(ours)) {
		fmt.Fprintln(out, host)
		for _, thing := range ours[host] {
			fmt.Fprintln(out, "  "+printable(thing))
			count++
		}
	}
	return count, err
}

func things(count int) string { return fmt.Sprintf("%d %s", count, plural(count, "thing")) }

// ownerOf is the owner that this process is while it runs a command.
func ownerOf(command string) string { return owner.Command(command, me(), os.Getpid()) }
