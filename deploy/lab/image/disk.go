package image

import (
	"bytes"
	"context"
	"debug/pe"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"heliotrope/internal/guest"
	"heliotrope/internal/remote"
)

// A guest on vSphere boots by UEFI from a disk with one partition, the EFI system partition. In
// it lies one program, where firmware looks on every disk (UEFI 2.10, 3.5.1.1 and 13.3): a
// unified kernel image, which is kernel, initramfs and command line in one file (systemd-stub(7)).
// So no boot loader needs to be configured, and nothing on the disk is ever written to.

// diskTools are the programs that make the disk, and Debian's packages that have them.
var diskTools = map[string]string{"objcopy": "binutils", "sfdisk": "fdisk", "mkfs.vfat": "dosfstools",
	"mmd": "mtools", "mcopy": "mtools", "qemu-img": "qemu-utils"}

// efiStub is systemd's stub for EFI in the tree of the packages.
const efiStub = "usr/lib/systemd/boot/efi/linuxx64.efi.stub"

// Files that only the build needs, in its folder work.
const (
	commandLineFile = "cmdline"
	efiProgramFile  = "BOOTX64.EFI"
	rawDiskFile     = "disk.raw"
)

const (
	mib         = 1 << 20
	sectorBytes = 512
	// minPartitionBytes is enough for FAT32, which has 65525 clusters at least, here of a
	// sector each (Microsoft's FAT specification, "FAT Type Determination").
	minPartitionBytes = 40 * mib
)

// partitionTable is sfdisk(8)'s script for a GPT with the EFI system partition alone; the
// argument is its length in sectors. The identifiers are drawn once for all guests, so that
// the same files make the same disk: nothing looks for a disk by them.
const partitionTable = `label: gpt
label-id: 6B0D7D9A-53F1-4A4C-9E0D-5B2F8C7C1E01
unit: sectors
first-lba: 2048
start=2048, size=%d, type=C12A7328-F81F-11D2-BA4B-00C93EC93B3B, uuid=6B0D7D9A-53F1-4A4C-9E0D-5B2F8C7C1E02, name=EFI
`

// toolTime is the time that the tools take for the present one: FAT's first day, in s since 1970
// (https://reproducible-builds.org/specs/source-date-epoch/).
const toolTime = "SOURCE_DATE_EPOCH=315532800"

// work is the folder of what only the build of an OVA needs.
func (b *guestBuilder) work() string { return filepath.Join(b.dir, "work") }

// onDisk runs one of diskTools, so that it writes the same bytes each time.
func onDisk(ctx context.Context, stdin string, args ...string) error {
	_, err := remote.Local("this machine").Run(ctx, remote.Command{Args: args, Stdin: strings.NewReader(stdin),
		Env: []string{toolTime, "TZ=UTC", "LC_ALL=C", "MTOOLS_SKIP_CHECK=1"}})
	return err
}

// systemDisk makes the disk from which the guest boots.
func (b *guestBuilder) systemDisk(ctx context.Context) error {
	if err := os.Mkdir(b.work(), 0o700); err != nil {
		return err
	}
	commandLine, program, raw := filepath.Join(b.work(), commandLineFile), filepath.Join(b.work(), efiProgramFile), filepath.Join(b.work(), rawDiskFile)
	if err := os.WriteFile(commandLine, []byte(guest.TemplateCmdline(b.ova.Address, b.ova.MTU, vsphereDrivers)), 0o644); err != nil {
		return err
	}
	err := unify(ctx, filepath.Join(b.tree, efiStub), program, []unifiedSection{
		{".cmdline", commandLine}, {".linux", b.image}, {".initrd", filepath.Join(b.dir, GuestInitrdFile)}})
	if err != nil {
		return fmt.Errorf("make the program that EFI starts: %w", err)
	}
	if err := writeDisk(ctx, program, raw); err != nil {
		return err
	}
	return streamOptimized(ctx, raw, filepath.Join(b.work(), ovaDiskFile))
}

// unifiedSection is a section of a unified kernel image, and the file with its content.
type unifiedSection struct{ name, file string }

// unify adds sections to systemd's stub behind the stub's own, each on a page of its own.
func unify(ctx context.Context, stub, program string, sections []unifiedSection) error {
	address, err := endOfProgram(stub)
	if err != nil {
		return fmt.Errorf("%s: %w", stub, err)
	}
	args := []string{"objcopy"}
	for _, section := range sections {
		info, err := os.Stat(section.file)
		if err != nil {
			return err
		}
		args = append(args, "--add-section", section.name+"="+section.file, "--change-section-vma", fmt.Sprintf("%s=%#x", section.name, address))
		address = roundUp(address+info.Size(), pageBytes)
	}
	if err := onDisk(ctx, "", append(args, stub, program)...); err != nil {
		return err
	}
	return withoutTime(program)
}

// Fields of a program's headers (Microsoft's PE Format, "MS-DOS Stub", "COFF File Header",
// "Optional Header Windows-Specific Fields"), the last two as offsets from its signature.
const (
	signatureOffset = 0x3c // u32: where the signature is
	timeOffset      = 8    // u32: when it was linked, in s since 1970
	checksumOffset  = 88   // u32
)

// withoutTime removes the time at which objcopy ran from a program, and with it the checksum,
// which firmware does not look at.
func withoutTime(program string) error {
	file, err := os.OpenFile(program, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer file.Close() //nolint:errcheck // a failed write is reported by the write
	var place [4]byte
	if _, err := file.ReadAt(place[:], signatureOffset); err != nil {
		return err
	}
	for _, offset := range []int64{timeOffset, checksumOffset} {
		if _, err := file.WriteAt(make([]byte, 4), int64(binary.LittleEndian.Uint32(place[:]))+offset); err != nil {
			return err
		}
	}
	return nil
}

// pageBytes is UEFI's page, and the alignment of sections in the stub.
const pageBytes = 4096

// endOfProgram is the first free address behind an EFI program's sections.
func endOfProgram(path string) (int64, error) {
	file, err := pe.Open(path)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	header, is := file.OptionalHeader.(*pe.OptionalHeader64)
	if !is {
		return 0, fmt.Errorf("it is no program for x86-64")
	}
	end := int64(0)
	for _, section := range file.Sections {
		end = max(end, int64(section.VirtualAddress)+int64(max(section.VirtualSize, section.Size)))
	}
	return roundUp(int64(header.ImageBase)+end, pageBytes), nil //nolint:gosec // an image's base is far below 1 << 63
}

// writeDisk writes a disk image whose EFI system partition holds the program.
func writeDisk(ctx context.Context, program, raw string) error {
	info, err := os.Stat(program)
	if err != nil {
		return err
	}
	// 1/32 is more than FAT32's two tables need for clusters of a sector, 8 bytes in 512.
	partition := max(minPartitionBytes, roundUp(info.Size()+info.Size()/32+mib, mib))
	if err := os.WriteFile(raw, nil, 0o600); err != nil {
		return err
	}
	if err := os.Truncate(raw, mib+partition+mib); err != nil { // 1 MiB before it and, for the second table, behind it
		return err
	}
	if err := onDisk(ctx, fmt.Sprintf(partitionTable, partition/sectorBytes), "sfdisk", "--quiet", raw); err != nil {
		return err
	}
	if err := onDisk(ctx, "", "mkfs.vfat", "--invariant", "-F", "32", "-s", "1", "-S", fmt.Sprint(sectorBytes), "-n", "HELIOTROPE",
		"--offset", fmt.Sprint(mib/sectorBytes), raw, fmt.Sprint(partition>>10)); err != nil {
		return err
	}
	inside := fmt.Sprintf("%s@@%d", raw, mib)
	if err := onDisk(ctx, "", "mmd", "-i", inside, "::/EFI", "::/EFI/BOOT"); err != nil {
		return err
	}
	return onDisk(ctx, "", "mcopy", "-i", inside, program, "::/EFI/BOOT/"+efiProgramFile)
}

// contentID is the line of a VMDK's embedded descriptor that QEMU fills with a random number, of
// as many digits as that has.
var contentID = regexp.MustCompile(`(?m)^CID=[0-9a-f]{1,8}$`)

// The place of the embedded descriptor in a VMDK of QEMU's (vmdk_init_extent in its block/vmdk.c),
// in bytes. It ends with zeros.
const (
	descriptorOffset = 1 * sectorBytes
	descriptorBytes  = 20 * sectorBytes
)

// streamOptimized converts a raw disk to the form of a VMDK that an OVA has. The content's
// identifier follows from the content.
func streamOptimized(ctx context.Context, raw, vmdk string) error {
	if err := onDisk(ctx, "", "qemu-img", "convert", "-f", "raw", "-O", "vmdk",
		"-o", "subformat=streamOptimized,adapter_type=lsilogic,compat6=on", raw, vmdk); err != nil {
		return err
	}
	sum, err := hashFile(raw)
	if err != nil {
		return err
	}
	file, err := os.OpenFile(vmdk, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer file.Close() //nolint:errcheck // a failed write is reported by the write
	descriptor := make([]byte, descriptorBytes)
	if _, err := file.ReadAt(descriptor, descriptorOffset); err != nil {
		return fmt.Errorf("read the descriptor in %s: %w", vmdk, err)
	}
	text := bytes.TrimRight(descriptor, "\x00")
	at := contentID.FindIndex(text)
	if at == nil {
		return fmt.Errorf("the descriptor in %s has no CID: %q", vmdk, text)
	}
	changed := slices.Concat(text[:at[0]], []byte("CID="+sum[:8]), text[at[1]:])
	if len(changed) > descriptorBytes {
		return fmt.Errorf("the descriptor in %s has no room for a CID", vmdk)
	}
	_, err = file.WriteAt(append(changed, make([]byte, descriptorBytes-len(changed))...), descriptorOffset)
	return err
}

func roundUp(number, unit int64) int64 { return (number + unit - 1) / unit * unit }
