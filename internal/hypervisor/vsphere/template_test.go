package vsphere

import (
	"archive/tar"
	"context"
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"

	"heliotrope/internal/fault"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/inventory"
	"heliotrope/internal/storage"
)

// descriptor is an OVF descriptor of a machine with a disk and a network interface;
// DISK stands for the disk's file.
const descriptor = `<?xml version="1.0"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1"
  xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"
  xmlns:vssd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData">
  <References><File ovf:href="DISK" ovf:id="file1" ovf:size="4"/></References>
  <DiskSection><Info>Disks</Info>
    <Disk ovf:capacity="8" ovf:capacityAllocationUnits="byte * 2^20" ovf:diskId="vmdisk1" ovf:fileRef="file1"
      ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"/></DiskSection>
  <NetworkSection><Info>Networks</Info><Network ovf:name="test"><Description>The test network</Description></Network></NetworkSection>
  <VirtualSystem ovf:id="guest"><Info>A machine</Info><Name>guest</Name>
    <VirtualHardwareSection><Info>Hardware</Info>
      <System><vssd:ElementName>Family</vssd:ElementName><vssd:InstanceID>0</vssd:InstanceID>
        <vssd:VirtualSystemIdentifier>guest</vssd:VirtualSystemIdentifier><vssd:VirtualSystemType>vmx-13</vssd:VirtualSystemType></System>
      <Item><rasd:ElementName>cpu</rasd:ElementName><rasd:InstanceID>1</rasd:InstanceID><rasd:ResourceType>3</rasd:ResourceType>
        <rasd:VirtualQuantity>1</rasd:VirtualQuantity></Item>
      <Item><rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits><rasd:ElementName>memory</rasd:ElementName><rasd:InstanceID>2</rasd:InstanceID>
        <rasd:ResourceType>4</rasd:ResourceType><rasd:VirtualQuantity>64</rasd:VirtualQuantity></Item>
      <Item><rasd:Address>0</rasd:Address><rasd:ElementName>scsi0</rasd:ElementName><rasd:InstanceID>3</rasd:InstanceID>
        <rasd:ResourceSubType>CONTROLLER</rasd:ResourceSubType><rasd:ResourceType>6</rasd:ResourceType></Item>
      <Item><rasd:AddressOnParent>0</rasd:AddressOnParent><rasd:ElementName>disk0</rasd:ElementName>
        <rasd:HostResource>ovf:/disk/vmdisk1</rasd:HostResource><rasd:InstanceID>4</rasd:InstanceID><rasd:Parent>3</rasd:Parent>
        <rasd:ResourceType>17</rasd:ResourceType></Item>
      <Item><rasd:AddressOnParent>1</rasd:AddressOnParent><rasd:AutomaticAllocation>true</rasd:AutomaticAllocation>
        <rasd:Connection>test</rasd:Connection><rasd:ElementName>ethernet0</rasd:ElementName><rasd:InstanceID>5</rasd:InstanceID>
        <rasd:ResourceSubType>VmxNet3</rasd:ResourceSubType><rasd:ResourceType>10</rasd:ResourceType></Item>
    </VirtualHardwareSection>
  </VirtualSystem>
</Envelope>`

// secondDisk describes one more disk of the machine.
var secondDisk = strings.NewReplacer(`</DiskSection>`, `<Disk ovf:capacity="3" ovf:capacityAllocationUnits="byte * 2^20" ovf:diskId="vmdisk2"
    ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"/></DiskSection>`,
	`</VirtualHardwareSection>`, `<Item><rasd:AddressOnParent>1</rasd:AddressOnParent><rasd:ElementName>disk1</rasd:ElementName>
    <rasd:HostResource>ovf:/disk/vmdisk2</rasd:HostResource><rasd:InstanceID>6</rasd:InstanceID><rasd:Parent>3</rasd:Parent>
    <rasd:ResourceType>17</rasd:ResourceType></Item></VirtualHardwareSection>`)

// described writes only a descriptor, and returns its path.
func described(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "guest.ovf")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	return path
}

const (
	templateStore = "/DC0/datastore/LocalDS_0"
	templateName  = "heliotrope-debian"
)

// ovfOf writes a package whose disk has that name and content, and returns the
// descriptor's path.
func ovfOf(t *testing.T, disk, content string) string {
	t.Helper()
	folder := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(folder, "guest.ovf"), []byte(ovfText(disk)), 0o644))
	if content != "" {
		require.NoError(t, os.WriteFile(filepath.Join(folder, disk), []byte(content), 0o644))
	}
	return filepath.Join(folder, "guest.ovf")
}

func ovfText(disk string) string {
	return strings.NewReplacer("DISK", disk, "CONTROLLER", "lsilogic").Replace(descriptor)
}

// ovaOf writes the same as an archive.
func ovaOf(t *testing.T, disk, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "guest.ova")
	file, err := os.Create(path)
	require.NoError(t, err)
	archive := tar.NewWriter(file)
	for _, entry := range []struct{ name, content string }{{"guest.ovf", ovfText(disk)}, {disk, content}} {
		require.NoError(t, archive.WriteHeader(&tar.Header{Name: entry.name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(entry.content))}))
		_, err := archive.Write([]byte(entry.content))
		require.NoError(t, err)
	}
	require.NoError(t, archive.Close())
	require.NoError(t, file.Close())
	return path
}

// templating gives a host whose template must be made from a file.
func (s *sim) templating(file string) *Host {
	h := s.host("host-a", "DC0_C0_H0")
	h.machine.VCenter.Template = "/DC0/vm/" + templateName
	h.machine.VCenter.Import = &inventory.Import{File: file, Datastore: templateStore}
	return h
}

// TestImport makes a template from an OVF and from an OVA, each twice, and a guest
// from it, and removes it, twice.
func TestImport(t *testing.T) {
	t.Parallel()
	for name, file := range map[string]string{"ovf": ovfOf(t, "disk.vmdk", "data"), "ova": ovaOf(t, "disk.vmdk", "data")} {
		t.Run(name, func(t *testing.T) {
			s := newSim(t)
			h, ctx := s.templating(file), t.Context()
			for range 2 {
				warnings, err := h.ImportTemplate(ctx, file, templateStore)
				require.NoError(t, err)
				require.Empty(t, warnings)
			}
			require.Equal(t, 1, s.count("ImportVApp"))
			vm := s.find(templateName)
			require.True(t, vm.Config.Template)
			require.Contains(t, vm.Config.Annotation, `template of testbed "lab", imported from sha256:`)
			devices := object.VirtualDeviceList(vm.Config.Hardware.Device)
			require.Len(t, devices.SelectByType((*types.VirtualDisk)(nil)), 1)
			card := devices.SelectByType((*types.VirtualEthernetCard)(nil))[0].(types.BaseVirtualEthernetCard).GetVirtualEthernetCard()
			group := s.model.Map().Get(s.ref("DistributedVirtualPortgroup", "DC0_DVPG0")).(*simulator.DistributedVirtualPortgroup)
			require.Equal(t, group.Key, card.Backing.(*types.VirtualEthernetCardDistributedVirtualPortBackingInfo).Port.PortgroupKey)

			states, err := h.List(ctx)
			require.NoError(t, err)
			require.Empty(t, states, "a template is no guest")
			require.NoError(t, h.Create(ctx, guest))
			s.requireAt(s.a)
			require.NoError(t, h.Destroy(ctx, guest.Name))
			for range 2 {
				require.NoError(t, h.RemoveTemplate(ctx))
			}
		})
	}
}

// TestImportedOtherwise: a template from other files is not replaced, one that is not
// ours is not touched, and a half-made one is made again.
func TestImportedOtherwise(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	file := ovfOf(t, "disk.vmdk", "data")
	h, ctx := s.templating(file), t.Context()
	_, err := h.ImportTemplate(ctx, file, templateStore)
	require.NoError(t, err)
	_, err = h.ImportTemplate(ctx, ovfOf(t, "disk.vmdk", "Data"), templateStore)
	require.ErrorContains(t, err, "a template is there that was made of other files (sha256:")
	require.Equal(t, fault.BadInput, fault.Of(err))

	vm := s.find(templateName)
	vm.Config.Template = false // whoever imported it was killed
	_, err = h.ImportTemplate(ctx, file, templateStore)
	require.NoError(t, err)
	require.NotEqual(t, vm.Self, s.find(templateName).Self)

	vm = s.find(templateName)
	for _, change := range []*string{&vm.Config.Annotation, &vm.Config.InstanceUuid} {
		was := *change
		*change = "another's"
		_, err := h.ImportTemplate(ctx, file, templateStore)
		for _, err := range []error{err, h.RemoveTemplate(ctx)} {
			require.ErrorContains(t, err, "was not imported for this testbed: it is not touched")
			require.Equal(t, fault.BadInput, fault.Of(err))
		}
		*change = was
	}
	require.NoError(t, h.RemoveTemplate(ctx))
}

// TestBadPackage: a package that cannot be imported is refused before anything is
// made, and no file of another folder is read.
func TestBadPackage(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	linked := ovfOf(t, "disk.vmdk", "")
	secret := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(secret, []byte("hunter2"), 0o644))
	require.NoError(t, os.Symlink(secret, filepath.Join(filepath.Dir(linked), "disk.vmdk")))
	broken := filepath.Join(t.TempDir(), "broken.ovf")
	require.NoError(t, os.WriteFile(broken, []byte("<Envelope>"), 0o644))
	collection := filepath.Join(t.TempDir(), "collection.ovf")
	require.NoError(t, os.WriteFile(collection, []byte("<Envelope></Envelope>"), 0o644))
	hardware := ovfOf(t, "disk.vmdk", "data")
	require.NoError(t, os.WriteFile(hardware, []byte(strings.Replace(ovfText("disk.vmdk"), "lsilogic", "quantum", 1)), 0o644))
	h := s.templating(hardware)
	for want, test := range map[string]struct{ file, store string }{
		"want a file that ends in .ovf or .ova":                      {"/srv/guest.qcow2", templateStore},
		"no such file":                                               {"/nowhere/guest.ovf", templateStore},
		"read the OVF descriptor: XML syntax error":                  {broken, templateStore},
		"it describes no single machine":                             {collection, templateStore},
		`refers to "disk.vmdk": openat disk.vmdk: no such`:           {ovfOf(t, "disk.vmdk", ""), templateStore},
		`refers to "../secret": it must stand beside the descriptor`: {ovfOf(t, "../secret", ""), templateStore},
		`refers to "/etc/hostname": it must stand beside`:            {ovfOf(t, "/etc/hostname", ""), templateStore},
		`refers to "https://host/disk": it must stand beside`:        {ovfOf(t, "https://host/disk", ""), templateStore},
		`refers to "..": `:                                           {ovfOf(t, "..", ""), templateStore},
		"path escapes from parent":                                   {linked, templateStore},
		"vCenter refuses the descriptor: ":                           {hardware, templateStore},
		"datastore /DC0/datastore/nfs: there is no":                  {ovfOf(t, "disk.vmdk", "data"), "/DC0/datastore/nfs"},
	} {
		_, err := h.ImportTemplate(t.Context(), test.file, test.store)
		require.ErrorContains(t, err, want)
		require.Equal(t, fault.BadInput, fault.Of(err), want)
	}
	h.machine.VCenter.Template = "/DC0/vm/lab.template"
	_, err := h.ImportTemplate(t.Context(), hardware, templateStore)
	require.ErrorContains(t, err, "begins as those of the testbed's guests do")
	require.Zero(t, s.count("ImportVApp"))
}

// TestUploadFails: an import whose disk cannot be sent leaves nothing behind.
func TestUploadFails(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	file := ovfOf(t, "disk.vmdk", "data")
	h := s.templating(file)
	s.set(func() { s.refuses = "/nfc/" })
	_, err := h.ImportTemplate(t.Context(), file, templateStore)
	require.ErrorContains(t, err, "upload disk.vmdk: 127.0.0.1")
	require.ErrorContains(t, err, "answers 500")
	require.Equal(t, fault.Infrastructure, fault.Of(err))
	require.Equal(t, 1, s.count("HttpNfcLeaseAbort"))
	require.Nil(t, s.find(templateName))
}

// TestNoTicketInErrors: the address to which a disk is sent contains a ticket, and is
// in no error.
func TestNoTicketInErrors(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	h := s.templating("guest.ovf")
	closed := httptest.NewTLSServer(nil)
	closed.Close()
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, h.with(t.Context(), "test", func(at *site) error {
		for _, test := range []struct {
			ctx       context.Context
			url, want string
		}{
			{t.Context(), closed.URL + "/nfc/52d8-ticket/disk", closed.URL + `": dial tcp`},
			{t.Context(), "https://user:52d8-ticket@" + s.address + "/nfc/disk", "404"},
			{cancelled, "https://" + s.address + "/nfc/disk?ticket=52d8-ticket", "context canceled"},
			{t.Context(), "http://user:52d8-ticket@" + s.address + "/nfc/52d8-ticket/disk", "without TLS"},
			{t.Context(), "https://127.0.0.1:52d8-ticket/disk", "vCenter gives no URL"},
		} {
			device := types.HttpNfcLeaseDeviceUrl{Url: test.url, SslThumbprint: s.thumbprintSHA1()}
			err := h.send(test.ctx, at, device, types.OvfFileItem{}, strings.NewReader("data"), 4)
			require.ErrorContains(t, err, test.want)
			require.NotContains(t, err.Error(), "52d8-ticket")
		}
		return nil
	}))
}

// TestUploadTrusted: the host that receives a disk is verified by the thumbprint that
// vCenter gives for it, and by nothing else.
func TestUploadTrusted(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	h := s.templating("guest.ovf")
	require.NoError(t, h.with(t.Context(), "test", func(at *site) error {
		device := types.HttpNfcLeaseDeviceUrl{Url: "https://" + s.address + "/nfc/none/disk", SslThumbprint: strings.Repeat("00:", 19) + "00"}
		err := h.send(t.Context(), at, device, types.OvfFileItem{}, strings.NewReader("data"), 4)
		require.ErrorContains(t, err, "its certificate has not the thumbprint 00:00")
		device.SslThumbprint = s.thumbprintSHA1()
		require.ErrorContains(t, h.send(t.Context(), at, device, types.OvfFileItem{}, strings.NewReader("data"), 4), "404")
		device.Url = "http://" + s.address + "/nfc/none/disk"
		require.ErrorContains(t, h.send(t.Context(), at, device, types.OvfFileItem{}, strings.NewReader("data"), 4), "without TLS")
		return nil
	}))
}

// importing makes both hosts make their template from a file.
func (s *sim) importing(file string) {
	for _, h := range []*Host{s.a, s.b} {
		h.machine.VCenter.Template = "/DC0/vm/" + templateName
		h.machine.VCenter.Import = &inventory.Import{File: file, Datastore: templateStore}
	}
}

// TestImportedDisks: the disks in a descriptor are counted before anything is made.
func TestImportedDisks(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	file := ovfOf(t, "disk.vmdk", "data")
	require.NoError(t, os.WriteFile(file, []byte(secondDisk.Replace(ovfText("disk.vmdk"))), 0o644))
	s.importing(file)
	err := s.a.Check(t.Context())
	require.ErrorContains(t, err, "describes a machine with 2 disks (disk0 of 8 MiB, disk1 of 3 MiB), and the guest would find the disk under test behind them, and not as /dev/sdb: want 1")
	require.Equal(t, fault.BadInput, fault.Of(err))
}

// TestDomainBytesOfImport: before there is a template, what a guest takes is read from
// the descriptor: its disks at their full size, and a swap file as large as its memory
// without the reserved part.
func TestDomainBytesOfImport(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	text := ovfText("none.vmdk")
	reserving := func(text, what string) string {
		return strings.Replace(text, "<rasd:ResourceType>4</rasd:ResourceType>", "<rasd:Reservation>"+what+"</rasd:Reservation><rasd:ResourceType>4</rasd:ResourceType>", 1)
	}
	for name, test := range map[string]struct {
		text string
		want int64
	}{
		"one disk":        {text, 8 + 512},
		"two disks":       {secondDisk.Replace(text), 11 + 512},
		"some reserved":   {reserving(text, "112"), 8 + 400},
		"more than it is": {reserving(text, "600"), 8},
	} {
		s.importing(described(t, test.text))
		bytes, err := s.a.DomainBytes(t.Context(), 512)
		require.NoError(t, err, name)
		require.Equal(t, test.want<<20, bytes, name)
	}
	for want, text := range map[string]string{
		`disk vmdisk1 has the capacity "${size}"`: strings.Replace(text, `ovf:capacity="8"`, `ovf:capacity="${size}"`, 1),
		"names disk ovf:/disk/vmdisk9":            strings.Replace(text, "ovf:/disk/vmdisk1", "ovf:/disk/vmdisk9", 1),
		"in units of \"furlong\"":                 strings.Replace(text, `ovf:capacityAllocationUnits="byte * 2^20"`, `ovf:capacityAllocationUnits="furlong"`, 1),
	} {
		s.importing(described(t, text))
		_, err := s.a.DomainBytes(t.Context(), 512)
		require.ErrorContains(t, err, want)
		require.Equal(t, fault.BadInput, fault.Of(err), want)
	}
}

// TestImportAndMounts: a guest of an imported template runs in a datastore that was
// made for it, twice.
func TestImportAndMounts(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	newSAN(s)
	s.importing(ovfOf(t, "disk.vmdk", "data"))
	system, ctx := s.system("nfs"), t.Context()
	require.NoError(t, errors.Join(s.a.Check(ctx), s.b.Check(ctx), system.Check(ctx)))
	for range 2 {
		disk, err := system.Provision(ctx, storage.Spec{Name: "disk", SizeBytes: 1 << 20}, storage.SiteA)
		require.NoError(t, err)
		domain, there := guest, guest
		domain.Disk, there.Disk = disk.At(storage.SiteA), disk.At(storage.SiteB)
		require.NoError(t, s.a.Create(ctx, domain))
		s.requireMade("datastore lab.nfs", "template /DC0/vm/"+templateName)
		require.NoError(t, system.PrepareMigration(ctx, disk, storage.SiteA, storage.SiteB))
		_, err = s.a.Migrate(ctx, hypervisor.Order{Domain: domain, AtTarget: there, Target: s.b})
		require.NoError(t, err)
		require.NoError(t, system.FinishMigration(ctx, disk, storage.SiteB))
		s.requireAt(s.b)
		require.NoError(t, errors.Join(s.b.Teardown(ctx), s.a.Teardown(ctx)))
		require.NoError(t, system.Teardown(ctx))
		s.requireMade()
	}
}
