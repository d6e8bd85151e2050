package problem

import (
	"slices"
	"strings"
)

// Family is a family of distributions in which a package has the same name.
type Family string

// The families.
const (
	Debian Family = "Debian"
	Ubuntu Family = "Ubuntu"
	RHEL   Family = "RHEL"   // and distributions built from its sources
	XCPng  Family = "XCP-ng" // and XenServer; built on CentOS
)

// Families are all families.
var Families = []Family{Debian, Ubuntu, RHEL, XCPng}

// FamilyOf finds a host's family by NAME, ID and ID_LIKE of its os-release(5); "" when it
// is none of them. XCP-ng has the ID of XenServer, xenenterprise, and rhel in ID_LIKE.
func FamilyOf(name, id, like string) Family {
	is := func(word string) bool { return slices.Contains(strings.Fields(id+" "+like), word) }
	switch {
	case id == "xenenterprise" || strings.HasPrefix(name, string(XCPng)):
		return XCPng
	case id == "ubuntu" || is("ubuntu"):
		return Ubuntu
	case is("debian"):
		return Debian
	case is("rhel"), is("centos"), is("fedora"):
		return RHEL
	}
	return ""
}

// packages are, by family, the names of the package that has one program or module. The
// last two may have a note on the repository. "" means that no package is known.
type packages struct{ debian, ubuntu, rhel, xcpng string }

// alike is a package that has two names: one in Debian and Ubuntu, one in the others.
func alike(debian, others string) packages { return packages{debian, debian, others, others} }

// programs has a row for each program that a host may need.
var programs = map[string]packages{
	"/bin/ping":        alike("iputils-ping", "iputils"),
	"/sbin/blkdiscard": alike("util-linux", "util-linux"),
	"/sbin/ethtool":    alike("ethtool", "ethtool"),
	"/sbin/losetup":    alike("mount", "util-linux"),
	"/sbin/mount.nfs4": alike("nfs-common", "nfs-utils"),
	"/sbin/tc":         {"iproute2", "iproute2", "iproute-tc", "iproute"},
	"/usr/bin/pgrep":   alike("procps", "procps-ng"),
	// Xen's script for block devices.
	"/etc/xen/scripts/block": {"xen-utils-common", "xen-utils-common", "", "xen-dom0-tools"},
	"drbdadm":                {"drbd-utils", "drbd-utils", "drbd84-utils (ELRepo)", "drbd-utils"},
	"drbdsetup":              {"drbd-utils", "drbd-utils", "drbd84-utils (ELRepo)", "drbd-utils"},
	"exportfs":               alike("nfs-kernel-server", "nfs-utils"),
	"iscsiadm":               alike("open-iscsi", "iscsi-initiator-utils"),
	"iscsid":                 alike("open-iscsi", "iscsi-initiator-utils"),
	"libvirtd":               {"libvirt-daemon-system", "libvirt-daemon-system", "libvirt-daemon-kvm", ""},
	"ovs-vsctl":              alike("openvswitch-switch", "openvswitch"),
	"pv":                     alike("pv", "pv (EPEL)"),
	"qemu-system-x86_64":     {"qemu-system-x86", "qemu-system-x86", "qemu-kvm", ""},
	"qemu-img":               {"qemu-utils", "qemu-utils", "qemu-img", ""},
	"rpc.mountd":             alike("nfs-kernel-server", "nfs-utils"),
	"rpc.nfsd":               alike("nfs-kernel-server", "nfs-utils"),
	"socat":                  alike("socat", "socat"),
	"ss":                     alike("iproute2", "iproute"),
	"ssh":                    alike("openssh-client", "openssh-clients"),
	"xenstore-read":          {"xenstore-utils", "xenstore-utils", "", "xen-tools"},
	"xl":                     {"xen-utils-common", "xen-utils-common", "", "xen-dom0-tools"},
}

// modules has a row for each kernel module that is not in the package of most modules.
var modules = map[string]packages{
	"drbd": {anyModule.debian, anyModule.ubuntu, "kmod-drbd84 (ELRepo)", ""},
}

// anyModule is the package that has most modules. Debian's small kernel for clouds has
// too few.
var anyModule = packages{"linux-image-amd64 and boot its kernel", "linux-modules-extra-$(uname -r)", "kernel-modules-extra", "kernel"}

// of is the name of the package in a family; "" when none is known.
func (p packages) of(family Family) string {
	switch family {
	case Debian:
		return p.debian
	case Ubuntu:
		return p.ubuntu
	case RHEL:
		return p.rhel
	case XCPng:
		return p.xcpng
	}
	return ""
}

// fix says what to install.
func (l lack) fix(family Family) string {
	row, known := programs[l.name]
	if l.module {
		if row, known = modules[l.name]; !known {
			row, known = anyModule, true
		}
	}
	const what = "install"
	switch name := row.of(family); {
	case !known:
		return what + " the package that has " + l.name
	case name != "":
		return what + " the package " + name
	case family != "":
		return what + " what has " + l.name + ": no package of " + string(family) + " is known"
	}
	// Families whose package has the same name are listed together, in the order of
	// Families.
	var names []string
	having := map[string][]string{}
	for _, one := range Families {
		name := row.of(one)
		if name != "" && having[name] == nil {
			names = append(names, name)
		}
		having[name] = append(having[name], string(one))
	}
	for i, name := range names {
		names[i] = name + " (" + strings.Join(having[name], ", ") + ")"
	}
	return what + " the package " + strings.Join(names, ", ")
}
