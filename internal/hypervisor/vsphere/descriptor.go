package vsphere

import (
	"math"
	"strconv"
	"strings"

	"github.com/vmware/govmomi/ovf"

	"heliotrope/internal/fault"
)

// A descriptor (DMTF DSP0243) lists a machine's hardware as items of the
// VirtualHardwareSection, and the capacities of its disks in the DiskSection.

// items are the machine's hardware of one type, in the configuration that vCenter uses by
// default: the one marked as default, otherwise the first (DeploymentOptionSection).
func (a *archive) items(kind ovf.CIMResourceType) []ovf.ResourceAllocationSettingData {
	configuration := ""
	if options := a.envelope.DeploymentOption; options != nil {
		for i, one := range options.Configuration {
			if i == 0 || one.Default != nil && *one.Default {
				configuration = one.ID
			}
		}
	}
	var items []ovf.ResourceAllocationSettingData
	for _, section := range a.envelope.VirtualSystem.VirtualHardware {
		for _, item := range section.Item {
			if item.ResourceType != nil && *item.ResourceType == kind && (item.Configuration == nil || *item.Configuration == configuration) {
				items = append(items, item)
			}
		}
	}
	return items
}

// disks are the machine's disks.
func (a *archive) disks() ([]templateDisk, error) {
	var disks []templateDisk
	for _, item := range a.items(ovf.DiskDrive) {
		size, err := a.sizeOf(item)
		if err != nil {
			return nil, err
		}
		disks = append(disks, templateDisk{label: item.ElementName, sizeBytes: size})
	}
	return disks, nil
}

// sizeOf is the size of a disk in bytes. A disk that its item names has its capacity in
// the DiskSection; an item that names none is a blank disk with a capacity of its own.
func (a *archive) sizeOf(item ovf.ResourceAllocationSettingData) (int64, error) {
	if len(item.HostResource) == 0 {
		quantity := ""
		if item.VirtualQuantity != nil {
			quantity = strconv.FormatUint(uint64(*item.VirtualQuantity), 10)
		}
		return a.bytes(item.ElementName, quantity, item.AllocationUnits)
	}
	if a.envelope.Disk != nil {
		for _, disk := range a.envelope.Disk.Disks {
			if disk.DiskID == lastOf(item.HostResource[0]) { // "ovf:/disk/vmdisk1"
				return a.bytes(disk.DiskID, disk.Capacity, disk.CapacityAllocationUnits)
			}
		}
	}
	return 0, fault.New(fault.BadInput, "%s: item %q names disk %s, which the descriptor does not describe", a.path, item.ElementName, item.HostResource[0])
}

// bytes is a disk's capacity in bytes. It is given in units such as "byte * 2^30", or in
// bytes when there are no units.
func (a *archive) bytes(disk, capacity string, units *string) (int64, error) {
	unit, of := int64(1), "byte"
	if units != nil {
		unit, of = ovf.ParseCapacityAllocationUnits(*units), *units
	}
	number, err := strconv.ParseInt(capacity, 10, 64)
	if err != nil || number < 0 || unit <= 0 || number > math.MaxInt64/unit {
		return 0, fault.New(fault.BadInput, "%s: disk %s has the capacity %q in units of %q: want a whole number of a unit of bytes", a.path, disk, capacity, of)
	}
	return number * unit, nil
}

// reservedMiB is how many MiB of the machine's memory are reserved. A reservation in
// unknown units counts as 0, so that rather too much room is required.
func (a *archive) reservedMiB() int64 {
	for _, item := range a.items(ovf.Memory) {
		if item.Reservation != nil && item.AllocationUnits != nil {
			unit := ovf.ParseCapacityAllocationUnits(strings.TrimSpace(*item.AllocationUnits))
			return int64(min(float64(*item.Reservation)*float64(unit)/(1<<20), math.MaxInt32))
		}
	}
	return 0
}
