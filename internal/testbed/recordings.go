package testbed

import (
	"context"
	"path"

	"heliotrope/internal/gather"
	"heliotrope/internal/guest"
	"heliotrope/internal/inventory"
	"heliotrope/internal/load"
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
func (t *Testbed) LoadDir(ref trial.Ref) string { return t.RunDir(GuestName, "load-"+ref.Key()) }

// Load is the trial's workload in the guest, driven from here. It leaves the
// ledger's region alone.
func (t *Testbed) Load(ref trial.Ref) (record.Recording, error) {
	return load.New(t.guest, t.LoadDir(ref), ref.Trial.Cell.Access, ref.Trial.Seed, t.GuestDevices().Disk, ref.LoadBytes())
}

// sweep ends what runs in RunDir on every host, and removes it.
func (t *Testbed) sweep(ctx context.Context) error {
	return gather.Each(t.shells(), func(host *inventory.Machine) error {
		return record.Sweep(ctx, t.hosts[host.Name], runDir(host, t.Name()))
	})
}
