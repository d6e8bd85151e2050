package vsphere

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"heliotrope/internal/fault"
	"heliotrope/internal/hypervisor"
)

// attribute is the custom attribute that holds the label of the testbed to which a
// machine belongs.
const attribute = "heliotrope.testbed"

// annotationOf is the line in a machine's notes that says whose it is.
func annotationOf(label string) string {
	return fmt.Sprintf("Heliotrope: of testbed %q, which moves and deletes this machine by itself.", label)
}

// machine is a virtual machine as its vCenter reports it.
type machine struct {
	ref         types.ManagedObjectReference
	name, uuid  string
	annotation  string
	label       string // the value of our attribute
	host        types.ManagedObjectReference
	power       types.VirtualMachinePowerState
	connection  types.VirtualMachineConnectionState
	memoryMiB   int
	recentTasks []types.ManagedObjectReference
}

// properties are the properties from which a machine is read.
var properties = []string{"name", "config.instanceUuid", "config.annotation", "config.hardware.memoryMB", "customValue",
	"runtime.host", "runtime.powerState", "runtime.connectionState", "recentTask"}

// isOurs says that name, UUID, notes and attribute all mark the machine as the
// testbed's. A machine that has come from another vCenter has no attribute.
func (h *Host) isOurs(m machine) bool {
	labelled := m.label == h.label || m.label == "" && strings.Contains(m.annotation, travelNote)
	return h.isMadeByUs(m) && strings.Contains(m.annotation, annotationOf(h.label)) && labelled
}

// isMadeByUs says that we cloned a machine, whether it has all our marks or is only
// half-made, without a label yet: the UUID follows from the name, and a clone has
// both from the beginning.
func (h *Host) isMadeByUs(m machine) bool {
	return strings.HasPrefix(m.name, h.prefix()) && m.uuid == hypervisor.UUID(m.name).String() && (m.label == "" || m.label == h.label)
}

// foreign is the error for a machine that has a name of ours but is not ours.
func (h *Host) foreign(m machine) error {
	return fault.New(fault.BadInput, "vCenter %s: machine %s (%s) is not of this testbed: of its UUID, notes and custom attribute %s not all say so; "+
		"rename it, or give the testbed another name", h.vcenter.at.Name, m.name, m.ref.Value, attribute)
}

// machines lists all machines in our folder.
func (h *Host) machines(ctx context.Context, s *site) ([]machine, error) {
	key, err := h.vcenter.attributeKey(ctx, s, false)
	if err != nil {
		return nil, err
	}
	content, err := retrieve(ctx, s.client, types.ObjectSpec{Obj: s.folder, Skip: types.NewBool(true), SelectSet: []types.BaseSelectionSpec{
		&types.TraversalSpec{Type: "Folder", Path: "childEntity", Skip: types.NewBool(false)},
	}}, "VirtualMachine", properties...)
	if err != nil {
		return nil, fmt.Errorf("list machines: %w", err)
	}
	var all []machine
	for _, one := range content {
		m, err := machineOf(one, key)
		if is[*types.ManagedObjectNotFound](err) {
			continue // it was deleted meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("list machines: %s: %w", one.Obj.Value, err)
		}
		all = append(all, m)
	}
	return all, nil
}

// machineOf reads a machine's properties. Properties that a machine does not have,
// such as the configuration of an unreachable one, stay empty.
func machineOf(content types.ObjectContent, key *int32) (machine, error) {
	for _, missing := range content.MissingSet {
		if !strings.HasPrefix(missing.Path, "config.") {
			return machine{}, soap.WrapVimFault(missing.Fault.Fault)
		}
	}
	var vm mo.VirtualMachine
	content.MissingSet = nil
	if err := mo.LoadObjectContent([]types.ObjectContent{content}, &vm); err != nil {
		return machine{}, err
	}
	m := machine{ref: vm.Self, name: vm.Name, power: vm.Runtime.PowerState, connection: vm.Runtime.ConnectionState, recentTasks: vm.RecentTask}
	if vm.Config != nil {
		m.uuid, m.annotation, m.memoryMiB = vm.Config.InstanceUuid, vm.Config.Annotation, int(vm.Config.Hardware.MemoryMB)
	}
	if vm.Runtime.Host != nil {
		m.host = *vm.Runtime.Host
	}
	if key != nil {
		m.label = textOf(vm.CustomValue, *key)
	}
	return m, nil
}

// lookUp finds the machine with a name. The error is hypervisor.ErrNotFound when
// there is none, and another one when there is one that is not ours. It looks in our
// folder by name, and everywhere by UUID.
func (h *Host) lookUp(ctx context.Context, s *site, name string) (machine, error) {
	all, err := h.machines(ctx, s)
	if err != nil {
		return machine{}, err
	}
	var found []machine
	for _, m := range all {
		if m.name == name {
			found = append(found, m)
		}
	}
	uuid := hypervisor.UUID(name).String()
	res, err := methods.FindAllByUuid(ctx, s.client, &types.FindAllByUuid{This: *s.client.ServiceContent.SearchIndex,
		Uuid: uuid, VmSearch: true, InstanceUuid: types.NewBool(true)})
	if err != nil {
		return machine{}, fmt.Errorf("look for machine %s by its UUID: %w", name, err)
	}
	for _, ref := range res.Returnval {
		if len(found) == 0 || found[0].ref != ref {
			return machine{}, fault.New(fault.BadInput, "vCenter %s: machine %s has the UUID %s of %s, and is not the one of that name in the folder %s: "+
				"move it there, or delete it", h.vcenter.at.Name, ref.Value, uuid, name, h.machine.VCenter.Folder)
		}
	}
	switch {
	case len(found) == 0:
		return machine{}, fmt.Errorf("%s: %w", name, hypervisor.ErrNotFound)
	case !h.isMadeByUs(found[0]):
		return machine{}, h.foreign(found[0])
	}
	return found[0], nil
}

// ours finds a machine that has all our marks.
func (h *Host) ours(ctx context.Context, s *site, name string) (machine, error) {
	m, err := h.lookUp(ctx, s, name)
	if err == nil && !h.isOurs(m) {
		err = h.foreign(m)
	}
	return m, err
}

// status is a machine's state as a hypervisor.Status. When a host is disconnected
// from its vCenter, it is not known what runs on the host.
func (h *Host) status(m machine) (hypervisor.Status, error) {
	switch m.connection {
	case types.VirtualMachineConnectionStateConnected:
	case types.VirtualMachineConnectionStateDisconnected:
		return "", fmt.Errorf("machine %s: its host is not connected to the vCenter: %w", m.name, hypervisor.ErrUnknown)
	case types.VirtualMachineConnectionStateOrphaned:
		return hypervisor.Leftover, nil
	default: // inaccessible, invalid: its files cannot be read
		return hypervisor.Crashed, nil
	}
	switch m.power {
	case types.VirtualMachinePowerStatePoweredOn:
		return hypervisor.Running, nil
	case types.VirtualMachinePowerStateSuspended:
		return hypervisor.Paused, nil
	}
	return hypervisor.ShutDown, nil
}

// attributeKey is the key of our custom attribute; nil when the vCenter does not have
// it and make is false.
func (v *vcenter) attributeKey(ctx context.Context, s *site, make bool) (*int32, error) {
	v.mu.Lock()
	known := v.field
	v.mu.Unlock()
	if known != nil {
		return known, nil
	}
	key, err := s.attributeOf(ctx, attribute, "VirtualMachine", make)
	if err != nil {
		return nil, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.field = key
	return key, nil
}

// attributeOf finds the key of a custom attribute for objects of a kind; nil when the
// vCenter does not have it and make is false.
func (s *site) attributeOf(ctx context.Context, name, kind string, make bool) (*int32, error) {
	if s.client.ServiceContent.CustomFieldsManager == nil {
		return nil, errors.New("it has no custom attributes")
	}
	keys, err := attributesOf(ctx, s.client, kind)
	if err != nil {
		return nil, err
	}
	key, known := keys[name]
	if !known && make {
		key, err = makeAttribute(ctx, s.client, name, kind)
		known = true
	}
	if !known || err != nil {
		return nil, err
	}
	return &key, nil
}

// attributesOf are the keys of the custom attributes that objects of a kind may have,
// by name.
func attributesOf(ctx context.Context, client *vim25.Client, kind string) (map[string]int32, error) {
	var fields mo.CustomFieldsManager
	if err := read(ctx, client, *client.ServiceContent.CustomFieldsManager, &fields, "field"); err != nil {
		return nil, fmt.Errorf("list custom attributes: %w", err)
	}
	keys := map[string]int32{}
	for _, field := range fields.Field {
		if field.ManagedObjectType == "" || field.ManagedObjectType == kind {
			keys[field.Name] = field.Key
		}
	}
	return keys, nil
}

// makeAttribute makes a custom attribute for objects of a kind.
func makeAttribute(ctx context.Context, client *vim25.Client, name, kind string) (int32, error) {
	made, err := object.NewCustomFieldsManager(client).Add(ctx, name, kind, nil, nil)
	if err != nil {
		return 0, fmt.Errorf("make the custom attribute %s, which an administrator may do instead: %w", name, err)
	}
	return made.Key, nil
}

// textOf is the text of one custom attribute of an object; "" when the object has
// none.
func textOf(values []types.BaseCustomFieldValue, key int32) (text string) {
	for _, value := range values {
		if one, is := value.(*types.CustomFieldStringValue); is && one.Key == key {
			text = one.Value
		}
	}
	return text
}
