package kvm

import (
	"net/netip"
	"slices"

	libvirt "github.com/digitalocean/go-libvirt"

	"heliotrope/internal/hypervisor"
	"heliotrope/internal/witness"
)

// The ports of a migration, all at the target.
const (
	// firstPort to lastPort are for QEMU's streams: libvirt's own defaults
	// (migration_port_min and migration_port_max of its qemu.conf).
	firstPort, lastPort = 49152, 49215
	// mirrorPort is for the copy of a private disk, so that its bytes can be
	// told from the stream's.
	mirrorPort = 49216
)

// Traffic is by what a migration's bytes are known. A host knows no address but
// its own; whoever puts the classes together knows between which they are.
func (h *Host) Traffic() []witness.Class {
	return []witness.Class{
		{Name: "migration", Protocol: "tcp", FirstPort: firstPort, LastPort: lastPort},
		{Name: "mirror", Protocol: "tcp", FirstPort: mirrorPort},
	}
}

// flagsOf is an order in libvirt's words.
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
	case hypervisor.IncrementalCopy:
		flags |= libvirt.MigrateNonSharedInc
	}
	return flags
}

// paramsOf is the rest of an order in libvirt's words. The target chooses the
// stream's port.
func paramsOf(order hypervisor.Order, to netip.Addr, xml string) []libvirt.TypedParam {
	host := to.String()
	if to.Is6() {
		host = "[" + host + "]"
	}
	params := []libvirt.TypedParam{
		{Field: libvirt.MigrateParamURI, Value: *libvirt.NewTypedParamValueString("tcp://" + host)},
		{Field: libvirt.MigrateParamListenAddress, Value: *libvirt.NewTypedParamValueString(to.String())},
		{Field: libvirt.MigrateParamDestXML, Value: *libvirt.NewTypedParamValueString(xml)},
	}
	if limit := order.BandwidthMiBPerSecond; limit > 0 {
		params = append(params, libvirt.TypedParam{Field: libvirt.MigrateParamBandwidth, Value: *libvirt.NewTypedParamValueUllong(uint64(limit))})
	}
	if order.Domain.Disk.Copy != "" {
		params = append(params, libvirt.TypedParam{Field: libvirt.MigrateParamDisksPort, Value: *libvirt.NewTypedParamValueInt(mirrorPort)})
	}
	return params
}

// replaced gives parameters of which one has another value.
func replaced(params []libvirt.TypedParam, name, value string) []libvirt.TypedParam {
	others := slices.DeleteFunc(slices.Clone(params), func(p libvirt.TypedParam) bool { return p.Field == name })
	return append(others, libvirt.TypedParam{Field: name, Value: *libvirt.NewTypedParamValueString(value)})
}
