package vsphere

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"heliotrope/internal/fault"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/problem"
)

// refuse reports what a domain asks for and vSphere, or this driver, cannot do.
func (h *Host) refuse(domain hypervisor.Domain) error {
	if err := h.checkName(domain.Name); err != nil {
		return err
	}
	switch {
	case domain.Kernel != "" || domain.Ramdisk != "" || domain.Cmdline != "":
		return h.problem("machine %s: vSphere starts what the template's disk holds, no kernel of ours: leave kernel, ramdisk and command line out", domain.Name)
	case domain.NativeTSC:
		return h.problem("machine %s: vSphere has no setting for the processor's own time stamp counter: leave native_tsc out", domain.Name)
	case domain.Disk.Path != "":
		return h.problem("machine %s: disk %s: vSphere opens no device or file of ours: it makes its disks itself, in a datastore", domain.Name, domain.Disk.Path)
	case domain.Disk.Copy == hypervisor.SynchronousCopy, domain.Disk.Copy == hypervisor.IncrementalCopy:
		return h.problem("machine %s: vSphere copies a private disk in its own way only, not %s: want %s", domain.Name, domain.Disk.Copy, hypervisor.FullCopy)
	}
	return nil
}

// problem is an error in what is asked of the host.
func (h *Host) problem(format string, values ...any) error {
	return fault.New(fault.BadInput, h.Host()+": "+format, values...)
}

// lacks is something that is wrong with the host or its objects: what was looked at
// (mostly a property in vCenter), what was found, and what to do.
func (h *Host) lacks(tried, found, fix string) error {
	return problem.New(fault.BadInput, h.Host(), tried, found, fix)
}

// Create clones the template into the disk's datastore, labels the clone, gives it the
// disk, and starts it.
func (h *Host) Create(ctx context.Context, domain hypervisor.Domain) error {
	if err := h.refuse(domain); err != nil {
		return err
	}
	if domain.Disk.Datastore == "" || domain.Disk.SizeBytes <= 0 {
		return h.problem("machine %s: a disk of %d bytes in datastore %q: want its size, and a datastore for all of the machine",
			domain.Name, domain.Disk.SizeBytes, domain.Disk.Datastore)
	}
	return h.with(ctx, "create "+domain.Name, func(s *site) error {
		m, err := h.lookUp(ctx, s, domain.Name)
		if err != nil && !errors.Is(err, hypervisor.ErrNotFound) {
			return err
		}
		if err == nil {
			ready, err := h.makeRoom(ctx, s, m, domain.Disk)
			if ready || err != nil {
				return err
			}
		}
		return h.make(ctx, s, domain)
	})
}

// makeRoom says whether an existing machine is the one that is wanted. It deletes a
// machine that is half-made or has ended, and refuses one with another disk.
func (h *Host) makeRoom(ctx context.Context, s *site, m machine, wanted hypervisor.Disk) (ready bool, err error) {
	if m.host != s.host {
		return false, fmt.Errorf("it is on another host of the vCenter (%s): destroy it there", m.host.Value)
	}
	status, err := h.status(m)
	if err != nil {
		return false, err
	}
	if h.isOurs(m) && (status == hypervisor.Running || status == hypervisor.Paused) {
		return true, h.checkDisk(ctx, s, m, wanted)
	}
	return false, h.destroy(ctx, s, m)
}

// make clones and labels the machine before it starts it, so that a running machine
// always has all of our marks.
func (h *Host) make(ctx context.Context, s *site, domain hypervisor.Domain) error {
	key, err := h.vcenter.attributeKey(ctx, s, true)
	if err != nil {
		return err
	}
	datastore, err := s.datastore(ctx, domain.Disk.Datastore)
	if err != nil {
		return err
	}
	from, err := h.templateOf(ctx, s)
	if err != nil {
		return err
	}
	config := types.VirtualMachineConfigSpec{InstanceUuid: domain.UUID().String(), Annotation: annotationOf(h.label),
		NumCPUs: int32(domain.VCPUs), MemoryMB: int64(domain.MemoryMiB)} //nolint:gosec // no machine has that many
	clone := types.VirtualMachineCloneSpec{Config: &config,
		Location: types.VirtualMachineRelocateSpec{Host: &s.host, Pool: &s.pool, Datastore: &datastore}}
	info, err := s.do(ctx, "clone "+h.machine.VCenter.Template, from,
		func(ctx context.Context, template *object.VirtualMachine) (*object.Task, error) {
			return template.Clone(ctx, object.NewFolder(s.client, s.folder), domain.Name, clone)
		})
	if err != nil {
		return err
	}
	made, is := info.Result.(types.ManagedObjectReference)
	if !is {
		return errors.New("clone: vCenter does not say what it made")
	}
	if err := object.NewCustomFieldsManager(s.client).Set(ctx, made, *key, h.label); err != nil {
		return fmt.Errorf("set its custom attribute %s: %w", attribute, err)
	}
	if err := h.equip(ctx, s, made, domain); err != nil {
		return err
	}
	return s.powerOn(ctx, made)
}

// equip puts a clone on the network, gives it the disk under test, and writes into its
// notes whose it is. First it checks the number of the clone's disks: with another
// number the guest would take a wrong disk for the disk under test, and write to it.
func (h *Host) equip(ctx context.Context, s *site, made types.ManagedObjectReference, domain hypervisor.Domain) error {
	devices, err := s.devices(ctx, made)
	if err != nil {
		return err
	}
	if problem := wrongDisks(disksOf(devices), h.guestDisk); problem != "" {
		return fault.New(fault.BadInput, "template %s has %s", h.machine.VCenter.Template, problem)
	}
	changes, err := s.interfaceOf(ctx, devices, domain.MAC)
	if err != nil {
		return err
	}
	disk, err := s.newDisk(ctx, devices, domain.Disk)
	if err != nil {
		return err
	}
	spec := types.VirtualMachineConfigSpec{Annotation: annotationOf(h.label), DeviceChange: append(changes, disk)}
	_, err = s.do(ctx, "configure", made, func(ctx context.Context, vm *object.VirtualMachine) (*object.Task, error) {
		return vm.Reconfigure(ctx, spec)
	})
	return err
}

// devices lists a machine's devices.
func (s *site) devices(ctx context.Context, machine types.ManagedObjectReference) (object.VirtualDeviceList, error) {
	var vm mo.VirtualMachine
	if err := read(ctx, s.client, machine, &vm, "config.hardware.device"); err != nil {
		return nil, fmt.Errorf("list its devices: %w", err)
	}
	if vm.Config == nil {
		return nil, errors.New("list its devices: the vCenter does not tell them")
	}
	return vm.Config.Hardware.Device, nil
}

// interfaceOf is the change that connects a machine's first network interface to the
// site's network, and sets its MAC address when one is given.
func (s *site) interfaceOf(ctx context.Context, devices object.VirtualDeviceList, mac string) ([]types.BaseVirtualDeviceConfigSpec, error) {
	cards := devices.SelectByType((*types.VirtualEthernetCard)(nil))
	if len(cards) == 0 {
		return nil, fault.New(fault.BadInput, "it has no network interface: give the template one")
	}
	backing, err := s.networkBacking(ctx)
	if err != nil {
		return nil, fmt.Errorf("look at the network: %w", err)
	}
	card := cards[0].(types.BaseVirtualEthernetCard).GetVirtualEthernetCard()
	card.Backing = backing
	if mac != "" {
		card.AddressType, card.MacAddress = string(types.VirtualEthernetCardMacTypeManual), strings.ToLower(mac)
	}
	return []types.BaseVirtualDeviceConfigSpec{&types.VirtualDeviceConfigSpec{
		Operation: types.VirtualDeviceConfigSpecOperationEdit, Device: cards[0]}}, nil
}
