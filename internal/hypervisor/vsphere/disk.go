package vsphere

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/types"

	"heliotrope/internal/fault"
	"heliotrope/internal/hypervisor"
)

// controllerUnit is the number of a SCSI controller on its own bus, which no disk can
// have (vSphere Web Services SDK, VirtualSCSIController.scsiCtlrUnitNumber).
const controllerUnit = 7

// LastDisk is a machine's last disk, by its controller and its number there; nil when
// there is none. In a machine of ours it is the disk under test, because newDisk adds
// it after those of the template.
func LastDisk(devices object.VirtualDeviceList) *types.VirtualDisk {
	var last *types.VirtualDisk
	for _, device := range devices.SelectByType((*types.VirtualDisk)(nil)) {
		disk := device.(*types.VirtualDisk)
		if disk.UnitNumber != nil && (last == nil || isBehind(disk, last)) {
			last = disk
		}
	}
	return last
}

func isBehind(disk, other *types.VirtualDisk) bool {
	if disk.ControllerKey != other.ControllerKey {
		return disk.ControllerKey > other.ControllerKey
	}
	return *disk.UnitNumber > *other.UnitNumber
}

// templateDisk is a disk of a template, or of the file that a template is made from.
type templateDisk struct {
	label     string
	sizeBytes int64
}

// disksOf are the disks among a machine's devices.
func disksOf(devices object.VirtualDeviceList) []templateDisk {
	var disks []templateDisk
	for _, device := range devices.SelectByType((*types.VirtualDisk)(nil)) {
		label := devices.Name(device)
		if description := device.GetVirtualDevice().DeviceInfo; description != nil {
			label = description.GetDescription().Label
		}
		disks = append(disks, templateDisk{label: label, sizeBytes: DiskBytes(device.(*types.VirtualDisk))})
	}
	return disks
}

// wrongDisks says what is wrong with a template's disks; "" when a disk added after
// them would be where the guest is expected to find the disk under test. The name of
// a SCSI disk, "/dev/sdb", means the second disk; other names do not say which disk
// is meant.
func wrongDisks(disks []templateDisk, guestDisk string) string {
	if len(disks) == 0 {
		return "no disk to start from"
	}
	letter, is := strings.CutPrefix(guestDisk, "/dev/sd")
	if !is || len(letter) != 1 || int(letter[0]-'a') == len(disks) {
		return ""
	}
	if letter == "a" {
		return "the disk that the guest starts from as " + guestDisk + ": name another guest.disk in the inventory"
	}
	var which []string
	for _, disk := range disks {
		which = append(which, fmt.Sprintf("%s of %d MiB", disk.label, disk.sizeBytes>>20))
	}
	return fmt.Sprintf("%d disks (%s), and the guest would find the disk under test behind them, and not as %s: want %d in the template, or another guest.disk in the inventory",
		len(disks), strings.Join(which, ", "), guestDisk, letter[0]-'a')
}

// DiskBytes is a disk's size; hosts before vSphere 5.5 report only KiB.
func DiskBytes(disk *types.VirtualDisk) int64 {
	return cmp.Or(disk.CapacityInBytes, disk.CapacityInKB<<10)
}

// newDisk is the change that adds a blank disk to a machine after all its others, in
// the machine's folder. On VMFS all of it is written with zeros at once, because
// otherwise the first write to each block would cause a second write, which would be
// measured. An NFS server uses formats of its own.
func (s *site) newDisk(ctx context.Context, devices object.VirtualDeviceList, wanted hypervisor.Disk) (types.BaseVirtualDeviceConfigSpec, error) {
	last := LastDisk(devices)
	if last == nil {
		return nil, fault.New(fault.BadInput, "it has no disk to start from: give the template one")
	}
	store, err := s.store(ctx, wanted.Datastore)
	if err != nil {
		return nil, err
	}
	unit := *last.UnitNumber + 1
	if unit == controllerUnit {
		unit++
	}
	backing := &types.VirtualDiskFlatVer2BackingInfo{DiskMode: string(types.VirtualDiskModePersistent)}
	if store.Summary.Type == string(types.HostFileSystemVolumeFileSystemTypeVMFS) {
		backing.ThinProvisioned, backing.EagerlyScrub = types.NewBool(false), types.NewBool(true)
	}
	disk := &types.VirtualDisk{CapacityInBytes: wanted.SizeBytes, CapacityInKB: wanted.SizeBytes >> 10,
		VirtualDevice: types.VirtualDevice{Key: -1, ControllerKey: last.ControllerKey, UnitNumber: &unit, Backing: backing}}
	return &types.VirtualDeviceConfigSpec{Operation: types.VirtualDeviceConfigSpecOperationAdd,
		FileOperation: types.VirtualDeviceConfigSpecFileOperationCreate, Device: disk}, nil
}

// placed is a machine's disk in a datastore.
type placed struct {
	file      string // the path of its descriptor: "[nfs] lab.guest/lab.guest_1.vmdk"
	datastore types.ManagedObjectReference
	sizeBytes int64
}

// diskOf finds a machine's disk under test.
func (s *site) diskOf(ctx context.Context, m machine) (placed, error) {
	devices, err := s.devices(ctx, m.ref)
	if err != nil {
		return placed{}, err
	}
	disk := LastDisk(devices)
	if disk == nil {
		return placed{}, errors.New("it has no disk")
	}
	backing, is := disk.Backing.(*types.VirtualDiskFlatVer2BackingInfo)
	switch {
	case !is:
		return placed{}, fmt.Errorf("its disk is a %s: only flat files can be read", strings.TrimPrefix(fmt.Sprintf("%T", disk.Backing), "*types."))
	case backing.Parent != nil:
		return placed{}, fmt.Errorf("its disk %s is over another, as with a snapshot: delete its snapshots", backing.FileName)
	}
	found := placed{file: backing.FileName, sizeBytes: DiskBytes(disk)}
	if backing.Datastore != nil {
		found.datastore = *backing.Datastore
	}
	return found, nil
}

// checkDisk refuses a machine whose disk is not the wanted one.
func (h *Host) checkDisk(ctx context.Context, s *site, m machine, wanted hypervisor.Disk) error {
	datastore, err := s.datastore(ctx, wanted.Datastore)
	if err != nil {
		return err
	}
	found, err := s.diskOf(ctx, m)
	if err != nil {
		return err
	}
	if found.sizeBytes != wanted.SizeBytes || found.datastore != datastore {
		return h.problem("machine %s is there already, and its disk %s has %d bytes: want %d in datastore %s; tear the testbed down first",
			m.name, found.file, found.sizeBytes, wanted.SizeBytes, wanted.Datastore)
	}
	return nil
}

// OpenDisk opens a machine's disk under test. It powers the machine off, because a
// running machine's host keeps the file locked.
func (h *Host) OpenDisk(ctx context.Context, name string) (hypervisor.DiskFile, error) {
	if err := h.checkName(name); err != nil {
		return nil, err
	}
	var found placed
	err := h.with(ctx, "switch "+name+" off to read its disk", func(s *site) error {
		m, err := h.ours(ctx, s, name)
		if err != nil {
			return err
		}
		if _, err := h.status(m); err != nil {
			return err
		}
		if m.host != s.host {
			return fmt.Errorf("it is on another host: %w", hypervisor.ErrNotFound)
		}
		running, err := s.running(ctx, m.ref)
		if err != nil {
			return err
		}
		if running != nil {
			return fmt.Errorf("its relocation %s still runs", running.Key)
		}
		if m.power == types.VirtualMachinePowerStatePoweredOn {
			if err := s.powerOff(ctx, m.ref); err != nil {
				return err
			}
		}
		found, err = s.diskOf(ctx, m)
		return err
	})
	if err != nil {
		return nil, err
	}
	data, is := strings.CutSuffix(found.file, ".vmdk")
	if !is {
		return nil, fmt.Errorf("%s: the disk of %s is %s, no .vmdk", h.Host(), name, found.file)
	}
	file, err := h.OpenFile(ctx, data+"-flat.vmdk")
	if err != nil {
		return nil, err
	}
	return file, nil
}

// unreadable are the types of datastores that store a disk as objects, and not as a
// file with the disk's bytes.
var unreadable = []string{string(types.HostFileSystemVolumeFileSystemTypeVsan),
	string(types.HostFileSystemVolumeFileSystemTypeVsanD), string(types.HostFileSystemVolumeFileSystemTypeVVOL)}

func isUnreadable(kind string) bool {
	return slices.ContainsFunc(unreadable, func(one string) bool { return strings.EqualFold(one, kind) })
}
