package vsphere

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"heliotrope/internal/fault"
)

// LUN is a logical unit of ours, as described by the storage server that made it.
// Its values must not be taken from what a host shows, because they distinguish our
// LUN from all others.
type LUN struct {
	Target
	Number    int32
	Name      string // the name by which all hosts know it (VPD page 0x83): "naa.6001405…"
	SizeBytes int64
}

// uniqueName matches names that a LUN has on every host. Names of other forms
// ("mpx.…") are valid on one host only.
var uniqueName = regexp.MustCompile(`^(naa|eui|t10)\..+`)

// MakeVMFS makes a VMFS on a LUN, and makes all hosts mount it. A datastore with
// that name that is on the LUN already is left as it is.
//
// Dangerous: it destroys what is on the LUN. Therefore each host must be connected
// to the target, and see there, by no other path, a LUN with this number, name and
// size; no host may see a partition, a VMFS, or a copy of one on it; and the first
// host must report it as free. The API cannot read a LUN: data without a partition
// table is not seen. Only the storage server can know that the LUN is new, and that
// no host besides these uses it.
func MakeVMFS(ctx context.Context, name string, lun LUN, hosts ...*Host) error {
	if len(hosts) == 0 {
		return fault.New(fault.BadInput, "make VMFS %s: no host is named", name)
	}
	made := false
	for _, h := range hosts {
		there, err := h.hasVMFS(ctx, name, lun)
		if err != nil {
			return err
		}
		made = made || there
	}
	if !made {
		if err := makeOn(ctx, name, lun, hosts); err != nil {
			return err
		}
	}
	for _, h := range hosts {
		if err := h.mountVMFS(ctx, name, lun); err != nil {
			return err
		}
	}
	return nil
}

// makeOn makes the VMFS at the first host, if all hosts say that the LUN is ours
// and empty. The error has the objections of all hosts.
func makeOn(ctx context.Context, name string, lun LUN, hosts []*Host) error {
	var errs []error
	for _, h := range hosts {
		errs = append(errs, h.with(ctx, "look whether LUN "+lun.Name+" is ours and empty", func(s *site) error {
			disk, err := s.ourDisk(ctx, lun)
			if err != nil {
				return err
			}
			return s.isEmpty(ctx, disk)
		}))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return hosts[0].format(ctx, name, lun)
}

// RemoveVMFS destroys the VMFS with that name, if it is on the LUN and nowhere
// else, and no machine is on it.
func RemoveVMFS(ctx context.Context, name string, lun LUN, hosts ...*Host) error {
	removed := false
	for _, h := range hosts {
		did, err := h.removeVMFS(ctx, name, lun)
		if err != nil {
			return err
		}
		removed = removed || did
	}
	if !removed {
		return nil
	}
	var errs []error
	for _, h := range hosts {
		errs = append(errs, h.with(ctx, "look for VMFS anew", func(s *site) error { return s.rescanVMFS(ctx) }))
	}
	return errors.Join(errs...)
}

// hasVMFS says whether the host has the datastore with that name, on our LUN.
func (h *Host) hasVMFS(ctx context.Context, name string, lun LUN) (has bool, err error) {
	if err := h.checkStoreName(name); err != nil {
		return false, err
	}
	err = h.with(ctx, "look for VMFS "+name, func(s *site) error {
		have, err := s.storeOf(ctx, name)
		if have == nil || err != nil {
			return err
		}
		has = true
		return have.isOn(lun)
	})
	return has, err
}

// format makes the VMFS, after a last check.
func (h *Host) format(ctx context.Context, name string, lun LUN) error {
	return h.with(ctx, "make VMFS "+name+" on LUN "+lun.Name, func(s *site) error {
		disk, err := s.ourDisk(ctx, lun)
		if err != nil {
			return err
		}
		system, err := s.datastoreSystem(ctx)
		if err != nil {
			return err
		}
		spec, err := s.vmfsSpec(ctx, system, disk)
		if err != nil {
			return err
		}
		spec.Vmfs.VolumeName = name
		if err := s.isEmpty(ctx, disk); err != nil { // the last check before it is made
			return err
		}
		_, asked := methods.CreateVmfsDatastore(ctx, s.client, &types.CreateVmfsDatastore{This: system, Spec: *spec})
		if asked != nil && !errors.Is(asked, errNoAnswer) {
			return asked
		}
		have, err := s.storeOf(ctx, name)
		if err == nil && have == nil {
			err = errors.New("the host does not list it afterwards")
		}
		if err != nil {
			return errors.Join(asked, err)
		}
		return have.isOn(lun)
	})
}

// mountVMFS makes the host look for the VMFS.
func (h *Host) mountVMFS(ctx context.Context, name string, lun LUN) error {
	return h.with(ctx, "mount VMFS "+name, func(s *site) error {
		have, err := s.storeOf(ctx, name)
		if err != nil {
			return err
		}
		if have == nil {
			if err := s.rescanVMFS(ctx); err != nil {
				return err
			}
			if have, err = s.storeOf(ctx, name); err != nil {
				return err
			}
		}
		if have == nil {
			return fmt.Errorf("it does not see it on LUN %s", lun.Name)
		}
		if err := have.isOn(lun); err != nil {
			return err
		}
		return have.reachable()
	})
}

func (h *Host) removeVMFS(ctx context.Context, name string, lun LUN) (removed bool, err error) {
	if err := h.checkStoreName(name); err != nil {
		return false, err
	}
	err = h.with(ctx, "remove VMFS "+name, func(s *site) error {
		have, err := s.storeOf(ctx, name)
		if have == nil || err != nil {
			return err
		}
		if err := have.isOn(lun); err != nil {
			return err
		}
		if have.vms > 0 {
			return fmt.Errorf("%d machines are on it: destroy them first", have.vms)
		}
		if _, err := s.ourDisk(ctx, lun); err != nil {
			return err
		}
		removed = true
		return s.remove(ctx, have)
	})
	return removed, err
}

// isOn checks that a datastore is a VMFS on the LUN and on nothing else.
func (d *store) isOn(lun LUN) error {
	switch {
	case d.vmfs == nil:
		return fault.New(fault.BadInput, "the datastore of that name (%s) is no VMFS, and not ours", d.ref.Value)
	case len(d.vmfs.Extent) != 1 || d.vmfs.Extent[0].DiskName != lun.Name:
		return fault.New(fault.BadInput, "the datastore of that name (%s) is on %s, not on LUN %s alone, and not ours", d.ref.Value, extents(d.vmfs), lun.Name)
	}
	return nil
}

func extents(volume *types.HostVmfsVolume) []string {
	var names []string
	for _, e := range volume.Extent {
		names = append(names, e.DiskName)
	}
	return names
}

// ourDisk finds the disk that is the LUN. It is found by its target and number, and
// then must have the LUN's name and size, and be reached by no other path.
func (s *site) ourDisk(ctx context.Context, lun LUN) (*types.HostScsiDisk, error) {
	if !uniqueName.MatchString(lun.Name) || lun.IQN == "" || lun.SizeBytes <= 0 {
		return nil, fault.New(fault.BadInput, "LUN %q of target %q, %d bytes: want a name that is the same on every host (naa., eui. or t10.), the target's, and the size",
			lun.Name, lun.IQN, lun.SizeBytes)
	}
	have, adapter, err := s.iscsi(ctx)
	if err != nil {
		return nil, err
	}
	disk := have.lunsOf(lun.Target)[lun.Number]
	if disk == nil {
		return nil, fmt.Errorf("the host sees no LUN %d of target %s: connect it first", lun.Number, lun.IQN)
	}
	if size := int64(disk.Capacity.BlockSize) * disk.Capacity.Block; disk.CanonicalName != lun.Name || size != lun.SizeBytes {
		return nil, fault.New(fault.BadInput, "LUN %d of target %s is %s of %d bytes, not our %s of %d bytes: it is not touched",
			lun.Number, lun.IQN, disk.CanonicalName, size, lun.Name, lun.SizeBytes)
	}
	for way := range have.ways {
		if way.lun.ScsiLun == disk.Key && (way.adapter != adapter.Key || way.iqn != lun.IQN) {
			return nil, fault.New(fault.BadInput, "LUN %s is reached by another way, too (adapter %s, target %q): it is not touched", lun.Name, way.adapter, way.iqn)
		}
	}
	return disk, nil
}

// isEmpty refuses a disk on which the host sees anything.
func (s *site) isEmpty(ctx context.Context, disk *types.HostScsiDisk) error {
	have, err := s.storage(ctx)
	if err != nil {
		return err
	}
	if volume := have.vmfsOn(disk.CanonicalName); volume != nil {
		return notEmpty(disk, "VMFS "+volume.Name)
	}
	copies, err := methods.QueryUnresolvedVmfsVolume(ctx, s.client, &types.QueryUnresolvedVmfsVolume{This: have.system})
	if err != nil {
		return fmt.Errorf("look for copies of VMFS: %w", err)
	}
	for _, volume := range copies.Returnval {
		if slices.ContainsFunc(volume.Extent, func(e types.HostUnresolvedVmfsExtent) bool { return e.Device.DiskName == disk.CanonicalName }) {
			return notEmpty(disk, "a copy of VMFS "+volume.VmfsLabel)
		}
	}
	table, err := methods.RetrieveDiskPartitionInfo(ctx, s.client, &types.RetrieveDiskPartitionInfo{This: have.system, DevicePath: []string{disk.DevicePath}})
	if err == nil && len(table.Returnval) != 1 {
		err = fmt.Errorf("want one, got %d", len(table.Returnval))
	}
	if err != nil {
		return fmt.Errorf("read the partition table of %s: %w", disk.DevicePath, err)
	}
	if partitions := table.Returnval[0].Spec.Partition; len(partitions) > 0 {
		return notEmpty(disk, fmt.Sprintf("a partition of type %s", partitions[0].Type))
	}
	return nil
}

func notEmpty(disk *types.HostScsiDisk, what string) error {
	return fault.New(fault.BadInput, "LUN %s is not empty: it has %s. It is not touched: make it anew at the storage server", disk.CanonicalName, what)
}

// vmfsSpec is how vCenter would make a VMFS on the whole of a disk that it reports
// as free.
func (s *site) vmfsSpec(ctx context.Context, system types.ManagedObjectReference, disk *types.HostScsiDisk) (*types.VmfsDatastoreCreateSpec, error) {
	free, err := methods.QueryAvailableDisksForVmfs(ctx, s.client, &types.QueryAvailableDisksForVmfs{This: system})
	if err != nil {
		return nil, fmt.Errorf("ask which disks are free: %w", err)
	}
	if !slices.ContainsFunc(free.Returnval, func(d types.HostScsiDisk) bool { return d.Uuid == disk.Uuid && d.CanonicalName == disk.CanonicalName }) {
		return nil, fault.New(fault.BadInput, "vCenter does not call LUN %s free for a VMFS: it is not touched", disk.CanonicalName)
	}
	options, err := methods.QueryVmfsDatastoreCreateOptions(ctx, s.client, &types.QueryVmfsDatastoreCreateOptions{This: system, DevicePath: disk.DevicePath})
	if err != nil {
		return nil, fmt.Errorf("ask how a VMFS would be made: %w", err)
	}
	for _, option := range options.Returnval {
		spec, is := option.Spec.(*types.VmfsDatastoreCreateSpec)
		if _, whole := option.Info.(*types.VmfsDatastoreAllExtentOption); !is || !whole {
			continue
		}
		if spec.DiskUuid != disk.Uuid || spec.Vmfs.Extent.DiskName != disk.CanonicalName || len(spec.Extent) > 0 {
			return nil, fmt.Errorf("vCenter would make it on %s, not on %s", spec.Vmfs.Extent.DiskName, disk.CanonicalName)
		}
		return spec, nil
	}
	return nil, fmt.Errorf("vCenter tells no way to make a VMFS of all of LUN %s", disk.CanonicalName)
}

// rescanVMFS makes the host look for VMFS on the LUNs that it sees.
func (s *site) rescanVMFS(ctx context.Context) error {
	have, err := s.storage(ctx)
	if err != nil {
		return err
	}
	if _, err := methods.RescanVmfs(ctx, s.client, &types.RescanVmfs{This: have.system}); err != nil {
		return fmt.Errorf("rescan VMFS: %w", err)
	}
	return nil
}
