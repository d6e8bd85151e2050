package testbed

import (
	"context"
	"fmt"
	"net/netip"
	"path"

	"heliotrope/internal/gather"
	"heliotrope/internal/guest"
	"heliotrope/internal/inventory"
	"heliotrope/internal/load"
	"heliotrope/internal/load/engine"
	"heliotrope/internal/load/iolog"
	"heliotrope/internal/load/spec"
	"heliotrope/internal/record"
	"heliotrope/internal/trial"
)

// guestRunDir is where the guest keeps the folders of our processes. It is
// memory, as all of the guest but the disk under test.
const guestRunDir = "/run/heliotrope"

// runDir is where a host keeps the folders of a testbed's processes.
func runDir(host *inventory.Machine, label string) string {
	return path.Join(host.DataDir, label+".run")
}

// RunDir is the folder of a process of ours on a host: a record.Process there
// is ended by the testbed's Teardown.
func RunDir(host *inventory.Machine, label, name string) string {
	return path.Join(runDir(host, label), name)
}

// RunDir is the folder of a process of ours on a machine of the testbed.
func (t *Testbed) RunDir(machine, name string) string {
	if host := t.Inventory.Machine(machine); host != nil {
		return RunDir(host, t.Name(), name)
	}
	return path.Join(guestRunDir, name)
}

// ProgramDir is where programs of ours live on a machine of the testbed: the
// worker, the witness. On a host they stay from trial to trial.
func (t *Testbed) ProgramDir(machine string) string {
	if host := t.Inventory.Machine(machine); host != nil {
		return path.Join(host.DataDir, t.Name()+".programs")
	}
	return guest.ProgramDir
}

// LoadDir is the folder of a trial's load in the guest.
func (t *Testbed) LoadDir(ref trial.Ref) string { return t.RunDir(GuestName, ref.LoadFolder()) }

// inflightPage is the name of package inflight's page in the load's folder.
const inflightPage = "inflight"

// LoadConfig is the trial's workload. It leaves the ledger's region alone.
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

// inflightPage is where the guest's load and its witness share what is in flight.
func (t *Testbed) inflightPage(ref trial.Ref) string { return path.Join(t.LoadDir(ref), inflightPage) }

// takesLog is where a site's host takes blocks of the load's log; not valid where
// none of our witnesses can.
func (t *Testbed) takesLog(host *inventory.Machine) netip.AddrPort {
	if host == nil || !host.Has(inventory.Beats) {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(host.Address, iolog.Port)
}

// Load is the trial's workload in the guest, driven from here.
func (t *Testbed) Load(ref trial.Ref) (record.Recording, error) {
	config, err := t.LoadConfig(ref)
	if err != nil {
		return nil, err
	}
	return load.New(t.guest, t.witnessProgram(GuestName), t.LoadDir(ref), config)
}

// sweep ends what runs in RunDir on every host, and removes it.
func (t *Testbed) sweep(ctx context.Context) error {
	return gather.Each(t.shells(), func(host *inventory.Machine) error {
		return record.Sweep(ctx, t.hosts[host.Name], runDir(host, t.Name()))
	})
}
