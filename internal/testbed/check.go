package testbed

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"

	"heliotrope/internal/fault"
	"heliotrope/internal/folder"
	"heliotrope/internal/gather"
	"heliotrope/internal/inventory"
	"heliotrope/internal/problem"
	"heliotrope/internal/remote"
	"heliotrope/internal/storage"
	"heliotrope/internal/survey"
)

// Uses says what a campaign needs of a testbed.
type Uses struct {
	Storages []StorageUse
	// DiskBytes is the size of the disk under test; with 0 no room is checked.
	DiskBytes int64
	// FillBytes is how much of it is filled.
	FillBytes int64
	// MemoryMiB is the memory of the largest guest; 0 means the inventory's default.
	MemoryMiB int
	// VCPUs is how many the guest with the most has; 0 means one.
	VCPUs int
	// NoHypervisor and NoWAN leave out the checks of these.
	NoHypervisor, NoWAN bool
	// Busy says that somebody measures on the testbed: connections and pings between
	// the machines are left out, because they would disturb him.
	Busy bool
	// Begin, when not nil, is called before each check with what is checked. It returns
	// a function that is called after the check.
	Begin func(what string) (end func())
}

// StorageUse is a storage system with a cell's options, which decide what it needs of a
// machine.
type StorageUse struct {
	Name    string
	Options storage.Options
}

// look runs one check and reports it to Begin.
func (u Uses) look(what string, do func() error) error {
	if u.Begin != nil {
		defer u.Begin(what)()
	}
	return do()
}

// Checked is what Check has found.
type Checked struct {
	Machines []survey.State // those that have a shell and answered
	Problems []problem.Problem
}

// Err joins the problems that are not warnings.
func (c Checked) Err() error {
	var errs []error
	for i := range c.Problems {
		if p := &c.Problems[i]; !p.Warning {
			errs = append(errs, fault.As(p.Class, p))
		}
	}
	return errors.Join(errs...)
}

// notAnswering is why no further command is run on a machine.
const notAnswering = "it did not answer before"

// Reach checks whether each machine with a shell answers. One that does not is a
// problem, and no further command is run on it.
func (t *Testbed) Reach(ctx context.Context) error {
	return gather.Each(t.shells(), func(host *inventory.Machine) error {
		_, err := t.hosts[host.Name].Run(ctx, remote.Command{Args: []string{"true"}})
		if err == nil {
			return nil
		}
		t.hosts[host.Name].Refuse(notAnswering)
		return problem.Unreachable(host.Name, host.SSH.Address, err)
	})
}

// Check checks whether the machines have what a campaign needs of them, and reports
// every problem at once. It changes nothing: on the machines it only reads and, unless
// they are busy, makes connections and pings between them.
func (t *Testbed) Check(ctx context.Context, uses Uses) Checked {
	var machines []survey.State
	looks := []func() error{func() (err error) {
		machines, err = t.checkMachines(ctx, uses)
		return err
	}}
	if !uses.NoHypervisor {
		looks = append(looks, func() error { return t.checkHypervisors(ctx, uses) }, func() error {
			return uses.look("the guest's kernel and ramdisk", func() error { return t.checkGuestFiles(ctx) })
		})
	}
	for _, use := range uses.Storages {
		looks = append(looks, func() error {
			return uses.look(use.Name, func() error { return t.checkUse(ctx, use, uses) })
		})
	}
	if !uses.NoWAN {
		looks = append(looks, func() error { return uses.look("WAN", func() error { return t.Shaper().Check(ctx) }) })
	}
	if uses.Busy {
		warning := problem.Warn("", "whose the machines are", "somebody measures there, so that ports and MTU between them were not tried", "ask again when they are free")
		looks = append(looks, func() error { return &warning })
	} else {
		looks = append(looks, func() error {
			return uses.look("ports", func() error { return survey.TryAll(ctx, t.surveyed(), t.ways(uses)) })
		})
	}
	checked := Checked{Problems: t.problems(gather.Together(looks...)), Machines: machines}
	for i := range checked.Problems {
		p := &checked.Problems[i]
		if of := slices.IndexFunc(machines, func(s survey.State) bool { return s.Name == p.Host }); of >= 0 {
			p.For(machines[of].Family)
		}
	}
	return checked
}

// problems are the problems in an error, without those that follow from a machine that
// does not answer: that was reported already.
func (t *Testbed) problems(err error) []problem.Problem {
	var names []string
	for i := range t.Inventory.Machines {
		names = append(names, t.Inventory.Machines[i].Name)
	}
	return slices.DeleteFunc(problem.Of(err, names...), func(p problem.Problem) bool { return strings.Contains(p.Found, notAnswering) })
}

// checkHypervisors checks both hypervisors and, when both could run a guest, whether
// each could take it from the other.
func (t *Testbed) checkHypervisors(ctx context.Context, uses Uses) error {
	err := gather.Each(sites, func(site storage.Site) error {
		driver := t.hypervisors[site]
		return uses.look("hypervisor of "+driver.Host(), func() error { return driver.Check(ctx) })
	})
	if err != nil {
		return err
	}
	return uses.look("processors and memory for a migration", func() error {
		var errs []error
		for _, from := range sites {
			errs = append(errs, t.CheckMigration(ctx, Guest{MemoryMiB: uses.MemoryMiB, VCPUs: uses.VCPUs}, from))
		}
		return errors.Join(errs...)
	})
}

// checkUse checks a storage system with a cell's options.
func (t *Testbed) checkUse(ctx context.Context, use StorageUse, uses Uses) error {
	system, err := t.newStorage(use.Name, use.Options)
	if err != nil {
		return err
	}
	return checkStorage(ctx, system, storage.Spec{SizeBytes: uses.DiskBytes, MemoryMiB: uses.MemoryMiB, Fill: storage.Fill{Bytes: uses.FillBytes}})
}

// checkStorage checks a storage system and, if it could be used at all, whether there
// is room for the disk.
func checkStorage(ctx context.Context, system storage.Driver, wanted storage.Spec) error {
	if err := system.Check(ctx); err != nil {
		return err
	}
	if roomer, is := system.(storage.Roomer); is && wanted.SizeBytes != 0 {
		return roomer.CheckRoom(ctx, wanted)
	}
	return nil
}

// surveyed are the machines that package survey asks.
func (t *Testbed) surveyed() []survey.Machine {
	var all []survey.Machine
	for _, host := range t.shells() {
		all = append(all, survey.Machine{Host: t.hosts[host.Name], Address: host.Address, DataDir: host.DataDir,
			HostKeys: host.SSH.HostKeys, IsSite: t.Inventory.IsSite(host.Name)})
	}
	return all
}

// checkMachines asks the machines for their facts and clocks, compares them, and pings
// between them.
func (t *Testbed) checkMachines(ctx context.Context, uses Uses) ([]survey.State, error) {
	type answer struct {
		machine survey.Machine
		state   survey.State
		err     error
	}
	answers := gather.Values(t.surveyed(), func(m survey.Machine) (a answer) {
		a.machine = m
		a.err = uses.look("machine "+m.Name(), func() (err error) {
			if a.state, err = survey.Ask(ctx, m); err != nil || !t.Inventory.Machine(m.Name()).Has(inventory.Clock) {
				return err
			}
			offset, err := t.Clock(ctx, m.Name())
			a.state.SetClock(offset)
			return err
		})
		return a
	})
	var states []survey.State
	var errs []error
	for _, a := range answers {
		if errs = append(errs, a.err); a.err == nil {
			states = append(states, a.state)
		}
	}
	for _, p := range survey.Judge(states, t.Inventory.Guest.MTU) {
		errs = append(errs, &p)
	}
	errs = append(errs, gather.Each(t.shells(), func(host *inventory.Machine) error { return t.checkFolders(ctx, host) }))
	if uses.Busy {
		return states, errors.Join(errs...)
	}
	errs = append(errs, gather.Each(answers, func(a answer) error {
		return uses.look("MTU from "+a.machine.Name(), func() error { return survey.Pings(ctx, a.machine, states, t.Inventory.IsEnd) })
	}))
	return states, errors.Join(errs...)
}

// checkFolders reports folders on a machine that have the names of the testbed's and are not marked as
// ours. A teardown, with which each attempt begins, goes to all machines and would refuse them.
func (t *Testbed) checkFolders(ctx context.Context, host *inventory.Machine) error {
	files, err := t.hosts[host.Name].Files(ctx)
	if err != nil {
		return err
	}
	errs := []error{folder.Check(files, host.Name, path.Join(host.DataDir, t.Name()))}
	processes, err := files.ReadDir(runDir(host, t.Name()))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, err)
	}
	for _, process := range processes {
		if process.IsDir() {
			errs = append(errs, folder.Check(files, host.Name, path.Join(runDir(host, t.Name()), process.Name())))
		}
	}
	return errors.Join(errs...)
}
