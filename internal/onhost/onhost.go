// Package onhost registers what the drivers contribute to the witness's
// program, which watches on the hosts: readers of counters, and watchers of
// domains. The package is kept small, because the program is copied to each
// machine of a testbed.
package onhost

import (
	"maps"
	"net/netip"
	"slices"

	kvm "heliotrope/internal/hypervisor/kvm/watch"
	vsphere "heliotrope/internal/hypervisor/vsphere/counters"
	xen "heliotrope/internal/hypervisor/xen/watch"
	"heliotrope/internal/onhost/part"
	drbd "heliotrope/internal/storage/drbd/counters"
	iscsi "heliotrope/internal/storage/iscsi/counters"
	nfs "heliotrope/internal/storage/nfs/counters"
	"heliotrope/internal/witness"
	"heliotrope/internal/witness/sampler"
)

// parts has one line for each driver that contributes something.
var parts = []part.Part{
	kvm.Part,
	xen.Part,
	vsphere.Part,
	iscsi.Part,
	nfs.Part,
	drbd.Part,
}

// Readers are the readers of all drivers.
func Readers() sampler.Readers {
	all := sampler.Readers{}
	for _, one := range parts {
		maps.Copy(all, one.Readers)
	}
	return all
}

// Watcher finds the watcher of a hypervisor's domains; nil when there is none.
func Watcher(name string) part.Watcher {
	for _, one := range parts {
		if watcher, found := one.Watchers[name]; found {
			return watcher
		}
	}
	return nil
}

// Counters is the data dictionary of the counters: the machines' own, those of
// the classes of WAN traffic, and the drivers'.
func Counters() []witness.Counter {
	all := slices.Clone(witness.Counters)
	for _, class := range classes() {
		all = append(all, witness.ClassCounters(class)...)
	}
	for _, one := range parts {
		all = append(all, one.Counters...)
	}
	return all
}

// classes are the names of the drivers' classes of traffic, of our own classes,
// and of the class for all other traffic.
func classes() []string {
	var all []string
	add := func(name string) {
		if !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	for _, one := range parts {
		for _, name := range one.Classes {
			add(name)
		}
	}
	none := netip.Addr{} // only the names are wanted
	for _, class := range witness.OwnClasses(none, none, none) {
		add(class.Name)
	}
	add(witness.OtherClass)
	return all
}
