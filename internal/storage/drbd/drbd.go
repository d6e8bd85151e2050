// Package drbd provides disks that are replicated between the sites with DRBD:
// each site has a backing file of its own, and a loop device over it.
//
// Between migrations one site is Primary and the configured protocol is in
// use: A (a write is done when it is on the local disk and in the socket's
// buffer), B (and in the peer's memory) or C (and on the peer's disk). DRBD
// lets both sites be Primary with protocol C only, so a disk with A or B is
// switched to C for a migration, and back after it.
//
// Dangerous: while both sites are Primary, any loss of the connection is a
// split brain: DRBD then disconnects (StandAlone) and stays so, because it is
// told never to discard either side's data. That is a result, not a fault of
// the testbed.
//
// The initial synchronisation is skipped: both backing files are blank and of
// our own making, and DRBD itself allows that on new metadata only.
//
// It is written for DRBD 8.4, which is in the Linux kernel, with drbd-utils 9.
// The syntax is DRBD 9's too, and its status is read, but only 8.4 was tried.
//
// Sources: drbd.conf-8.4(5), drbdadm-8.4(8), drbdsetup-8.4(8), drbd.conf-9.0(5)
// and the kernel's drivers/block/drbd/drbd_proc.c for /proc/drbd.
package drbd

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

// ErrSplitBrain says that both sides may have data of their own: DRBD has given
// the connection up, and does not make it again by itself.
var ErrSplitBrain = errors.New("DRBD has given the connection up: a split brain")

// kind names the system, and its folder on the hosts.
const kind = "drbd"

var (
	_ storage.System   = (*System)(nil)
	_ storage.Verifier = (*System)(nil)
	_ storage.Copier   = (*System)(nil)
)

// Protocol is when DRBD calls a write done.
type Protocol string

// DRBD's protocols.
const (
	ProtocolA Protocol = "A"
	ProtocolB Protocol = "B"
	ProtocolC Protocol = "C"
)

// Options of a DRBD system.
type Options struct {
	// Protocol outside migrations; empty means C.
	Protocol Protocol
	// ResyncKiBPerSecond is the most that a resynchronisation may send
	// (c-max-rate), in KiB/s; zero means DRBD's own 100 MiB/s.
	ResyncKiBPerSecond int64
}

func (o *Options) complete() error {
	if o.Protocol == "" {
		o.Protocol = ProtocolC
	}
	if o.ResyncKiBPerSecond == 0 {
		o.ResyncKiBPerSecond = 100 << 10
	}
	// The limits are DRBD's (linux/drbd_limits.h).
	switch {
	case o.Protocol != ProtocolA && o.Protocol != ProtocolB && o.Protocol != ProtocolC:
		return fmt.Errorf("DRBD protocol %q: want A, B or C", o.Protocol)
	case o.ResyncKiBPerSecond < 250 || o.ResyncKiBPerSecond > 4<<20:
		return fmt.Errorf("DRBD resync rate %d KiB/s: want 250 to %d", o.ResyncKiBPerSecond, 4<<20)
	}
	return nil
}

// System provides disks that are replicated with DRBD.
type System struct {
	// Observe, when set, is told of the steps.
	Observe storage.Observer

	label   string
	options Options
	invalid error // of the options
	sites   map[storage.Site]*node.Node
	mu      sync.Mutex // one change at a time
}

// New returns the DRBD system of a testbed. It needs no storage server. Wrong
// options are reported by Provision.
func New(inv *inventory.Inventory, hosts map[storage.Site]remote.Host, options Options) *System {
	s := &System{label: inv.Name, sites: node.Sites(inv, hosts)}
	s.invalid = options.complete()
	s.options = options
	return s
}

// Kind is "drbd".
func (s *System) Kind() string { return kind }

// resource is the name of a disk's DRBD resource. Neither labels nor disk names
// contain a dot, so no label's prefix begins the name of another's.
func (s *System) resource(disk string) string { return s.prefix() + disk }

func (s *System) prefix() string { return s.label + "." }

// Provision makes a blank replica at both sites and makes home Primary.
func (s *System) Provision(ctx context.Context, spec storage.Spec, home storage.Site) (storage.Disk, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	disk := storage.Disk{Spec: spec, Device: map[storage.Site]string{}}
	if err := errors.Join(s.invalid, storage.CheckSpec(spec)); err != nil {
		return disk, err
	}
	var minor int
	err := s.Observe.Measure(kind, spec.Name, "provision", func() (err error) {
		minor, err = s.provision(ctx, spec, home)
		return err
	})
	if err != nil {
		return disk, fmt.Errorf("providing disk %s with DRBD: %w", spec.Name, err)
	}
	for site := range s.sites {
		disk.Device[site] = devicePath(minor)
	}
	return disk, nil
}

// Teardown removes every disk of the testbed's label from both sites. Kernel
// modules stay loaded.
func (s *System) Teardown(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := errors.Join(
		s.forgetFinished(ctx), // first: from here on no disk is whole
		node.Each(func(site storage.Site) error { return s.teardown(ctx, s.sites[site]) }),
	)
	if err != nil {
		return fmt.Errorf("removing the DRBD disks of testbed %s: %w", s.label, err)
	}
	return nil
}

// step does something and reports it under a name.
func (s *System) step(disk, name string, do func() error) error {
	if err := s.Observe.Measure(kind, disk, name, do); err != nil {
		return fmt.Errorf("disk %s: %s: %w", disk, name, err)
	}
	return nil
}
