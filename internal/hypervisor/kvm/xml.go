package kvm

import (
	"encoding/xml"
	"errors"
	"fmt"
	"path"

	"libvirt.org/go/libvirtxml"

	"heliotrope/internal/fault"
	"heliotrope/internal/hypervisor"
)

// namespace of our metadata in a domain.
const namespace = "urn:heliotrope:testbed:1"

// metadata is what makes a domain ours.
type metadata struct {
	XMLName xml.Name `xml:"urn:heliotrope:testbed:1 testbed"`
	Label   string   `xml:"label,attr"`
}

// labelOf is the label in a domain's metadata; "" when it has none.
func labelOf(text string) string {
	// libvirt leaves the namespace out of what it gives.
	var m struct {
		Label string `xml:"label,attr"`
	}
	if err := xml.Unmarshal([]byte(text), &m); err != nil {
		return ""
	}
	return m.Label
}

// logs is where libvirt keeps its logs of QEMU. Its helpers may write there on
// every distribution, whatever AppArmor or SELinux forbid elsewhere.
const logs = "/var/log/libvirt/qemu"

// consolePath is where a domain's console is kept on a host.
func consolePath(name string) string { return path.Join(logs, name+".console.log") }

// render writes the domain as libvirt wants it (formatdomain.html).
//
// Its processor is the host's own, less what cannot migrate. With it goes the
// time stamp counter: KVM never traps a read of it, so NativeTSC changes nothing
// here. The guest is not told that it is invariant (invtsc), as QEMU then refuses
// to migrate; it keeps time by kvm-clock, which KVM corrects for the target.
func (h *Host) render(d hypervisor.Domain) (string, error) {
	if err := h.checkName(d.Name); err != nil {
		return "", err
	}
	if d.MemoryMiB <= 0 || d.VCPUs <= 0 {
		return "", fault.New(fault.BadInput, "domain %s: memory %d MiB, %d CPUs: both must be above zero", d.Name, d.MemoryMiB, d.VCPUs)
	}
	mark, err := xml.Marshal(metadata{Label: h.label})
	if err != nil {
		return "", fmt.Errorf("domain %s: %w", d.Name, err)
	}
	port := uint(0)
	domain := libvirtxml.Domain{
		Type: h.domainType, Name: d.Name, UUID: d.UUID().String(),
		Metadata:   &libvirtxml.DomainMetadata{XML: string(mark)},
		Memory:     &libvirtxml.DomainMemory{Value: uint(d.MemoryMiB), Unit: "MiB"},
		VCPU:       &libvirtxml.DomainVCPU{Value: uint(d.VCPUs)},
		OS:         &libvirtxml.DomainOS{Type: &libvirtxml.DomainOSType{Arch: "x86_64", Machine: machineType, Type: "hvm"}, Kernel: d.Kernel, Initrd: d.Ramdisk, Cmdline: d.Cmdline},
		Features:   &libvirtxml.DomainFeatureList{ACPI: &libvirtxml.DomainFeature{}, APIC: &libvirtxml.DomainFeatureAPIC{}},
		CPU:        h.cpu(),
		Clock:      &libvirtxml.DomainClock{Offset: "utc", Timer: []libvirtxml.DomainTimer{{Name: "hpet", Present: "no"}}},
		OnPoweroff: "destroy", OnReboot: "destroy",
		OnCrash: "preserve", // how it ended is a result
		Devices: &libvirtxml.DomainDeviceList{
			Disks:       disks(d.Disk),
			Controllers: []libvirtxml.DomainController{{Type: "usb", Model: "none"}},
			Serials: []libvirtxml.DomainSerial{{
				Source: &libvirtxml.DomainChardevSource{Pty: &libvirtxml.DomainChardevSourcePty{}},
				Target: &libvirtxml.DomainSerialTarget{Type: "isa-serial", Port: &port},
				Log:    consoleOf(d.Name)}},
			MemBalloon: &libvirtxml.DomainMemBalloon{Model: "none"}, // nobody takes memory from the guest
			Panics:     []libvirtxml.DomainPanic{{Model: "isa"}},    // tells a guest that has crashed
		},
	}
	if d.Bridge != "" {
		domain.Devices.Interfaces = []libvirtxml.DomainInterface{{
			MAC:    &libvirtxml.DomainInterfaceMAC{Address: d.MAC},
			Source: bridgeOf(d.Bridge),
			Model:  &libvirtxml.DomainInterfaceModel{Type: "virtio"},
			ROM:    &libvirtxml.DomainROM{Enabled: "no"}}}
	}
	return marshal(&domain)
}

func (h *Host) cpu() *libvirtxml.DomainCPU {
	cpu := &libvirtxml.DomainCPU{Mode: h.cpuMode}
	if h.cpuMode == "host-passthrough" {
		cpu.Check, cpu.Migratable = "none", "on"
	}
	return cpu
}

// disks is the guest's first disk. QEMU's own cache is off, so that what the
// guest was told is written is on the storage, and both hosts may have it open.
// An error is the guest's to see: it must not be stopped by one.
func disks(d hypervisor.Disk) []libvirtxml.DomainDisk {
	if d.Path == "" {
		return nil
	}
	disk := libvirtxml.DomainDisk{
		Device: "disk",
		Driver: &libvirtxml.DomainDiskDriver{Name: "qemu", Type: "raw", Cache: "none", IO: "native", ErrorPolicy: "report"},
		Source: sourceOf(d), BackingStore: backingOf(d),
		Target: &libvirtxml.DomainDiskTarget{Dev: "vda", Bus: "virtio"}}
	if d.Base != "" {
		disk.Driver.Type = "qcow2"
	}
	return []libvirtxml.DomainDisk{disk}
}

// backingOf is what a disk has under it, and that there is nothing more: libvirt
// and QEMU then open what they are told, and not what the image's header names.
func backingOf(d hypervisor.Disk) *libvirtxml.DomainDiskBackingStore {
	if d.Base == "" {
		return nil
	}
	return &libvirtxml.DomainDiskBackingStore{
		Format: &libvirtxml.DomainDiskFormat{Type: "raw"}, Source: sourceOf(hypervisor.Disk{Path: d.Base}),
		BackingStore: &libvirtxml.DomainDiskBackingStore{}}
}

func sourceOf(d hypervisor.Disk) *libvirtxml.DomainDiskSource {
	if d.File {
		return &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{File: d.Path}}
	}
	return &libvirtxml.DomainDiskSource{Block: &libvirtxml.DomainDiskSourceBlock{Dev: d.Path}}
}

func bridgeOf(name string) *libvirtxml.DomainInterfaceSource {
	return &libvirtxml.DomainInterfaceSource{Bridge: &libvirtxml.DomainInterfaceSourceBridge{Bridge: name}}
}

// rewrite is a domain as libvirt tells it, with the paths that it has on another
// host. All else, such as the places of its devices, must stay as it is.
func rewrite(text string, d hypervisor.Domain) (string, error) {
	var domain libvirtxml.Domain
	if err := domain.Unmarshal(text); err != nil {
		return "", fmt.Errorf("domain %s: read libvirt's XML: %w", d.Name, err)
	}
	if err := onlyOurs(&domain); err != nil {
		return "", fmt.Errorf("domain %s: libvirt's XML at the source: %w", d.Name, err)
	}
	domain.OS.Kernel, domain.OS.Initrd, domain.OS.Cmdline = d.Kernel, d.Ramdisk, d.Cmdline
	wanted := disks(d.Disk)
	if len(domain.Devices.Disks) != len(wanted) {
		return "", fmt.Errorf("domain %s has %d disks at the source, and %d at the target", d.Name, len(domain.Devices.Disks), len(wanted))
	}
	for i, disk := range wanted {
		at := &domain.Devices.Disks[i]
		if at.Driver == nil || at.Driver.Type != disk.Driver.Type {
			return "", fmt.Errorf("domain %s is to have a disk of format %s at the target, and has another at the source", d.Name, disk.Driver.Type)
		}
		at.Source, at.BackingStore = disk.Source, disk.BackingStore
	}
	for i := range domain.Devices.Interfaces {
		domain.Devices.Interfaces[i].Source = bridgeOf(d.Bridge)
		domain.Devices.Interfaces[i].Target = nil
	}
	for i := range domain.Devices.Serials {
		domain.Devices.Serials[i].Log = consoleOf(d.Name)
	}
	return marshal(&domain)
}

// onlyOurs refuses a domain without what each has that we render, and one with what none of them has and would open more of
// the target to the guest than its disk and its bridge: whoever rules the source's host says what is in its XML.
func onlyOurs(domain *libvirtxml.Domain) error {
	switch devices := domain.Devices; {
	case domain.OS == nil || devices == nil:
		return errors.New("it has no kernel or no devices")
	case domain.QEMUCommandline != nil || domain.QEMUOverride != nil:
		return errors.New("it has arguments for QEMU, which none of ours has")
	case len(devices.Hostdevs) > 0 || len(devices.Filesystems) > 0 || len(devices.Shmems) > 0:
		return errors.New("it has a device, a folder or memory of its host, which none of ours has")
	}
	return nil
}

// consoleOf has a domain's serial console kept on its host.
func consoleOf(name string) *libvirtxml.DomainChardevLog {
	return &libvirtxml.DomainChardevLog{File: consolePath(name), Append: "off"}
}

func marshal(domain *libvirtxml.Domain) (string, error) {
	text, err := domain.Marshal()
	if err != nil {
		return "", fmt.Errorf("domain %s: %w", domain.Name, err)
	}
	return text, nil
}
