package testbed

import (
	"context"
	"fmt"
	"net/netip"
	"path"

	"heliotrope/internal/gather"
	"heliotrope/internal/inventory"
	"heliotrope/internal/load"
	"heliotrope/internal/load/engine"
	"heliotrope/internal/load/iolog"
	"heliotrope/internal/load/spec"
	"heliotrope/internal/record"
	"heliotrope/internal/trial"
)

// guestRunDir is the folder in the guest for the folders of our processes. It is
// in memory, like everything in the guest but the disk under test.
const guestRunDir = "/run/heliotrope"

// runDir is the folder on a host for the folders of a testbed's processes.
func runDir(host *inventory.Machine, label string) string {
	return path.Join(host.DataDir, label+runSuffix)
}

// RunDir is the folder of one of our processes on a host: the testbed's Teardown
// ends a record.Process there.
func RunDir(host *inventory.Machine, label, name string) string {
	return path.Join(runDir(host, label), name)
}

// RunDir is the folder of one of our processes on a machine of the testbed.
func (t *Testbed) RunDir(machine, name string) string {
	if host := t.Inventory.Machine(machine); host != nil {
		return RunDir(host, t.Name(), name)
	}
	return path.Join(guestRunDir, name)
}

// LoadDir is the folder of a trial's load in the guest.
func (t *Testbed) LoadDir(ref trial.Ref) string { return t.RunDir(GuestName, ref.LoadFolder()) }

// inflightPage is the name in the load's folder of the page that package inflight
// defines.
const inflightPage = "inflight"

// LoadConfig is the trial's workload. It does not touch the ledger's region of
// the disk.
func (t *Testbed) LoadConfig(ref trial.Ref) (engine.Config, error) {
	access := ref.Trial.Cell.Access.Complete()
	targets, err := spec.Slices(spec.Target{Device: t.GuestDevices().Disk, SizeBytes: ref.LoadBytes()}, access.Targets)
	if err != nil {
		return engine.Config{}, fmt.Errorf("%w: %s: %w", load.ErrSpec, access.Name, err)
	}
	config := engine.Config{Access: access, Targets: targets, Seed: ref.Trial.Seed, Token: token(ref)}
	if access.Engine == spec.EngineFio {
		return config, nil
	}
	config.Budget, config.Page = iolog.DefaultBudget(), t.inflightPage(ref)
	config.SiteA, config.SiteB = t.takesLog(t.Inventory.EndA()), t.takesLog(t.Inventory.EndB())
	return config, nil
}

// inflightPage is the path of the page in which the guest's load tells its
// witness which I/Os are in flight.
func (t *Testbed) inflightPage(ref trial.Ref) string { return path.Join(t.LoadDir(ref), inflightPage) }

// takesLog is the address at which a site's host receives blocks of the load's
// log; invalid when no witness of ours can run there.
func (t *Testbed) takesLog(host *inventory.Machine) netip.AddrPort {
	if host == nil || !host.Has(inventory.Beats) {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(host.Address, iolog.Port)
}

// Load is the process in the guest that runs the trial's workload; it is
// controlled from here.
func (t *Testbed) Load(ref trial.Ref) (record.Recording, error) {
	config, err := t.LoadConfig(ref)
	if err != nil {
		return nil, err
	}
	return load.New(t.guest, t.witnessProgram(GuestName), t.LoadDir(ref), config)
}

// sweep ends what runs in RunDir on every host, and removes the folder.
func (t *Testbed) sweep(ctx context.Context) error {
	return gather.Each(t.shells(), func(host *inventory.Machine) error {
		return record.Sweep(ctx, t.hosts[host.Name], runDir(host, t.Name()))
	})
}
