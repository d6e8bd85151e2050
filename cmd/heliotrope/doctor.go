package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"heliotrope/internal/campaign"
	"heliotrope/internal/drivers"
	"heliotrope/internal/inventory"
	"heliotrope/internal/problem"
	"heliotrope/internal/survey"
)

// doctor is the command doctor: a campaign's preflight without the campaign.
type doctor struct {
	hosts    hostCheck
	campaign string   // a campaign file; "" stands for one trial on each storage system
	only     []string // what is checked; empty stands for everything
	asJSON   bool
	// tick says when to report what is being waited for.
	tick func() (ticks <-chan time.Time, stop func())
}

// tellEvery is how long doctor is silent.
const tellEvery = 2 * time.Second

// wanWord is the name of the path between the sites for --only.
const wanWord = "wan"

func newDoctor() *cobra.Command {
	d := &doctor{hosts: hosts, tick: func() (<-chan time.Time, func()) {
		ticker := time.NewTicker(tellEvery)
		return ticker.C, ticker.Stop
	}}
	return d.command()
}

func (d *doctor) command() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "doctor INVENTORY",
		Short: "Look whether the hosts of an inventory have what trials need; every problem at once",
		Long: `Look whether the hosts of an inventory have what trials need, and tell every problem at
once: the host, what was looked at, what came back, and what to do about it, with the
package's name in the host's distribution. Nothing is changed on the hosts. Looked at are
the hypervisor, every storage system that the hosts could serve, the path between the
sites, each machine by itself (clock, memory, disk, network), the machines beside each
other (processors, names that are one machine), and the ways between them (ports, MTU).
A campaign's start looks at the same, for what the campaign needs.

While somebody measures on the hosts, ports and MTU are not tried, for he would notice.

Warnings stand in no campaign's way. Exit codes: 0 no problem, 1 problems, 2 bad input.`,
		Example: `  heliotrope doctor inventories/lab-1.yaml
  heliotrope doctor inventories/lab-1.yaml --campaign campaign.yaml
  heliotrope doctor inventories/lab-1.yaml --only wan
  heliotrope doctor inventories/lab-1.yaml --json | jq -r '.problems[] | [.host, .fix] | @tsv'`,
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return d.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), args[0])
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&d.campaign, "campaign", "", "look only at what this campaign `file` needs")
	flags.StringSliceVar(&d.only, "only", nil, "look only at these: the hypervisor, storage systems, wan; and at the machines")
	flags.BoolVar(&d.asJSON, "json", false, "print JSON: testbed, machines and problems")
	return cmd
}

// diagnosis is the doctor's result.
type diagnosis struct {
	Testbed    string            `json:"testbed"`
	Kind       inventory.Kind    `json:"kind"`
	Hypervisor string            `json:"hypervisor"`
	Well       bool              `json:"well"` // no problems except warnings
	Machines   []survey.State    `json:"machines"`
	Problems   []problem.Problem `json:"problems"`
}

func (d *doctor) run(ctx context.Context, out, progress io.Writer, path string) error {
	var found findings
	beds := loadLanes([]string{path}, &found)
	if err := found.err(); err != nil {
		return err
	}
	inv := beds[0].inventory
	want, err := d.wanted(inv)
	if err != nil {
		return err
	}
	if checkPaths(beds, want.trials, &found); found.err() != nil {
		return found.err()
	}
	waits := &waiting{}
	want.begin = waits.begin
	stop := d.tell(progress, waits)
	d.hosts.check(ctx, beds, want, &found)
	stop()
	if err := ctx.Err(); err != nil {
		return err
	}
	said := diagnosis{Testbed: inv.Name, Kind: inv.Kind, Hypervisor: inv.Hypervisor, Well: found.err() == nil,
		Machines: append([]survey.State{}, found.machines...), Problems: append([]problem.Problem{}, found.all()...)}
	if d.asJSON {
		err = printJSON(out, said)
	} else {
		err = said.print(out)
	}
	if err == nil && !said.Well {
		err = exitCode(exitFailure)
	}
	return err
}

// wanted is what the hosts must have.
func (d *doctor) wanted(inv *inventory.Inventory) (wanted, error) {
	kind, err := drivers.Hypervisor(inv.Hypervisor)
	if err != nil {
		return wanted{}, usageError{err}
	}
	var known []string
	for _, system := range drivers.StoragesOf(kind) {
		known = append(known, system.Name)
	}
	for _, name := range d.only {
		if !slices.Contains(append([]string{inv.Hypervisor, wanWord}, known...), name) {
			return wanted{}, usageError{fmt.Errorf("--only %s: want some of %s, %s, %s", name, inv.Hypervisor, strings.Join(known, ", "), wanWord)}
		}
	}
	isLeftOut := func(name string) bool { return len(d.only) > 0 && !slices.Contains(d.only, name) }
	want := wanted{diskBytes: campaign.DefaultDiskMiB << 20}
	if d.campaign != "" {
		r, err := loadRequest(d.campaign, "")
		if err != nil {
			return wanted{}, err
		}
		want = r.wanted()
	} else {
		systems := servable(inv, known)
		for _, name := range d.only { // a system asked for by name is included, so that the user learns why it is not possible
			if slices.Contains(known, name) && !slices.Contains(systems, name) {
				systems = append(systems, name)
			}
		}
		for _, name := range systems {
			want.trials = append(want.trials, campaign.Trial{Cell: campaign.Cell{Hypervisor: inv.Hypervisor, Storage: name}})
		}
	}
	want.trials = slices.DeleteFunc(want.trials, func(t campaign.Trial) bool { return isLeftOut(t.Cell.Storage) })
	want.noHypervisor, want.noWAN = isLeftOut(inv.Hypervisor), isLeftOut(wanWord)
	want.owns = func(string) bool { return false }
	return want, nil
}

// servable are the storage systems that the inventory's hosts can serve; a system of
// datastores only where the inventory names a datastore.
func servable(inv *inventory.Inventory, systems []string) []string {
	return slices.DeleteFunc(slices.Clone(systems), func(name string) bool {
		managed := inv.SiteA().VCenter
		_, mounted := inv.Mounts[name]
		return !campaign.IsPossible(inv.Hypervisor, name) || managed != nil && managed.Datastores[name] == "" && !mounted
	})
}

// waiting is what is being checked at the moment.
type waiting struct {
	mu  sync.Mutex
	now []string
}

func (w *waiting) begin(what string) (end func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = append(w.now, what)
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if at := slices.Index(w.now, what); at >= 0 {
			w.now = slices.Delete(w.now, at, at+1)
		}
	}
}

func (w *waiting) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.now) == 0 {
		return "looking at the hosts"
	}
	return "still looking at: " + strings.Join(w.now, ", ")
}

// tell reports what is being waited for whenever that has changed, until stop is called.
func (d *doctor) tell(out io.Writer, waits *waiting) (stop func()) {
	ticks, stopTicks := d.tick()
	ended := make(chan struct{})
	var teller sync.WaitGroup
	teller.Go(func() {
		last := ""
		for {
			select {
			case <-ticks:
				if now := waits.String(); now != last {
					fmt.Fprintln(out, now)
					last = now
				}
			case <-ended:
				return
			}
		}
	})
	return func() {
		close(ended)
		teller.Wait()
		stopTicks()
	}
}

// print prints the machines, and a table of problems.
func (s diagnosis) print(out io.Writer) error {
	fmt.Fprintf(out, "testbed %s: %s, %s\n", s.Testbed, s.Kind, s.Hypervisor)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	if len(s.Machines) > 0 {
		fmt.Fprintln(w, "MACHINE\tSYSTEM\tKERNEL\tPROCESSOR\tMEMORY FREE\tDISK FREE\tINTERFACE\tCLOCK\tSTEERED BY")
	}
	for _, m := range s.Machines {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d MiB\t%d MiB\t%s, MTU %d\t%+.1f ± %.1f ms\t%s\n", m.Name, cmp.Or(printable(m.System), "unknown"), printable(m.Kernel), printable(m.Processor), m.AvailableMiB,
			m.FreeDiskMiB, m.Interface, m.MTU, inMs(m.ClockAhead), inMs(m.ClockUncertainty), cmp.Or(printable(m.Steering), "nobody"))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return printProblems(out, s.Problems)
}

// printProblems prints a table of what is wrong, and how much that is.
func printProblems(out io.Writer, problems []problem.Problem) error {
	var rows bytes.Buffer
	table := tabwriter.NewWriter(&rows, 0, 0, 2, ' ', 0)
	if len(problems) > 0 {
		fmt.Fprintln(table, "\nHOST\tKIND\tLOOKED AT\tCAME BACK\tWHAT TO DO")
	}
	for _, p := range problems {
		what := "problem"
		if p.Warning {
			what = "warning"
		}
		printRow(table, []string{p.Host, what, p.Tried, p.Found, p.Fix})
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for line := range strings.Lines(rows.String()) {
		fmt.Fprintln(out, strings.TrimRight(line, " \n"))
	}
	_, err := fmt.Fprintf(out, "\n%s\n", problem.Counted(problems))
	return err
}

func inMs(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// cellWidth is the longest line of a text in the table, in characters.
const cellWidth = 40

// printRow prints a row of cells, each on as many lines as it needs.
func printRow(w io.Writer, cells []string) {
	var columns [][]string
	height := 1
	for _, cell := range cells {
		column := wrapped(cell, cellWidth)
		columns = append(columns, column)
		height = max(height, len(column))
	}
	for line := range height {
		row := make([]string, len(columns))
		for i, column := range columns {
			if line < len(column) {
				row[i] = column[line]
			}
		}
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
}

// wrapped breaks a text into lines of at most width characters; a longer word gets a line
// of its own.
func wrapped(text string, width int) []string {
	var lines []string
	for _, word := range strings.Fields(text) {
		if last := len(lines) - 1; last >= 0 && len([]rune(lines[last]))+1+len([]rune(word)) <= width {
			lines[last] += " " + word
			continue
		}
		lines = append(lines, word)
	}
	return lines
}
