package image

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"debug/pe"
	"encoding/hex"
	"errors"
	"io"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/ovf"
	"github.com/vmware/govmomi/ovf/importer"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vapi/library"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
	"github.com/vmware/govmomi/vmdk"

	"heliotrope/internal/guest"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/hypervisor/vsphere"
	"heliotrope/internal/inventory"
)

var ovaSettings = OVASettings{Address: netip.MustParsePrefix("198.18.0.9/24"), MTU: 1400}

// buildOVA makes an OVA of fake packages, and returns its path and what it is.
func buildOVA(t *testing.T) (string, Guest) {
	t.Helper()
	fakePackages(t)
	dir := filepath.Join(t.TempDir(), "guest")
	built, err := BuildGuest(t.Context(), GuestRequest{Dir: dir, AuthorizedKeys: []string{authorizedKey(t)}, OVA: &ovaSettings, Progress: func(string) {}})
	require.NoError(t, err)
	return filepath.Join(dir, GuestOVAFile), built
}

// unpackOVA returns the names of an archive's files in their order, and writes the files to a
// folder.
func unpackOVA(t *testing.T, path string) (names []string, folder string) {
	t.Helper()
	file, err := os.Open(path)
	require.NoError(t, err)
	defer file.Close()
	folder = t.TempDir()
	for archive := tar.NewReader(file); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return names, folder
		}
		require.NoError(t, err)
		require.Equal(t, tar.FormatUSTAR, header.Format, "DSP0243 requires it")
		require.Zero(t, header.ModTime.Unix())
		names = append(names, header.Name)
		content, err := io.ReadAll(archive)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(folder, header.Name), content, 0o600))
	}
}

func output(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput()
	require.NoError(t, err, "%s: %s", args, out)
	return string(out)
}

// TestBuildOVA: the folder has the OVA and what tells what it is, and nothing else; the OVA's
// descriptor describes a machine that boots by EFI, and its manifest has the files' sums.
func TestBuildOVA(t *testing.T) {
	path, built := buildOVA(t)
	require.Equal(t, ovaSettings.Address, built.Address)
	require.Equal(t, ovaSettings.MTU, built.MTU)
	entries, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	var files []string
	for _, entry := range entries {
		files = append(files, entry.Name())
	}
	require.Equal(t, []string{GuestSumsFile, GuestManifestFile, GuestOVAFile}, files)
	check := exec.CommandContext(t.Context(), "sha256sum", "--check", "--strict", GuestSumsFile)
	check.Dir = filepath.Dir(path)
	out, err := check.CombinedOutput()
	require.NoError(t, err, string(out))
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), "it holds a private key")

	names, folder := unpackOVA(t, path)
	require.Equal(t, []string{ovaDescriptorFile, ovaManifestFile, ovaDiskFile}, names)
	manifest, err := os.Open(filepath.Join(folder, ovaManifestFile))
	require.NoError(t, err)
	defer manifest.Close()
	sums, err := library.ReadManifest(manifest)
	require.NoError(t, err)
	require.Len(t, sums, 2)
	for _, name := range []string{ovaDescriptorFile, ovaDiskFile} {
		content, err := os.ReadFile(filepath.Join(folder, name))
		require.NoError(t, err)
		sum := sha256.Sum256(content)
		require.Equal(t, library.Checksum{Algorithm: "SHA256", Checksum: hex.EncodeToString(sum[:])}, *sums[name])
	}

	disk, err := vmdk.Stat(filepath.Join(folder, ovaDiskFile))
	require.NoError(t, err)
	require.EqualValues(t, 3, disk.Header.Version, "the version of a compressed VMDK")
	require.Equal(t, "streamOptimized", disk.Descriptor.Type)
	text, err := os.ReadFile(filepath.Join(folder, ovaDescriptorFile))
	require.NoError(t, err)
	envelope, err := ovf.Unmarshal(bytes.NewReader(text))
	require.NoError(t, err)
	require.Len(t, envelope.References, 1)
	require.EqualValues(t, disk.Size, envelope.References[0].Size)
	spec, err := envelope.ToConfigSpecWithOptions(ovf.ToConfigSpecOptions{Strict: true})
	require.NoError(t, err)
	require.Equal(t, string(types.GuestOsDescriptorFirmwareTypeEfi), spec.Firmware)
	require.False(t, *spec.BootOptions.EfiSecureBootEnabled)
	require.Equal(t, "vmx-13", spec.Version)
	require.Equal(t, string(types.VirtualMachineGuestOsIdentifierOther3xLinux64Guest), spec.GuestId)
	require.EqualValues(t, OVAMemoryMiB, spec.MemoryMB)
	var devices object.VirtualDeviceList
	for _, change := range spec.DeviceChange {
		devices = append(devices, change.GetVirtualDeviceConfigSpec().Device)
	}
	require.Len(t, devices.SelectByType((*types.ParaVirtualSCSIController)(nil)), 1)
	require.Len(t, devices.SelectByType((*types.VirtualVmxnet3)(nil)), 1)
	disks := devices.SelectByType((*types.VirtualDisk)(nil))
	require.Len(t, disks, 1)
	require.Equal(t, disk.Capacity, disks[0].(*types.VirtualDisk).CapacityInBytes)
}

// TestDiskBootsByEFI: the disk has an EFI system partition whose one program has the kernel, the
// initramfs with the keys, and the command line.
func TestDiskBootsByEFI(t *testing.T) {
	path, _ := buildOVA(t)
	_, folder := unpackOVA(t, path)
	raw, program := filepath.Join(folder, "raw"), filepath.Join(folder, "program")
	output(t, "qemu-img", "convert", "-f", "vmdk", "-O", "raw", filepath.Join(folder, ovaDiskFile), raw)
	require.Contains(t, output(t, "sfdisk", "--dump", raw), "type=C12A7328-F81F-11D2-BA4B-00C93EC93B3B")
	require.Contains(t, output(t, "sfdisk", "--verify", raw), "No errors detected")
	inside := raw + "@@1048576"
	listed := output(t, "env", "MTOOLS_SKIP_CHECK=1", "mdir", "-i", inside, "::/EFI/BOOT")
	require.Regexp(t, `BOOTX64 +EFI +[0-9]+ 1980-01-01`, listed, "the time does not depend on the day of the build")
	output(t, "env", "MTOOLS_SKIP_CHECK=1", "mcopy", "-i", inside, "::/EFI/BOOT/BOOTX64.EFI", program)

	file, err := pe.Open(program)
	require.NoError(t, err)
	defer file.Close()
	require.Zero(t, file.TimeDateStamp)
	sections, end := map[string][]byte{}, uint32(0)
	for _, section := range file.Sections {
		require.LessOrEqual(t, end, section.VirtualAddress, "%s lies over the section before it", section.Name)
		end = section.VirtualAddress + section.VirtualSize
		content, err := section.Data()
		require.NoError(t, err)
		sections[section.Name] = content[:min(int(section.VirtualSize), len(content))]
	}
	require.Equal(t, guest.TemplateCmdline(ovaSettings.Address, ovaSettings.MTU, vsphereDrivers), string(sections[".cmdline"]))
	kernel, err := os.ReadFile(filepath.Join(os.Getenv("FAKE_TREE"), "boot/vmlinuz-6.1.0-1-cloud-amd64"))
	require.NoError(t, err)
	require.Equal(t, kernel, sections[".linux"])
	initrd := unpacked(t, sections[".initrd"])
	require.Contains(t, initrd, "etc/dropbear/dropbear_ed25519_host_key")
	require.Contains(t, initrd, "lib/modules/"+vsphereDrivers)
	require.NotContains(t, initrd, "lib/modules/virtio")
}

// TestSameFilesMakeTheSameOVA: disk and OVA follow from kernel, initramfs and settings alone.
func TestSameFilesMakeTheSameOVA(t *testing.T) {
	fakePackages(t)
	sums := map[string]bool{}
	for range 2 {
		b := guestBuilder{builder: builder{dir: t.TempDir(), tree: os.Getenv("FAKE_TREE")}, ova: &ovaSettings}
		require.NoError(t, os.WriteFile(filepath.Join(b.dir, GuestInitrdFile), bytes.Repeat([]byte("initramfs"), 100_000), 0o600))
		for _, step := range []func(context.Context) error{b.kernel, b.systemDisk, b.pack} {
			require.NoError(t, step(t.Context()))
		}
		sum, err := hashFile(filepath.Join(b.dir, GuestOVAFile))
		require.NoError(t, err)
		sums[sum] = true
	}
	require.Len(t, sums, 1)
}

// TestFailedOVALeavesNothing: whichever tool fails, its own words are in the error, and nothing
// is left.
func TestFailedOVALeavesNothing(t *testing.T) {
	for tool, says := range map[string]string{"objcopy": "file truncated", "sfdisk": "No space left on device", "mkfs.vfat": "Attempting to create a too large file system",
		"mmd": "init :: sector size too big", "mcopy": "Disk full", "qemu-img": "No space left on device"} {
		t.Run(tool, func(t *testing.T) {
			fakePackages(t)
			fakeTool(t, tool, "echo '"+says+"' >&2; exit 1")
			parent := t.TempDir()
			_, err := BuildGuest(t.Context(), GuestRequest{Dir: filepath.Join(parent, "guest"), AuthorizedKeys: []string{authorizedKey(t)}, OVA: &ovaSettings, Progress: func(string) {}})
			require.ErrorContains(t, err, "make the disk: ")
			require.ErrorContains(t, err, says)
			left, err := os.ReadDir(parent)
			require.NoError(t, err)
			require.Empty(t, left)
		})
	}
	fakePackages(t)
	tree := os.Getenv("FAKE_TREE")
	require.NoError(t, os.WriteFile(filepath.Join(tree, efiStub), []byte("no program"), 0o644))
	_, err := BuildGuest(t.Context(), GuestRequest{Dir: filepath.Join(t.TempDir(), "guest"), OVA: &ovaSettings, Progress: func(string) {}})
	require.ErrorContains(t, err, "linuxx64.efi.stub: ")
}

// TestOVAInSimulator: govmomi's importer makes a machine of the OVA in a simulated vCenter, and
// the driver makes a template and then a guest, whose disk under test is the second disk. The
// simulator looks at the descriptor, and boots nothing.
func TestOVAInSimulator(t *testing.T) {
	path, _ := buildOVA(t)
	const user, password, datastore = "heliotrope@vsphere.local", "correct-horse", "/DC0/datastore/LocalDS_0"
	model := simulator.VPX()
	model.Host, model.ClusterHost, model.Machine, model.Autostart = 0, 2, 0, false
	require.NoError(t, model.Create())
	t.Cleanup(model.Remove)
	model.Service.TLS = new(tls.Config)
	model.Service.Listen = &url.URL{Host: "127.0.0.1:0", User: url.UserPassword(user, password)}
	server := model.Service.NewServer()
	t.Cleanup(server.Close)
	client, err := govmomi.NewClient(t.Context(), server.URL, true)
	require.NoError(t, err)
	devicesOf := func(name string) object.VirtualDeviceList {
		finder := find.NewFinder(client.Client)
		vm, err := finder.VirtualMachine(t.Context(), "/DC0/vm/"+name)
		require.NoError(t, err)
		var properties mo.VirtualMachine
		require.NoError(t, vm.Properties(t.Context(), vm.Reference(), []string{"config.hardware.device"}, &properties))
		return properties.Config.Hardware.Device
	}

	importOVA(t, client, path, datastore)
	devices := devicesOf("heliotrope-guest")
	require.Len(t, devices.SelectByType((*types.ParaVirtualSCSIController)(nil)), 1)
	require.Len(t, devices.SelectByType((*types.VirtualDisk)(nil)), 1)
	require.Len(t, devices.SelectByType((*types.VirtualVmxnet3)(nil)), 1)

	secret := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(secret, []byte(password+"\n"), 0o600))
	host, err := vsphere.New(hypervisor.Setup{Label: "lab", VCenter: &inventory.VCenter{Name: "vc-1", URL: "https://" + server.URL.Host, User: user,
		PasswordFrom: inventory.PasswordFile + secret, Thumbprint: server.CertificateInfo().ThumbprintSHA1},
		Machine: inventory.Machine{Name: "host-a", VCenter: &inventory.Managed{VCenter: "vc-1", Host: "/DC0/host/DC0_C0/DC0_C0_H0",
			Datastores: map[string]string{"nfs": datastore}, Network: "/DC0/network/VM Network", Folder: "/DC0/vm", Template: "/DC0/vm/measured",
			Import: &inventory.Import{File: path, Datastore: datastore}}}})
	require.NoError(t, err)
	const mac = "00:16:3e:12:00:09"
	require.NoError(t, host.Create(t.Context(), hypervisor.Domain{Name: "lab.guest", MemoryMiB: OVAMemoryMiB, VCPUs: 1, MAC: mac,
		Disk: hypervisor.Disk{Datastore: datastore, SizeBytes: 64 << 20}}))
	devices = devicesOf("lab.guest")
	controllers := devices.SelectByType((*types.ParaVirtualSCSIController)(nil))
	require.Len(t, controllers, 1)
	disks := devices.SelectByType((*types.VirtualDisk)(nil))
	require.Len(t, disks, 2)
	for unit, disk := range disks {
		require.Equal(t, controllers[0].GetVirtualDevice().Key, disk.GetVirtualDevice().ControllerKey)
		require.EqualValues(t, unit, *disk.GetVirtualDevice().UnitNumber, "init looks for the disks at these targets")
	}
	require.EqualValues(t, 64<<20, vsphere.DiskBytes(disks[1].(*types.VirtualDisk)))
	cards := devices.SelectByType((*types.VirtualVmxnet3)(nil))
	require.Len(t, cards, 1)
	require.Equal(t, mac, cards[0].(types.BaseVirtualEthernetCard).GetVirtualEthernetCard().MacAddress)
	require.NoError(t, host.Destroy(t.Context(), "lab.guest"))
	require.NoError(t, host.RemoveTemplate(t.Context()))
}

// importOVA has govmomi's importer make a machine of an OVA.
func importOVA(t *testing.T, client *govmomi.Client, path, datastore string) {
	t.Helper()
	finder := find.NewFinder(client.Client)
	center, err := finder.Datacenter(t.Context(), "/DC0")
	require.NoError(t, err)
	finder.SetDatacenter(center)
	folders, err := center.Folders(t.Context())
	require.NoError(t, err)
	store, err := finder.Datastore(t.Context(), datastore)
	require.NoError(t, err)
	pool, err := finder.ResourcePool(t.Context(), "/DC0/host/DC0_C0/Resources")
	require.NoError(t, err)
	host, err := finder.HostSystem(t.Context(), "/DC0/host/DC0_C0/DC0_C0_H0")
	require.NoError(t, err)
	var said strings.Builder
	into := importer.Importer{Log: said.WriteString, Client: client.Client, Finder: finder, Datacenter: center, Datastore: store,
		ResourcePool: pool, Host: host, Folder: folders.VmFolder, Archive: &importer.TapeArchive{Path: path}}
	_, err = into.Import(t.Context(), "*.ovf", importer.Options{NetworkMapping: []importer.Network{{Name: "test", Network: "VM Network"}}})
	require.NoError(t, err)
	require.NotContains(t, strings.ToLower(said.String()), "warning")
}
