package kvm

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

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
	domain, err := h.describe(d)
	if err != nil {
		return "", err
	}
	return marshal(domain)
}

// describe is what render writes.
func (h *Host) describe(d hypervisor.Domain) (*libvirtxml.Domain, error) {
	if err := h.checkName(d.Name); err != nil {
		return nil, err
	}
	if d.MemoryMiB <= 0 || d.VCPUs <= 0 {
		return nil, fault.New(fault.BadInput, "domain %s: memory %d MiB, %d CPUs: both must be above zero", d.Name, d.MemoryMiB, d.VCPUs)
	}
	mark, err := xml.Marshal(metadata{Label: h.label})
	if err != nil {
		return nil, fmt.Errorf("domain %s: %w", d.Name, err)
	}
	port := uint(0)
	domain := &libvirtxml.Domain{
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
	return domain, nil
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

// atTarget is our description of a domain at the target of its migration, with what must be the same on both sides
// from the XML of the source's libvirt: the machine's version, the processor, and where the devices are on their buses.
// Nothing else of that XML gets to the target, because whoever controls the source's host determines it: a path in it
// would open more of the target to the guest than its disk and its bridge.
func (h *Host) atTarget(text string, d hypervisor.Domain) (string, error) {
	var source libvirtxml.Domain
	if err := source.Unmarshal(text); err != nil {
		return "", fmt.Errorf("domain %s: read libvirt's XML: %w", d.Name, err)
	}
	target, err := h.describe(d)
	if err != nil {
		return "", err
	}
	if err := alike(&source, target); err != nil {
		return "", fmt.Errorf("domain %s: libvirt's XML at the source: %w", d.Name, err)
	}
	target.OS.Type.Machine = source.OS.Type.Machine
	target.CPU = source.CPU
	from, to := source.Devices, target.Devices
	to.Controllers = controllersOf(from.Controllers)
	for i := range to.Disks {
		to.Disks[i].Address = from.Disks[i].Address
	}
	for i := range to.Interfaces {
		to.Interfaces[i].Address = from.Interfaces[i].Address
	}
	if text, err = marshal(target); err != nil {
		return "", err
	}
	return text, onlyPaths(text, d.Kernel, d.Ramdisk, d.Disk.Path, d.Disk.Base, consolePath(d.Name))
}

// onlyPaths refuses XML in which a text or an attribute begins with a slash and is none of ours, such as a "processor"
// that is a path.
func onlyPaths(text string, ours ...string) error {
	check := func(text string) error {
		if text = strings.TrimSpace(text); strings.HasPrefix(text, "/") && !slices.Contains(ours, text) {
			return fmt.Errorf("libvirt's XML at the source has %q where it can have no path", text)
		}
		return nil
	}
	for decoder := xml.NewDecoder(strings.NewReader(text)); ; {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		switch token := token.(type) {
		case xml.CharData:
			err = check(string(token))
		case xml.StartElement:
			for _, attribute := range token.Attr {
				err = errors.Join(err, check(attribute.Value))
			}
		}
		if err != nil {
			return fmt.Errorf("read the XML for the target: %w", err)
		}
	}
}

// alike refuses a domain of the source that is not the one that we described: QEMU at the target would wait for a
// state of other devices than the source sends.
func alike(source, target *libvirtxml.Domain) error {
	from, to := source.Devices, target.Devices
	switch {
	case source.Name != target.Name || source.UUID != target.UUID:
		return fmt.Errorf("it is %q (%s), and %s (%s) was asked for", source.Name, source.UUID, target.Name, target.UUID)
	case source.OS == nil || source.OS.Type == nil || from == nil:
		return errors.New("it has no machine or no devices")
	case len(from.Disks) != len(to.Disks) || len(from.Interfaces) != len(to.Interfaces):
		return fmt.Errorf("it has %d disks and %d network cards, and is to have %d and %d", len(from.Disks), len(from.Interfaces), len(to.Disks), len(to.Interfaces))
	}
	for i := range to.Disks {
		if at, want := from.Disks[i].Driver, to.Disks[i].Driver.Type; at == nil || at.Type != want {
			return fmt.Errorf("its disk is not of format %s, which it is to have at the target", want)
		}
	}
	return nil
}

// controllersOf are controllers without what belongs to their host.
func controllersOf(all []libvirtxml.DomainController) []libvirtxml.DomainController {
	plain := make([]libvirtxml.DomainController, 0, len(all))
	for i := range all {
		c := &all[i]
		plain = append(plain, libvirtxml.DomainController{Type: c.Type, Index: c.Index, Model: c.Model, PCI: c.PCI, USB: c.USB, VirtIOSerial: c.VirtIOSerial, Address: c.Address})
	}
	return plain
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
