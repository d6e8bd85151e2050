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

// namespace is the XML namespace of our metadata in a domain.
const namespace = "urn:heliotrope:testbed:1"

// metadata identifies a domain as ours.
type metadata struct {
	XMLName xml.Name `xml:"urn:heliotrope:testbed:1 testbed"`
	Label   string   `xml:"label,attr"`
}

// labelOf is the label in a domain's metadata; "" when there is none.
func labelOf(text string) string {
	// libvirt returns the metadata without the namespace.
	var m struct {
		Label string `xml:"label,attr"`
	}
	if err := xml.Unmarshal([]byte(text), &m); err != nil {
		return ""
	}
	return m.Label
}

// logs is the folder of libvirt's logs of QEMU. libvirt's helpers may write there on every distribution, whatever
// AppArmor or SELinux forbid elsewhere.
const logs = "/var/log/libvirt/qemu"

// consolePath is the path of a domain's console log on a host.
func consolePath(name string) string { return path.Join(logs, name+".console.log") }

// render returns the domain as XML for libvirt (formatdomain.html).
//
// The domain's processor is the host's own, without features that cannot migrate. This includes the time stamp
// counter: KVM never traps reads of it, so NativeTSC changes nothing here. The guest is not told that the counter
// is invariant (invtsc), because QEMU would then refuse to migrate the domain; the guest keeps time by kvm-clock,
// which KVM corrects at the target.
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
			MemBalloon: &libvirtxml.DomainMemBalloon{Model: "none"}, // no memory is taken from the guest
			Panics:     []libvirtxml.DomainPanic{{Model: "isa"}},    // reports a guest that has crashed
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

// disks is the guest's first disk. QEMU's own cache is off, so that acknowledged writes are on the storage, and
// both hosts may have the disk open. The guest sees I/O errors: an error must not stop the guest.
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

// backingOf is what backs a disk, and says that nothing backs that: libvirt and QEMU then open what they are told,
// and not what the image's header names.
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

// rewrite is a domain's XML from libvirt, with the paths of another host. Everything else, such as the addresses of
// its devices, must stay as it is.
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

// onlyOurs refuses a domain that lacks what all our domains have, or that has what none of them has and what would
// give the guest access to more of the target than its disk and its bridge: whoever controls the source's host
// determines the XML.
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

// consoleOf makes the host keep a log of a domain's serial console.
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
