package vcenter

import (
	"errors"
	"net/url"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/performance"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"heliotrope/deploy/vcenter/place"
)

// TestInventory holds what the vCenter's inventory has, and that nobody can take it for ESXi.
func TestInventory(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	mounted := map[string][]string{"host-a": {place.ISCSI, place.LocalA, place.NFS}, "host-b": {place.ISCSI, place.LocalB, place.NFS}}
	for name, want := range mounted {
		host, err := w.finder.HostSystem(ctx, place.Host(name))
		require.NoError(t, err)
		var at mo.HostSystem
		require.NoError(t, host.Properties(ctx, host.Reference(), []string{"summary", "datastore", "network", "config.network.vnic"}, &at))
		var names []string
		for _, ref := range at.Datastore {
			var store mo.Datastore
			require.NoError(t, property.DefaultCollector(w.client.Client).RetrieveOne(ctx, ref, []string{"summary"}, &store))
			names = append(names, store.Summary.Name)
			assert.Equal(t, store.Summary.Name == place.NFS || store.Summary.Name == place.ISCSI, *store.Summary.MultipleHostAccess)
		}
		assert.ElementsMatch(t, want, names)
		assert.Contains(t, at.Summary.Config.Product.FullName, "no ESXi")
		assert.Equal(t, "kvm-9.0.0", at.Summary.Config.Product.Version)
		assert.True(t, at.Summary.Config.VmotionEnabled)
		assert.Equal(t, int64(1024<<20), at.Summary.Hardware.MemorySize)
		assert.Equal(t, int32(324), at.Summary.QuickStats.OverallMemoryUsage)
	}
	assert.Contains(t, w.client.ServiceContent.About.FullName, "no ESXi")
	network, err := w.finder.Network(ctx, place.Network)
	require.NoError(t, err)
	assert.Equal(t, place.Network, network.GetInventoryPath())
	template, err := w.finder.VirtualMachine(ctx, place.Template)
	require.NoError(t, err)
	is, err := template.IsTemplate(ctx)
	require.NoError(t, err)
	assert.True(t, is)
	assert.IsType(t, new(types.InvalidState), w.fault(template.PowerOn(ctx)))
}

// TestCredentials: they are for this vCenter only, and nothing can be read without them.
func TestCredentials(t *testing.T) {
	w := newWorld(t)
	again, err := OpenCredentials(w.dir)
	require.NoError(t, err)
	assert.Equal(t, w.credentials.Password, again.Password)
	other, err := OpenCredentials(t.TempDir())
	require.NoError(t, err)
	assert.NotEqual(t, w.credentials.Password, other.Password)
	info, err := os.Stat(w.dir + "/" + place.Password)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode())

	_, err = w.dial(url.UserPassword(place.User, "wrong"))
	assert.ErrorContains(t, err, "Login failure")
	stranger := w.connect()
	var datacenter mo.Datacenter
	err = stranger.RetrieveOne(t.Context(), w.center.datacenter.ref, []string{"name"}, &datacenter)
	require.Error(t, err)
	assert.True(t, soap.IsSoapFault(err), "%v", err)
	status, _ := w.get(stranger, place.NFS, "template/template.vmdk")
	assert.Equal(t, 401, status)
	status, _ = w.get(w.client, place.NFS, "template/template.vmdk")
	assert.Equal(t, 200, status)
}

// TestPower: requests to a machine are carried out, and reported in events.
func TestPower(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	vm := w.clone("host-a", place.ISCSI)
	assert.Empty(t, w.fake.told(), "a clone has no guest before it is started")
	w.powerOn(vm)
	w.do(vm.Suspend(ctx))
	w.powerOn(vm)
	assert.IsType(t, new(types.InvalidPowerState), w.fault(vm.PowerOn(ctx)))
	assert.IsType(t, new(types.InvalidPowerState), w.fault(vm.Destroy(ctx)))
	w.do(vm.PowerOff(ctx))
	assert.IsType(t, new(types.InvalidPowerState), w.fault(vm.Suspend(ctx)))
	mac := w.center.machines()[0].look(w.sim()).guest.MAC
	assert.Equal(t, []string{"start 2 vCPUs and 128 MiB " + mac + " with 32 MiB in iscsi at a", "pause at a", "resume at a", "stop"}, w.fake.told())
	assert.Equal(t, []string{"VmStartingEvent", "VmPoweredOnEvent", "VmSuspendingEvent", "VmSuspendedEvent", "VmResumingEvent", "VmPoweredOnEvent",
		"VmStoppingEvent", "VmPoweredOffEvent"}, last(w.events(vm), 8))

	_, err := methods.UnregisterVM(ctx, w.client.Client, &types.UnregisterVM{This: vm.Reference()})
	assert.ErrorContains(t, err, "destroy it")
	_, err = vm.Reset(ctx)
	assert.Error(t, err)
	_, err = vm.CreateSnapshot(ctx, "snap", "", true, false)
	assert.Error(t, err)
	w.do(vm.Destroy(ctx))
	assert.Equal(t, []string{"remove"}, w.fake.told())
	_, err = vm.PowerState(ctx)
	assert.Error(t, err, "it is gone")
	assert.Empty(t, w.files(place.ISCSI, "lab.vm"))
}

// TestPowerFails: what cannot be done is reported, and changes nothing.
func TestPowerFails(t *testing.T) {
	w := newWorld(t)
	vm := w.clone("host-a", place.NFS)
	w.fake.fail(errors.New("the host is away"))
	assert.IsType(t, new(types.HostCommunication), w.fault(vm.PowerOn(t.Context())))
	state, err := vm.PowerState(t.Context())
	require.NoError(t, err)
	assert.Equal(t, types.VirtualMachinePowerStatePoweredOff, state)
	assert.IsType(t, new(types.HostCommunication), w.fault(vm.Destroy(t.Context())), "a disk may have been made")
	w.fake.fail(nil)
	w.do(vm.Destroy(t.Context()))
}

// TestFreeMemory: it is the real host's at the time of the request; while that host does not
// answer, the last value is kept.
func TestFreeMemory(t *testing.T) {
	w := newWorld(t)
	host := w.driver("host-a", map[string]string{"nfs": place.Datastore(place.NFS)})
	free := func() int {
		info, err := host.Info(t.Context())
		require.NoError(t, err)
		return info.FreeMemoryMiB
	}
	assert.Equal(t, 700, free())
	w.fake.mu.Lock()
	w.fake.free = 123
	w.fake.mu.Unlock()
	assert.Equal(t, 123, free())
	w.fake.fail(errors.New("the host is away"))
	assert.Equal(t, 123, free())
}

// TestNoLogNoGuest: if a machine's log cannot be begun, no guest is started.
func TestNoLogNoGuest(t *testing.T) {
	w := newWorld(t)
	vm := w.clone("host-a", place.NFS)
	folder := w.center.path(object.DatastorePath{Datastore: place.NFS, Path: "lab.vm"})
	require.NoError(t, os.Rename(folder, folder+".away"))
	assert.IsType(t, new(types.HostCommunication), w.fault(vm.PowerOn(t.Context())))
	require.NoError(t, os.Rename(folder+".away", folder))
	assert.Empty(t, w.fake.told())
	state, err := vm.PowerState(t.Context())
	require.NoError(t, err)
	assert.Equal(t, types.VirtualMachinePowerStatePoweredOff, state)
	w.powerOn(vm)
}

// TestCloneIsRefused: the simulator would end this program, or not start the clone.
func TestCloneIsRefused(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	template, err := w.finder.VirtualMachine(ctx, place.Template)
	require.NoError(t, err)
	folder, err := w.finder.Folder(ctx, place.Folder)
	require.NoError(t, err)
	spec := w.spec(template, "host-b", place.LocalA)
	_, err = template.Clone(ctx, folder, "lab.vm", spec)
	assert.ErrorContains(t, err, "the datastore is not on the host")
	spec = w.spec(template, "host-a", place.LocalA)
	spec.PowerOn = true
	_, err = template.Clone(ctx, folder, "lab.vm", spec)
	assert.ErrorContains(t, err, "by a call of its own")
}

// TestHostTime: a host's clock is that of the real host.
func TestHostTime(t *testing.T) {
	w := newWorld(t)
	w.fake.ahead = 42 * time.Hour
	host, err := w.finder.HostSystem(t.Context(), place.Host("host-b"))
	require.NoError(t, err)
	system, err := host.ConfigManager().DateTimeSystem(t.Context())
	require.NoError(t, err)
	before := time.Now()
	told, err := system.Query(t.Context())
	require.NoError(t, err)
	assert.WithinRange(t, told.Add(-42*time.Hour), before, time.Now())
}

// TestHostTimeIsUncertain: a client that takes the length of the call as the uncertainty covers
// the error of the vCenter's own reading of the clock.
func TestHostTimeIsUncertain(t *testing.T) {
	w := newWorld(t)
	host := w.driver("host-a", map[string]string{"nfs": place.Datastore(place.NFS)})
	for _, off := range []time.Duration{200 * time.Millisecond, -200 * time.Millisecond} {
		w.fake.ahead, w.fake.unsure = off, off.Abs() // the clock is in truth ours
		offset, err := host.Clock(t.Context())
		require.NoError(t, err)
		assert.LessOrEqual(t, offset.Ahead.Abs(), offset.Uncertainty)
	}
}

// TestCounters: the simulator's performance manager gets no machine of ours, which would end this
// program.
func TestCounters(t *testing.T) {
	w := newWorld(t)
	vm := w.clone("host-a", place.NFS)
	w.powerOn(vm)
	metrics, err := performance.NewManager(w.client.Client).AvailableMetric(t.Context(), vm.Reference(), 20)
	require.NoError(t, err)
	assert.NotEmpty(t, metrics)
}

// TestOneTaskAtATime: a second task is refused while one is running, and reading is possible
// meanwhile.
func TestOneTaskAtATime(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	vm := w.clone("host-a", place.NFS)
	w.powerOn(vm)
	task, m := w.underWay(vm, "host-b")
	_, err := vm.PowerOff(ctx)
	assert.ErrorContains(t, err, "another task")
	_, err = w.relocate(vm, w.location("host-b", ""))
	assert.ErrorContains(t, err, "another task")
	state, err := vm.PowerState(ctx)
	require.NoError(t, err)
	assert.Equal(t, types.VirtualMachinePowerStatePoweredOn, state)
	m.end <- nil
	require.NoError(t, task.Wait(ctx))
}

// last returns the last items of a list.
func last(all []string, count int) []string { return all[max(0, len(all)-count):] }

// requireAt checks on which host a machine is, according to the host and to the machine.
func (w *world) requireAt(vm *object.VirtualMachine, name string) {
	w.t.Helper()
	ctx := w.t.Context()
	host, err := vm.HostSystem(ctx)
	require.NoError(w.t, err)
	at, err := host.ObjectName(ctx)
	require.NoError(w.t, err)
	require.Equal(w.t, name, at)
	for _, name := range []string{"host-a", "host-b"} {
		host, err := w.finder.HostSystem(ctx, place.Host(name))
		require.NoError(w.t, err)
		var own mo.HostSystem
		require.NoError(w.t, host.Properties(ctx, host.Reference(), []string{"vm"}, &own))
		require.Equal(w.t, name == at, slices.Contains(own.Vm, vm.Reference()), name)
	}
}

// TestCloseEndsTasks: the work of a vCenter ends when the vCenter does.
func TestCloseEndsTasks(t *testing.T) {
	w := newWorld(t)
	vm := w.clone("host-a", place.NFS)
	w.powerOn(vm)
	task, _ := w.underWay(vm, "host-b")
	w.center.Close()
	assert.IsType(t, new(types.HostCommunication), w.fault(task, nil))
}
