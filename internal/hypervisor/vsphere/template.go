package vsphere

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"heliotrope/internal/fault"
	"heliotrope/internal/hypervisor"
)

// An imported template is recognised by three things together: its name and folder,
// which the inventory gives; the UUID that follows from the name; and a line of its
// notes with the sum of the files that it was made from.

// templateNote is the line in a template's notes, without the sum.
func (h *Host) templateNote() string {
	return fmt.Sprintf("Heliotrope: template of testbed %q, imported from sha256:", h.label)
}

// templateUUID is never that of a guest, because a guest's name begins with the
// prefix.
func (h *Host) templateUUID() string {
	return hypervisor.UUID("template/" + h.label + "/" + h.templateName()).String()
}

func (h *Host) templateName() string { return path.Base(h.machine.VCenter.Template) }

// ImportTemplate makes the template that the inventory names from an OVF or OVA file,
// with its disks in a datastore (an inventory path) and its network interfaces on the
// host's network. A template that was imported from the same files is left as it is;
// a half-made one is deleted; anything else with that name is refused. The warnings
// are vCenter's, about what it leaves out.
//
// Dangerous: the descriptor is used as it is, with whatever hardware it asks for.
func (h *Host) ImportTemplate(ctx context.Context, file, datastore string) (warnings []string, err error) {
	if err := h.checkTemplateName(); err != nil {
		return nil, err
	}
	from, err := openArchive(file)
	if err != nil {
		return nil, err
	}
	done, err := h.vcenter.lockTemplates(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	err = h.with(ctx, "import "+file+" as template "+h.machine.VCenter.Template, func(s *site) error {
		place, err := h.placeOf(ctx, s, datastore)
		if err != nil {
			return err
		}
		switch have, err := h.templateAt(ctx, s, place.folder); {
		case err != nil:
			return err
		case have != nil && have.sum == from.sum && have.isTemplate:
			return nil
		case have != nil && have.isTemplate:
			return fault.New(fault.BadInput, "a template is there that was made of other files (sha256:%s): remove it first", have.sum)
		case have != nil:
			if err := s.delete(ctx, have.ref); err != nil {
				return fmt.Errorf("delete the half-made one: %w", err)
			}
		}
		warnings, err = h.importTo(ctx, s, place, from)
		return err
	})
	return warnings, err
}

// RemoveTemplate deletes the template if ImportTemplate has made it.
func (h *Host) RemoveTemplate(ctx context.Context) error {
	if err := h.checkTemplateName(); err != nil {
		return err
	}
	done, err := h.vcenter.lockTemplates(ctx)
	if err != nil {
		return err
	}
	defer done()
	return h.with(ctx, "remove template "+h.machine.VCenter.Template, func(s *site) error {
		folder, err := newFinder(s.client).find(ctx, "folder of the template", path.Dir(h.machine.VCenter.Template), folderTypes)
		if err != nil {
			return err
		}
		have, err := h.templateAt(ctx, s, folder)
		if have == nil || err != nil {
			return err
		}
		return s.delete(ctx, have.ref)
	})
}

// checkTemplateName refuses a name with which the template would be taken for a
// guest.
func (h *Host) checkTemplateName() error {
	if strings.HasPrefix(h.templateName(), h.prefix()) {
		return h.problem("template %s: its name begins as those of the testbed's guests do: give it another", h.machine.VCenter.Template)
	}
	return nil
}

// place is where a template is to be put.
type place struct {
	folder, datastore types.ManagedObjectReference
}

func (h *Host) placeOf(ctx context.Context, s *site, datastore string) (place, error) {
	f := newFinder(s.client)
	folder, folderErr := f.find(ctx, "folder of the template", path.Dir(h.machine.VCenter.Template), folderTypes)
	store, storeErr := f.find(ctx, "datastore", datastore, datastoreTypes)
	return place{folder: folder, datastore: store}, errors.Join(folderErr, storeErr)
}

// imported is the machine that was made from the inventory's file; nil when there is
// none.
func (h *Host) imported(ctx context.Context, s *site) (*importedMachine, error) {
	folder, err := newFinder(s.client).find(ctx, "folder of the template", path.Dir(h.machine.VCenter.Template), folderTypes)
	if err != nil {
		return nil, err
	}
	return h.templateAt(ctx, s, folder)
}

// templateOf is the template that guests are cloned from. It is made from the
// inventory's file when the inventory names one.
func (h *Host) templateOf(ctx context.Context, s *site) (types.ManagedObjectReference, error) {
	from := h.machine.VCenter.Import
	if from == nil {
		return s.template, nil
	}
	if _, err := h.ImportTemplate(ctx, from.File, from.Datastore); err != nil {
		return types.ManagedObjectReference{}, err
	}
	have, err := h.imported(ctx, s)
	if err == nil && have == nil {
		err = errors.New("the template is not there after it was imported")
	}
	if err != nil {
		return types.ManagedObjectReference{}, err
	}
	return have.ref, nil
}

// checkImport checks whether the template could be made from the inventory's file.
func (h *Host) checkImport(ctx context.Context, s *site) ([]error, error) {
	from := h.machine.VCenter.Import
	var problems []error
	archive, err := openArchive(from.File)
	var disks []templateDisk
	if err == nil {
		disks, err = archive.disks()
	}
	switch {
	case err != nil:
		problems = append(problems, fault.As(fault.BadInput, fmt.Errorf("%s: template: %w", h.Host(), err)))
	case wrongDisks(disks, h.guestDisk) != "":
		problems = append(problems, h.lacks(from.File, "it describes a machine with "+wrongDisks(disks, h.guestDisk), "change it, or name another file"))
	case archive.envelope.Network == nil || len(archive.envelope.Network.Networks) == 0:
		problems = append(problems, h.lacks(from.File, "it describes a machine without a network", "give it one"))
	}
	if err := h.checkTemplateName(); err != nil {
		return append(problems, err), nil
	}
	to, err := h.placeOf(ctx, s, from.Datastore)
	if err == nil {
		_, err = h.templateAt(ctx, s, to.folder)
	}
	if classOf(err) == fault.BadInput && err != nil {
		return append(problems, h.failed("look where the template goes", err)), nil
	}
	return problems, err
}

// importedMachine is a machine that we have imported; it is a template once it is
// complete.
type importedMachine struct {
	ref        types.ManagedObjectReference
	isTemplate bool
	sum        string
}

// templateAt finds what we have imported; nil when nothing has that name, and an
// error when what has it is not ours.
func (h *Host) templateAt(ctx context.Context, s *site, folder types.ManagedObjectReference) (*importedMachine, error) {
	content, err := retrieve(ctx, s.client, types.ObjectSpec{Obj: folder, Skip: types.NewBool(true), SelectSet: []types.BaseSelectionSpec{
		&types.TraversalSpec{Type: "Folder", Path: "childEntity", Skip: types.NewBool(false)},
	}}, "VirtualMachine", "name", "config.instanceUuid", "config.annotation", "config.template")
	if err != nil {
		return nil, fmt.Errorf("look for the template: %w", err)
	}
	for _, one := range content {
		one.MissingSet = nil // a machine that cannot be reached has no configuration, and so is not ours
		var vm mo.VirtualMachine
		if err := mo.LoadObjectContent([]types.ObjectContent{one}, &vm); err != nil {
			return nil, fmt.Errorf("look for the template: %w", err)
		}
		if vm.Name != h.templateName() {
			continue
		}
		if vm.Config != nil && vm.Config.InstanceUuid == h.templateUUID() {
			if _, rest, found := strings.Cut(vm.Config.Annotation, h.templateNote()); found {
				sum, _, _ := strings.Cut(rest, "\n")
				return &importedMachine{ref: vm.Self, isTemplate: vm.Config.Template, sum: strings.TrimSpace(sum)}, nil
			}
		}
		return nil, fault.New(fault.BadInput, "%s %s is there, and was not imported for this testbed: it is not touched; name another template in the inventory",
			one.Obj.Value, vm.Name)
	}
	return nil, nil
}

// importTo makes the machine, sends its disks, and turns it into a template.
func (h *Host) importTo(ctx context.Context, s *site, to place, from *archive) (warnings []string, err error) {
	spec, items, warnings, err := h.importSpec(ctx, s, to, from)
	if err != nil {
		return warnings, err
	}
	lease, err := s.beginImport(ctx, to, spec)
	if err != nil {
		return warnings, err
	}
	if err := h.upload(ctx, s, lease, items, from); err != nil {
		return warnings, errors.Join(err, s.abort(ctx, lease), h.deleteHalfMade(ctx, s, to))
	}
	if _, err := methods.MarkAsTemplate(ctx, s.client, &types.MarkAsTemplate{This: lease.entity}); err != nil {
		return warnings, fmt.Errorf("make it a template: %w", err)
	}
	return warnings, nil
}

// deleteHalfMade deletes what a failed import has left, if vCenter has not deleted
// it.
func (h *Host) deleteHalfMade(ctx context.Context, s *site, to place) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleLimit)
	defer cancel()
	have, err := h.templateAt(ctx, s, to.folder)
	if err != nil || have == nil || have.isTemplate {
		return err
	}
	if err := s.delete(ctx, have.ref); err != nil && !is[*types.ManagedObjectNotFound](err) {
		return fmt.Errorf("delete the half-made one: %w", err)
	}
	return nil
}

// importSpec makes vCenter read the descriptor, and adds our marks to the machine
// that vCenter would make.
func (h *Host) importSpec(ctx context.Context, s *site, to place, from *archive) (
	spec *types.VirtualMachineImportSpec, items []types.OvfFileItem, warnings []string, err error) {
	manager := s.client.ServiceContent.OvfManager
	if manager == nil {
		return nil, nil, nil, errors.New("the vCenter reads no OVF (OvfManager)")
	}
	params := types.OvfCreateImportSpecParams{EntityName: h.templateName(), HostSystem: &s.host,
		DiskProvisioning: string(types.OvfCreateImportSpecParamsDiskProvisioningTypeThin)}
	if from.envelope.Network != nil {
		for _, network := range from.envelope.Network.Networks {
			params.NetworkMapping = append(params.NetworkMapping, types.OvfNetworkMapping{Name: network.Name, Network: s.network})
		}
	}
	res, err := methods.CreateImportSpec(ctx, s.client, &types.CreateImportSpec{This: *manager, OvfDescriptor: from.descriptor,
		ResourcePool: s.pool, Datastore: to.datastore, Cisp: &params})
	if is[types.BaseInvalidArgument](err) || is[types.BaseOvfFault](err) {
		err = fault.As(fault.BadInput, err)
	}
	if err != nil {
		return nil, nil, nil, fmt.Errorf("have vCenter read the descriptor: %w", err)
	}
	for _, warning := range res.Returnval.Warning {
		warnings = append(warnings, warning.LocalizedMessage)
	}
	var errs []error
	for _, wrong := range res.Returnval.Error {
		errs = append(errs, fault.As(fault.BadInput, fmt.Errorf("vCenter refuses the descriptor: %w", failure(types.TaskInfo{Error: &wrong}))))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, nil, warnings, err
	}
	spec, is := res.Returnval.ImportSpec.(*types.VirtualMachineImportSpec)
	if !is {
		return nil, nil, warnings, fault.New(fault.BadInput, "vCenter would make a %T of the descriptor, no machine", res.Returnval.ImportSpec)
	}
	spec.ConfigSpec.Name, spec.ConfigSpec.InstanceUuid, spec.ConfigSpec.Annotation = h.templateName(), h.templateUUID(), h.templateNote()+from.sum
	return spec, res.Returnval.FileItem, warnings, nil
}

// beginImport makes vCenter create the machine, and waits until its disks can be
// sent.
func (s *site) beginImport(ctx context.Context, to place, spec *types.VirtualMachineImportSpec) (*lease, error) {
	begun, err := object.NewResourcePool(s.client, s.pool).ImportVApp(ctx, spec, object.NewFolder(s.client, to.folder), object.NewHostSystem(s.client, s.host))
	if err != nil {
		return nil, fmt.Errorf("begin the import: %w", err)
	}
	l := &lease{ref: begun.Reference()}
	if err := s.awaitReady(ctx, l); err != nil {
		return nil, errors.Join(fmt.Errorf("begin the import: %w", err), s.abort(ctx, l))
	}
	return l, nil
}
