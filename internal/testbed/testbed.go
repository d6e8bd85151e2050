// Package testbed joins an inventory with the drivers: the connections to its machines,
// the hypervisor of each site, the storage systems, the WAN and the measured guest. It
// knows no driver by name: the drivers themselves say what to check, count, watch and
// keep as evidence, and what they may leave behind.
//
// It promises that Teardown works from the inventory alone, whatever state a crash left
// the hosts in, and that Snapshot shows whether the hosts are as they were before.
package testbed

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"heliotrope/internal/clock"
	"heliotrope/internal/drivers"
	"heliotrope/internal/fault"
	"heliotrope/internal/folder"
	"heliotrope/internal/gather"
	"heliotrope/internal/guest"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/inventory"
	"heliotrope/internal/problem"
	"heliotrope/internal/remote"
	"heliotrope/internal/storage"
	"heliotrope/internal/trial"
	"heliotrope/internal/wan"
	"heliotrope/internal/witness"
)

var _ Bed = (*Testbed)(nil)

// Testbed is a connected testbed. Connections are made when first used.
type Testbed struct {
	Inventory *inventory.Inventory
	// WitnessBinary is the path on this machine of the witness's program, to be copied
	// to the other machines. By default it is beside the running program.
	WitnessBinary string

	kind        hypervisor.Kind
	connections *connections
	hosts       map[string]*remote.SSHHost // machines with a shell
	hypervisors map[storage.Site]hypervisor.Driver
	storages    []storage.Driver // with their default options
	// behind is the driver of the hypervisor behind a simulator of vCenter; it is asked
	// only how its bytes are recognised. It is nil when there is no simulator.
	behind hypervisor.Driver
	guest  remote.Host
}

// Connect prepares the connections to every host of the inventory. It reads
// the keys, but reaches no host yet.
func Connect(inv *inventory.Inventory) (*Testbed, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("where is the running program: %w", err)
	}
	t := &Testbed{Inventory: inv, hosts: map[string]*remote.SSHHost{},
		WitnessBinary: filepath.Join(filepath.Dir(program), witness.Program)}
	var errs []error
	if t.kind, err = drivers.Hypervisor(inv.Hypervisor); err != nil {
		return nil, fmt.Errorf("inventory of testbed %s: %w", inv.Name, err)
	}
	t.connections = newConnections(inv)
	for i := range inv.Machines {
		host := &inv.Machines[i]
		if !host.Has(inventory.Shell) {
			continue
		}
		connected, err := t.connections.to(host.Name, host.SSH)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		t.hosts[host.Name] = connected
	}
	if err := errors.Join(append(errs, t.makeDrivers())...); err != nil {
		return nil, err
	}
	t.guest, err = t.reachGuest()
	return t, err
}

// reachGuest prepares the way into the guest: through the storage server, which stands
// between the sites and so reaches the guest wherever it runs, or through its
// hypervisor.
func (t *Testbed) reachGuest() (remote.Host, error) {
	inv := t.Inventory
	if login := inv.Guest.Operations; login != nil {
		operator, is := t.hypervisors[storage.SiteA].(hypervisor.Operator)
		if !is {
			return nil, fault.New(fault.BadInput, "inventory of testbed %s: guest.operations: hypervisor %s runs no commands in guests: give guest.ssh", inv.Name, inv.Hypervisor)
		}
		return operator.Inside(t.DomainName(GuestName), *login), nil
	}
	reach := inventory.SSH{Address: netip.AddrPortFrom(inv.Guest.Address.Addr(), sshPort).String(),
		Login: inv.Guest.SSH.Login, Root: inv.Guest.SSH.Root}
	connected, err := t.connections.open(GuestName, reach, t.hosts[inv.StoreName])
	if err != nil {
		return nil, err
	}
	return connected, nil
}

// makeDrivers makes the drivers of the hypervisors and the storage systems. None of
// them touches a host yet. Storage systems may be made from the hypervisors.
func (t *Testbed) makeDrivers() error {
	t.hypervisors = map[storage.Site]hypervisor.Driver{}
	var errs []error
	for _, site := range sites {
		machine := t.Site(site)
		driver, err := t.kind.New(hypervisor.Setup{Label: t.Name(), Machine: *machine, Remote: t.Host(machine.Name),
			VCenter: t.Inventory.ManagerOf(machine), GuestDisk: t.Inventory.Guest.Disk})
		errs = append(errs, err)
		t.hypervisors[site] = driver
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if behind := t.Inventory.Behind; behind != "" {
		kind, err := drivers.Hypervisor(behind)
		if err != nil {
			return fmt.Errorf("inventory of testbed %s: behind: %w", t.Name(), err)
		}
		if t.behind, err = kind.New(hypervisor.Setup{Label: t.Name(), Machine: *t.Site(storage.SiteA)}); err != nil {
			return err
		}
	}
	for _, kind := range drivers.StoragesOf(t.kind) {
		driver, err := kind.New(t.storageSetup(nil))
		errs = append(errs, err)
		t.storages = append(t.storages, driver)
	}
	return errors.Join(errs...)
}

func (t *Testbed) storageSetup(options storage.Options) storage.Setup {
	machines := map[string]remote.Host{}
	for name, host := range t.hosts {
		machines[name] = host
	}
	setup := storage.Setup{Inventory: t.Inventory, Machines: machines, Options: options, OpensFiles: t.kind.OpensFiles, Programs: t}
	if t.kind.Datastores {
		setup.Datastores = map[storage.Site]hypervisor.Datastores{}
		for _, site := range sites {
			setup.Datastores[site] = t.hypervisors[site].(hypervisor.Datastores)
		}
	}
	return setup
}

// sites are both sites.
var sites = []storage.Site{storage.SiteA, storage.SiteB}

// Close closes all connections.
func (t *Testbed) Close() error {
	return errors.Join(t.guest.Close(), t.connections.close())
}

// Host returns a host by its name in the inventory; nil when no machine with a shell
// has that name.
func (t *Testbed) Host(name string) remote.Host {
	if host, ok := t.hosts[name]; ok {
		return host
	}
	return nil
}

// Guest is the measured guest; it answers while its domain runs.
func (t *Testbed) Guest() remote.Host { return t.guest }

// Site returns the inventory's entry of a site's hypervisor host.
func (t *Testbed) Site(site storage.Site) *inventory.Machine {
	if site == storage.SiteB {
		return t.Inventory.SiteB()
	}
	return t.Inventory.SiteA()
}

// Kind says whether the testbed is emulated or made of real hosts.
func (t *Testbed) Kind() inventory.Kind { return t.Inventory.Kind }

// Name is the testbed's label.
func (t *Testbed) Name() string { return t.Inventory.Name }

// Now is this machine's time.
func (t *Testbed) Now() time.Time { return time.Now() }

// Machines lists the machines, the measured guest last, with what each can do. The
// hypervisor may be able to read the clock of a site's host that has no shell.
func (t *Testbed) Machines() []trial.Machine {
	all := Machines(t.Inventory)
	for i := range all {
		all[i].Clock = all[i].Clock || t.recorder(all[i].Name) != nil
	}
	return all
}

// recorder is the hypervisor of a site's host without a shell, when that hypervisor
// keeps a record of its own; otherwise nil.
func (t *Testbed) recorder(machine string) hypervisor.Recorder {
	site, is := t.siteOf(machine)
	if !is || t.Host(machine) != nil {
		return nil
	}
	recorder, _ := t.hypervisors[site].(hypervisor.Recorder)
	return recorder
}

// Machines lists the machines of an inventory, the measured guest last, with what each
// can do for a trial. This decides what a trial starts, follows and collects there.
func Machines(inv *inventory.Inventory) []trial.Machine {
	var all []trial.Machine
	for i := range inv.Machines {
		host := &inv.Machines[i]
		machine := trial.Machine{Name: host.Name, Shell: host.Has(inventory.Shell), Worker: host.Has(inventory.Worker),
			Witness: host.Has(inventory.Witness), Clock: host.Has(inventory.Clock)}
		switch host.Name {
		case inv.Sites.A:
			machine.Site = string(storage.SiteA)
		case inv.Sites.B:
			machine.Site = string(storage.SiteB)
		}
		switch host {
		case inv.EndA():
			machine.End = string(storage.SiteA)
		case inv.EndB():
			machine.End = string(storage.SiteB)
		}
		all = append(all, machine)
	}
	// The sites' witnesses read the guest's clock, because the guest may be unreachable
	// from here.
	return append(all, trial.Machine{Name: GuestName, Shell: true, Worker: inv.Guest.Mode != inventory.Agentless, Witness: true})
}

// Hypervisor returns the driver of a site's host.
func (t *Testbed) Hypervisor(site storage.Site) Hypervisor { return t.hypervisors[site] }

// Storage returns the driver of a storage system, with a cell's options.
func (t *Testbed) Storage(kind string, options storage.Options) (storage.System, error) {
	return t.newStorage(kind, options)
}

func (t *Testbed) newStorage(kind string, options storage.Options) (storage.Driver, error) {
	found, err := drivers.Storage(t.kind, kind)
	if err != nil {
		return nil, err
	}
	return found.New(t.storageSetup(options))
}

// WAN returns the driver of the path between the sites.
func (t *Testbed) WAN() WAN { return t.Shaper() }

// WANPlace is the host that bridges the sites, and its network interface towards site
// B; both are empty when no host bridges them.
func (t *Testbed) WANPlace() (host, device string) {
	return t.Inventory.WAN.Host, t.Inventory.WAN.Device
}

// Shaper is WAN with every method of the real one.
func (t *Testbed) Shaper() wan.Path { return drivers.Path(t.Inventory, t.hosts[t.Inventory.WAN.Host]) }

// clockRounds is how many exchanges Clock makes; it uses the best of them.
const clockRounds = 25

// Clock measures how far the clock of a host, or of the guest while it runs, is from
// this machine's. The clock of a host without a shell is read through its hypervisor.
func (t *Testbed) Clock(ctx context.Context, name string) (clock.Offset, error) {
	if recorder := t.recorder(name); recorder != nil {
		return recorder.Clock(ctx)
	}
	machine := t.Machine(name)
	if machine == nil {
		return clock.Offset{}, t.unknown(name)
	}
	return clock.Measure(ctx, machine, clockRounds)
}

// Machine returns a host by its name in the inventory, or the guest by GuestName; nil
// when there is no such machine.
func (t *Testbed) Machine(name string) remote.Host {
	if name == GuestName {
		return t.guest
	}
	return t.Host(name)
}

// names are the names of the machines with a shell, in the inventory's order, and of
// the guest.
func (t *Testbed) names() []string {
	var names []string
	for _, machine := range t.Machines() {
		if machine.Shell {
			names = append(names, machine.Name)
		}
	}
	return names
}

func (t *Testbed) unknown(name string) error {
	return fmt.Errorf("testbed %s has no machine %q with a shell: there are %s", t.Name(), name, strings.Join(t.names(), ", "))
}

// guestReadyLimit is how long a guest may take from its creation until it answers;
// under emulation it boots in 10 to 25 s.
const guestReadyLimit = 3 * time.Minute

// StartGuest starts the measured guest at a site and waits until it answers. The
// domain's name is DomainName(GuestName).
func (t *Testbed) StartGuest(ctx context.Context, site storage.Site, wanted Guest) (hypervisor.Domain, error) {
	domain := t.GuestAt(site, wanted)
	if err := t.Hypervisor(site).Create(ctx, domain); err != nil {
		return domain, err
	}
	limited, cancel := context.WithTimeout(ctx, guestReadyLimit)
	defer cancel()
	return domain, remote.WaitReady(limited, t.guest, "test", "-b", t.GuestDevices().Disk)
}

// GuestAt is the measured guest as it runs, or would run, at a site.
func (t *Testbed) GuestAt(site storage.Site, wanted Guest) hypervisor.Domain {
	domain := guest.Domain(t.Inventory, t.DomainName(GuestName), t.GuestDevices(), t.Site(site), wanted.Disk.At(site))
	if wanted.MemoryMiB != 0 {
		domain.MemoryMiB = wanted.MemoryMiB
	}
	domain.VCPUs = max(1, wanted.VCPUs)
	return domain
}

// GuestDevices are the names of the guest's devices: the inventory's or, where it gives
// none, the hypervisor's own.
func (t *Testbed) GuestDevices() hypervisor.Devices {
	own, inventory := t.kind.Guest, t.Inventory.Guest
	return hypervisor.Devices{Disk: cmp.Or(inventory.Disk, own.Disk), NIC: cmp.Or(inventory.NIC, own.NIC), Console: cmp.Or(inventory.Console, own.Console)}
}

// CheckMigration checks whether the target could take the guest now.
func (t *Testbed) CheckMigration(ctx context.Context, wanted Guest, from storage.Site) error {
	domain, target := t.GuestAt(from.Other(), wanted), t.hypervisors[from.Other()]
	return errors.Join(checkProcessors(ctx, domain, target), t.hypervisors[from].CheckMigration(ctx, domain, target))
}

// checkProcessors reports a guest that has more virtual processors than the host has
// processors. A hypervisor would run them in turns, and the guest would wait for that
// and not for the migration.
func checkProcessors(ctx context.Context, domain hypervisor.Domain, host hypervisor.Hypervisor) error {
	if domain.VCPUs <= 1 {
		return nil
	}
	info, err := host.Info(ctx)
	if err != nil || domain.VCPUs <= info.CPUs {
		return err
	}
	return problem.New(fault.BadInput, host.Host(), "processors for guests",
		fmt.Sprintf("a guest of %d vCPUs does not fit: the host has %d processors, which they would take turns on", domain.VCPUs, info.CPUs),
		"ask for fewer (guest_vcpus), or take hosts with more")
}

// DomainName is the full name of a domain of this testbed.
func (t *Testbed) DomainName(name string) string {
	return t.Inventory.Name + hypervisor.LabelSeparator + name
}

// Teardown removes everything of ours from all hosts: first the domains, then the
// processes in RunDir, then the disks and the shaping; each step on all hosts at once.
// It goes on past errors and joins them. Programs in ProgramDir stay.
func (t *Testbed) Teardown(ctx context.Context) error {
	domains := gather.Each(sites, func(site storage.Site) error { return t.Hypervisor(site).Teardown(ctx) })
	processes := t.sweep(ctx)
	removals := []func() error{func() error { return t.Shaper().Teardown(ctx) }}
	for _, system := range t.storages {
		removals = append(removals, func() error {
			if err := system.Teardown(ctx); err != nil {
				return fmt.Errorf("tear %s down: %w", system.Kind(), err)
			}
			return nil
		})
	}
	rest := gather.Together(removals...)
	if err := errors.Join(domains, processes, rest); err != nil {
		return err
	}
	return gather.Each(t.shells(), func(host *inventory.Machine) error { return t.removeFolder(ctx, host) })
}

// removeFolder removes the testbed's own folder from a host. The drivers should have
// emptied it; anything that is still in it is an error and is named.
func (t *Testbed) removeFolder(ctx context.Context, host *inventory.Machine) error {
	files, err := t.hosts[host.Name].Files(ctx)
	if err != nil {
		return err
	}
	own := path.Join(host.DataDir, t.Inventory.Name)
	if err := folder.Check(files, host.Name, own); err != nil {
		return err
	}
	left, err := folder.RemoveEmpty(files, own)
	if err == nil && left != "" {
		err = fmt.Errorf("%s: %s still holds %s after the teardown", host.Name, own, left)
	}
	return err
}
