package mirror

import (
	"context"
	"encoding/json"
	"fmt"
	"path"
	"strconv"
	"strings"

	"heliotrope/internal/storage"
	"heliotrope/internal/storage/internal/node"
)

// qemuImg is the program that makes and reads the overlays.
const qemuImg = "qemu-img"

// clusterBytes is the unit in which an overlay stores what was written. It is the
// block size of most file systems in a guest. With the default of 64 KiB, a guest's
// first write to each place would be sixteen times as large on the device.
const clusterBytes = 4 << 10

// overlayBytes is the size of an overlay when all of a disk was written: with
// clusters of 4 KiB, its tables are 1/409 of the disk (qemu-img measure).
func overlayBytes(diskBytes int64) int64 { return diskBytes + diskBytes/256&^(1<<20-1) + 2<<20 }

// roomBytes is how much a disk may take at a site: its overlay, its view, and its
// base when that is filled; a blank base takes nothing.
func roomBytes(disk storage.Spec) int64 {
	bytes := overlayBytes(disk.SizeBytes) + disk.SizeBytes
	if disk.Fill.Bytes > 0 {
		bytes += disk.SizeBytes
	}
	return bytes
}

// Suffixes of the names of a disk's files.
const (
	imageEnd = ".img"
	baseEnd  = ".base" // the base of an overlay
	viewEnd  = ".view" // the device into which an overlay is copied for reading
)

func baseOf(image string) string { return strings.TrimSuffix(image, imageEnd) + baseEnd }
func viewOf(image string) string { return strings.TrimSuffix(image, imageEnd) + viewEnd }

// overlay is a qcow2 image on a loop device, backed by a base on another loop
// device. The base is blank, or filled alike at both sites, and nobody writes to it:
// it is the same at both sites.
type overlay struct {
	n            *node.Node
	disk         storage.Spec
	device, base string
}

// provideBase makes the base, or finds it. Before it makes the base, it checks that
// there is room for it and everything else.
func provideBase(ctx context.Context, n *node.Node, image string, disk storage.Spec) (string, error) {
	base := baseOf(image)
	there, err := n.Exists(ctx, base)
	if err == nil && !there {
		if err = n.Mkdir(ctx, path.Dir(base)); err == nil {
			err = n.Room(ctx, path.Dir(base), roomBytes(disk))
		}
	}
	if err != nil {
		return "", err
	}
	if err := n.FilledImage(ctx, kind, base, disk.SizeBytes, disk); err != nil {
		return "", err
	}
	return n.AttachReadOnly(ctx, path.Dir(base), base)
}

// header is what qemu-img reports about an image.
type header struct {
	Format       string `json:"format"`
	VirtualBytes int64  `json:"virtual-size"`
	Base         string `json:"backing-filename"` // "" when it has none
}

// read reads the overlay's header. When shared is set, a QEMU may have the overlay
// open.
func (o overlay) read(ctx context.Context, shared bool) (header, error) {
	args := []string{qemuImg, "info", "--output=json"}
	if shared {
		args = append(args, "--force-share")
	}
	var found header
	output, err := o.n.Run(ctx, append(args, o.device)...)
	if err != nil {
		return found, err
	}
	if err := json.Unmarshal([]byte(output), &found); err != nil {
		return found, fmt.Errorf("%s: what %s is: %w", o.n.Name(), o.device, err)
	}
	return found, nil
}

// provide makes the overlay, or finds it. An overlay whose making was cut off has no
// base yet. After a restart of the host, the base may be on another device.
func (o overlay) provide(ctx context.Context) error {
	found, err := o.read(ctx, true)
	switch {
	case err != nil:
		return err
	case found.Format == "raw", found.Format == "qcow2" && found.Base == "":
		return o.create(ctx)
	case found.Format != "qcow2" || found.VirtualBytes != o.disk.SizeBytes:
		return fmt.Errorf("%s: %s has an image of format %s and %d bytes, want qcow2 and %d: tear the testbed's disks down first",
			o.n.Name(), o.device, found.Format, found.VirtualBytes, o.disk.SizeBytes)
	case found.Base != o.base:
		_, err = o.n.Run(ctx, qemuImg, "rebase", "-q", "-u", "-f", "qcow2", "-F", "raw", "-b", o.base, o.device)
	}
	return err
}

// create makes an overlay in which nothing was written, and overwrites whatever is
// there.
func (o overlay) create(ctx context.Context) error {
	_, err := o.n.Run(ctx, qemuImg, "create", "-q", "-f", "qcow2", "-o", "cluster_size="+strconv.Itoa(clusterBytes),
		"-b", o.base, "-F", "raw", o.device, strconv.FormatInt(o.disk.SizeBytes, 10))
	return err
}

// prepare makes the overlay blank if it is not: it may contain what a failed
// migration has copied.
func (o overlay) prepare(ctx context.Context) error {
	found, err := o.read(ctx, false)
	if err != nil {
		return err
	}
	if want := (header{Format: "qcow2", VirtualBytes: o.disk.SizeBytes, Base: o.base}); found != want {
		return node.Unusable("%s: %s has an image of format %s and %d bytes over %q, want qcow2 and %d over %s: tear the testbed's disks down and provide them again",
			o.n.Name(), o.device, found.Format, found.VirtualBytes, found.Base, want.VirtualBytes, want.Base)
	}
	if clusters, err := o.written(ctx); err != nil || clusters == 0 {
		return err
	}
	return o.renew(ctx)
}

// renew makes the overlay blank. When a QEMU has it open, it stays as it is, and
// that is an error.
func (o overlay) renew(ctx context.Context) error {
	if _, err := o.read(ctx, false); err != nil {
		return err
	}
	if err := blank(ctx, o.n, o.device); err != nil {
		return err
	}
	return o.create(ctx)
}

// written says how many clusters of the disk an overlay has. An overlay that a QEMU
// has open is an error.
func (o overlay) written(ctx context.Context) (clusters int64, err error) {
	output, err := o.n.Run(ctx, qemuImg, "check", "--output=json", "-f", "qcow2", o.device)
	if err != nil {
		return 0, err
	}
	var found struct {
		Clusters int64 `json:"allocated-clusters"` // missing when there are none
	}
	if err := json.Unmarshal([]byte(output), &found); err != nil {
		return 0, fmt.Errorf("%s: what of %s was written: %w", o.n.Name(), o.device, err)
	}
	return found.Clusters, nil
}

// view copies the disk into a device of its own, with every write that the guest has flushed,
// even while a QEMU has the overlay open.
func (o overlay) view(ctx context.Context, image string) (string, error) {
	file := viewOf(image)
	if err := o.n.Image(ctx, file, o.disk.SizeBytes); err != nil {
		return "", err
	}
	device, err := o.n.AttachLoop(ctx, path.Dir(file), file, false)
	if err != nil {
		return "", err
	}
	return device, o.n.RunTelling(ctx, qemuImg, "convert", "-p", "--force-share", "-n", "-T", "none", "-t", "none",
		"-f", "qcow2", "-O", "raw", o.device, device)
}
