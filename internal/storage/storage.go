// Package storage defines what Heliotrope needs of a storage system: a disk for the measured
// guest that both sites can open, during a migration there and back.
//
// Implementations promise that
//   - every method is idempotent: called twice, or again after a crash half-way, it ends in the same state;
//   - everything that they make carries the testbed's label;
//   - Teardown needs nothing but the inventory and leaves the hosts as they were, except for kernel modules, which
//     stay loaded;
//   - an existing disk of another size is refused.
//
// Dangerous: between PrepareMigration and FinishMigration both sites may open the disk for
// writing. Only a hypervisor that hands the domain over may use that window.
package storage

import (
	"context"
	"fmt"
	"time"

	"heliotrope/internal/cause"
	"heliotrope/internal/driver"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/inventory"
	"heliotrope/internal/limits"
	"heliotrope/internal/remote"
)

// Kind is a storage system that campaigns may use. Package drivers registers each with one
// line.
type Kind struct {
	Name string // in campaign files and the dataset: "iscsi"
	// New makes the driver for a testbed, and touches nothing. Options that the
	// system does not have are refused.
	New func(Setup) (Driver, error)
	// Datastores says that the system is for hypervisors that make the disks themselves
	// (hypervisor.Kind.Datastores), and for no others.
	Datastores bool
	// CheckInventory, when not nil, refuses settings of an inventory that are impossible for
	// the system. It asks no host.
	CheckInventory func(*inventory.Inventory) error
}

// Setup is what a driver is made from.
type Setup struct {
	Inventory *inventory.Inventory
	Machines  map[string]remote.Host // by their names in the inventory
	Options   Options
	// OpensFiles says that the hypervisor opens an image file itself, with direct I/O, so
	// that it needs no block device over the image.
	OpensFiles bool
	// Datastores are both sites' hosts when the hypervisor makes the disks itself; otherwise
	// nil.
	Datastores map[Site]hypervisor.Datastores
	// Programs are our programs on the machines. Without them no disk is filled.
	Programs Programs
}

// Programs are our programs on a testbed's machines.
type Programs interface {
	// InstallWitness puts the witness's program on a machine, unless it is there, and
	// ProgramDir is the folder for it.
	InstallWitness(ctx context.Context, machine string) error
	ProgramDir(machine string) string
	// RunDir is the folder of one of our processes on a machine; a teardown of the testbed
	// ends that process.
	RunDir(machine, name string) string
}

// Options are a cell's settings for its storage system, such as "A" for DRBD's "protocol".
// An option that is not given has the system's default.
type Options map[string]string

// Driver is a storage system on real hosts.
type Driver interface {
	System
	driver.Facets
}

// Site is one end of the WAN.
type Site string

// The two sites. The storage server is at site A.
const (
	SiteA Site = "a"
	SiteB Site = "b"
)

// Other is the other site.
func (s Site) Other() Site {
	if s == SiteA {
		return SiteB
	}
	return SiteA
}

// Spec describes a disk to make.
type Spec struct {
	Name      string // of the disk, unique in the testbed: [a-z0-9-], at most 32 characters
	SizeBytes int64
	// MemoryMiB is the guest's memory, which takes space in the datastore when the disk lies
	// in one; 0 means the inventory's default.
	MemoryMiB int `json:",omitempty"`
	// Fill is what the disk holds before anybody writes to it; the zero value means nothing.
	Fill Fill `json:",omitzero"`
	// Path is the path between the sites as it will be shaped: time-outs follow from it.
	Path limits.Path `json:",omitzero"`
}

// Fill says how a disk is filled where it is made, before anybody opens it: its first Bytes
// with data that follow from the seed, the same on each copy, and the rest with zeros that
// are really written.
type Fill struct {
	Seed  uint64
	Bytes int64 // a multiple of 1 MiB
}

// Filled says how a disk was filled; the zero value means that it was not.
type Filled struct {
	Bytes int64
	// Took is how long the run that finished the filling took, on the slowest of the disk's
	// copies.
	Took time.Duration
}

// Slower is the one of two copies whose filling took longer.
func (f Filled) Slower(other Filled) Filled {
	if other.Took > f.Took || f.Bytes == 0 {
		return other
	}
	return f
}

// Disk is a provisioned disk.
type Disk struct {
	Spec
	// Device is what the hypervisor opens on each site's host: a block device, or an image
	// file when File is set. It is valid until a host is restarted; Provision returns it
	// again. The sites' devices may differ: never open one site's device at the other.
	Device map[Site]string
	File   bool `json:",omitempty"`
	// Base, when set, is the raw block device on each site's host that backs Device, a qcow2
	// image that holds what was written since.
	Base map[Site]string `json:",omitempty"`
	// Datastore, when set, is the inventory path of each site's datastore in which the
	// hypervisor itself makes the disk, together with the domain. There is no Device then.
	Datastore map[Site]string `json:",omitempty"`
	// Copy says that each site has a disk of its own, and how a migration copies one to the
	// other; "" means that both sites share one disk.
	Copy hypervisor.Copy `json:",omitempty"`
	// Filled says how Provision filled the disk. Only the guest can fill a disk in a
	// datastore.
	Filled Filled `json:",omitzero"`
}

// At is the disk as the hypervisor of a site must open it.
func (d Disk) At(site Site) hypervisor.Disk {
	at := hypervisor.Disk{Path: d.Device[site], File: d.File, Base: d.Base[site], Datastore: d.Datastore[site], Copy: d.Copy}
	if at.Datastore != "" {
		at.SizeBytes = d.SizeBytes
	}
	return at
}

// System provides disks of one kind.
type System interface {
	// Kind is the system's name in campaign files and rows: "iscsi".
	Kind() string
	// Provision makes a disk that both sites can reach and that can be used at home. It is
	// blank, or filled as the specification says.
	Provision(ctx context.Context, spec Spec, home Site) (Disk, error)
	// PrepareMigration makes the disk usable at both sites. It makes sure that the
	// destination would open this disk and no other.
	PrepareMigration(ctx context.Context, disk Disk, from, to Site) error
	// FinishMigration ends the window for the migration: afterwards the disk is usable at
	// home, where the domain now runs, and elsewhere it is as before PrepareMigration.
	FinishMigration(ctx context.Context, disk Disk, home Site) error
	// Teardown removes every disk of the testbed from all hosts. It goes on
	// past errors and joins them.
	Teardown(ctx context.Context) error
}

// Verifier is a storage system with replicas that can be compared.
type Verifier interface {
	// Verify compares the replicas and returns the bytes in which they differ.
	Verify(ctx context.Context, disk Disk) (outOfSyncBytes int64, err error)
}

// Roomer is a storage system whose disks take space in file systems of the machines.
type Roomer interface {
	// CheckRoom refuses a disk for which a machine has too little free space. Provision
	// would refuse it too, but only after the programs were installed. Space that disks of
	// this label take there, of any storage system, counts as free, because they are removed
	// before another is made. It changes nothing. Of wanted it uses the disk's size, whether
	// it is filled, and the guest's memory.
	CheckRoom(ctx context.Context, wanted Spec) error
}

// Diagnoser is a storage system that can tell what has happened to a disk from the system's
// own state, after something has failed.
type Diagnoser interface {
	// Diagnose returns the code of the gravest problem of the disk, or "" when there is none
	// or no host can be asked, and the disk's state in one line. Of disk it needs only the
	// name. It changes nothing.
	Diagnose(ctx context.Context, disk Disk) (cause.Code, string)
}

// Ender is a storage system that makes something on machines that disturbs the work of
// others, and that a machine removes by itself when the controller is gone for good.
type Ender interface {
	// Ending is a constant text for sh(1) that removes it from a machine, whatever else of
	// the disks is still there; "" when there is nothing to remove. Its argument is the
	// testbed's label.
	Ending(machine string) string
}

// Copy says where a disk's data can be read on a host without going through the guest: a
// block device, a file or, when the hypervisor makes the disks itself, the datastore.
type Copy struct {
	Name string `json:"name"` // unique for a disk: "site-b", "replica-a", "replica-b", "store"
	Host string `json:"host"` // the machine's name in the inventory
	Path string `json:"path"`
}

// Copier is a storage system that can list the copies of a disk: the device at the site
// where the disk is open, and each replica beneath it. They are for reading with direct I/O
// while nobody writes. A disk in a datastore is read through the hypervisor
// (hypervisor.Datastores). When a device does not show the disk itself, each call of Copies
// copies the disk's contents into a device that does.
type Copier interface {
	Copies(ctx context.Context, disk Disk, at Site) ([]Copy, error)
}

// SiteCopy is the disk as the host of that name reads it at a site.
func SiteCopy(disk Disk, at Site, host string) Copy {
	return Copy{Name: "site-" + string(at), Host: host, Path: disk.Device[at]}
}

// CheckSpec refuses a disk that no storage system could make.
func CheckSpec(spec Spec) error {
	if spec.Name == "" || len(spec.Name) > 32 {
		return fmt.Errorf("disk name %q: want 1 to 32 characters", spec.Name)
	}
	for _, c := range spec.Name {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return fmt.Errorf("disk name %q: want only a-z, 0-9 and -", spec.Name)
		}
	}
	if spec.SizeBytes <= 0 || spec.SizeBytes%(1<<20) != 0 {
		return fmt.Errorf("disk %s: size %d bytes: want a positive multiple of 1 MiB", spec.Name, spec.SizeBytes)
	}
	if fill := spec.Fill.Bytes; fill < 0 || fill > spec.SizeBytes || fill%(1<<20) != 0 {
		return fmt.Errorf("disk %s: %d bytes are to be filled: want multiples of 1 MiB, at most its size of %d", spec.Name, fill, spec.SizeBytes)
	}
	return nil
}
