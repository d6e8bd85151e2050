package vsphere

import (
	"context"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"heliotrope/internal/fault"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/inventory"
)

// secretThere is the password of the other vCenter.
const secretThere = "battery-staple"

// pair is two simulators, one for each site's vCenter. The simulator does not know
// relocations to another vCenter: the test inspects what is sent, and plays the
// outcome.
type pair struct {
	*sim
	there *sim // the target is its host b, which has the reference of the first one's host a
	vm    *slowMachine
	sent  types.VirtualMachineRelocateSpec // last
}

// newPair makes the guest at the first vCenter, where relocations are slow.
func newPair(t *testing.T) *pair {
	t.Helper()
	p := &pair{sim: newSim(t), there: newSim(t)}
	p.there.model.Service.Listen.User = url.UserPassword(account, secretThere)
	require.NoError(t, os.WriteFile(p.there.password, []byte(secretThere), 0o600))
	p.there.model.Map().Get(vim25.ServiceInstance).(*simulator.ServiceInstance).Content.About.InstanceUuid = uuid.NewString()
	p.there.at.Name = "vc-2"
	p.there.b = p.there.host("host-b", "DC0_C0_H0")
	p.there.b.machine.VCenter.Network = "/DC0/network/DC0_DVPG1"
	p.create()
	p.vm = p.slow()
	p.vm.goes = p.arrive
	return p
}

// arrive moves the machine to the other vCenter: with its name, UUID and notes, and
// without custom attributes.
func (p *pair) arrive(sent types.VirtualMachineRelocateSpec) {
	p.sent = sent
	ctx, inside := context.Background(), p.inside()
	registry := p.model.Map()
	registry.AtomicUpdate(&simulator.Context{Map: registry}, p.vm.VirtualMachine, []types.PropertyChange{
		{Name: "runtime.powerState", Val: types.VirtualMachinePowerStatePoweredOff}})
	notes := p.vm.Config.Annotation
	_, err := methods.UnregisterVM(ctx, inside, &types.UnregisterVM{This: p.vm.Self})
	require.NoError(p.t, err)
	require.NoError(p.t, p.there.b.Create(ctx, domainIn("/DC0/datastore/LocalDS_1")))
	made := p.there.find(guest.Name)
	p.there.model.Map().WithLock(&simulator.Context{Map: p.there.model.Map()}, made, func() {
		made.Config.Annotation, made.CustomValue, made.Value = notes, nil, nil
	})
}

// show makes the other vCenter show a machine that is still being moved.
func (p *pair) show() {
	require.NoError(p.t, p.there.b.Create(context.Background(), domainIn("/DC0/datastore/LocalDS_1")))
	shown := p.there.find(guest.Name)
	shown.Config.Annotation, shown.CustomValue, shown.Value = "", nil, nil
	shown.Runtime.PowerState = types.VirtualMachinePowerStatePoweredOff
}

// order moves the guest with its disk to the other vCenter.
func (p *pair) order() hypervisor.Order {
	order := p.sim.order()
	order.Target = p.there.b
	order.Domain.Disk.Copy, order.AtTarget.Disk.Copy = hypervisor.FullCopy, hypervisor.FullCopy
	order.AtTarget.Disk.Datastore = "/DC0/datastore/LocalDS_1"
	return order
}

// requireThere asks both vCenters where the guest is.
func (p *pair) requireThere() {
	p.t.Helper()
	for _, h := range []*Host{p.a, p.b} {
		states, err := h.List(context.Background())
		require.NoError(p.t, err)
		require.Empty(p.t, states)
	}
	states, err := p.there.b.List(context.Background())
	require.NoError(p.t, err)
	require.Equal(p.t, []hypervisor.State{{Name: guest.Name, Status: hypervisor.Running, MemoryMiB: guest.MemoryMiB}}, states)
}

// TestAcross: the source's vCenter is told all that it needs to know of the other
// one, the machine counts as ours where it arrives, and no log contains a password.
func TestAcross(t *testing.T) {
	p := newPair(t)
	order := p.order()
	require.NoError(t, p.a.CheckMigration(t.Context(), order.AtTarget, p.there.b))
	p.vm.goOn <- struct{}{}
	account, err := p.a.Migrate(t.Context(), order)
	require.NoError(t, err)
	require.Contains(t, account.Log, "the relocation ended: well")
	require.NotContains(t, account.Log, secretThere)
	p.requireThere()

	about, user := p.there.inside().ServiceContent.About, p.there.at.User
	require.NotEqual(t, p.inside().ServiceContent.About.InstanceUuid, about.InstanceUuid)
	require.Equal(t, &types.ServiceLocator{InstanceUuid: about.InstanceUuid, Url: "https://" + p.there.address,
		Credential:    &types.ServiceLocatorNamePassword{Username: user, Password: secretThere},
		SslThumbprint: p.there.thumbprintSHA1()}, p.sent.Service)
	require.Equal(t, p.there.ref("HostSystem", "DC0_C0_H0"), *p.sent.Host)
	require.Equal(t, p.ref("HostSystem", "DC0_C0_H0"), *p.sent.Host, "references are a vCenter's own")
	require.Equal(t, p.there.ref("Datastore", "LocalDS_1"), *p.sent.Datastore)
	require.Equal(t, p.there.ref("Folder", "vm"), *p.sent.Folder)
	require.Equal(t, p.there.ref("ResourcePool", "Resources"), *p.sent.Pool)
	require.Len(t, p.sent.DeviceChange, 1)
	backing := p.sent.DeviceChange[0].GetVirtualDeviceConfigSpec().Device.GetVirtualDevice().Backing
	group := p.there.model.Map().Get(p.there.ref("DistributedVirtualPortgroup", "DC0_DVPG1")).(*simulator.DistributedVirtualPortgroup)
	require.Equal(t, group.Key, backing.(*types.VirtualEthernetCardDistributedVirtualPortBackingInfo).Port.PortgroupKey)

	account, err = p.a.Migrate(t.Context(), order)
	require.NoError(t, err)
	require.Zero(t, account.Duration(), "it is there")
	require.NoError(t, p.there.b.Pause(t.Context(), guest.Name))
	require.NoError(t, p.there.b.Destroy(t.Context(), guest.Name))
	require.Nil(t, p.there.find(guest.Name))
	require.Equal(t, 1, p.count("RelocateVM_Task"))
	require.Zero(t, p.there.count("RelocateVM_Task"))
}

// TestAcrossTakenOver: a relocation to another vCenter whose controller has died is
// followed while it runs, and afterwards the machine is found where it arrived.
func TestAcrossTakenOver(t *testing.T) {
	for name, arrived := range map[string]bool{"on its way": false, "arrived": true} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t)
			m := &migration{from: p.a, to: p.there.b, order: p.order(), name: guest.Name}
			_, err := m.look(t.Context())
			require.NoError(t, err)
			spec, err := m.ready(t.Context())
			require.NoError(t, err)
			_, err = m.start(t.Context(), spec)
			require.NoError(t, err)
			<-p.vm.begun
			order := p.order()
			order.Progress = func(progress hypervisor.Progress) {
				if progress.Phase == "running 42 %" {
					p.vm.goOn <- struct{}{}
				}
			}
			if arrived {
				p.vm.goOn <- struct{}{}
				p.vm.ended.Wait()
			} else {
				p.show()
			}
			next := p.another(p.a)
			order.Target = p.there.another(p.there.b)
			account, err := next.Migrate(t.Context(), order)
			require.NoError(t, err)
			require.Equal(t, arrived, strings.Contains(account.Log, "it runs at the target already"), account.Log)
			require.Equal(t, 1, p.count("RelocateVM_Task"))
			p.requireThere()
		})
	}
}

// TestAcrossLostAnswer: when the answer is lost and the machine has meanwhile left
// together with its tasks, the other vCenter shows that it has arrived.
func TestAcrossLostAnswer(t *testing.T) {
	p := newPair(t)
	p.set(func() { p.loses, p.losing = "RelocateVM_Task", p.vm.ended.Wait })
	p.vm.goOn <- struct{}{}
	account, err := p.a.Migrate(t.Context(), p.order())
	require.NoError(t, err)
	require.Contains(t, account.Log, "no answer came")
	require.Equal(t, 1, p.count("RelocateVM_Task"))
	p.requireThere()
}

// TestAcrossFails: a failed relocation to another vCenter is a result like any other,
// and a cancelled one leaves the machine where it was.
func TestAcrossFails(t *testing.T) {
	p := newPair(t)
	p.vm.fails = &types.MigrationFault{}
	p.vm.goOn <- struct{}{}
	_, err := p.a.Migrate(t.Context(), p.order())
	var failed *hypervisor.MigrationError
	require.ErrorAs(t, err, &failed)
	require.ErrorContains(t, err, "the machine is on host-a")
	p.requireAt(p.a)

	ctx, cancel := context.WithCancel(t.Context())
	order := p.order()
	order.Progress = func(hypervisor.Progress) { cancel() }
	_, err = p.a.Migrate(ctx, order)
	require.ErrorIs(t, err, context.Canceled)
	p.requireAt(p.a)
}

// TestAcrossRefused: problems are reported before anything is sent, and without a
// password.
func TestAcrossRefused(t *testing.T) {
	p := newPair(t)
	same := p.at
	same.Name = "vc-2"
	twin := *p.b.machine.VCenter
	for want, change := range map[string]func(*hypervisor.Order){
		"vCenters vc-1 and vc-2 are one": func(o *hypervisor.Order) {
			o.Target = p.quick(&Host{label: "lab", machine: inventory.Machine{Name: "host-b", VCenter: &twin}, vcenter: newVCenter(same)})
		},
		"want one datastore that both vCenters know": func(o *hypervisor.Order) { o.Domain.Disk.Copy, o.AtTarget.Disk.Copy = "", "" },
		"there is no \"nowhere\"":                    func(o *hypervisor.Order) { o.AtTarget.Disk.Datastore = "/DC0/datastore/nowhere" },
		"the name or the password is wrong": func(o *hypervisor.Order) {
			other := p.there.another(p.there.b)
			other.vcenter.at.PasswordFrom = "file:" + p.password
			o.Target = other
		},
		"its certificate has not the thumbprint": func(o *hypervisor.Order) {
			other := p.there.another(p.there.b)
			other.vcenter.at.Thumbprint = "00" + p.there.thumbprintSHA1()[2:]
			o.Target = other
		},
	} {
		order := p.order()
		change(&order)
		_, err := p.a.Migrate(t.Context(), order)
		require.ErrorContains(t, err, want)
		require.Equal(t, fault.BadInput, fault.Of(err), want)
		require.NotContains(t, err.Error(), secretThere)
		require.NotContains(t, err.Error(), secret)
	}
	require.Zero(t, p.count("RelocateVM_Task"))

	// A datastore that both vCenters have is named by the target's own reference, and
	// nothing is copied.
	folder := p.datastore("LocalDS_0").Summary.Url
	p.there.datastore("LocalDS_1").Summary.Url = folder
	p.vm.fails = &types.MigrationFault{}
	p.vm.goOn <- struct{}{}
	order := p.order()
	order.Domain.Disk.Copy, order.AtTarget.Disk.Copy = "", ""
	_, err := p.a.Migrate(t.Context(), order)
	require.ErrorContains(t, err, "it broke")
	require.Equal(t, 1, p.count("RelocateVM_Task"))
	p.requireAt(p.a)
	require.DirExists(t, filepath.Join(folder, guest.Name))
}

// TestAcrossTwice: when both vCenters have the machine, it is not known where it is,
// and nothing is sent.
func TestAcrossTwice(t *testing.T) {
	p := newPair(t)
	require.NoError(t, p.there.b.Create(t.Context(), domainIn("/DC0/datastore/LocalDS_1")))
	_, err := p.a.Migrate(t.Context(), p.order())
	require.ErrorContains(t, err, "the vCenters vc-1 and vc-2 both have it")
	require.ErrorIs(t, err, hypervisor.ErrUnknown)
	require.Equal(t, fault.Infrastructure, fault.Of(err))

	// A machine with that name that is not ours stands in the way.
	made := p.there.find(guest.Name)
	was := made.Config.Annotation
	made.Config.Annotation = "mine"
	_, err = p.a.Migrate(t.Context(), p.order())
	require.ErrorContains(t, err, "vCenter vc-2: machine lab.vm")
	require.ErrorContains(t, err, "is not of this testbed")
	require.Equal(t, fault.BadInput, fault.Of(err))
	require.Zero(t, p.count("RelocateVM_Task"))
	made.Config.Annotation = was
}
