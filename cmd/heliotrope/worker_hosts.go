package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"heliotrope/internal/fault"
	"heliotrope/internal/folder"
	"heliotrope/internal/inventory"
	"heliotrope/internal/link"
	"heliotrope/internal/owner"
	"heliotrope/internal/problem"
	"heliotrope/internal/record"
	"heliotrope/internal/testbed"
)

// workerHost is a host, and which of Heliotrope's programs and workers are there.
type workerHost struct {
	Host     string        `json:"host"`
	LeasedTo string        `json:"leased_to,omitempty"` // the owner; only status asks
	Programs []hostProgram `json:"programs"`
	Workers  []hostWorker  `json:"workers"` // only status asks
}

// hostProgram is a program that belongs on a host, whether it is there or not.
type hostProgram struct {
	Name   string `json:"name"`
	Path   string `json:"path"`
	SHA256 string `json:"sha256"` // "" where it is not there
	// Same says whether it is the same as this machine's; null when that was not compared, because this machine has no copy of
	// it, or because the command is remove.
	Same *bool `json:"same"`
	// Done is what was done with it, one of the constants below; "" for status, which does nothing.
	Done string `json:"done,omitempty"`
}

// The values of hostProgram.Done.
const (
	doneInstalled = "installed"
	doneReplaced  = "replaced"
	doneRemoved   = "removed"
	doneNothing   = "nothing"
)

// hostWorker is a worker's process on a host.
type hostWorker struct {
	Testbed string       `json:"testbed"`
	State   record.State `json:"state"`
	// PID and the next three fields are given only while the process runs.
	PID int `json:"pid,omitempty"`
	// Since is when the process was started, by this machine's clock, exact to about two seconds.
	Since         *time.Time `json:"since,omitempty"`
	ResidentBytes int64      `json:"resident_bytes,omitempty"`
	CPUSeconds    float64    `json:"cpu_seconds,omitempty"` // processor time since its start
	Said          []string   `json:"said"`                  // the last lines of its file errors
}

// nothingOf is what is known of a host that was not looked at.
func nothingOf(host *inventory.Machine) workerHost {
	return workerHost{Host: host.Name, Programs: []hostProgram{}, Workers: []hostWorker{}}
}

// look compares the programs that belong on a host with this machine's.
func (w *workerCommand) look(ctx context.Context, bed *testbed.Testbed, host *inventory.Machine) (workerHost, error) {
	found := nothingOf(host)
	for _, program := range bed.Programs(host, w.binary) {
		standing, err := link.Look(ctx, bed.Host(host.Name), program.Binary, program.Path)
		if err != nil {
			return found, err
		}
		one := hostProgram{Name: path.Base(program.Path), Path: program.Path}
		one.stands(standing)
		found.Programs = append(found.Programs, one)
	}
	return found, nil
}

// stands sets what the host has, and whether that is this machine's.
func (p *hostProgram) stands(standing link.Standing) {
	p.SHA256, p.Same = standing.There, nil
	if standing.Ours != "" {
		same := standing.Same()
		p.Same = &same
	}
}

// isOurs says whether the host has the same program as this machine.
func (p *hostProgram) isOurs() bool { return p.Same != nil && *p.Same }

func (w *workerCommand) statusOf(ctx context.Context, bed *testbed.Testbed, host *inventory.Machine) (workerHost, error) {
	found, err := w.look(ctx, bed, host)
	if err != nil {
		return found, err
	}
	held, err := leaseOf(bed, host).State(ctx)
	if err != nil {
		return found, err
	}
	for i := range held {
		found.LeasedTo = held[i].Owner
	}
	processes, err := bed.Workers(ctx, host)
	if err != nil {
		return found, err
	}
	var errs []error
	for _, label := range slices.Sorted(maps.Keys(processes)) {
		worker, err := workerOf(ctx, processes[label])
		errs = append(errs, err) // what is not known of one worker hides neither the rest of it nor the others
		if worker.State != record.None {
			worker.Testbed = label
			found.Workers = append(found.Workers, worker)
		}
	}
	return found, errors.Join(errs...)
}

// saidLines is how many of the last lines of a worker's file errors are shown, and saidBytes how much of its end is read.
const (
	saidLines = 5
	saidBytes = 4 << 10
)

// workerOf asks for the state of a worker's process. It asks last whether there is one, because the end of a trial removes
// the process and its folder at any time. What could not be asked is an error, and the rest is returned with it.
func workerOf(ctx context.Context, process record.Process) (hostWorker, error) {
	asked := time.Now()
	usage, runs, usageErr := process.Usage(ctx)
	said, saidErr := process.Tail(ctx, "errors", saidBytes)
	status, err := process.Status(ctx)
	if err != nil || status.State == record.None {
		return hostWorker{State: record.None}, err
	}
	worker := hostWorker{State: status.State, Said: []string{}}
	if runs && status.State == record.Running {
		since := asked.Add(-usage.Running).UTC().Truncate(time.Second)
		worker.PID, worker.Since, worker.ResidentBytes, worker.CPUSeconds = usage.PID, &since, usage.ResidentBytes, usage.CPU.Seconds()
	}
	lines := slices.DeleteFunc(strings.Split(string(said), "\n"), func(line string) bool { return strings.TrimSpace(line) == "" })
	for _, line := range lines[max(0, len(lines)-saidLines):] {
		worker.Said = append(worker.Said, printable(line))
	}
	return worker, errors.Join(usageErr, saidErr)
}

// leaseOf returns the one of the testbed's hosts, as something that can be leased.
func leaseOf(bed *testbed.Testbed, host *inventory.Machine) owner.Hosts {
	return slices.DeleteFunc(bed.Leases(), func(one owner.Host) bool { return one.Name() != host.Name })
}

// leasing runs do while the host is leased to the command, and renews the lease meanwhile. When the host is leased already,
// the error is a problem that names the owner. Its fix is ofCampaign when that is a campaign.
func leasing(ctx context.Context, bed *testbed.Testbed, host *inventory.Machine, command, ofCampaign string, do func(context.Context) error) error {
	hosts, name := leaseOf(bed, host), ownerOf("worker "+command)
	err := hosts.Take(ctx, name, owner.Lease)
	var held *owner.HeldError
	if errors.As(err, &held) {
		fix := held.Fix()
		if owner.IsCampaign(held.Owner) {
			fix = ofCampaign
		}
		return problem.New(fault.Infrastructure, host.Name, "its lease", held.Found(), fix)
	}
	if err != nil {
		return err
	}
	defer hosts.Release(context.WithoutCancel(ctx), name) //nolint:errcheck // it ends by itself
	return hosts.Keep(ctx, name, do)
}

// installOn looks at the host's programs twice: before it takes the lease, because a host that has them already is not
// leased, and under the lease, because a campaign that ended meanwhile has removed them.
func (w *workerCommand) installOn(ctx context.Context, bed *testbed.Testbed, host *inventory.Machine) (workerHost, error) {
	found, err := w.look(ctx, bed, host)
	if err != nil {
		return found, err
	}
	for i := range found.Programs {
		found.Programs[i].Done = doneNothing
	}
	if !slices.ContainsFunc(found.Programs, func(p hostProgram) bool { return !p.isOurs() }) {
		return found, nil
	}
	err = leasing(ctx, bed, host, "install", "nothing: its campaign installs the programs of its controller with its next trial", func(ctx context.Context) error {
		found, err = w.installLeased(ctx, bed, host)
		return err
	})
	return found, err
}

// installLeased installs the programs that are missing or others on a host that is leased to the command.
func (w *workerCommand) installLeased(ctx context.Context, bed *testbed.Testbed, host *inventory.Machine) (workerHost, error) {
	found, err := w.look(ctx, bed, host)
	if err != nil {
		return found, err
	}
	if err := folder.CheckOwners(ctx, bed.Host(host.Name), bed.ProgramDir(host.Name)); err != nil {
		return found, err
	}
	for i, program := range bed.Programs(host, w.binary) {
		one := &found.Programs[i]
		if one.Done = doneNothing; one.isOurs() {
			continue
		}
		if err := link.Install(ctx, bed.Host(host.Name), program.Binary, program.Path, nil); err != nil {
			return found, err
		}
		standing, err := link.Look(ctx, bed.Host(host.Name), program.Binary, program.Path)
		if err != nil {
			return found, err
		}
		one.Done = doneReplaced
		if one.SHA256 == "" {
			one.Done = doneInstalled
		}
		one.stands(standing)
	}
	return found, nil
}

// removeFrom looks at the host's programs once, when nobody else can change them any more: what is there before the lease was
// taken, a campaign that ends meanwhile may remove. So it says nothing of the programs of a host that is refused.
func (w *workerCommand) removeFrom(ctx context.Context, bed *testbed.Testbed, host *inventory.Machine) (workerHost, error) {
	found := nothingOf(host)
	err := leasing(ctx, bed, host, "remove", "let that end, or end it where it runs: it takes the programs away by itself", func(ctx context.Context) (err error) {
		found, err = w.removeLeased(ctx, bed, host)
		return err
	})
	return found, err
}

// removeLeased removes the programs from a host that is leased to the command.
func (w *workerCommand) removeLeased(ctx context.Context, bed *testbed.Testbed, host *inventory.Machine) (workerHost, error) {
	found, err := w.look(ctx, bed, host)
	if err != nil {
		return found, err
	}
	process := record.Process{Host: bed.Host(host.Name), Dir: testbed.RunDir(host, bed.Name(), testbed.WorkerFolder)}
	if err := process.Remove(ctx); err != nil {
		return found, err
	}
	if err := testbed.RemovePrograms(ctx, bed.Host(host.Name), bed.ProgramDir(host.Name)); err != nil {
		return found, err
	}
	for i := range found.Programs {
		one := &found.Programs[i]
		one.Done = doneNothing
		if one.SHA256 != "" {
			one.Done = doneRemoved
		}
		one.SHA256, one.Same = "", nil
	}
	return found, nil
}

// print prints a table of the programs, a table of the workers, what the workers said last, and a table of the problems.
func (r workerReport) print(out io.Writer) error {
	fmt.Fprintf(out, "testbed %s\n", r.Testbed)
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "HOST\tPROGRAM\tSTATE\tSHA-256\tDONE\tHOST LEASED TO")
	for _, host := range r.Hosts {
		for _, program := range host.Programs {
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", host.Host, program.Name, program.is(), cmp.Or(shortened(program.SHA256), "-"), cmp.Or(program.Done, "-"), cmp.Or(host.LeasedTo, "-"))
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	r.printWorkers(out)
	return printProblems(out, r.Problems)
}

func (r workerReport) printWorkers(out io.Writer) {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	head := "\nHOST\tWORKER OF\tSTATE\tSINCE\tPID\tRESIDENT\tPROCESSOR TIME\n"
	for _, host := range r.Hosts {
		for _, worker := range host.Workers {
			fmt.Fprint(table, head)
			head = ""
			if worker.Since == nil {
				fmt.Fprintf(table, "%s\t%s\t%s\t-\t-\t-\t-\n", host.Host, worker.Testbed, worker.State)
				continue
			}
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%d\t%.1f MiB\t%.2f s\n", host.Host, worker.Testbed, worker.State, worker.Since.Local().Format(time.DateTime),
				worker.PID, float64(worker.ResidentBytes)/(1<<20), worker.CPUSeconds)
		}
	}
	_ = table.Flush()
	for _, host := range r.Hosts {
		for _, worker := range host.Workers {
			if len(worker.Said) > 0 {
				fmt.Fprintf(out, "\n%s: the worker of %s said last:\n  %s\n", host.Host, worker.Testbed, strings.Join(worker.Said, "\n  "))
			}
		}
	}
}

// is says in words whether the program is there, and, if that is known, whether it is this machine's.
func (p *hostProgram) is() string {
	switch {
	case p.SHA256 == "":
		return "not there"
	case p.Same == nil:
		return "there"
	case *p.Same:
		return "the same"
	}
	return "another"
}

// shortened is the beginning of a digest, which is enough for people to tell two apart.
func shortened(digest string) string { return digest[:min(len(digest), 12)] }
