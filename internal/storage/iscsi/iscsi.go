// Package iscsi provides disks over iSCSI: a LIO target on the storage server
// (configured through configfs) and open-iscsi at both sites.
//
// Every write is on the server's backing file when it is acknowledged (the backing
// file is opened with O_DSYNC and the disk reports that it has no write cache), as
// with NFS and with DRBD's protocol C. A guest's synchronous write therefore costs
// one round trip, not one for the data and one for a flush.
//
// It promises that
//   - a host's own initiator name is neither used nor changed: the
//     sites log in through an interface record of ours, with a name of ours;
//   - this record, with which others would log in, is the first thing that the teardown removes,
//     and the host removes it by itself when its lease is over;
//   - each disk has a serial number which no other disk ever had;
//   - the target stays for as long as a site may be logged in.
//
// Dangerous: both sites are logged in all the time, and nothing in iSCSI keeps them
// from writing at the same time. There is no authentication beyond the initiators'
// names: the test network must be isolated.
//
// Sources: the kernel's Documentation/target/ and drivers/target (configfs
// layout), iscsiadm(8), iscsid(8) and the comments of iscsid.conf, RFC 7143.
package iscsi

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"heliotrope/internal/fault"
	"heliotrope/internal/gather"
	"heliotrope/internal/storage"
	"heliotrope/internal/storage/internal/node"
)

// kind is the system's name, and the name of its folder on the hosts.
const kind = "iscsi"

// Kind registers iSCSI. It has no options.
var Kind = storage.Kind{Name: kind, New: New}

// iqnBase begins every name of ours. Its date is required by RFC 7143, 4.2.7.
const iqnBase = "iqn.2026-11.net.heliotrope:"

var (
	_ storage.Driver = (*System)(nil)
	_ storage.Roomer = (*System)(nil)
	_ storage.Copier = (*System)(nil)
)

// System provides disks over iSCSI.
type System struct {
	label string
	sites map[storage.Site]*node.Node
	store *node.Node
	mu    sync.Mutex // one change at a time
}

// New makes the iSCSI system of a testbed.
func New(setup storage.Setup) (storage.Driver, error) {
	if err := setup.Options.Only(kind); err != nil {
		return nil, err
	}
	return &System{label: setup.Inventory.Name,
		sites: node.Sites(setup), store: node.New(setup, setup.Inventory.Store())}, nil
}

// Kind is "iscsi".
func (s *System) Kind() string { return kind }

// iqn is the target name of a disk. Neither labels nor disk names contain a dot, so
// one label's prefix never begins a name of another label.
func (s *System) iqn(disk string) string { return s.prefix() + disk }

func (s *System) prefix() string { return iqnBase + s.label + "." }

// Provision makes a target with one disk and logs both sites in.
func (s *System) Provision(ctx context.Context, spec storage.Spec, _ storage.Site) (storage.Disk, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	disk := storage.Disk{Spec: spec, Device: map[storage.Site]string{}}
	if err := storage.CheckSpec(spec); err != nil {
		return disk, fault.As(fault.BadInput, err)
	}
	err := s.provision(ctx, spec, disk.Device)
	if err == nil {
		disk.Filled, err = s.filled(ctx, spec)
	}
	if err != nil {
		return disk, fmt.Errorf("providing disk %s over iSCSI: %w", spec.Name, err)
	}
	return disk, nil
}

func (s *System) filled(ctx context.Context, spec storage.Spec) (storage.Filled, error) {
	file, err := s.imageFile(ctx, spec.Name)
	if err != nil {
		return storage.Filled{}, err
	}
	return s.store.Filled(ctx, file, spec)
}

func (s *System) provision(ctx context.Context, spec storage.Spec, devices map[storage.Site]string) error {
	err := gather.Together(
		func() error { return s.makeBackstore(ctx, spec) },
		func() error {
			return node.Each(func(site storage.Site) error { return s.prepareInitiator(ctx, site) })
		},
	)
	if err != nil {
		return err
	}
	if err := s.makeTarget(ctx, spec); err != nil {
		return err
	}
	var mu sync.Mutex
	return node.Each(func(site storage.Site) error {
		device, err := s.attach(ctx, s.sites[site], spec)
		mu.Lock()
		defer mu.Unlock()
		devices[site] = device
		return err
	})
}

// PrepareMigration changes nothing: it makes sure that the destination would open
// this disk, by the session's target and by the serial number, and that nothing
// else there uses it.
func (s *System) PrepareMigration(ctx context.Context, disk storage.Disk, _, to storage.Site) error {
	return node.Before(ctx, s.checkDisk(ctx, disk, to))
}

func (s *System) checkDisk(ctx context.Context, disk storage.Disk, site storage.Site) error {
	n := s.sites[site]
	found, err := s.find(ctx, n, s.iqn(disk.Name))
	switch {
	case err != nil:
		return err
	case found.device == "" || "/dev/"+found.device != disk.Device[site]:
		return node.Unusable("%s: disk %s is not what the guest would open there: its device is %q, want %q: provide the disk again",
			n.Name(), disk.Name, found.device, disk.Device[site])
	}
	serial, err := s.serial(ctx, disk.Name)
	if err != nil {
		return err
	}
	if err := checkSerial(ctx, n, found.device, serial); err != nil {
		return err
	}
	if err := checkHolders(ctx, n, found); err != nil {
		return err
	}
	if found.state != loggedIn {
		return node.Failure(ctx, fmt.Errorf("%s: disk %s cannot be used there: the state of its session is %q, want %s",
			n.Name(), disk.Name, found.state, loggedIn))
	}
	return nil
}

// FinishMigration does nothing: both sites stay logged in.
func (s *System) FinishMigration(context.Context, storage.Disk, storage.Site) error { return nil }

// Copies is the disk as the site reads it. The server's backing file is not a
// separate copy: each read of the disk goes to it.
func (s *System) Copies(_ context.Context, disk storage.Disk, at storage.Site) ([]storage.Copy, error) {
	return []storage.Copy{storage.SiteCopy(disk, at, s.sites[at].Name())}, nil
}

// Teardown logs out of every target of the testbed's label and removes it, with its
// backing files. While a site may still be logged in, the target stays, because a
// session without its target tries to log in for ever. Kernel modules stay loaded;
// empty folders of open-iscsi may stay.
func (s *System) Teardown(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := node.Each(func(site storage.Site) error { return s.detachAll(ctx, s.sites[site]) })
	if err != nil {
		err = s.keepTargets(ctx, err)
	} else {
		err = s.removeTargets(ctx)
	}
	if err != nil {
		return fmt.Errorf("removing the iSCSI disks of testbed %s: %w", s.label, err)
	}
	return nil
}

// keepTargets is the error that names the targets that stay.
func (s *System) keepTargets(ctx context.Context, why error) error {
	targets, err := s.store.Names(ctx, lioFabric, s.prefix())
	if err != nil || len(targets) == 0 {
		return errors.Join(why, err)
	}
	return errors.Join(why, fmt.Errorf("%s: the target stays until both sites are out: %s", s.store.Name(), strings.Join(targets, ", ")))
}
