// Package drbd provides disks that are replicated between the sites with DRBD:
// each site has a backing file of its own, and a loop device over it.
//
// Between migrations one site is Primary and the configured protocol is in use. With
// protocol A a write completes when it is on the local disk and in the socket's buffer,
// with B when it is in the peer's memory as well, and with C when it is on the peer's
// disk as well. DRBD allows two Primaries with protocol C only, so a disk with A or B is
// switched to C for a migration, and back after it.
//
// Dangerous: while both sites are Primary, any loss of the connection is a split brain:
// DRBD then disconnects (StandAlone) and stays disconnected, because it is told never to
// discard either side's data. That is a result, not a fault of the testbed.
//
// The initial synchronisation is skipped. Both backing files are our own, and blank or
// filled alike; and DRBD itself allows skipping on new metadata only.
//
// It supports DRBD 8.4, which is in the Linux kernel, with drbd-utils 9. DRBD 9 is
// refused: its /proc/drbd has no counters, and its status uses other words.
//
// DRBD's tools are given a configuration file of our own in the testbed's data folder,
// with "usage-count no": the host's own files in /etc are neither read nor changed, and
// drbdadm does not report to DRBD's usage counter on the Internet.
//
// Sources: drbd.conf-8.4(5), drbdadm-8.4(8), drbdsetup-8.4(8), and the kernel's
// drivers/block/drbd/drbd_proc.c for /proc/drbd.
package drbd

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"heliotrope/internal/fault"
	"heliotrope/internal/limits"
	"heliotrope/internal/storage"
	"heliotrope/internal/storage/internal/node"
)

// ErrSplitBrain says that each side may have data that the other lacks: DRBD has given
// the connection up, and does not reconnect by itself.
var ErrSplitBrain = errors.New("DRBD has given the connection up: a split brain")

// kind is the system's name, and the name of its folder on the hosts.
const kind = "drbd"

// protocolOption is the only option of a cell for DRBD.
const protocolOption = "protocol"

// Kind registers DRBD. Its only option is "protocol": "A", "B" or "C".
var Kind = storage.Kind{Name: kind, New: New}

var (
	_ storage.Driver    = (*System)(nil)
	_ storage.Roomer    = (*System)(nil)
	_ storage.Verifier  = (*System)(nil)
	_ storage.Copier    = (*System)(nil)
	_ storage.Diagnoser = (*System)(nil)
)

// Protocol says when DRBD completes a write.
type Protocol string

// DRBD's protocols.
const (
	ProtocolA Protocol = "A"
	ProtocolB Protocol = "B"
	ProtocolC Protocol = "C" // the default
)

// System provides disks that are replicated with DRBD.
type System struct {
	label    string
	protocol Protocol // outside migrations
	sites    map[storage.Site]*node.Node
	mu       sync.Mutex  // one change at a time
	path     limits.Path // the path for the disk that is being changed
}

// New makes the DRBD system of a testbed. It needs no storage server.
func New(setup storage.Setup) (storage.Driver, error) {
	if err := setup.Options.Only(kind, protocolOption); err != nil {
		return nil, err
	}
	protocol := ProtocolC
	switch value := setup.Options[protocolOption]; Protocol(value) {
	case "":
	case ProtocolA, ProtocolB, ProtocolC:
		protocol = Protocol(value)
	default:
		return nil, fault.New(fault.BadInput, "storage option protocol %q: want A, B or C", value)
	}
	return &System{label: setup.Inventory.Name, protocol: protocol, sites: node.Sites(setup)}, nil
}

// Kind is "drbd".
func (s *System) Kind() string { return kind }

// resource is the name of a disk's DRBD resource. Neither labels nor disk names contain a
// dot, so one label's prefix never begins a name of another label.
func (s *System) resource(disk string) string { return s.prefix() + disk }

func (s *System) prefix() string { return s.label + "." }

// Provision makes a replica at each site, blank or filled alike, and makes home Primary.
func (s *System) Provision(ctx context.Context, spec storage.Spec, home storage.Site) (storage.Disk, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.path = spec.Path
	disk := storage.Disk{Spec: spec, Device: map[storage.Site]string{}}
	if err := storage.CheckSpec(spec); err != nil {
		return disk, fault.As(fault.BadInput, err)
	}
	minor, err := s.provision(ctx, spec, home)
	if err == nil {
		disk.Filled, err = s.filled(ctx, spec)
	}
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
		s.forgetFinished(ctx), // first: from here on no disk counts as finished
		node.Each(func(site storage.Site) error { return s.teardown(ctx, s.sites[site]) }),
	)
	if err != nil {
		return fmt.Errorf("removing the DRBD disks of testbed %s: %w", s.label, err)
	}
	return nil
}

// step runs one step and names it in its error.
func step(disk, name string, do func() error) error {
	if err := do(); err != nil {
		return fmt.Errorf("disk %s: %s: %w", disk, name, err)
	}
	return nil
}
