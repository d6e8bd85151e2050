package vcenter

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"heliotrope/internal/hypervisor"
	"heliotrope/internal/storage"
)

// move describes a relocation.
type move struct {
	from, to  storage.Site
	datastore string // name of the target datastore; "" when the machine stays in its own
	pool      *types.ManagedObjectReference
}

// RelocateVMTask migrates the real guest.
func (m *machine) RelocateVMTask(ctx *simulator.Context, req *types.RelocateVM_Task) soap.HasFault {
	body := new(methods.RelocateVM_TaskBody)
	ref, refused := m.begin(ctx, relocate, func(ctx context.Context, t *task) (types.AnyType, error) {
		v := m.look(t.sim)
		wanted, err := m.plan(v, req.Spec)
		if err != nil || wanted.from == wanted.to && wanted.datastore == "" {
			return nil, err
		}
		m.postBegin(t.sim, v, wanted)
		if err = m.relocate(ctx, t, v, wanted); err != nil {
			m.postFailed(t.sim, v, wanted, err)
			return nil, err
		}
		m.postMoved(t.sim, v)
		return nil, nil
	})
	if body.Fault_ = refused; refused == nil {
		body.Res = &types.RelocateVM_TaskResponse{Returnval: ref}
	}
	return body
}

// plan returns what a relocation would do, or an error that says why it is refused.
func (m *machine) plan(v view, spec types.VirtualMachineRelocateSpec) (move, error) {
	wanted := move{from: v.site, to: v.site, pool: spec.Pool}
	switch {
	case spec.Service != nil, spec.Folder != nil, len(spec.DeviceChange) > 0, len(spec.Profile) > 0:
		return wanted, refuse(new(types.NotSupported), "this vCenter moves machines to a host and a datastore, and to nothing else")
	case v.power == types.VirtualMachinePowerStateSuspended:
		return wanted, wrongPower(v.power, types.VirtualMachinePowerStatePoweredOn)
	}
	if spec.Host != nil {
		if wanted.to = m.center.siteOf(spec.Host); wanted.to == "" {
			return wanted, refuse(&types.InvalidArgument{InvalidProperty: "spec.host"}, "there is no host %s", spec.Host.Value)
		}
	}
	target, err := m.target(v, spec)
	if err != nil {
		return wanted, err
	}
	if target != v.datastore {
		wanted.datastore = target
	}
	if host := m.center.hosts[wanted.to]; !m.center.mounted(host.ref, m.center.stores[target].ref) {
		return wanted, refuse(&types.CannotAccessVmDisk{Fault: types.LocalizedMethodFault{Fault: new(types.FileNotFound)}},
			"datastore %s is not on host %s: name one that is", target, host.name)
	}
	if wanted.datastore == "" {
		return wanted, nil
	}
	if m.center.stores[v.datastore].store != Local || m.center.stores[target].store != Local || wanted.from == wanted.to {
		return wanted, refuse(new(types.NotSupported), "behind this vCenter a disk is moved from a host's local datastore to the other host's only, not from %s to %s", v.datastore, target)
	}
	if m.isReal() && v.power != types.VirtualMachinePowerStatePoweredOn {
		return wanted, refuse(new(types.NotSupported), "behind this vCenter the disk of a machine that does not run is not moved")
	}
	return wanted, nil
}

// target returns the name of the single datastore that a relocation names, or else the machine's
// own.
func (m *machine) target(v view, spec types.VirtualMachineRelocateSpec) (string, error) {
	if v.guest.DiskBytes > 0 && v.deviceStore != v.datastore {
		return "", refuse(new(types.NotSupported), "the machine lies in two datastores, %s and %s", v.datastore, v.deviceStore)
	}
	target := v.datastore
	if spec.Datastore != nil {
		if target = m.center.datastoreName(*spec.Datastore); target == "" {
			return "", refuse(&types.InvalidArgument{InvalidProperty: "spec.datastore"}, "there is no datastore %s", spec.Datastore.Value)
		}
	}
	for _, disk := range spec.Disk {
		if m.center.datastoreName(disk.Datastore) != target {
			return "", refuse(new(types.NotSupported), "all disks must go to one datastore")
		}
	}
	return target, nil
}

// relocate does the relocation, and records where the machine is afterwards, however it ended.
func (m *machine) relocate(ctx context.Context, t *task, v view, wanted move) error {
	guests := m.center.guests
	switch {
	case v.power == types.VirtualMachinePowerStatePoweredOn:
		at, stuns, err := guests.Move(ctx, v.guest, wanted.from, wanted.to, t.progress)
		return errors.Join(err, m.arrive(t, v, wanted, at, stuns, err))
	case m.isReal():
		if err := guests.Carry(ctx, v.guest, wanted.from, wanted.to); err != nil {
			return err
		}
	}
	return m.settle(t.sim, v, wanted)
}

// arrive records where a guest is after a migration, and writes its stops to the logs. A failure
// to write a log does not make the relocation fail.
func (m *machine) arrive(t *task, v view, wanted move, at storage.Site, stuns []Stun, moved error) error {
	switch {
	case errors.Is(moved, hypervisor.ErrUnknown):
		m.lose(t.sim, v, wanted, stuns)
		return nil
	case errors.Is(moved, errGone):
		m.setPower(t.sim, types.VirtualMachinePowerStatePoweredOff)
		return nil
	}
	err := m.found(t.sim, v, wanted, at, stuns)
	if moved == nil && at != wanted.to {
		err = errors.Join(err, fmt.Errorf("the guest is at site %s", at))
	}
	return err
}

// found puts the machine where its guest is, and writes the guest's stops to the logs of the
// hosts at which they ended.
func (m *machine) found(sim *simulator.Context, v view, wanted move, at storage.Site, stuns []Stun) error {
	m.center.note(v, m.tellStuns(v, stuns, wanted.from))
	if at != wanted.to {
		return nil
	}
	err := m.settle(sim, v, wanted)
	v = m.look(sim)
	m.center.note(v, m.newLog(m.center.ctx, v, at))
	m.center.note(v, m.tellStuns(v, stuns, at))
	return err
}

// settle moves the machine to its new host, pool and datastore.
func (m *machine) settle(sim *simulator.Context, v view, wanted move) error {
	from, to := m.center.hosts[wanted.from], m.center.hosts[wanted.to]
	if wanted.datastore != "" {
		source, target := m.center.path(v.folder), m.center.path(object.DatastorePath{Datastore: wanted.datastore, Path: v.folder.Path})
		if err := os.Rename(source, target); err != nil { //nolint:forbidigo // a whole folder
			return fmt.Errorf("move the machine's files to datastore %s: %w", wanted.datastore, err)
		}
	}
	m.center.transfer(sim, from.ref, to.ref, m.Self)
	m.center.meter.forget(m.Self)
	sim.WithLock(m.VirtualMachine, func() {
		changes := []types.PropertyChange{{Name: "runtime.host", Val: &to.ref}, {Name: "summary.runtime.host", Val: &to.ref}}
		if wanted.pool != nil {
			changes = append(changes, types.PropertyChange{Name: "resourcePool", Val: wanted.pool})
		}
		if wanted.datastore != "" {
			changes = append(changes, m.inDatastore(v, wanted.datastore)...)
		}
		sim.Map.Update(sim, m.VirtualMachine, changes)
		m.RefreshStorageInfo(sim, nil)
	})
	if wanted.datastore != "" {
		m.center.transfer(sim, m.datastoreOf(v.datastore), m.datastoreOf(wanted.datastore), m.Self)
	}
	return nil
}

// inDatastore returns the property changes of a machine whose files have moved to another
// datastore.
func (m *machine) inDatastore(v view, name string) []types.PropertyChange {
	moved := func(file string) string {
		var at object.DatastorePath
		if !at.FromString(file) || at.Datastore != v.datastore {
			return file
		}
		at.Datastore = name
		return at.String()
	}
	ref := m.datastoreOf(name)
	files := m.Config.Files
	for _, file := range []*string{&files.VmPathName, &files.SnapshotDirectory, &files.SuspendDirectory, &files.LogDirectory} {
		*file = moved(*file)
	}
	devices := slices.Clone(m.Config.Hardware.Device)
	for i, device := range devices {
		disk, is := device.(*types.VirtualDisk)
		if !is {
			continue
		}
		if backing, is := disk.Backing.(*types.VirtualDiskFlatVer2BackingInfo); is {
			disk, backing := *disk, *backing
			backing.FileName, backing.Datastore = moved(backing.FileName), &ref
			disk.Backing = &backing
			devices[i] = &disk
		}
	}
	return []types.PropertyChange{
		{Name: "datastore", Val: []types.ManagedObjectReference{ref}},
		{Name: "config.files", Val: files}, {Name: "summary.config.vmPathName", Val: files.VmPathName},
		{Name: "config.hardware.device", Val: devices},
	}
}

// postBegin posts the event that a machine's move has begun.
func (m *machine) postBegin(sim *simulator.Context, v view, wanted move) {
	m.post(sim, v, func(e types.VmEvent) types.BaseEvent {
		host, datastore := m.center.hostArgument(wanted.to), m.center.destination(v, wanted)
		// The simulator has no text for these events.
		e.FullFormattedMessage = fmt.Sprintf("Moving %s from %s, %s to %s, %s", v.name, e.Host.Name, e.Ds.Name, host.Name, datastore.Name)
		if wanted.datastore != "" {
			return &types.VmBeingRelocatedEvent{VmRelocateSpecEvent: types.VmRelocateSpecEvent{VmEvent: e},
				DestHost: host, DestDatacenter: m.center.datacenterArgument(), DestDatastore: datastore}
		}
		return &types.VmBeingHotMigratedEvent{VmEvent: e, DestHost: host, DestDatacenter: m.center.datacenterArgument(), DestDatastore: datastore}
	})
}

// postFailed posts the event that a machine's move has failed.
func (m *machine) postFailed(sim *simulator.Context, v view, wanted move, err error) {
	reason := types.LocalizedMethodFault{Fault: faultOf(err), LocalizedMessage: err.Error()}
	m.post(sim, v, func(e types.VmEvent) types.BaseEvent {
		host, datastore := m.center.hostArgument(wanted.to), m.center.destination(v, wanted)
		if wanted.datastore != "" {
			return &types.VmRelocateFailedEvent{VmRelocateSpecEvent: types.VmRelocateSpecEvent{VmEvent: e},
				DestHost: host, Reason: reason, DestDatacenter: m.center.datacenterArgument(), DestDatastore: datastore}
		}
		return &types.VmFailedMigrateEvent{VmEvent: e, DestHost: host, Reason: reason, DestDatacenter: m.center.datacenterArgument(), DestDatastore: datastore}
	})
}

// postMoved posts the event that a machine has moved.
func (m *machine) postMoved(sim *simulator.Context, was view) {
	now := m.look(sim)
	m.post(sim, now, func(e types.VmEvent) types.BaseEvent {
		host, datastore := m.center.hostArgument(was.site), m.center.datastoreArgument(was.datastore)
		if now.datastore != was.datastore {
			return &types.VmRelocatedEvent{VmRelocateSpecEvent: types.VmRelocateSpecEvent{VmEvent: e},
				SourceHost: host, SourceDatacenter: m.center.datacenterArgument(), SourceDatastore: datastore}
		}
		return &types.VmMigratedEvent{VmEvent: e, SourceHost: host, SourceDatacenter: m.center.datacenterArgument(), SourceDatastore: datastore}
	})
}

func (c *VCenter) destination(v view, wanted move) *types.DatastoreEventArgument {
	if wanted.datastore == "" {
		return c.datastoreArgument(v.datastore)
	}
	return c.datastoreArgument(wanted.datastore)
}

// checker checks beforehand whether a relocation would be refused.
type checker struct {
	*simulator.VmProvisioningChecker
	center *VCenter
}

// CheckRelocateTask checks the relocation of one machine.
func (c *checker) CheckRelocateTask(ctx *simulator.Context, req *types.CheckRelocate_Task) soap.HasFault {
	c.center.adopt(ctx, req.Vm)
	own := *ctx
	t := simulator.CreateTask(c.Self, "checkRelocate", func(*simulator.Task) (types.AnyType, types.BaseMethodFault) {
		m, known := own.Map.Get(req.Vm).(*machine)
		if !known {
			return nil, &types.ManagedObjectNotFound{Obj: req.Vm}
		}
		result := types.CheckResult{Vm: &req.Vm}
		if _, err := m.plan(m.look(&own), req.Spec); err != nil {
			result.Error = []types.LocalizedMethodFault{{Fault: faultOf(err), LocalizedMessage: err.Error()}}
		}
		return types.ArrayOfCheckResult{CheckResult: []types.CheckResult{result}}, nil
	})
	return &methods.CheckRelocate_TaskBody{Res: &types.CheckRelocate_TaskResponse{Returnval: t.Run(ctx)}}
}
