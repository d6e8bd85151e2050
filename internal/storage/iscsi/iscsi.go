// Package iscsi provides disks over iSCSI: a LIO target on the storage server
// (driven through configfs) and open-iscsi at both sites.
//
// Every write is on the server's backing file when it is acknowledged (the
// backing file is opened with O_DSYNC and the disk says that it has no write
// cache), as with NFS and with DRBD's protocol C. A guest's synchronous write
// therefore costs one round trip, not one for the data and one for a flush.
//
// Dangerous: both sites are logged in all the time, and nothing in iSCSI keeps
// them from writing at once. There is no authentication beyond the initiators'
// names: the test network must be isolated.
//
// Sources: the kernel's Documentation/target/ and drivers/target (configfs
// layout), iscsiadm(8), iscsid(8) and the comments of iscsid.conf, RFC 7143.
package iscsi

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"heliotrope/internal/inventory"
	"heliotrope/internal/remote"
	"heliotrope/internal/storage"
	"heliotrope/internal/storage/internal/node"
)

// kind names the system, and its folder on the hosts.
const kind = "iscsi"

// iqnBase begins every name of ours. It carries the date of RFC 7143, 4.2.7.
const iqnBase = "iqn.2026-11.net.heliotrope:"

var (
	_ storage.System = (*System)(nil)
	_ storage.Copier = (*System)(nil)
)

// System provides disks over iSCSI.
type System struct {
	// Observe, when set, is told of the steps.
	Observe storage.Observer

	label string
	sites map[storage.Site]*node.Node
	store *node.Node
	mu    sync.Mutex // one change at a time
}

// New returns the iSCSI system of a testbed.
func New(inv *inventory.Inventory, hosts map[storage.Site]remote.Host, store remote.Host) *System {
	return &System{label: inv.Name, sites: node.Sites(inv, hosts), store: node.New(inv, inv.Store, store)}
}

// Kind is "iscsi".
func (s *System) Kind() string { return kind }

// iqn is the target name of a disk. Neither labels nor disk names contain a
// dot, so no label's prefix begins the name of another's.
func (s *System) iqn(disk string) string { return s.prefix() + disk }

func (s *System) prefix() string { return iqnBase + s.label + "." }

// Provision makes a target with one disk and logs both sites in.
func (s *System) Provision(ctx context.Context, spec storage.Spec, _ storage.Site) (storage.Disk, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	disk := storage.Disk{Spec: spec, Device: map[storage.Site]string{}}
	if err := storage.CheckSpec(spec); err != nil {
		return disk, err
	}
	err := s.Observe.Measure(kind, spec.Name, "provision", func() error { return s.provision(ctx, spec, disk.Device) })
	if err != nil {
		return disk, fmt.Errorf("providing disk %s over iSCSI: %w", spec.Name, err)
	}
	return disk, nil
}

func (s *System) provision(ctx context.Context, spec storage.Spec, devices map[storage.Site]string) error {
	var mu sync.Mutex
	initiators := map[storage.Site]string{}
	err := node.Together(
		func() error { return s.makeBackstore(ctx, spec) },
		func() error {
			return node.Each(func(site storage.Site) error {
				name, err := s.prepareInitiator(ctx, site)
				mu.Lock()
				defer mu.Unlock()
				initiators[site] = name
				return err
			})
		},
	)
	if err != nil {
		return err
	}
	if initiators[storage.SiteA] == initiators[storage.SiteB] {
		return fmt.Errorf("%s and %s have the same initiator name %s, so that the target would end one's session for the other's: give one a name of its own in %s",
			s.sites[storage.SiteA].Name(), s.sites[storage.SiteB].Name(), initiators[storage.SiteA], initiatorFile)
	}
	if err := s.makeTarget(ctx, spec.Name, initiators); err != nil {
		return err
	}
	return node.Each(func(site storage.Site) error {
		device, err := s.attach(ctx, s.sites[site], spec)
		mu.Lock()
		defer mu.Unlock()
		devices[site] = device
		return err
	})
}

// PrepareMigration has nothing to change: it makes sure that the destination
// has the disk.
func (s *System) PrepareMigration(ctx context.Context, disk storage.Disk, _, to storage.Site) error {
	return s.Observe.Measure(kind, disk.Name, "check destination", func() error {
		found, err := s.find(ctx, s.sites[to], s.iqn(disk.Name))
		switch {
		case err != nil:
			return err
		case "/dev/"+found.device != disk.Device[to] || found.state != loggedIn:
			return fmt.Errorf("%s: disk %s is not usable there: device %q, want %q; session state %q, want %s",
				s.sites[to].Name(), disk.Name, found.device, disk.Device[to], found.state, loggedIn)
		}
		return nil
	})
}

// FinishMigration has nothing to do: both sites stay logged in.
func (s *System) FinishMigration(context.Context, storage.Disk, storage.Site) error { return nil }

// Copies is the disk as the site reads it. The server's backing file is no copy
// of its own: each read of the disk goes to it.
func (s *System) Copies(_ context.Context, disk storage.Disk, at storage.Site) ([]storage.Copy, error) {
	return []storage.Copy{storage.SiteCopy(disk, at, s.sites[at].Name())}, nil
}

// Teardown logs out of and removes every target of the testbed's label, with
// its backing files. Kernel modules stay loaded; empty folders of open-iscsi
// may stay.
func (s *System) Teardown(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := errors.Join(
		node.Each(func(site storage.Site) error { return s.detachAll(ctx, s.sites[site]) }),
		s.removeTargets(ctx),
	)
	if err != nil {
		return fmt.Errorf("removing the iSCSI disks of testbed %s: %w", s.label, err)
	}
	return nil
}
