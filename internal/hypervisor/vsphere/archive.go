package vsphere

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/vmware/govmomi/ovf"

	"heliotrope/internal/fault"
)

// descriptorLimit is the longest OVF descriptor that is read: real ones have some
// 10 kB.
const descriptorLimit = 16 << 20

// archive is an OVF package (DMTF DSP0243): a descriptor with files beside it, or
// all of them in a tar archive (OVA) with the descriptor first.
type archive struct {
	path       string
	isTar      bool
	descriptor string // its text
	envelope   *ovf.Envelope
	// sum is the SHA-256 of the descriptor and of all files that it refers to.
	sum string
}

// openArchive reads the descriptor, and all files once for their sum. A file that
// the descriptor refers to must be beside it: a file in another folder, of this
// machine or on the network, is refused.
func openArchive(file string) (*archive, error) {
	a, err := openDescriptor(file)
	if err != nil {
		return nil, err
	}
	sum := sha256.New()
	_, _ = io.WriteString(sum, a.descriptor) // a hash takes everything
	for _, reference := range a.envelope.References {
		err := a.with(reference.Href, func(content io.Reader, _ int64) error {
			_, err := io.Copy(sum, content)
			return err
		})
		if err != nil {
			return nil, fault.New(fault.BadInput, "%s: the descriptor refers to %q: %w", file, reference.Href, err)
		}
	}
	a.sum = hex.EncodeToString(sum.Sum(nil))
	return a, nil
}

// openDescriptor reads only the descriptor: sum stays "".
func openDescriptor(file string) (*archive, error) {
	a := &archive{path: file}
	var first string
	switch filepath.Ext(file) {
	case ".ovf":
		first = filepath.Base(file)
	case ".ova":
		a.isTar = true
	default:
		return nil, fault.New(fault.BadInput, "%s: want a file that ends in .ovf or .ova", file)
	}
	if err := a.readDescriptor(first); err != nil {
		return nil, fault.New(fault.BadInput, "%s: read the OVF descriptor: %w", file, err)
	}
	return a, nil
}

func (a *archive) readDescriptor(name string) error {
	err := a.with(name, func(content io.Reader, _ int64) error {
		text, err := io.ReadAll(io.LimitReader(content, descriptorLimit))
		a.descriptor = string(text)
		return err
	})
	if err != nil {
		return err
	}
	a.envelope, err = ovf.Unmarshal(strings.NewReader(a.descriptor))
	if err == nil && a.envelope.VirtualSystem == nil {
		err = errors.New("it describes no single machine (VirtualSystem)")
	}
	return err
}

// with calls do with a file of the package and its length in bytes. In a tar
// archive, the name "" means the descriptor.
func (a *archive) with(name string, do func(content io.Reader, length int64) error) error {
	if name != filepath.Base(name) && name != "" {
		return errors.New("it must stand beside the descriptor")
	}
	if a.isTar {
		return a.withEntry(name, do)
	}
	folder, err := os.OpenRoot(filepath.Dir(a.path)) // no symbolic link can lead out of the folder
	if err != nil {
		return err
	}
	defer folder.Close()
	file, err := folder.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is no file")
	}
	if err != nil {
		return err
	}
	return do(file, info.Size())
}

func (a *archive) withEntry(name string, do func(content io.Reader, length int64) error) error {
	file, err := os.Open(a.path)
	if err != nil {
		return err
	}
	defer file.Close()
	for entries := tar.NewReader(file); ; {
		header, err := entries.Next()
		if errors.Is(err, io.EOF) {
			return errors.New("the archive has no such file")
		}
		if err != nil {
			return fmt.Errorf("read the archive: %w", err)
		}
		if header.Typeflag == tar.TypeReg && (header.Name == name || name == "" && filepath.Ext(header.Name) == ".ovf") {
			return do(entries, header.Size)
		}
	}
}
