// Package nfs provides disks as raw image files on an NFS 4.2 server, the
// kernel's own at the storage server. Both sites mount it and open the image
// through a loop device.
//
// The loop devices use direct I/O, and a disk is refused without it: through
// the page cache one site would read what the other has long overwritten. A
// write is on the server's file when it is acknowledged: NFS writes of one
// request are stable (FILE_SYNC), and the export is "sync".
//
// A mount is "hard": while the server cannot be reached, I/O waits for good.
//
// Dangerous: both sites have the image open all the time, and nothing keeps
// them from writing at once. The server trusts the hosts' addresses
// (sec=sys, no_root_squash): the test network must be isolated.
//
// Sources: exports(5), nfs(5), rpc.nfsd(8), rpc.mountd(8), losetup(8), and the
// kernel's fs/nfsd/nfsctl.c for /proc/fs/nfsd.
package nfs

import (
	"context"
	"errors"
	"fmt"
	"path"
	"sync"

	"heliotrope/internal/inventory"
	"heliotrope/internal/remote"
	"heliotrope/internal/storage"
	"heliotrope/internal/storage/internal/node"
)

// kind names the system, and its folder on the hosts.
const kind = "nfs"

var (
	_ storage.System = (*System)(nil)
	_ storage.Copier = (*System)(nil)
)

// System provides disks over NFS.
type System struct {
	// Observe, when set, is told of the steps.
	Observe storage.Observer

	label string
	sites map[storage.Site]*node.Node
	store *node.Node
	mu    sync.Mutex // one change at a time
}

// New returns the NFS system of a testbed.
func New(inv *inventory.Inventory, hosts map[storage.Site]remote.Host, store remote.Host) *System {
	return &System{label: inv.Name, sites: node.Sites(inv, hosts), store: node.New(inv, inv.Store, store)}
}

// Kind is "nfs".
func (s *System) Kind() string { return kind }

// Provision exports an image file and makes a loop device over it at both
// sites.
func (s *System) Provision(ctx context.Context, spec storage.Spec, _ storage.Site) (storage.Disk, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	disk := storage.Disk{Spec: spec, Device: map[storage.Site]string{}}
	if err := storage.CheckSpec(spec); err != nil {
		return disk, err
	}
	err := s.Observe.Measure(kind, spec.Name, "provision", func() error { return s.provision(ctx, spec, disk.Device) })
	if err != nil {
		return disk, fmt.Errorf("providing disk %s over NFS: %w", spec.Name, err)
	}
	return disk, nil
}

func (s *System) provision(ctx context.Context, spec storage.Spec, devices map[storage.Site]string) error {
	if err := s.checkNames(ctx); err != nil {
		return err
	}
	folder, err := s.store.Dir(ctx, kind)
	if err != nil {
		return err
	}
	exported := path.Join(folder, "export")
	image := path.Join(exported, spec.Name+".img")
	err = node.Together(
		func() error {
			return errors.Join(s.store.Image(ctx, image, spec.SizeBytes), s.serve(ctx, exported))
		},
		func() error {
			return node.Each(func(site storage.Site) error { return s.sites[site].Modprobe(ctx, "nfsv4", "loop") })
		},
	)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	return node.Each(func(site storage.Site) error {
		device, err := s.attach(ctx, s.sites[site], exported, path.Base(image))
		mu.Lock()
		defer mu.Unlock()
		devices[site] = device
		return err
	})
}

// checkNames refuses two hosts of the same name. Linux tells the server its
// host name as its identity, and the server would take one site for the other
// after a reboot.
func (s *System) checkNames(ctx context.Context) error {
	var names [2]string
	for i, site := range []storage.Site{storage.SiteA, storage.SiteB} {
		name, err := s.sites[site].Read(ctx, "/proc/sys/kernel/hostname")
		if err != nil {
			return err
		}
		names[i] = name
	}
	if names[0] == names[1] {
		return fmt.Errorf("both sites have the host name %q, by which an NFS server knows its clients: give them different ones", names[0])
	}
	return nil
}

// attach mounts the export and opens the image at one site.
func (s *System) attach(ctx context.Context, n *node.Node, exported, image string) (string, error) {
	dir, err := n.Dir(ctx, kind)
	if err != nil {
		return "", err
	}
	mounted := path.Join(dir, "mnt")
	found, err := n.MountsIn(ctx, dir)
	if err != nil {
		return "", err
	}
	if len(found) == 0 {
		if err := n.Mkdir(ctx, mounted); err != nil {
			return "", err
		}
		source := addressText(s.store.Address) + ":" + exported
		_, err := n.Run(ctx, "/sbin/mount.nfs4", source, mounted, "-o", mountOptions)
		if err != nil {
			return "", fmt.Errorf("mounting %s (does the server answer on port 2049?): %w", source, err)
		}
	}
	return n.AttachLoop(ctx, mounted, path.Join(mounted, image), true)
}

// PrepareMigration has nothing to change: it makes sure that the destination
// has the disk open, with direct I/O.
func (s *System) PrepareMigration(ctx context.Context, disk storage.Disk, _, to storage.Site) error {
	return s.Observe.Measure(kind, disk.Name, "check destination", func() error {
		n := s.sites[to]
		dir, err := n.Dir(ctx, kind)
		if err != nil {
			return err
		}
		want := path.Join(dir, "mnt", disk.Name+".img")
		folder := path.Join("/sys/class/block", path.Base(disk.Device[to]), "loop")
		file, err := n.ReadIfThere(ctx, folder+"/backing_file")
		if err != nil {
			return err
		}
		direct, err := n.ReadIfThere(ctx, folder+"/dio")
		if err != nil {
			return err
		}
		if file != want || direct != "1" {
			return fmt.Errorf("%s: disk %s is not usable there: %q is a loop device over %q with direct I/O %q, want %q with 1",
				n.Name(), disk.Name, disk.Device[to], file, direct, want)
		}
		return nil
	})
}

// FinishMigration has nothing to do: both sites keep the image open.
func (s *System) FinishMigration(context.Context, storage.Disk, storage.Site) error { return nil }

// Copies is the disk as the site reads it, past its page cache. The server's
// image is no copy of its own: each read of the disk goes to it.
func (s *System) Copies(_ context.Context, disk storage.Disk, at storage.Site) ([]storage.Copy, error) {
	return []storage.Copy{storage.SiteCopy(disk, at, s.sites[at].Name())}, nil
}

// Teardown removes every disk of the testbed's label, and stops the server if
// we started it. The server stays as it is while a site cannot be cleaned. Kernel modules stay loaded, and the server's own files in
// /var/lib/nfs stay.
func (s *System) Teardown(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := node.Each(func(site storage.Site) error { return detach(ctx, s.sites[site]) })
	if err == nil {
		// Not under a site that still has the image open: its mount is "hard",
		// and would hang for good.
		err = s.stopServing(ctx)
	}
	if err != nil {
		return fmt.Errorf("removing the NFS disks of testbed %s: %w", s.label, err)
	}
	return nil
}

// detach removes the loop devices and the mount of one site.
func detach(ctx context.Context, n *node.Node) error {
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
