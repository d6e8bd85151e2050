// Package drivers registers the hypervisors and the storage systems: each is one
// folder, and one line here. Nobody else names a driver but the campaign file's
// vocabulary (package campaign). What a driver brings to the hosts is registered
// in package onhost.
package drivers

import (
	"fmt"
	"strings"

	"heliotrope/internal/hypervisor"
	"heliotrope/internal/hypervisor/kvm"
	"heliotrope/internal/hypervisor/xen"
	"heliotrope/internal/storage"
	"heliotrope/internal/storage/drbd"
	"heliotrope/internal/storage/iscsi"
	"heliotrope/internal/storage/mirror"
	"heliotrope/internal/storage/nfs"
)

// Hypervisors are all of them.
var Hypervisors = []hypervisor.Kind{
	xen.Kind,
	kvm.Kind,
}

// Storages are all storage systems.
var Storages = []storage.Kind{
	iscsi.Kind,
	nfs.Kind,
	drbd.Kind,
	mirror.Kind,
}

// Hypervisor finds a hypervisor by its name.
func Hypervisor(name string) (hypervisor.Kind, error) {
	return find("hypervisor", name, Hypervisors, func(kind hypervisor.Kind) string { return kind.Name })
}

// Storage finds a storage system by its name.
func Storage(name string) (storage.Kind, error) {
	return find("storage system", name, Storages, func(kind storage.Kind) string { return kind.Name })
}

// find finds a kind by its name; an unknown one is an error that lists all.
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
