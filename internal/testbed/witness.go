package testbed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strconv"

	"heliotrope/internal/hypervisor"
	"heliotrope/internal/inventory"
	"heliotrope/internal/ledger"
	"heliotrope/internal/load/spec"
	"heliotrope/internal/record"
	"heliotrope/internal/remote"
	"heliotrope/internal/storage"
	"heliotrope/internal/trial"
	"heliotrope/internal/witness"
)

// WitnessDir is the folder of a trial's witness on a machine.
func (t *Testbed) WitnessDir(ref trial.Ref, machine string) string {
	return t.RunDir(machine, ref.WitnessFolder())
}

// LedgerRegion is the region of an attempt's ledger: the end of the disk under
// test.
func LedgerRegion(ref trial.Ref) ledger.Region {
	return ledger.Region{OffsetBytes: ref.LoadBytes(), SizeBytes: ref.LedgerBytes, Seed: token(ref)}
}

// token distinguishes the datagrams and records of an attempt from those of any
// other.
func token(ref trial.Ref) uint64 {
	return ref.Trial.Seed ^ uint64(ref.Attempt) //nolint:gosec // bits, not a number
}

// WitnessSetup is what is needed to start the witness on a machine: the paths of
// its program and folder there, and the configuration for a host or for the guest.
type WitnessSetup struct {
	Program, Dir string
	Host         *witness.HostConfig
	Guest        *witness.GuestConfig
}

// WitnessSetup finds out how to start the witness on a machine. On a host it looks
// for what can be counted, so the disk must have been provisioned.
func (t *Testbed) WitnessSetup(ctx context.Context, ref trial.Ref, machine string) (WitnessSetup, error) {
	setup := WitnessSetup{Program: t.witnessProgram(machine), Dir: t.WitnessDir(ref, machine)}
	switch {
	case machine == GuestName:
		config := t.guestConfig(ref)
		setup.Guest = &config
		return setup, nil
	case t.hosts[machine] == nil:
		return setup, t.unknown(machine)
	}
	config := t.hostConfig(ref, machine)
	sources, err := t.sources(ctx, ref, machine)
	config.Sources, setup.Host = sources, &config
	return setup, err
}

// witnessAt is the address and port at which the witness with that address on the
// test network listens.
func witnessAt(address netip.Addr) netip.AddrPort { return netip.AddrPortFrom(address, witness.Port) }

// hostConfig is a host's configuration without the parts that must be looked for on
// the host.
func (t *Testbed) hostConfig(ref trial.Ref, name string) witness.HostConfig {
	host, inv := t.Inventory.Machine(name), t.Inventory
	var config witness.HostConfig
	if site, found := t.siteOf(name); found {
		config.Watcher, config.Domain = t.hypervisors[site].Watcher(), hypervisor.UUID(t.DomainName(GuestName)).String()
	}
	if inv.IsEnd(name) && host.Has(inventory.Beats) {
		config.Listen, config.Guest = witnessAt(host.Address), witnessAt(inv.Guest.Address.Addr())
		config.Token = token(ref)
		if ownEngine(ref) {
			config.LogListen = t.takesLog(host)
		}
	}
	if name == inv.WAN.Host && host.Has(inventory.Counters) {
		config.Sources = []witness.Source{t.wanSource()}
		config.Classes = t.classes()
	}
	return config
}

// ownEngine says whether our own engine runs an attempt's load. Only then is there
// a page of the I/Os in flight, and a log that is sent in blocks.
func ownEngine(ref trial.Ref) bool {
	return ref.Trial.Cell.Access.Complete().Engine == spec.EngineOwn
}

func (t *Testbed) guestConfig(ref trial.Ref) witness.GuestConfig {
	config := witness.GuestConfig{
		Listen: witnessAt(t.Inventory.Guest.Address.Addr()), SiteA: witnessAt(t.Inventory.EndA().Address), Token: token(ref),
		IntervalMs: t.Inventory.Guest.HeartbeatMs}
	if ownEngine(ref) {
		config.Load = t.inflightPage(ref)
	}
	if ref.LedgerBytes > 0 {
		config.Device, config.Region = t.GuestDevices().Disk, LedgerRegion(ref)
	}
	return config
}

// Witness is the process that watches on a host, or reports from the guest; it is
// controlled from here. InstallWitness must have been called before, and the disk
// must be there when the witness is started.
func (t *Testbed) Witness(ref trial.Ref, machine string) (record.Recording, error) {
	program, dir := t.witnessProgram(machine), t.WitnessDir(ref, machine)
	if machine == GuestName {
		return witness.NewGuest(t.guest, program, dir, t.guestConfig(ref))
	}
	if t.hosts[machine] == nil {
		return nil, t.unknown(machine)
	}
	// The folder and its files are enough to find a witness that runs already.
	known, err := witness.NewHost(t.hosts[machine], program, dir, t.hostConfig(ref, machine))
	if err != nil {
		return nil, err
	}
	return &lateWitness{Recording: known, start: func(ctx context.Context) error {
		setup, err := t.WitnessSetup(ctx, ref, machine)
		if err != nil {
			return err
		}
		recording, err := witness.NewHost(t.hosts[machine], setup.Program, setup.Dir, *setup.Host)
		if err != nil {
			return err
		}
		return recording.Start(ctx)
	}}, nil
}

// lateWitness looks for its devices only when it is started.
type lateWitness struct {
	record.Recording
	start func(context.Context) error
}

func (w *lateWitness) Start(ctx context.Context) error { return w.start(ctx) }

// Tail is that of the wrapped recording, which package witness made.
func (w *lateWitness) Tail(ctx context.Context, file string, bytes int64) ([]byte, error) {
	return w.Recording.(record.Tailer).Tail(ctx, file, bytes)
}

// CheckLedger reads the ledger back from a copy of the disk: on the copy's host,
// with the witness's program there; or from here, when the hypervisor makes the
// disks itself. Then the guest is powered off. acked is the newest record of whose
// acknowledgement the witness outside the guest was told.
func (t *Testbed) CheckLedger(ctx context.Context, ref trial.Ref, copied storage.Copy, acked uint64) (ledger.Report, error) {
	if site, found := t.siteOf(copied.Host); found && t.kind.Datastores {
		return t.checkThrough(ctx, t.hypervisors[site].(hypervisor.Datastores), ref, copied, acked)
	}
	var report ledger.Report
	host := t.Host(copied.Host)
	if host == nil {
		return report, t.unknown(copied.Host)
	}
	region, err := json.Marshal(LedgerRegion(ref))
	if err != nil {
		return report, err
	}
	result, err := host.Run(ctx, remote.Command{Timeout: ref.Job().LedgerSilence(), Args: []string{
		t.witnessProgram(copied.Host), "ledger", copied.Path, string(region), strconv.FormatUint(acked, 10)}})
	if err != nil {
		return report, fmt.Errorf("read the ledger from %s: %w", copied.Name, err)
	}
	if err := json.Unmarshal(result.Stdout, &report); err != nil {
		return report, fmt.Errorf("%s: the ledger's report on %s, %.200q: %w", copied.Host, copied.Name, result.Stdout, err)
	}
	report.Copy, report.Host = copied.Name, copied.Host
	return report, nil
}

// checkThrough reads the ledger through the hypervisor.
func (t *Testbed) checkThrough(ctx context.Context, host hypervisor.Datastores, ref trial.Ref, copied storage.Copy, acked uint64) (ledger.Report, error) {
	limit := ref.Job().LedgerSilence()
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("reading the ledger took longer than %s", limit))
	defer cancel()
	disk, err := host.OpenDisk(ctx, t.DomainName(GuestName))
	if err != nil {
		return ledger.Report{}, err
	}
	report, err := ledger.CheckFrom(disk, LedgerRegion(ref), acked)
	if err := errors.Join(err, disk.Close()); err != nil {
		return report, fmt.Errorf("read the ledger from %s: %w", copied.Name, err)
	}
	report.Copy, report.Host = copied.Name, copied.Host
	return report, nil
}
