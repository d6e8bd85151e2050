// Package mirror provides a private disk at each site, for hypervisors that copy a disk
// themselves while they migrate a domain (QEMU's NBD): an image of our own on each host, and a
// loop device over it. Nothing is shared, and between migrations no data of the disk crosses
// the WAN.
//
// To copy only what differs from a common base (hypervisor.IncrementalCopy), each site has a
// base, blank or filled alike, and a qcow2 overlay on the loop device, so that the guest's
// writes are still counted on a block device. Blocks that the guest never wrote are read from
// the base, and these reads are not counted.
//
// An acknowledged write is at home only: it reaches the other site only with a migration there.
//
// Dangerous: the copy that a migration leaves at the former home is stale. FinishMigration
// makes it blank, so that nobody takes it for the disk. Where the domain runs must be certain
// before that: given the wrong home, FinishMigration destroys the disk. An overlay must also be
// blank before a migration to it, because blocks that it has, and the source's overlay has not,
// would stay in it. PrepareMigration makes sure of that. An overlay that a QEMU has open is
// never made blank.
//
// Sources: losetup(8), blkdiscard(8), qemu-img(1), QEMU's docs/interop/qcow2.txt.
package mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"sync"

	"heliotrope/internal/driver"
	"heliotrope/internal/fault"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/remote"
	"heliotrope/internal/storage"
	"heliotrope/internal/storage/internal/node"
	"heliotrope/internal/witness"
)

// kind is the system's name, and the name of its folder on the hosts.
const kind = "mirror"

// copyOption is the only option of a cell.
const copyOption = "copy"

// Kind registers the system. Its only option is "copy": "full", the default, "synchronous" or
// "incremental".
var Kind = storage.Kind{Name: kind, New: New}

var (
	_ storage.Driver = (*System)(nil)
	_ storage.Roomer = (*System)(nil)
	_ storage.Copier = (*System)(nil)
)

// System provides private disks that migrations copy.
type System struct {
	way   hypervisor.Copy // how each migration copies
	label string
	sites map[storage.Site]*node.Node
	mu    sync.Mutex // one change at a time
}

// New makes the system of a testbed. It needs no storage server.
func New(setup storage.Setup) (storage.Driver, error) {
	if err := setup.Options.Only(kind, copyOption); err != nil {
		return nil, err
	}
	way := cmp.Or(hypervisor.Copy(setup.Options[copyOption]), hypervisor.FullCopy)
	switch way {
	case hypervisor.FullCopy, hypervisor.SynchronousCopy, hypervisor.IncrementalCopy:
	default:
		return nil, fault.New(fault.BadInput, "storage option %s %q: want %s, %s or %s", copyOption, way,
			hypervisor.FullCopy, hypervisor.SynchronousCopy, hypervisor.IncrementalCopy)
	}
	return &System{way: way, label: setup.Inventory.Name, sites: node.Sites(setup)}, nil
}

// Kind is "mirror".
func (s *System) Kind() string { return kind }

// overlaid says whether the disks are qcow2 overlays.
func (s *System) overlaid() bool { return s.way == hypervisor.IncrementalCopy }

// imageBytes is the size of a disk's image.
func (s *System) imageBytes(disk storage.Spec) int64 {
	if s.overlaid() {
		return overlayBytes(disk.SizeBytes)
	}
	return disk.SizeBytes
}

func (s *System) overlay(disk storage.Disk, site storage.Site) overlay {
	return overlay{n: s.sites[site], disk: disk.Spec, device: disk.Device[site], base: disk.Base[site]}
}

func imageOf(ctx context.Context, n *node.Node, disk string) (string, error) {
	dir, err := n.Dir(ctx, kind)
	return path.Join(dir, disk+imageEnd), err
}

// Provision makes an image, and a loop device over it, at both sites: blank, or filled alike.
// There must be room for the whole image.
func (s *System) Provision(ctx context.Context, spec storage.Spec, _ storage.Site) (storage.Disk, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	disk := storage.Disk{Spec: spec, Device: map[storage.Site]string{}, Copy: s.way}
	if err := storage.CheckSpec(spec); err != nil {
		return disk, fault.As(fault.BadInput, err)
	}
	var mu sync.Mutex
	if s.overlaid() {
		disk.Base = map[storage.Site]string{}
	}
	err := node.Each(func(site storage.Site) error {
		device, base, err := s.provide(ctx, s.sites[site], spec)
		filled := storage.Filled{}
		if err == nil {
			filled, err = s.filled(ctx, s.sites[site], spec)
		}
		mu.Lock()
		defer mu.Unlock()
		disk.Filled = disk.Filled.Slower(filled)
		disk.Device[site] = device
		if s.overlaid() {
			disk.Base[site] = base
		}
		return err
	})
	if err != nil {
		return disk, fmt.Errorf("providing disk %s at each site: %w", spec.Name, err)
	}
	return disk, nil
}

// filled is how a site's image, or the base of its overlay, was filled.
func (s *System) filled(ctx context.Context, n *node.Node, spec storage.Spec) (storage.Filled, error) {
	image, err := imageOf(ctx, n, spec.Name)
	if err != nil {
		return storage.Filled{}, err
	}
	if s.overlaid() {
		image = baseOf(image)
	}
	return n.Filled(ctx, image, spec)
}

// provide makes the disk of one site. A disk that is no overlay has no base.
func (s *System) provide(ctx context.Context, n *node.Node, spec storage.Spec) (device, base string, err error) {
	image, err := imageOf(ctx, n, spec.Name)
	if err != nil {
		return "", "", err
	}
	if err := n.Modprobe(ctx, "loop"); err != nil {
		return "", "", err
	}
	if s.overlaid() {
		if base, err = provideBase(ctx, n, image, spec); err != nil {
			return "", "", err
		}
	}
	if s.overlaid() { // blocks that were not written are read from the base
		err = n.Image(ctx, image, s.imageBytes(spec))
	} else {
		err = n.FilledImage(ctx, kind, image, s.imageBytes(spec), spec)
	}
	if err != nil {
		return "", "", err
	}
	device, err = n.AttachLoop(ctx, path.Dir(image), image, false)
	if err == nil && s.overlaid() {
		err = overlay{n, spec, device, base}.provide(ctx)
	}
	return device, base, err
}

// PrepareMigration makes sure that the destination would write the copy to this disk's loop
// device, that it has exactly the disk's size, and that nothing else there uses it. An overlay
// that is not blank is made blank.
func (s *System) PrepareMigration(ctx context.Context, disk storage.Disk, _, to storage.Site) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.check(ctx, disk, to)
	if err == nil && s.overlaid() {
		err = s.overlay(disk, to).prepare(ctx)
	}
	return node.Before(ctx, err)
}

// check makes sure that a site's devices are this disk's.
func (s *System) check(ctx context.Context, disk storage.Disk, site storage.Site) error {
	n := s.sites[site]
	image, err := imageOf(ctx, n, disk.Name)
	if err != nil {
		return err
	}
	err = checkLoop(ctx, n, disk, disk.Device[site], image, s.imageBytes(disk.Spec))
	if err == nil && s.overlaid() {
		err = checkLoop(ctx, n, disk, disk.Base[site], baseOf(image), disk.SizeBytes)
	}
	return err
}

// checkLoop makes sure that a device is a loop device over that file, and of that size.
func checkLoop(ctx context.Context, n *node.Node, disk storage.Disk, device, image string, sizeBytes int64) error {
	file, err := n.ReadIfThere(ctx, path.Join("/sys/class/block", path.Base(device), "loop/backing_file"))
	if err != nil {
		return err
	}
	if file != image {
		return node.Unusable("%s: %q is a loop device over %q, and disk %s is %q: tear the testbed's disks down and provide them again",
			n.Name(), device, file, disk.Name, image)
	}
	size, err := n.DeviceBytes(ctx, device)
	if err != nil {
		return err
	}
	if size != sizeBytes {
		return node.Unusable("%s: %s has %d bytes, want %d: tear the testbed's disks down and provide them again", n.Name(), device, size, sizeBytes)
	}
	holders, err := n.Holders(ctx, device)
	if err == nil && len(holders) > 0 {
		err = node.Unusable("%s: %s is held by %s: end what has taken it", n.Name(), device, strings.Join(holders, ", "))
	}
	return err
}

// blank makes a device read as zeros again: by discarding its blocks or, where that is not
// possible, by writing zeros.
func blank(ctx context.Context, n *node.Node, device string) error {
	_, err := n.Run(ctx, "/sbin/blkdiscard", device)
	if _, ended := remote.ExitCode(err); err != nil && ended {
		_, err = n.Run(ctx, "/sbin/blkdiscard", "--zeroout", device)
	}
	return err
}

// FinishMigration makes the copy at the other site blank, because it is stale.
func (s *System) FinishMigration(ctx context.Context, disk storage.Disk, home storage.Site) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	stale := home.Other()
	// Never blank a device that is not this disk's, or not any more.
	err := s.check(ctx, disk, stale)
	switch {
	case err != nil:
	case s.overlaid():
		err = s.overlay(disk, stale).renew(ctx)
	default:
		err = blank(ctx, s.sites[stale], disk.Device[stale])
	}
	return node.Before(ctx, err) // what fails here is not the hypervisor's copying
}

// Copies is the disk at the site that has it; the other site has no copy of it. An overlay is
// copied into a device of its own, anew each time.
func (s *System) Copies(ctx context.Context, disk storage.Disk, at storage.Site) ([]storage.Copy, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := storage.SiteCopy(disk, at, s.sites[at].Name())
	if s.overlaid() {
		image, err := imageOf(ctx, s.sites[at], disk.Name)
		if err == nil {
			found.Path, err = s.overlay(disk, at).view(ctx, image)
		}
		if err != nil {
			return nil, fmt.Errorf("reading disk %s out of its overlay: %w", disk.Name, err)
		}
	}
	return []storage.Copy{found}, nil
}

// Teardown removes every disk of the testbed's label from both sites. Kernel
// modules stay loaded.
func (s *System) Teardown(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := node.Each(func(site storage.Site) error {
		n := s.sites[site]
		if !n.HasShell() {
			return nil
		}
		dir, err := n.Dir(ctx, kind)
		if err != nil {
			return err
		}
		if err := n.DetachLoops(ctx, dir); err != nil {
			return err
		}
		return n.RemoveDir(ctx, kind)
	})
	if err != nil {
		return fmt.Errorf("removing the private disks of testbed %s: %w", s.label, err)
	}
	return nil
}

// Check checks for loop devices at both sites and, when overlays are used, for the program that
// makes them.
func (s *System) Check(ctx context.Context) error {
	return node.Each(func(site storage.Site) error {
		n := s.sites[site]
		return errors.Join(
			n.CheckDataDir(ctx, kind),
			n.Needs(ctx, "/sbin/losetup", "/sbin/blkdiscard"),
			n.NeedsModules(ctx, "loop"),
			s.checkOverlays(ctx, n),
		)
	})
}

// CheckRoom checks whether there is room for a disk at both sites.
func (s *System) CheckRoom(ctx context.Context, wanted storage.Spec) error {
	diskBytes := wanted.SizeBytes
	if s.overlaid() {
		diskBytes = roomBytes(wanted)
	}
	return node.Each(func(site storage.Site) error { return s.sites[site].CheckRoom(ctx, diskBytes, wanted) })
}

func (s *System) checkOverlays(ctx context.Context, n *node.Node) error {
	if !s.overlaid() {
		return nil
	}
	return n.Needs(ctx, qemuImg)
}

// Sources are the counters of the loop device over a site's image.
func (s *System) Sources(ctx context.Context, machine string) ([]witness.Source, error) {
	n := node.At(s.sites, machine)
	if n == nil {
		return nil, nil
	}
	dir, err := n.Dir(ctx, kind)
	if err != nil {
		return nil, err
	}
	loops, err := n.Loops(ctx, dir)
	for _, loop := range loops {
		if path.Ext(loop.File) == imageEnd {
			return []witness.Source{{Role: witness.GuestDisk, Reader: witness.BlockReader, Device: loop.Device}}, nil
		}
	}
	return nil, err
}

// Traffic is empty: the hypervisor copies the disk.
func (s *System) Traffic() []witness.Class { return nil }

// Evidence is the list of the sites' loop devices and their files.
func (s *System) Evidence(machine string) []driver.Evidence {
	if node.At(s.sites, machine) == nil {
		return nil
	}
	return []driver.Evidence{{File: "loops.txt", Args: []string{"/sbin/losetup", "--list"}}}
}

// Leftovers is empty: loop devices and files are listed for all storage systems together.
func (s *System) Leftovers(string) string { return "" }

// Versions is empty.
func (s *System) Versions(string) string { return "" }
