package activities

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rs/zerolog"
	"go.temporal.io/sdk/activity"
	"golang.org/x/sync/errgroup"

	"heliotrope/activities/machine"
	"heliotrope/activities/pulse"
	"heliotrope/internal/fault"
	"heliotrope/internal/folder"
	"heliotrope/internal/gate"
	"heliotrope/internal/gate/pass"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/link"
	"heliotrope/internal/remote"
	"heliotrope/internal/testbed"
	"heliotrope/internal/trial"
)

// Links installs our programs on machines, and keeps workers running there that are
// connected to Temporal through the controller.
type Links struct {
	Open   Opener
	Binary string // the worker program, on the controller
	// Gate has the options that all workers' gates share: Temporal, the namespace and the
	// key.
	Gate gate.Options
	Log  zerolog.Logger
}

// LinkInput names a machine, and the queue that its worker serves.
type LinkInput struct {
	Target
	Machine string `json:"machine"`
	Queue   string `json:"queue"`
}

// Linked is the heartbeat of a link whose worker is connected.
type Linked struct {
	Worker string `json:"worker"` // the machine that it runs on
}

// Machines is a testbed on whose machines a worker can be installed.
type Machines interface {
	testbed.Bed
	// Machine reaches a host, or the guest while it runs.
	Machine(name string) remote.Host
	// ProgramDir is the folder of our programs on a machine.
	ProgramDir(name string) string
	// RunDir is the folder in which one of our processes keeps its state on a machine; a
	// teardown of the testbed ends the process.
	RunDir(machine, name string) string
	// LoadDir is the folder of an attempt's load in the guest.
	LoadDir(ref trial.Ref) string
	// InstallWitness installs the witness on a machine, and WitnessSetup says what it does
	// there.
	InstallWitness(ctx context.Context, name string) error
	WitnessSetup(ctx context.Context, ref trial.Ref, name string) (testbed.WitnessSetup, error)
	// GuestDevices are the names of the guest's devices.
	GuestDevices() hypervisor.Devices
	// WANPlace is the host that bridges the sites, and its interface that leads to site B.
	WANPlace() (host, device string)
}

// hostWorker and hostWitness say whether the worker or the witness is on a machine before
// the guest runs.
func hostWorker(m trial.Machine) bool  { return m.Worker && m.Name != trial.Guest }
func hostWitness(m trial.Machine) bool { return m.Witness && m.Name != trial.Guest }

// Install installs the worker and the witness on every host that has them, so that they are
// there before the hosts' state is noted. They stay there from trial to trial, until
// Remove.
func (l *Links) Install(ctx context.Context, target Target) error {
	return withBed(ctx, l.Open, target, silenceOf(target), owning(target, func(ctx context.Context, bed testbed.Bed, p *pulse.Pulse) error {
		machines, err := machinesOf(bed)
		if err != nil {
			return err
		}
		hosts, ctx := errgroup.WithContext(ctx)
		for _, name := range named(bed, hostWorker) {
			hosts.Go(func() error { return l.install(ctx, machines, name, p) })
		}
		for _, name := range named(bed, hostWitness) {
			hosts.Go(func() error {
				p.Done(pulse.Step{Step: "install the witness on " + name})
				return machines.InstallWitness(ctx, name)
			})
		}
		return hosts.Wait()
	}))
}

// Link keeps a worker running on a machine until it is cancelled.
func (l *Links) Link(ctx context.Context, input LinkInput) error {
	return withBed(ctx, l.Open, input.Target, silenceOf(input.Target), func(ctx context.Context, bed testbed.Bed, p *pulse.Pulse) error {
		machines, err := machinesOf(bed)
		if err != nil {
			return err
		}
		if err := l.install(ctx, machines, input.Machine, p); err != nil {
			return err
		}
		p.Quiet()
		role := "host"
		if input.Machine == trial.Guest {
			role = "guest"
		}
		log := l.Log.With().Fields(input.Target.LogKeys()).Logger()
		err = link.Run(ctx, machines.Machine(input.Machine), link.Options{
			Binary: link.BinaryPath(machines.ProgramDir(input.Machine)), Dir: machines.RunDir(input.Machine, testbed.WorkerFolder),
			Queue: input.Queue, Role: role, Name: input.Machine, Namespace: l.Gate.Namespace, Hurry: p.Hurried(), Log: log,
			Gate: func(its pass.Pass) (link.Gate, error) {
				own := l.Gate
				own.Queue, own.Pass, own.Log = input.Queue, its, log.With().Str("host", input.Machine).Logger()
				return gate.New(own)
			},
			Lost: func(ctx context.Context, why string) error { return l.failLost(ctx, role, input.Machine, why, log) },
		}, func() { p.Done(Linked{Worker: input.Machine}) })
		if err == nil {
			// Link ended only because its context did. That is no success: unless the
			// workflow has cancelled the activity, the next try must hold the line again.
			err = context.Cause(ctx)
		}
		return err
	})
}

// failLost has the activities that a lost worker was running in this trial tried again.
func (l *Links) failLost(ctx context.Context, role, machineName, why string, log zerolog.Logger) error {
	of := activity.GetInfo(ctx).WorkflowExecution
	names, err := FailLost(ctx, activity.GetClient(ctx), l.Gate.Namespace, of.ID, of.RunID, func(worker string, _ time.Time) error {
		if !machine.IsWorker(worker, role, machineName) {
			return nil
		}
		return fault.New(fault.Infrastructure, "%s: %s", machineName, why)
	})
	for _, name := range names {
		log.Warn().Str("host", machineName).Str("activity", name).Msg(why + ": what it was at is tried again")
	}
	return err
}

// install installs the worker's program on a machine. It refuses a host on which somebody else could exchange the program.
func (l *Links) install(ctx context.Context, machines Machines, name string, p *pulse.Pulse) error {
	if name != trial.Guest {
		if err := folder.CheckOwners(ctx, machines.Machine(name), machines.ProgramDir(name)); err != nil {
			return err
		}
	}
	return link.InstallWorker(ctx, machines.Machine(name), l.Binary, machines.ProgramDir(name), func(done, total int64) {
		p.Done(pulse.Step{Step: fmt.Sprintf("install the worker on %s: %d of %d bytes", name, done, total)})
	})
}

// Remove removes everything of ours from a testbed and gives its hosts back: what attempts
// have left there, and our programs. It skips hosts that are away.
func (l *Links) Remove(ctx context.Context, target Target) error {
	return withBed(ctx, l.Open, target, silenceOf(target), releasing(target, func(ctx context.Context, bed testbed.Bed, p *pulse.Pulse) error {
		p.Done(pulse.Step{Step: "remove what was left on the hosts"})
		errs := []error{bed.Teardown(ctx)}
		machines, has := bed.(Machines)
		if !has {
			return errors.Join(errs...)
		}
		for _, name := range named(bed, trial.Machine.HasPrograms) {
			p.Done(pulse.Step{Step: "remove our programs from " + name})
			errs = append(errs, testbed.RemovePrograms(ctx, machines.Machine(name), machines.ProgramDir(name)))
		}
		return errors.Join(errs...)
	}))
}

func machinesOf(bed testbed.Bed) (Machines, error) {
	machines, ok := bed.(Machines)
	if !ok {
		return nil, fault.New(fault.BadInput, "testbed %s has no machines to put a program of ours on", bed.Name())
	}
	return machines, nil
}
