// Package nfs provides disks as raw image files on an NFS 4.2 server, the
// kernel's own server on the storage server. Both sites mount the export. A
// hypervisor that opens files itself opens the image there; for any other a
// loop device is made over the image.
//
// The loop devices use direct I/O, and a disk without it is refused: through
// the page cache one site would read what the other has overwritten long ago. A
// hypervisor that opens the image itself must use direct I/O, too. An
// acknowledged write is on the server's file: NFS writes of one request are
// stable (FILE_SYNC), and the export is "sync".
//
// Mounts are "hard": while the server cannot be reached, I/O waits for ever.
//
// Dangerous: both sites have the image open all the time, and nothing keeps
// them from writing at the same time. The server trusts the hosts' addresses
// (sec=sys, no_root_squash): the test network must be isolated.
//
// Sources: exports(5), nfs(5), rpc.nfsd(8), rpc.mountd(8), losetup(8), and the
// kernel's fs/nfsd/nfsctl.c for /proc/fs/nfsd.
package nfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"sync"

	"heliotrope/internal/fault"
	"heliotrope/internal/gather"
	"heliotrope/internal/storage"
	"heliotrope/internal/storage/internal/node"
	"heliotrope/internal/testnet"
)

// kind is the system's name, and the name of its folder on the hosts.
const kind = "nfs"

// Kind registers NFS. It has no options.
var Kind = storage.Kind{Name: kind, New: New}

var (
	_ storage.Driver = (*System)(nil)
	_ storage.Roomer = (*System)(nil)
	_ storage.Copier = (*System)(nil)
)

// System provides disks over NFS.
type System struct {
	label string
	files bool // the hypervisor opens the image itself
	sites map[storage.Site]*node.Node
	store *node.Node
	mu    sync.Mutex // one change at a time
}

// New makes the NFS system of a testbed.
func New(setup storage.Setup) (storage.Driver, error) {
	if err := setup.Options.Only(kind); err != nil {
		return nil, err
	}
	return &System{label: setup.Inventory.Name, files: setup.OpensFiles,
		sites: node.Sites(setup), store: node.New(setup, setup.Inventory.Store())}, nil
}

// Kind is "nfs".
func (s *System) Kind() string { return kind }

// Provision exports an image file, mounts the export at both sites and, unless
// the hypervisor opens the image itself, makes a loop device over it there.
func (s *System) Provision(ctx context.Context, spec storage.Spec, _ storage.Site) (storage.Disk, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	disk := storage.Disk{Spec: spec, Device: map[storage.Site]string{}, File: s.files}
	if err := storage.CheckSpec(spec); err != nil {
		return disk, fault.As(fault.BadInput, err)
	}
	err := s.provision(ctx, spec, &disk)
	if err != nil {
		return disk, fmt.Errorf("providing disk %s over NFS: %w", spec.Name, err)
	}
	return disk, nil
}

func (s *System) provision(ctx context.Context, spec storage.Spec, disk *storage.Disk) error {
	if err := s.checkHostNames(ctx); err != nil {
		return err
	}
	exported, err := s.exportFolder(ctx)
	if err != nil {
		return err
	}
	image := path.Join(exported, spec.Name+imageSuffix)
	err = gather.Together(
		func() error {
			return errors.Join(s.store.FilledImage(ctx, kind, image, spec.SizeBytes, spec), s.serve(ctx, exported))
		},
		func() error {
			return node.Each(func(site storage.Site) error { return s.sites[site].Modprobe(ctx, s.siteModules()...) })
		},
	)
	if err != nil {
		return err
	}
	if disk.Filled, err = s.store.Filled(ctx, image, spec); err != nil {
		return err
	}
	var mu sync.Mutex
	return node.Each(func(site storage.Site) error {
		device, err := s.attach(ctx, s.sites[site], spec)
		mu.Lock()
		defer mu.Unlock()
		disk.Device[site] = device
		return err
	})
}

// imageSuffix ends the names of the images.
const imageSuffix = ".img"

// exportFolder is the folder on the server with the images.
func (s *System) exportFolder(ctx context.Context) (string, error) {
	folder, err := s.store.Dir(ctx, kind)
	return path.Join(folder, "export"), err
}

// mountFolder is the folder on which a site mounts the export.
func mountFolder(ctx context.Context, n *node.Node) (string, error) {
	dir, err := n.Dir(ctx, kind)
	return path.Join(dir, "mnt"), err
}

func (s *System) siteModules() []string {
	if s.files {
		return []string{"nfsv4"}
	}
	return []string{"nfsv4", "loop"}
}

// checkHostNames refuses two hosts with the same name. Linux identifies itself
// to the server by its host name, and the server would take one site for the
// other after a reboot.
func (s *System) checkHostNames(ctx context.Context) error {
	return node.DistinctHostNames(ctx, s.sites[storage.SiteA], s.sites[storage.SiteB], "an NFS server")
}

// attach mounts the export at one site, and returns the path that the
// hypervisor opens there.
func (s *System) attach(ctx context.Context, n *node.Node, spec storage.Spec) (string, error) {
	exported, err := s.exportFolder(ctx)
	if err != nil {
		return "", err
	}
	place, err := mountFolder(ctx, n)
	if err != nil {
		return "", err
	}
	found, err := n.MountsIn(ctx, path.Dir(place))
	if err != nil {
		return "", err
	}
	source := remoteFolder(s.store.Address, exported)
	if len(found) == 0 {
		if err := n.Mkdir(ctx, place); err != nil {
			return "", err
		}
		_, err := n.Run(ctx, "/sbin/mount.nfs4", source, place, "-o", mountOptions(spec.Path, testnet.FamilyOf(s.store.Address)))
		if err != nil {
			return "", fmt.Errorf("mounting %s (does the server answer on port %d?): %w", source, port, err)
		}
	}
	image := path.Join(place, spec.Name+imageSuffix)
	if err := s.checkImage(ctx, n, image); err != nil {
		return "", err
	}
	if s.files {
		return image, nil
	}
	return n.AttachLoop(ctx, place, image, true)
}

// checkImage makes sure that a site's image is the one on our server: that our
// export is mounted at the image's place with nothing mounted over it, and has
// the image.
func (s *System) checkImage(ctx context.Context, n *node.Node, image string) error {
	exported, err := s.exportFolder(ctx)
	if err != nil {
		return err
	}
	want := node.Mount{Source: remoteFolder(s.store.Address, exported), Place: path.Dir(image), Type: "nfs4"}
	mounts, err := n.MountsIn(ctx, want.Place)
	if err != nil {
		return err
	}
	if len(mounts) != 1 || mounts[0] != want {
		return node.Unusable("%s: on %s there is mounted %v, want only %v: unmount the others", n.Name(), want.Place, mounts, want)
	}
	there, err := n.SizeOf(ctx, image)
	if errors.Is(err, fs.ErrNotExist) {
		return node.Unusable("%s: %s has no %s: tear the testbed's disks down and provide them again", n.Name(), want.Source, path.Base(image))
	}
	if err != nil {
		return err
	}
	stored, err := s.store.SizeOf(ctx, path.Join(exported, path.Base(image)))
	if err == nil && there != stored {
		err = node.Unusable("%s: %s has %d bytes there, and %d at %s", n.Name(), image, there, stored, s.store.Name())
	}
	return err
}

// PrepareMigration changes nothing: it makes sure that the destination would
// open this disk, by the mount's source and the file and, with a loop device,
// by the file behind it and its direct I/O.
func (s *System) PrepareMigration(ctx context.Context, disk storage.Disk, _, to storage.Site) error {
	return node.Before(ctx, s.checkDisk(ctx, disk, to))
}

func (s *System) checkDisk(ctx context.Context, disk storage.Disk, site storage.Site) error {
	n := s.sites[site]
	place, err := mountFolder(ctx, n)
	if err != nil {
		return err
	}
	image := path.Join(place, disk.Name+imageSuffix)
	if err := s.checkImage(ctx, n, image); err != nil {
		return err
	}
	if !disk.File {
		return checkLoop(ctx, n, disk.Device[site], image)
	}
	if disk.Device[site] != image {
		return node.Unusable("%s: disk %s is not what the guest would open there, %q: it is %q", n.Name(), disk.Name, disk.Device[site], image)
	}
	return nil
}

// checkLoop makes sure that a loop device is over the image, with direct I/O.
func checkLoop(ctx context.Context, n *node.Node, device, image string) error {
	folder := path.Join("/sys/class/block", path.Base(device), "loop")
	file, err := n.ReadIfThere(ctx, folder+"/backing_file")
	if err != nil {
		return err
	}
	direct, err := n.ReadIfThere(ctx, folder+"/dio")
	if err != nil {
		return err
	}
	if file != image || direct != "1" {
		return node.Unusable("%s: what the guest would open there, %q, is a loop device over %q with direct I/O %q, want %q with 1: tear the testbed's disks down and provide them again",
			n.Name(), device, file, direct, image)
	}
	return nil
}

// FinishMigration does nothing: both sites keep the image open.
func (s *System) FinishMigration(context.Context, storage.Disk, storage.Site) error { return nil }

// Copies is the disk as the site reads it, without its page cache. The server's
// image is not a separate copy: each read of the disk goes to it.
func (s *System) Copies(_ context.Context, disk storage.Disk, at storage.Site) ([]storage.Copy, error) {
	return []storage.Copy{storage.SiteCopy(disk, at, s.sites[at].Name())}, nil
}

// Teardown removes every disk of the testbed's label, and stops the server if
// we started it. The server stays as it is while a site could not be cleaned.
// Kernel modules stay loaded, and the server's own files in /var/lib/nfs stay.
func (s *System) Teardown(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := node.Each(func(site storage.Site) error { return detach(ctx, s.sites[site]) })
	if err == nil {
		// Do not stop the server while a site still has the image open: the
		// site's mount is "hard", and would hang for ever.
		err = s.stopServing(ctx)
	}
	if err != nil {
		return fmt.Errorf("removing the NFS disks of testbed %s: %w", s.label, err)
	}
	return nil
}

// detach removes the loop devices and the mount of one site.
func detach(ctx context.Context, n *node.Node) error {
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
	if err := n.Unmount(ctx, dir); err != nil {
		return err // removing the folder now would remove the images themselves
	}
	return n.RemoveDir(ctx, kind)
}
