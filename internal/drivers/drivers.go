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
	var names []string
	for _, kind := range Hypervisors {
		if kind.Name == name {
			return kind, nil
		}
		names = append(names, kind.Name)
	}
	return hypervisor.Kind{}, fmt.Errorf("no hypervisor %q: there are %s", name, strings.Join(names, ", "))
}

// Storage finds a storage system by its name.
func Storage(name string) (storage.Kind, error) {
	var names []string
	for _, kind := range Storages {
		if kind.Name == name {
			return kind, nil
		}
		names = append(names, kind.Name)
	}
	return storage.Kind{}, fmt.Errorf("no storage system %q: there are %s", name, strings.Join(names, ", "))
}
