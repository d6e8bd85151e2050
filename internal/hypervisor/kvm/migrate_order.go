package kvm

import (
	"net/netip"
	"slices"

	libvirt "github.com/digitalocean/go-libvirt"

	"heliotrope/internal/hypervisor"
	"heliotrope/internal/witness"
)

// The TCP ports of a migration, all at the target and all from libvirt's own range
// (migration_port_min and migration_port_max of its qemu.conf), for which firewalls
// are configured. The stream uses the last port; for the copy of a private disk
// libvirt chooses the first free one. So their bytes can be told apart. The
// opposite assignment does not work: libvirt 9.0 never frees a port that it was
// given for a copy.
const (
	firstPort, lastPort = 49152, 49214
	streamPort          = 49215
)

// Traffic says how a migration's bytes are recognised. A host knows only its own
// address; the caller that collects the classes adds between which addresses they
// are.
func (h *Host) Traffic() []witness.Class {
	return []witness.Class{
		{Name: "migration", Protocol: "tcp", FirstPort: streamPort},
		{Name: "mirror", Protocol: "tcp", FirstPort: firstPort, LastPort: lastPort},
	}
}

// flagsOf is an order as libvirt's flags.
func flagsOf(order hypervisor.Order) libvirt.DomainMigrateFlags {
	flags := libvirt.MigrateLive
	if order.AutoConverge {
		flags |= libvirt.MigrateAutoConverge
	}
	if order.Mode == hypervisor.PostCopy {
		flags |= libvirt.MigratePostcopy
	}
	switch order.Domain.Disk.Copy {
	case hypervisor.FullCopy:
		flags |= libvirt.MigrateNonSharedDisk
	case hypervisor.SynchronousCopy:
		// Since libvirt 8.0; it is QEMU's copy-mode write-blocking.
		flags |= libvirt.MigrateNonSharedDisk | libvirt.MigrateNonSharedSynchronousWrites
	case hypervisor.IncrementalCopy:
		flags |= libvirt.MigrateNonSharedInc
	}
	return flags
}

// paramsOf is the rest of an order as libvirt's parameters.
func paramsOf(order hypervisor.Order, to netip.Addr, xml string) []libvirt.TypedParam {
	params := []libvirt.TypedParam{
		{Field: libvirt.MigrateParamURI, Value: *libvirt.NewTypedParamValueString("tcp://" + netip.AddrPortFrom(to, streamPort).String())},
		{Field: libvirt.MigrateParamListenAddress, Value: *libvirt.NewTypedParamValueString(to.String())},
		{Field: libvirt.MigrateParamDestXML, Value: *libvirt.NewTypedParamValueString(xml)},
	}
	if limit := order.BandwidthMiBPerSecond; limit > 0 {
		params = append(params, libvirt.TypedParam{Field: libvirt.MigrateParamBandwidth, Value: *libvirt.NewTypedParamValueUllong(uint64(limit))})
	}
	return params
}

// replaced returns the parameters with another value for one of them.
func replaced(params []libvirt.TypedParam, name, value string) []libvirt.TypedParam {
	others := slices.DeleteFunc(slices.Clone(params), func(p libvirt.TypedParam) bool { return p.Field == name })
	return append(others, libvirt.TypedParam{Field: name, Value: *libvirt.NewTypedParamValueString(value)})
}
