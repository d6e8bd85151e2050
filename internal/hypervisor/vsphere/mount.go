package vsphere

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"heliotrope/internal/fault"
)

// Export is a folder that an NFS server (version 3) exports to the hosts.
type Export struct {
	Server string // the name or address by which all hosts reach it: "10.0.0.1"
	Path   string // "/srv/vm"
}

// store is a datastore as a host has it.
type store struct {
	ref   types.ManagedObjectReference
	name  string
	nas   *types.HostNasVolume  // nil when it is not an NFS export
	vmfs  *types.HostVmfsVolume // nil when it is not a VMFS
	mount types.HostMountInfo   // on this host
	vms   int                   // how many machines use it, on any host
}

// MountNFS mounts an export on all of the hosts as one datastore, whose name must
// begin with the testbed's label. An existing mount of it is left as it is;
// another datastore with that name is refused.
func MountNFS(ctx context.Context, name string, export Export, hosts ...*Host) error {
	var first types.ManagedObjectReference
	for i, h := range hosts {
		ref, err := h.mountNFS(ctx, name, export)
		if err != nil {
			return err
		}
		if i == 0 {
			first = ref
		}
		if ref != first {
			return fault.New(fault.BadInput, "%s: datastore %s is another there (%s) than on the host before (%s): the hosts must name the server of %s:%s alike",
				h.Host(), name, ref.Value, first.Value, export.Server, export.Path)
		}
	}
	return nil
}

// UnmountNFS unmounts the export on all of the hosts. Its contents stay. A
// datastore of that name that is not this export is refused, and so is one that
// machines use on the host.
func UnmountNFS(ctx context.Context, name string, export Export, hosts ...*Host) error {
	var errs []error
	for _, h := range hosts {
		errs = append(errs, h.unmountNFS(ctx, name, export))
	}
	return errors.Join(errs...)
}

func (h *Host) mountNFS(ctx context.Context, name string, export Export) (ref types.ManagedObjectReference, err error) {
	if err := h.checkStoreName(name); err != nil {
		return ref, err
	}
	err = h.with(ctx, "mount "+export.Server+":"+export.Path+" as datastore "+name, func(s *site) error {
		have, err := s.storeOf(ctx, name)
		if err == nil && have == nil {
			have, err = s.createNFS(ctx, name, export)
		}
		if err != nil {
			return err
		}
		ref = have.ref
		if err := have.is(export); err != nil {
			return err
		}
		return have.reachable()
	})
	return ref, err
}

// createNFS mounts an export, and checks the result, also when the answer is
// lost.
func (s *site) createNFS(ctx context.Context, name string, export Export) (*store, error) {
	system, err := s.datastoreSystem(ctx)
	if err != nil {
		return nil, err
	}
	_, asked := methods.CreateNasDatastore(ctx, s.client, &types.CreateNasDatastore{This: system, Spec: types.HostNasVolumeSpec{
		RemoteHost: export.Server, RemotePath: export.Path, LocalPath: name,
		AccessMode: string(types.HostMountModeReadWrite), Type: string(types.HostFileSystemVolumeFileSystemTypeNFS)}})
	switch {
	case is[*types.DuplicateName](asked):
		return nil, fault.New(fault.BadInput, "another datastore of that name is in the datacenter: %w", asked)
	case is[*types.AlreadyExists](asked):
		return nil, fault.New(fault.BadInput, "the export is mounted there under another name: %w", asked)
	case asked != nil && !errors.Is(asked, errNoAnswer):
		return nil, asked
	}
	have, err := s.storeOf(ctx, name)
	if err == nil && have == nil {
		err = errors.New("the host does not list it afterwards")
	}
	if err != nil {
		return nil, errors.Join(asked, err)
	}
	return have, nil
}

func (h *Host) unmountNFS(ctx context.Context, name string, export Export) error {
	if err := h.checkStoreName(name); err != nil {
		return err
	}
	return h.with(ctx, "unmount datastore "+name, func(s *site) error {
		have, err := s.storeOf(ctx, name)
		if have == nil || err != nil {
			return err
		}
		if err := have.is(export); err != nil {
			return err
		}
		return s.remove(ctx, have)
	})
}

// remove removes a datastore from the host, and checks that it is gone, also when
// the answer is lost. Removing destroys a VMFS.
func (s *site) remove(ctx context.Context, have *store) error {
	system, err := s.datastoreSystem(ctx)
	if err != nil {
		return err
	}
	_, asked := methods.RemoveDatastore(ctx, s.client, &types.RemoveDatastore{This: system, Datastore: have.ref})
	if is[*types.ResourceInUse](asked) {
		return fmt.Errorf("machines are on it: destroy them first: %w", asked)
	}
	if asked != nil && !errors.Is(asked, errNoAnswer) {
		return asked
	}
	left, err := s.storeOf(ctx, have.name)
	if err == nil && left != nil {
		err = errors.New("the host lists it still")
	}
	if err != nil {
		return errors.Join(asked, err)
	}
	return nil
}

// checkStoreName refuses to make or remove a datastore that is not the testbed's
// own.
func (h *Host) checkStoreName(name string) error {
	if !strings.HasPrefix(name, h.prefix()) {
		return h.problem("datastore %q: its name does not start with the testbed's %q", name, h.prefix())
	}
	return nil
}

// is checks that a datastore is this export.
func (d *store) is(export Export) error {
	switch {
	case d.nas == nil:
		return fault.New(fault.BadInput, "the datastore of that name (%s) is no NFS export, and not ours", d.ref.Value)
	case d.nas.RemoteHost != export.Server || d.nas.RemotePath != export.Path:
		return fault.New(fault.BadInput, "the datastore of that name (%s) is %s:%s, and not ours", d.ref.Value, d.nas.RemoteHost, d.nas.RemotePath)
	}
	return nil
}

// reachable is an error when the host cannot use the datastore.
func (d *store) reachable() error {
	if d.mount.Accessible != nil && !*d.mount.Accessible {
		return fmt.Errorf("it is mounted, and the host cannot reach it (%s)", cmp.Or(d.mount.InaccessibleReason, "no reason is told"))
	}
	return nil
}

// storeOf finds a datastore of the host by its name; nil when there is none.
func (s *site) storeOf(ctx context.Context, name string) (*store, error) {
	all, err := s.stores(ctx)
	if err != nil {
		return nil, err
	}
	for _, d := range all {
		if d.name == name {
			return &d, nil
		}
	}
	return nil, nil
}

// stores lists the host's datastores.
func (s *site) stores(ctx context.Context) ([]store, error) {
	content, err := retrieve(ctx, s.client, types.ObjectSpec{Obj: s.host, Skip: types.NewBool(true), SelectSet: []types.BaseSelectionSpec{
		&types.TraversalSpec{Type: "HostSystem", Path: "datastore", Skip: types.NewBool(false)},
	}}, "Datastore", "name", "info", "host", "vm")
	if err != nil {
		return nil, fmt.Errorf("list datastores: %w", err)
	}
	var all []store
	for _, one := range content {
		var d mo.Datastore
		err := mo.LoadObjectContent([]types.ObjectContent{one}, &d)
		if is[*types.ManagedObjectNotFound](err) {
			continue // it was removed meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("list datastores: %s: %w", one.Obj.Value, err)
		}
		all = append(all, s.storeFrom(d))
	}
	return all, nil
}

func (s *site) storeFrom(d mo.Datastore) store {
	have := store{ref: d.Self, name: d.Name, vms: len(d.Vm)}
	switch info := d.Info.(type) {
	case *types.NasDatastoreInfo:
		have.nas = info.Nas
	case *types.VmfsDatastoreInfo:
		have.vmfs = info.Vmfs
	}
	for _, mounted := range d.Host {
		if mounted.Key == s.host {
			have.mount = mounted.MountInfo
		}
	}
	return have
}

// datastoreSystem is the object that makes and removes the host's datastores.
func (s *site) datastoreSystem(ctx context.Context) (types.ManagedObjectReference, error) {
	var host mo.HostSystem
	err := read(ctx, s.client, s.host, &host, "configManager.datastoreSystem")
	if err == nil && host.ConfigManager.DatastoreSystem == nil {
		err = errors.New("vCenter names no HostDatastoreSystem")
	}
	if err != nil {
		return types.ManagedObjectReference{}, fmt.Errorf("look for what makes its datastores: %w", err)
	}
	return *host.ConfigManager.DatastoreSystem, nil
}
