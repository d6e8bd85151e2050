package vcenter

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"heliotrope/deploy/vcenter/place"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/storage"
)

// runtime returns a machine's state.
func (w *world) runtime(vm *object.VirtualMachine) types.VirtualMachineRuntimeInfo {
	w.t.Helper()
	var now mo.VirtualMachine
	require.NoError(w.t, vm.Properties(w.t.Context(), vm.Reference(), []string{"runtime", "summary.runtime"}, &now))
	require.Equal(w.t, now.Runtime.ConnectionState, now.Summary.Runtime.ConnectionState)
	return now.Runtime
}

// TestUnknown: a machine whose place is unknown is shown as such, and nothing can be done with
// it, until one host reports that it has the machine, or both that it is gone. The stops that
// QEMU reported by then are in the logs of the hosts at which they ended.
func TestUnknown(t *testing.T) {
	failed := &hypervisor.MigrationError{Name: "vm", From: "a", To: "b", Err: assert.AnError}
	const stopAtA, stopAtB = "vm stopped for 1000000 us", "vm stopped for 2000000 us"
	for name, tt := range map[string]struct {
		found finding
		at    string
		power types.VirtualMachinePowerState
		logs  map[string]string // a file, and a stop that is in it
	}{
		"it stayed": {finding{at: storage.SiteA}, "host-a", types.VirtualMachinePowerStatePoweredOn,
			map[string]string{"vmware.log": stopAtA}},
		"it arrived": {finding{at: storage.SiteB}, "host-b", types.VirtualMachinePowerStatePoweredOn,
			map[string]string{"vmware.log": stopAtB, "vmware-2.log": stopAtA}},
		"it is gone": {finding{storage.SiteA, errGone}, "host-a", types.VirtualMachinePowerStatePoweredOff, nil},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.center.findPause = time.Millisecond
			vm := w.clone("host-a", place.NFS)
			w.powerOn(vm)
			w.fake.others = []Stun{{Site: storage.SiteB, End: stunEnd, Length: 2 * time.Second}}
			task, m := w.underWay(vm, "host-b")
			m.end <- errors.Join(failed, hypervisor.ErrUnknown)
			assert.IsType(t, new(types.HostCommunication), w.fault(task, nil))
			assert.Equal(t, types.VirtualMachineConnectionStateDisconnected, w.runtime(vm).ConnectionState)
			w.fake.told()
			_, err := vm.PowerOff(t.Context())
			assert.ErrorContains(t, err, "nobody knows where it runs")
			assert.Empty(t, w.fake.told())

			w.fake.found <- finding{err: hypervisor.ErrUnknown} // a host is still away
			w.fake.found <- tt.found
			require.Eventually(t, func() bool { return w.runtime(vm).ConnectionState == types.VirtualMachineConnectionStateConnected }, time.Minute, time.Millisecond)
			w.requireAt(vm, tt.at)
			assert.Equal(t, tt.power, w.runtime(vm).PowerState)
			for file, stop := range tt.logs {
				_, text := w.get(w.client, place.NFS, "lab.vm/"+file)
				assert.Equal(t, 1, strings.Count(string(text), "vm stopped for"), file)
				assert.Contains(t, string(text), stop, file)
			}
			if tt.power == types.VirtualMachinePowerStatePoweredOn {
				w.do(vm.PowerOff(t.Context()))
			}
			w.do(vm.Destroy(t.Context()))
		})
	}
}
