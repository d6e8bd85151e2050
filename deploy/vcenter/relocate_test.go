package vcenter

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"heliotrope/deploy/vcenter/place"
	"heliotrope/internal/hypervisor"
)

func (w *world) sim() *simulator.Context {
	return &simulator.Context{Context: w.t.Context(), Map: w.center.registry()}
}

// info returns the present state of a task.
func (w *world) info(task *object.Task) types.TaskInfo {
	w.t.Helper()
	var now mo.Task
	require.NoError(w.t, task.Properties(w.t.Context(), task.Reference(), []string{"info"}, &now))
	return now.Info
}

// TestRelocate: the task lasts as long as the real migration, reports its progress, and then the
// machine is on the other host.
func TestRelocate(t *testing.T) {
	w := newWorld(t)
	vm := w.clone("host-a", place.NFS)
	w.powerOn(vm)
	w.fake.told()
	task, m := w.underWay(vm, "host-b")
	for _, percent := range []int{17, 42, 41, 100} {
		m.percent(percent)
		info := w.info(task)
		assert.Equal(t, types.TaskInfoStateRunning, info.State)
		assert.Equal(t, map[int]int32{17: 17, 42: 42, 41: 42, 100: 99}[percent], info.Progress)
	}
	w.requireAt(vm, "host-a")
	m.end <- nil
	require.NoError(t, task.Wait(t.Context()))
	w.requireAt(vm, "host-b")
	assert.Equal(t, []string{"move in nfs from a to b"}, w.fake.told())
	assert.Equal(t, []string{"VmBeingHotMigratedEvent", "VmMigratedEvent"}, last(w.events(vm), 2))
	info := w.info(task)
	assert.Equal(t, "RelocateVM_Task", info.Name)
	assert.NotNil(t, info.CompleteTime)
	var own mo.VirtualMachine
	require.NoError(t, vm.Properties(t.Context(), vm.Reference(), []string{"recentTask", "config.hardware.device"}, &own))
	relocations := 0
	for _, ref := range own.RecentTask {
		if w.info(object.NewTask(w.client.Client, ref)).Name == "RelocateVM_Task" {
			relocations++
		}
	}
	assert.Equal(t, 1, relocations, "it is found among the machine's tasks")
	w.do(w.relocate(vm, w.location("host-b", "")))
	assert.Empty(t, w.fake.told(), "it is there already")
	w.do(vm.PowerOff(t.Context()))
	w.fake.moves = nil
	w.do(w.relocate(vm, w.location("host-a", "")))
	w.requireAt(vm, "host-a")
	w.do(vm.Destroy(t.Context()))
	assert.Equal(t, []string{"stop", "carry from b to a", "remove"}, w.fake.told())
}

// TestRelocateWithDisk: a machine in a local datastore moves to the other host's local datastore.
func TestRelocateWithDisk(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	vm := w.clone("host-a", place.LocalA)
	w.powerOn(vm)
	w.fake.told()
	for range 2 {
		w.do(w.relocate(vm, w.location("host-b", place.LocalB)))
		w.requireAt(vm, "host-b")
		assert.Empty(t, w.files(place.LocalA, "lab.vm"))
		assert.Contains(t, w.files(place.LocalB, "lab.vm"), "vmware.log")
		var own mo.VirtualMachine
		require.NoError(t, vm.Properties(ctx, vm.Reference(), []string{"config", "datastore", "layoutEx", "summary.config.vmPathName"}, &own))
		store, err := w.finder.Datastore(ctx, place.Datastore(place.LocalB))
		require.NoError(t, err)
		assert.Equal(t, []types.ManagedObjectReference{store.Reference()}, own.Datastore)
		paths := []string{own.Config.Files.VmPathName, own.Config.Files.LogDirectory, own.Summary.Config.VmPathName}
		for _, file := range own.LayoutEx.File {
			paths = append(paths, file.Name)
		}
		for _, device := range own.Config.Hardware.Device {
			if disk, is := device.(*types.VirtualDisk); is {
				paths = append(paths, fileOf(disk))
				assert.Equal(t, store.Reference(), *disk.Backing.(*types.VirtualDiskFlatVer2BackingInfo).Datastore)
			}
		}
		for _, path := range paths {
			assert.True(t, strings.HasPrefix(path, "[local-b] lab.vm"), path)
		}
		assert.Equal(t, []string{"VmBeingRelocatedEvent", "VmRelocatedEvent"}, last(w.events(vm), 2))
		w.do(w.relocate(vm, w.location("host-a", place.LocalA)))
		w.requireAt(vm, "host-a")
	}
	assert.Equal(t, []string{"move in local from a to b", "move in local from b to a", "move in local from a to b", "move in local from b to a"}, w.fake.told())
	// When the simulator changes the machine's devices, it finds the machine's files.
	task, err := vm.Reconfigure(ctx, types.VirtualMachineConfigSpec{Annotation: "note"})
	w.do(task, err)
	w.do(vm.PowerOff(ctx))
	w.do(vm.Destroy(ctx))
	assert.Empty(t, w.files(place.LocalA, "lab.vm"))
}

// TestRelocateIsRefused: the vCenter refuses beforehand what it cannot do, and does not do it.
func TestRelocateIsRefused(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	vm := w.clone("host-a", place.LocalA)
	w.powerOn(vm)
	w.fake.told()
	folder := w.center.cluster.ref
	for name, tt := range map[string]struct {
		spec types.VirtualMachineRelocateSpec
		want types.BaseMethodFault
	}{
		"its datastore stays":   {w.location("host-b", ""), new(types.CannotAccessVmDisk)},
		"not on the host":       {w.location("host-b", place.LocalA), new(types.CannotAccessVmDisk)},
		"another kind":          {w.location("host-b", place.NFS), new(types.NotSupported)},
		"no such host":          {types.VirtualMachineRelocateSpec{Host: &folder}, new(types.InvalidArgument)},
		"no such datastore":     {types.VirtualMachineRelocateSpec{Datastore: &folder}, new(types.InvalidArgument)},
		"another folder":        {types.VirtualMachineRelocateSpec{Folder: &folder}, new(types.NotSupported)},
		"disks to two of them":  {w.withDisk(w.location("host-b", place.LocalB), place.LocalA), new(types.NotSupported)},
		"another vCenter's":     {types.VirtualMachineRelocateSpec{Service: &types.ServiceLocator{}}, new(types.NotSupported)},
		"its network as well":   {types.VirtualMachineRelocateSpec{DeviceChange: []types.BaseVirtualDeviceConfigSpec{&types.VirtualDeviceConfigSpec{Device: &types.VirtualE1000{}}}}, new(types.NotSupported)},
		"its storage's profile": {types.VirtualMachineRelocateSpec{Profile: []types.BaseVirtualMachineProfileSpec{&types.VirtualMachineDefaultProfileSpec{}}}, new(types.NotSupported)},
	} {
		t.Run(name, func(t *testing.T) {
			res, err := methods.CheckRelocate_Task(ctx, w.client.Client, &types.CheckRelocate_Task{
				This: *w.client.ServiceContent.VmProvisioningChecker, Vm: vm.Reference(), Spec: tt.spec})
			require.NoError(t, err)
			info, err := object.NewTask(w.client.Client, res.Returnval).WaitForResult(ctx, nil)
			require.NoError(t, err)
			checked := info.Result.(types.ArrayOfCheckResult).CheckResult
			require.Len(t, checked, 1)
			require.Len(t, checked[0].Error, 1)
			assert.IsType(t, tt.want, checked[0].Error[0].Fault)
			assert.NotEmpty(t, checked[0].Error[0].LocalizedMessage)
			assert.IsType(t, tt.want, w.fault(w.relocate(vm, tt.spec)))
		})
	}
	assert.Empty(t, w.fake.told())
	w.requireAt(vm, "host-a")
	w.do(vm.Suspend(ctx))
	assert.IsType(t, new(types.InvalidPowerState), w.fault(w.relocate(vm, w.location("host-b", place.LocalB))))
	w.powerOn(vm)
	w.do(vm.PowerOff(ctx))
	assert.IsType(t, new(types.NotSupported), w.fault(w.relocate(vm, w.location("host-b", place.LocalB))))
	w.do(vm.Destroy(ctx))
}

func (w *world) withDisk(spec types.VirtualMachineRelocateSpec, datastore string) types.VirtualMachineRelocateSpec {
	spec.Disk = []types.VirtualMachineRelocateSpecDiskLocator{{Datastore: *w.location("", datastore).Datastore}}
	return spec
}

// TestCancel: the task ends when the migration has really ended, not before.
func TestCancel(t *testing.T) {
	w := newWorld(t)
	vm := w.clone("host-a", place.NFS)
	w.powerOn(vm)
	task, _ := w.underWay(vm, "host-b")
	require.NoError(t, task.Cancel(t.Context()))
	assert.IsType(t, new(types.RequestCanceled), w.fault(task, nil))
	w.requireAt(vm, "host-a")
	assert.Equal(t, []string{"VmBeingHotMigratedEvent", "VmFailedMigrateEvent"}, last(w.events(vm), 2))
	assert.Error(t, task.Cancel(t.Context()), "it has ended")
	w.fake.moves = nil
	w.do(w.relocate(vm, w.location("host-b", "")))
	w.requireAt(vm, "host-b")
}

// TestRelocationFails: only an error of the migration itself is reported as a failed migration.
func TestRelocationFails(t *testing.T) {
	failed := &hypervisor.MigrationError{Name: "vm", From: "a", To: "b", Err: assert.AnError}
	for name, tt := range map[string]struct {
		err  error
		want types.BaseMethodFault
	}{
		"the migration": {failed, new(types.MigrationFault)},
		"a host":        {assert.AnError, new(types.HostCommunication)},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			vm := w.clone("host-a", place.NFS)
			w.powerOn(vm)
			task, m := w.underWay(vm, "host-b")
			m.end <- tt.err
			assert.IsType(t, tt.want, w.fault(task, nil))
			assert.Contains(t, w.info(task).Error.LocalizedMessage, tt.err.Error())
			w.requireAt(vm, "host-a")
		})
	}
}
