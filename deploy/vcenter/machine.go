package vcenter

import (
	"context"
	"path"
	"sync"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"heliotrope/internal/hypervisor/vsphere"
	"heliotrope/internal/storage"
)

// machine is a machine of the simulator that a real guest carries out.
type machine struct {
	*simulator.VirtualMachine
	center *VCenter

	mu   sync.Mutex
	task *types.ManagedObjectReference // the running task; nil when there is none
	real bool                          // it was started once, so it may have a guest and a disk
	lost bool                          // it is not known where it runs
}

// disabled are the simulator's methods that no guest can carry out.
var disabled = []string{"CreateSnapshotTask", "CreateSnapshotExTask", "RevertToCurrentSnapshotTask", "RemoveAllSnapshotsTask",
	"ResetVMTask", "RebootGuest", "ShutdownGuest", "StandbyGuest", "AttachDiskTask", "DetachDiskTask", "PromoteDisksTask"}

// adopt replaces a machine of the simulator's by one of ours, so that its calls come to us. It
// does so at the first call, because the simulator expects a machine that it has just made to
// have its own type.
func (c *VCenter) adopt(sim *simulator.Context, ref types.ManagedObjectReference) {
	if _, own := c.registry().Get(ref).(*simulator.VirtualMachine); !own {
		return
	}
	sim.WithLock(ref, func() {
		if vm, own := c.registry().Get(ref).(*simulator.VirtualMachine); own {
			vm.DisabledMethod = disabled
			c.registry().Put(&machine{VirtualMachine: vm, center: c})
		}
	})
}

// view is the state of a machine at a moment.
type view struct {
	ref         types.ManagedObjectReference
	name        string
	power       types.VirtualMachinePowerState
	template    bool
	site        storage.Site
	folder      object.DatastorePath // folder of its files
	disk        object.DatastorePath // file that describes the disk; empty when it has none
	guest       Guest
	datastore   string // name of the datastore with its files
	deviceStore string // name of the datastore with its disk
}

// look returns the machine's state.
func (m *machine) look(sim *simulator.Context) view {
	var v view
	sim.WithLock(m.VirtualMachine, func() {
		v = view{ref: m.Self, name: m.Name, power: m.Runtime.PowerState, template: m.Config.Template, site: m.center.siteOf(m.Runtime.Host)}
		v.folder.FromString(m.Config.Files.VmPathName)
		if path.Ext(v.folder.Path) == ".vmx" {
			v.folder.Path = path.Dir(v.folder.Path)
		}
		v.datastore = v.folder.Datastore
		v.guest = Guest{ID: m.Self.Value, MemoryMiB: int(m.Config.Hardware.MemoryMB), VCPUs: int(m.Config.Hardware.NumCPU)}
		devices := object.VirtualDeviceList(m.Config.Hardware.Device)
		for _, card := range devices.SelectByType((*types.VirtualEthernetCard)(nil)) {
			v.guest.MAC = card.(types.BaseVirtualEthernetCard).GetVirtualEthernetCard().MacAddress
		}
		// The real guest boots the testbed's own kernel and has no other disk.
		if disk := vsphere.LastDisk(devices); disk != nil {
			v.disk.FromString(fileOf(disk))
			v.guest.DiskBytes = vsphere.DiskBytes(disk)
			v.guest.Store = m.center.stores[v.disk.Datastore].store
		}
		v.deviceStore = v.disk.Datastore
	})
	return v
}

func fileOf(disk *types.VirtualDisk) string {
	if backing, is := disk.Backing.(types.BaseVirtualDeviceFileBackingInfo); is {
		return backing.GetVirtualDeviceFileBackingInfo().FileName
	}
	return ""
}

// isReal reports whether the machine was ever started.
func (m *machine) isReal() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.real
}

// turn is a change of a machine's power state, with the events that report it.
type turn struct {
	to           types.VirtualMachinePowerState
	begins, ends func(types.VmEvent) types.BaseEvent
	do           func() error // on the real guest
}

func (m *machine) turn(sim *simulator.Context, v view, wanted turn) error {
	m.post(sim, v, wanted.begins)
	if err := wanted.do(); err != nil {
		return err
	}
	m.setPower(sim, wanted.to)
	m.post(sim, v, wanted.ends)
	return nil
}

// PowerOnVMTask starts or resumes the real guest.
func (m *machine) PowerOnVMTask(ctx *simulator.Context, req *types.PowerOnVM_Task) soap.HasFault {
	body := new(methods.PowerOnVM_TaskBody)
	if req.Host != nil && *req.Host != *m.Runtime.Host {
		body.Fault_ = simulator.Fault("the machine is on another host: relocate it first", &types.InvalidArgument{InvalidProperty: "host"})
		return body
	}
	ref, refused := m.begin(ctx, powerOn, func(ctx context.Context, t *task) (types.AnyType, error) {
		v := m.look(t.sim)
		switch {
		case v.template:
			return nil, refuse(new(types.InvalidState), "it is a template")
		case v.power == types.VirtualMachinePowerStatePoweredOn:
			return nil, wrongPower(v.power, types.VirtualMachinePowerStatePoweredOff)
		}
		on := turn{to: types.VirtualMachinePowerStatePoweredOn,
			begins: func(e types.VmEvent) types.BaseEvent { return &types.VmStartingEvent{VmEvent: e} },
			ends:   func(e types.VmEvent) types.BaseEvent { return &types.VmPoweredOnEvent{VmEvent: e} },
			do:     func() error { return m.start(ctx, v) }}
		if v.power == types.VirtualMachinePowerStateSuspended {
			on.begins = func(e types.VmEvent) types.BaseEvent { return &types.VmResumingEvent{VmEvent: e} }
			on.do = func() error { return m.center.guests.Resume(ctx, v.guest, v.site) }
		}
		return nil, m.turn(t.sim, v, on)
	})
	if body.Fault_ = refused; refused == nil {
		body.Res = &types.PowerOnVM_TaskResponse{Returnval: ref}
	}
	return body
}

// start starts the real guest with a new log. It begins the log first, so that no guest runs if
// the log cannot be written.
func (m *machine) start(ctx context.Context, v view) error {
	if m.center.stores[v.disk.Datastore].store == "" && v.guest.DiskBytes > 0 {
		return refuse(new(types.InvalidState), "its disk is in no datastore of the testbed, but in [%s]", v.disk.Datastore)
	}
	m.mu.Lock()
	m.real = true
	m.mu.Unlock()
	if err := m.newLog(ctx, v, v.site); err != nil {
		return err
	}
	return m.center.guests.Start(ctx, v.guest, v.site)
}

// PowerOffVMTask ends the real guest.
func (m *machine) PowerOffVMTask(ctx *simulator.Context, _ *types.PowerOffVM_Task) soap.HasFault {
	body := new(methods.PowerOffVM_TaskBody)
	ref, refused := m.begin(ctx, powerOff, func(ctx context.Context, t *task) (types.AnyType, error) {
		v := m.look(t.sim)
		if v.power == types.VirtualMachinePowerStatePoweredOff {
			return nil, wrongPower(v.power, types.VirtualMachinePowerStatePoweredOn)
		}
		return nil, m.turn(t.sim, v, turn{to: types.VirtualMachinePowerStatePoweredOff,
			begins: func(e types.VmEvent) types.BaseEvent { return &types.VmStoppingEvent{VmEvent: e} },
			ends:   func(e types.VmEvent) types.BaseEvent { return &types.VmPoweredOffEvent{VmEvent: e} },
			do:     func() error { return m.center.guests.Stop(ctx, v.guest) }})
	})
	if body.Fault_ = refused; refused == nil {
		body.Res = &types.PowerOffVM_TaskResponse{Returnval: ref}
	}
	return body
}

// SuspendVMTask stops the real guest's processors. The guest's memory is not written anywhere.
func (m *machine) SuspendVMTask(ctx *simulator.Context, _ *types.SuspendVM_Task) soap.HasFault {
	body := new(methods.SuspendVM_TaskBody)
	ref, refused := m.begin(ctx, suspend, func(ctx context.Context, t *task) (types.AnyType, error) {
		v := m.look(t.sim)
		if v.power != types.VirtualMachinePowerStatePoweredOn {
			return nil, wrongPower(v.power, types.VirtualMachinePowerStatePoweredOn)
		}
		return nil, m.turn(t.sim, v, turn{to: types.VirtualMachinePowerStateSuspended,
			begins: func(e types.VmEvent) types.BaseEvent { return &types.VmSuspendingEvent{VmEvent: e} },
			ends:   func(e types.VmEvent) types.BaseEvent { return &types.VmSuspendedEvent{VmEvent: e} },
			do:     func() error { return m.center.guests.Pause(ctx, v.guest, v.site) }})
	})
	if body.Fault_ = refused; refused == nil {
		body.Res = &types.SuspendVM_TaskResponse{Returnval: ref}
	}
	return body
}

// DestroyTask removes the real guest and its disk, and then the simulator's machine.
func (m *machine) DestroyTask(ctx *simulator.Context, req *types.Destroy_Task) soap.HasFault {
	body := new(methods.Destroy_TaskBody)
	ref, refused := m.begin(ctx, destroy, func(ctx context.Context, t *task) (types.AnyType, error) {
		v := m.look(t.sim)
		if v.power == types.VirtualMachinePowerStatePoweredOn {
			return nil, wrongPower(v.power, types.VirtualMachinePowerStatePoweredOff)
		}
		if m.isReal() {
			if err := m.center.guests.Remove(ctx, v.guest); err != nil {
				return nil, err
			}
		}
		return nil, outcome(t.sim, m.VirtualMachine.DestroyTask(t.sim, req).(*methods.Destroy_TaskBody).Res.Returnval)
	})
	if body.Fault_ = refused; refused == nil {
		body.Res = &types.Destroy_TaskResponse{Returnval: ref}
	}
	return body
}

// outcome waits for the end of a task of the simulator's own.
func outcome(sim *simulator.Context, ref types.ManagedObjectReference) error {
	own := sim.Map.Get(ref).(*simulator.Task)
	own.Wait()
	if own.Info.Error != nil {
		return refuse(own.Info.Error.Fault, "%s", own.Info.Error.LocalizedMessage)
	}
	return nil
}

// UnregisterVM is refused for a machine with a real disk, because nobody could remove the disk
// afterwards.
func (m *machine) UnregisterVM(ctx *simulator.Context, req *types.UnregisterVM) soap.HasFault {
	if m.isReal() {
		return &methods.UnregisterVMBody{Fault_: simulator.Fault("the machine has a real disk: destroy it", new(types.NotSupported))}
	}
	return m.VirtualMachine.UnregisterVM(ctx, req)
}

// CloneVMTask leaves the work to the simulator. It refuses what the simulator would accept but
// could not be carried out, or would end this program.
func (m *machine) CloneVMTask(ctx *simulator.Context, req *types.CloneVM_Task) soap.HasFault {
	location := req.Spec.Location
	host, datastore := m.Runtime.Host, m.datastoreOf(m.folderName())
	if location.Host != nil {
		host = location.Host
	}
	if location.Datastore != nil {
		datastore = *location.Datastore
	}
	body := new(methods.CloneVM_TaskBody)
	switch {
	case req.Spec.PowerOn:
		body.Fault_ = simulator.Fault("clone it, and power the clone on by a call of its own", new(types.NotSupported))
	case m.center.siteOf(host) == "":
		body.Fault_ = simulator.Fault("there is no such host", &types.InvalidArgument{InvalidProperty: "spec.location.host"})
	case !m.center.mounted(*host, datastore):
		body.Fault_ = simulator.Fault("the datastore is not on the host", &types.InvalidArgument{InvalidProperty: "spec.location.datastore"})
	default:
		return m.VirtualMachine.CloneVMTask(ctx, req)
	}
	return body
}

// folderName returns the name of the datastore with the machine's files.
func (m *machine) folderName() string {
	var files object.DatastorePath
	files.FromString(m.Config.Files.VmPathName)
	return files.Datastore
}

func (m *machine) datastoreOf(name string) types.ManagedObjectReference {
	return m.center.stores[name].ref
}

// setPower sets the power state that the machine reports.
func (m *machine) setPower(sim *simulator.Context, state types.VirtualMachinePowerState) {
	var boot types.AnyType
	if state == types.VirtualMachinePowerStatePoweredOn {
		boot = time.Now()
	}
	sim.Map.AtomicUpdate(sim, m.VirtualMachine, append(quickStats(0, 0, 0, 0),
		types.PropertyChange{Name: "runtime.powerState", Val: state}, types.PropertyChange{Name: "summary.runtime.powerState", Val: state},
		types.PropertyChange{Name: "runtime.bootTime", Val: boot}, types.PropertyChange{Name: "summary.runtime.bootTime", Val: boot}))
}

func wrongPower(is, wanted types.VirtualMachinePowerState) error {
	return refuse(&types.InvalidPowerState{ExistingState: is, RequestedState: wanted}, "the machine is %s, and must be %s", is, wanted)
}
