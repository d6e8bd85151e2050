package image

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/template"
)

// Files in an OVA, in this order: an OVF package (DMTF DSP0243 1.1.0) in one tar archive.
const (
	ovaDescriptorFile = "guest.ovf"
	ovaManifestFile   = "guest.mf"
	ovaDiskFile       = "guest-disk1.vmdk"
)

// OVAMemoryMiB is the memory of a machine that is made of the OVA. An inventory gives each
// guest its own.
const OVAMemoryMiB = 512

// ovfText describes the machine to a vCenter: hardware version 13 (ESXi 6.5 and later), EFI
// without Secure Boot, because nobody has signed the guest's kernel, a paravirtual SCSI
// controller with the one disk, and a VMXNET3 card.
//
//go:embed vsphere/guest.ovf
var ovfText string

var ovfTemplate = template.Must(template.New(ovaDescriptorFile).Parse(ovfText))

// pack makes the OVA of the disk. Only its owner may read it, because it holds the guest's
// private key.
func (b *guestBuilder) pack(context.Context) error {
	disk := filepath.Join(b.work(), ovaDiskFile)
	packed, err := os.Stat(disk)
	if err != nil {
		return err
	}
	raw, err := os.Stat(filepath.Join(b.work(), rawDiskFile))
	if err != nil {
		return err
	}
	var descriptor bytes.Buffer
	if err := ovfTemplate.Execute(&descriptor, map[string]any{"Disk": ovaDiskFile, "FileBytes": packed.Size(), "CapacityBytes": raw.Size(),
		"MemoryMiB": OVAMemoryMiB}); err != nil {
		return err
	}
	sum, err := hashFile(disk)
	if err != nil {
		return err
	}
	described := sha256.Sum256(descriptor.Bytes())
	manifest := fmt.Sprintf("SHA256(%s)= %s\nSHA256(%s)= %s\n", ovaDescriptorFile, hex.EncodeToString(described[:]), ovaDiskFile, sum)
	content, err := os.Open(disk)
	if err != nil {
		return err
	}
	defer content.Close()
	return writeArchive(filepath.Join(b.dir, GuestOVAFile), []archived{
		{ovaDescriptorFile, &descriptor, int64(descriptor.Len())},
		{ovaManifestFile, bytes.NewBufferString(manifest), int64(len(manifest))},
		{ovaDiskFile, content, packed.Size()},
	})
}

// archived is a file of a tar archive.
type archived struct {
	name    string
	content io.Reader
	bytes   int64
}

// writeArchive writes a tar archive in the USTAR format, as DSP0243 requires, without times and
// owners.
func writeArchive(path string, files []archived) error {
	out, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	archive := tar.NewWriter(out)
	for _, file := range files {
		if err = archive.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: file.name, Size: file.bytes, Mode: 0o644, Format: tar.FormatUSTAR}); err != nil {
			break
		}
		if _, err = io.Copy(archive, file.content); err != nil {
			break
		}
	}
	if err != nil {
		return errors.Join(err, out.Close())
	}
	return errors.Join(archive.Close(), out.Close())
}
