package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"heliotrope/internal/campaign"
	"heliotrope/internal/drivers"
	"heliotrope/internal/fault"
	"heliotrope/internal/fault/wire"
	"heliotrope/internal/gather"
	"heliotrope/internal/inventory"
	"heliotrope/internal/owner"
	"heliotrope/internal/problem"
	"heliotrope/internal/remote"
	"heliotrope/internal/survey"
	"heliotrope/internal/testbed"
	"heliotrope/internal/trial"
	"heliotrope/internal/wan"
)

// findings are all the problems that prevent a campaign from running.
type findings struct {
	bad    []error // something was asked for that is not possible
	failed []error // something does not work
	// warnings are about hosts, and prevent nothing; machines are the hosts' descriptions
	// of themselves.
	warnings []problem.Problem
	machines []survey.State
}

// join adds other findings.
func (f *findings) join(other findings) {
	f.bad, f.failed = append(f.bad, other.bad...), append(f.failed, other.failed...)
	f.warnings, f.machines = append(f.warnings, other.warnings...), append(f.machines, other.machines...)
}

// all are the problems, followed by the warnings.
func (f *findings) all() []problem.Problem {
	return slices.Concat(problem.Of(errors.Join(f.bad...)), problem.Of(errors.Join(f.failed...)), f.warnings)
}

// err is nil when there are no problems, and a usageError when something was asked for that
// is not possible.
func (f *findings) err() error {
	all := append(append([]error{}, f.bad...), f.failed...)
	switch {
	case len(all) == 0:
		return nil
	case len(f.bad) > 0:
		return usageError{errors.Join(all...)}
	}
	return errors.Join(all...)
}

// add adds an error, unless it is nil.
func (f *findings) add(err error) {
	var usage usageError
	switch {
	case err == nil:
	case errors.As(err, &usage) || wire.Of(err) == fault.BadInput:
		f.bad = append(f.bad, err)
	default:
		f.failed = append(f.failed, err)
	}
}

func (f *findings) addBad(format string, args ...any) {
	f.bad = append(f.bad, fmt.Errorf(format, args...))
}

func (f *findings) addFailed(format string, args ...any) {
	f.failed = append(f.failed, fmt.Errorf(format, args...))
}

// laneBed is a lane with its testbed's inventory, which is nil for a simulated lane.
type laneBed struct {
	lane      trial.Lane
	inventory *inventory.Inventory
}

// loadLanes reads the inventories that a campaign names. Two lanes must not share a host:
// their trials would disturb each other.
func loadLanes(paths []string, found *findings) []laneBed {
	var beds []laneBed
	names, hosts := map[string]string{}, map[string]string{}
	for _, path := range paths {
		inv, err := inventory.Load(path)
		if err != nil {
			found.addBad("%w", err)
			continue
		}
		bed, err := newLaneBed(path, inv)
		if err != nil {
			found.addBad("%w", err)
			continue
		}
		if other, taken := names[inv.Name]; taken {
			found.addBad("%s: its testbed is called %s, as that of %s is: each lane needs a testbed of its own", path, inv.Name, other)
			continue
		}
		names[inv.Name] = path
		if len(beds) > 0 && beds[0].inventory.Kind != inv.Kind {
			found.addBad("%s: its testbed is %s, and that of lane %s is %s: a campaign's results are of one kind; give each kind a campaign of its own",
				path, inv.Kind, beds[0].lane.Name, beds[0].inventory.Kind)
		}
		for i := range inv.Machines {
			host := &inv.Machines[i]
			place := placeOf(inv, host)
			if other, taken := hosts[place]; taken && other != path {
				found.addBad("%s: host %s (%s) is also in %s: each lane needs hosts of its own", path, host.Name, place, other)
			}
			hosts[place] = path
		}
		beds = append(beds, bed)
	}
	return beds
}

// checkPaths refuses WAN profiles that a testbed's path cannot have: a port group can only
// limit the rate.
func checkPaths(beds []laneBed, trials []campaign.Trial, found *findings) {
	for _, bed := range beds {
		if bed.inventory == nil || bed.inventory.WAN.Portgroup == nil {
			continue
		}
		seen := map[string]bool{}
		for _, planned := range ofHypervisor(trials, bed.lane.Hypervisor) {
			text := planned.Cell.WAN
			if seen[text] {
				continue
			}
			seen[text] = true
			profile, err := wan.ParseProfile(text)
			if err == nil {
				err = profile.CheckRateOnly()
			}
			if err != nil {
				found.addBad("testbed %s: wan.portgroup: %w", bed.lane.Name, err)
			}
		}
	}
}

// checkHypervisor refuses trials on a hypervisor that a testbed of real hosts does not run.
func checkHypervisor(lane trial.Lane, trials []campaign.Trial, found *findings) {
	for _, hypervisor := range hypervisorsOf(trials) {
		if _, has := lane.For(hypervisor); !has && lane.Kind == inventory.Hardware {
			found.addBad("testbed %s runs %s, and the campaign has trials on %s: any lane may run any trial; name the testbed's hypervisor in matrix.hypervisor, or make it one campaign for each hypervisor",
				lane.Name, lane.Hypervisor, hypervisor)
		}
	}
}

// placeOf is how a machine is reached, which distinguishes it from all others.
func placeOf(inv *inventory.Inventory, host *inventory.Machine) string {
	if manager := inv.ManagerOf(host); manager != nil && !host.Has(inventory.Shell) {
		return manager.URL + " " + host.VCenter.Host
	}
	return inv.PlaceOf(host.SSH)
}

func newLaneBed(path string, inv *inventory.Inventory) (laneBed, error) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return laneBed{}, err
	}
	if err := drivers.CheckInventory(inv); err != nil {
		return laneBed{}, fmt.Errorf("%s: %w", path, err)
	}
	lane := trial.Lane{Name: inv.Name, Kind: inv.Kind, Inventory: absolute, Hypervisor: inv.Hypervisor, Machines: testbed.Machines(inv)}
	if guest, _ := lane.Machine(trial.Guest); guest.Worker && inv.Guest.MemoryMiB < campaign.MinGuestMemoryMiB {
		return laneBed{}, fmt.Errorf("%s: guest.memory_mib: %d MiB do not hold the guest's worker: want %d, or mode: agentless",
			path, inv.Guest.MemoryMiB, campaign.MinGuestMemoryMiB)
	}
	return laneBed{lane: lane, inventory: inv}, nil
}

// simulatedFaults are the faults of simulated lanes, by their names: none, unless a test
// sets them. See package simulated.
var simulatedFaults map[string]json.RawMessage

// simulatedLanes are the lanes of a simulated campaign.
func simulatedLanes(count int) []laneBed {
	beds := make([]laneBed, max(1, count))
	for i := range beds {
		name := fmt.Sprintf("simulated-%d", i+1)
		beds[i].lane = trial.Lane{Name: name, Kind: inventory.Simulated, Faults: simulatedFaults[name], LocalSteps: true,
			Machines: []trial.Machine{{Name: trial.Guest, Witness: true}}}
	}
	return beds
}

// checkFolder checks whether the dataset can be written: it makes the folder when that is
// missing, and the folder's disk must have needBytes of free space.
func checkFolder(folder string, needBytes int64, found *findings) {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		found.addFailed("data folder: %w", err)
		return
	}
	if err := writable(folder); err != nil {
		found.addFailed("data folder: %w", err)
		return
	}
	free, err := freeBytes(folder)
	if err != nil {
		found.addFailed("data folder: %w", err)
		return
	}
	if free < needBytes {
		found.addFailed("data folder %s: %s are free, and the campaign needs about %s (the plan's estimate and limits.min_free_mib): make room, or choose another --data",
			folder, mebibytes(free), mebibytes(needBytes))
	}
}

// writable says why nothing can be written into a folder, or, when the folder does not
// exist, why it could not be made. It makes nothing.
func writable(folder string) error {
	for {
		info, err := os.Stat(folder)
		parent := filepath.Dir(folder)
		if errors.Is(err, fs.ErrNotExist) && parent != folder {
			folder = parent
			continue
		}
		if err == nil && !info.IsDir() {
			return fmt.Errorf("%s is no folder", folder)
		}
		if err != nil {
			return err
		}
		probe, err := os.MkdirTemp(folder, ".heliotrope-*")
		if err != nil {
			return err
		}
		return os.Remove(probe)
	}
}

// freeBytes is the free space on a folder's disk.
func freeBytes(folder string) (int64, error) {
	var disk unix.Statfs_t
	if err := unix.Statfs(folder, &disk); err != nil {
		return 0, fmt.Errorf("ask for the free space of %s: %w", folder, err)
	}
	return int64(disk.Bavail) * disk.Bsize, nil //nolint:gosec // no disk has 2^63 bytes
}

// databaseBytesPerTrial is what a trial adds to Temporal's database until the retention is
// over. A simulated trial was measured to add 52 kB. A trial on an emulated testbed has a
// history four times as long, 78 kB, and so adds about 120 kB.
const databaseBytesPerTrial = 150_000

// checkDatabase checks that the disk with the embedded server's database has room for a
// campaign's trials. It does not check other servers.
func (c *campaignCommand) checkDatabase(trials int) error {
	stateDir, err := c.dir()
	if err != nil {
		return err
	}
	if last := lastServe(stateDir); last == nil || !last.Embedded {
		return nil
	}
	free, err := freeBytes(stateDir)
	if err != nil {
		return fmt.Errorf("state folder: %w", err)
	}
	if need := int64(trials) * databaseBytesPerTrial; free < need {
		return fmt.Errorf("state folder %s: %s are free, and Temporal's database needs about %s for %d trials: make room, or serve with another --state-dir",
			stateDir, mebibytes(free), mebibytes(need), trials)
	}
	return nil
}

// checkedBed is what the preflight needs of a testbed.
type checkedBed interface {
	Reach(ctx context.Context) error
	Facts(ctx context.Context) (testbed.Facts, error)
	Check(ctx context.Context, uses testbed.Uses) testbed.Checked
	Leases() owner.Hosts
	Close() error
}

// hostsLimit is how long all hosts of a testbed together may take to answer.
const hostsLimit = time.Minute

// hostCheck checks the hosts of every lane: whether they answer, with the right keys, and
// have everything that the trials need. It is part of a campaign's preflight, and
// everything that the command doctor does.
type hostCheck struct {
	connect func(*inventory.Inventory) (checkedBed, error)
	limit   time.Duration
}

// wanted is what will run on the testbeds.
type wanted struct {
	trials    []campaign.Trial
	diskBytes int64 // of the disk under test
	fillBytes int64 // how many of them are filled
	// owns says whether hosts leased to that owner count as free; when owns is nil, they do
	// for every owner.
	owns func(owner string) bool
	// noHypervisor and noWAN leave out the checks of these.
	noHypervisor, noWAN bool
	// begin is called with what is being checked: see testbed.Uses.
	begin func(what string) (end func())
}

// ownsFor says hosts of which owners may be leased when a campaign starts: those of its own
// controller, whose running campaigns are told apart by their inventories; and with
// takeOver those of the same campaign of any other controller, whose lease the trials wait
// for.
func ownsFor(queue, campaign string, takeOver bool) func(string) bool {
	ours, same := " of controller "+owner.Controller(queue), "campaign "+campaign+" of controller "
	return func(name string) bool {
		return owner.IsCampaign(name) && strings.HasSuffix(name, ours) || takeOver && strings.HasPrefix(name, same)
	}
}

// check asks all testbeds at the same time.
func (c hostCheck) check(ctx context.Context, beds []laneBed, want wanted, found *findings) {
	each := gather.Values(beds, func(bed laneBed) (one findings) {
		if bed.inventory != nil {
			c.checkBed(ctx, bed, want, &one)
		}
		return one
	})
	for _, one := range each {
		found.join(one)
	}
}

func (c hostCheck) checkBed(ctx context.Context, bed laneBed, want wanted, found *findings) {
	name := bed.lane.Name
	connected, err := c.connect(bed.inventory)
	if err != nil {
		found.addFailed("testbed %s: %w", name, err)
		return
	}
	defer connected.Close() //nolint:errcheck // it was only asked
	checkHypervisor(bed.lane, want.trials, found)
	limited, cancel := context.WithTimeoutCause(ctx, c.limit, fmt.Errorf("its machines did not answer everything within %s", c.limit))
	defer cancel()
	away := connected.Reach(limited)
	found.ofHosts(name, away)
	uses := usesOf(bed.lane, want)
	uses.Busy = checkLeases(limited, name, connected.Leases(), want.owns, found)
	looks := []func(*findings){func(one *findings) {
		checked := connected.Check(limited, uses)
		one.ofHosts(name, checked.Err())
		one.machines = checked.Machines
		one.warnings = slices.DeleteFunc(checked.Problems, func(p problem.Problem) bool { return !p.Warning })
	}}
	if away == nil {
		looks = append(looks, func(one *findings) { checkMemory(limited, connected, bed, want, one) })
	}
	for _, one := range gather.Values(looks, func(look func(*findings)) (one findings) {
		look(&one)
		return one
	}) {
		found.join(one)
	}
}

// ofHosts adds the problems of a testbed's hosts, each separately.
func (f *findings) ofHosts(testbed string, err error) {
	for _, p := range problem.Of(err) {
		f.add(fmt.Errorf("testbed %s: %w", testbed, fault.As(p.Class, &p)))
	}
}

// checkMemory asks the hosts for their facts, and checks whether the largest guest fits.
func checkMemory(ctx context.Context, connected checkedBed, bed laneBed, want wanted, found *findings) {
	facts, err := connected.Facts(ctx)
	if err != nil {
		found.ofHosts(bed.lane.Name, err)
		return
	}
	if need := largestGuest(ofHypervisor(want.trials, bed.lane.Hypervisor), facts.GuestMemoryMiB); need > facts.FreeMemoryMiB {
		found.ofHosts(bed.lane.Name, problem.New(fault.BadInput, "", "memory for guests",
			fmt.Sprintf("a guest of %d MiB does not fit: the smaller of its hosts has %d MiB for guests", need, facts.FreeMemoryMiB), "end something there, or make the guest smaller"))
	}
}

// checkLeases checks whether a testbed's hosts belong to somebody else: a campaign would
// only wait for them. held says whether anybody holds them, or may hold them.
func checkLeases(ctx context.Context, name string, leases owner.Hosts, owns func(string) bool, found *findings) (held bool) {
	all, err := leases.State(ctx)
	if err != nil && !errors.Is(err, remote.ErrUnreachable) { // that was reported before
		found.ofHosts(name, err)
	}
	for _, one := range all {
		if owns != nil && !owns(one.Owner) {
			found.addFailed("testbed %s: %w", name, problem.New(fault.Infrastructure, one.Host, "its lease", one.Found(), one.Fix()))
			break // it is true of all its hosts
		}
	}
	return err != nil || len(all) > 0
}

// ofHypervisor are the trials that run on a testbed with that hypervisor.
func ofHypervisor(trials []campaign.Trial, hypervisor string) []campaign.Trial {
	return slices.DeleteFunc(slices.Clone(trials), func(t campaign.Trial) bool {
		return hypervisor != "" && t.Cell.Hypervisor != hypervisor
	})
}

// usesOf is what the trials of a lane's hypervisor need of its testbed.
func usesOf(lane trial.Lane, want wanted) testbed.Uses {
	uses := testbed.Uses{DiskBytes: want.diskBytes, FillBytes: want.fillBytes, NoHypervisor: want.noHypervisor, NoWAN: want.noWAN, Begin: want.begin}
	for _, planned := range ofHypervisor(want.trials, lane.Hypervisor) {
		cell := planned.Cell
		use := testbed.StorageUse{Name: cell.Storage, Options: cell.StorageOptions()}
		if !slices.ContainsFunc(uses.Storages, func(u testbed.StorageUse) bool { return u.Name == use.Name && maps.Equal(u.Options, use.Options) }) {
			uses.Storages = append(uses.Storages, use)
		}
		uses.MemoryMiB, uses.VCPUs = max(uses.MemoryMiB, cell.GuestMemoryMiB), max(uses.VCPUs, cell.GuestVCPUs)
	}
	return uses
}

// largestGuest is the memory of the largest guest of all trials, in MiB.
func largestGuest(trials []campaign.Trial, byDefault int) int {
	largest := 0
	for _, planned := range trials {
		memory := planned.Cell.GuestMemoryMiB
		if memory == 0 {
			memory = byDefault
		}
		largest = max(largest, memory)
	}
	return largest
}
