// Package drivers registers the hypervisors and the storage systems: each is one
// folder, and one line here. No other package names a driver, except the campaign
// file's vocabulary (package campaign). What a driver contributes to the witness's
// program on the hosts is registered in package onhost.
package drivers

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"heliotrope/internal/hypervisor"
	"heliotrope/internal/hypervisor/kvm"
	"heliotrope/internal/hypervisor/vsphere"
	"heliotrope/internal/hypervisor/xen"
	"heliotrope/internal/inventory"
	"heliotrope/internal/remote"
	"heliotrope/internal/storage"
	"heliotrope/internal/storage/datastore"
	"heliotrope/internal/storage/drbd"
	"heliotrope/internal/storage/iscsi"
	"heliotrope/internal/storage/mirror"
	"heliotrope/internal/storage/nfs"
	"heliotrope/internal/wan"
)

// Hypervisors are all hypervisors.
var Hypervisors = []hypervisor.Kind{
	xen.Kind,
	kvm.Kind,
	vsphere.Kind,
}

// Storages are all storage systems. A name may appear twice: for a storage system
// that opens disks on hosts, and for one of a hypervisor that makes the disks itself.
var Storages = slices.Concat(
	[]storage.Kind{iscsi.Kind},
	[]storage.Kind{nfs.Kind},
	[]storage.Kind{drbd.Kind},
	[]storage.Kind{mirror.Kind},
	datastore.Kinds,
)

// StoragesOf are the storage systems that the guests of a hypervisor can use.
func StoragesOf(kind hypervisor.Kind) []storage.Kind {
	return slices.DeleteFunc(slices.Clone(Storages), func(one storage.Kind) bool { return one.Datastores != kind.Datastores })
}

// Hypervisor finds a hypervisor by its name.
func Hypervisor(name string) (hypervisor.Kind, error) {
	return find("hypervisor", name, Hypervisors, func(kind hypervisor.Kind) string { return kind.Name })
}

// Storage finds, by its name, a storage system for the guests of a hypervisor.
func Storage(kind hypervisor.Kind, name string) (storage.Kind, error) {
	return find("storage system of "+kind.Name, name, StoragesOf(kind), func(kind storage.Kind) string { return kind.Name })
}

// Path is the driver that shapes a testbed's WAN: netem on the host that bridges the
// sites, or a port group of a vCenter.
func Path(inv *inventory.Inventory, bridge remote.Runner) wan.Path {
	if at := inv.WAN.Portgroup; at != nil {
		return vsphere.NewPortgroup(inv.Name, *inv.VCenter(at.VCenter), at.Path)
	}
	return wan.New(inv, bridge)
}

// CheckInventory refuses what an inventory asks for and its drivers cannot do, as far
// as that can be known without asking a host.
func CheckInventory(inv *inventory.Inventory) error {
	kind, err := Hypervisor(inv.Hypervisor)
	if err != nil {
		return err
	}
	var errs []error
	if inv.Guest.Operations != nil && !kind.Datastores {
		errs = append(errs, fmt.Errorf("guest.operations: %s runs no commands in guests: give guest.ssh", kind.Name))
	}
	if len(inv.Mounts) > 0 && !kind.Datastores {
		return errors.Join(append(errs, fmt.Errorf("mounts: %s has no datastores", kind.Name))...)
	}
	var names []string
	for _, system := range StoragesOf(kind) {
		names = append(names, system.Name)
		if system.CheckInventory != nil {
			errs = append(errs, system.CheckInventory(inv))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(inv.Mounts)) {
		if !slices.Contains(names, name) {
			errs = append(errs, fmt.Errorf("mounts.%s: %s has no such storage system: there are %s", name, kind.Name, strings.Join(names, ", ")))
		}
	}
	return errors.Join(errs...)
}

// find finds a kind by its name; the error for an unknown name lists all names.
func find[K any](what, name string, kinds []K, nameOf func(K) string) (K, error) {
	var names []string
	for _, kind := range kinds {
		if nameOf(kind) == name {
			return kind, nil
		}
		names = append(names, nameOf(kind))
	}
	var none K
	return none, fmt.Errorf("no %s %q: there are %s", what, name, strings.Join(names, ", "))
}
