// Package storage says what Heliotrope needs of a storage system: a disk for
// the measured guest that both sites can open, through a migration and back.
//
// Implementations promise that every method is idempotent (run twice, or
// again after a crash half-way, it ends in the same state), that everything
// they make carries the testbed's label, and that Teardown needs nothing but
// the inventory and leaves the hosts as they were, but for kernel modules, which
// stay loaded. A disk that is there with another size is refused.
//
// Dangerous: between PrepareMigration and FinishMigration both sites may open
// the disk for writing. Only a hypervisor that hands the domain over may use
// that window.
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

// Kind is a storage system that campaigns may use: one line of registration.
type Kind struct {
	Name string // in campaign files and the dataset: "iscsi"
	// New makes the driver for a testbed, and touches nothing. Options that the
	// system does not have are refused.
	New func(Setup) (Driver, error)
	// Datastores says that it is for hypervisors that make the disks themselves
	// (hypervisor.Kind.Datastores), and for no others.
	Datastores bool
	// CheckInventory, unless it is nil, refuses what an inventory says of the system
	// and cannot be. It asks nobody.
	CheckInventory func(*inventory.Inventory) error
}

// Setup is what a driver is made of.
type Setup struct {
	Inventory *inventory.Inventory
	Machines  map[string]remote.Host // by their names in the inventory
	Options   Options
	// OpensFiles says that the hypervisor opens an image file itself, with
	// direct I/O: no block device need be made of it.
	OpensFiles bool
	// Datastores are both sites' hosts where the hypervisor makes the disks itself;
	// otherwise nil.
	Datastores map[Site]hypervisor.Datastores
	// Programs are ours on the machines. Without them no disk is filled.
	Programs Programs
}

// Programs are our programs on a testbed's machines.
type Programs interface {
	// InstallWitness puts the witness on a machine, unless it is there, and
	// ProgramDir is the folder that it is in.
	InstallWitness(ctx context.Context, machine string) error
	ProgramDir(machine string) string
	// RunDir is the folder of a process of ours on a machine, which a teardown of
	// the testbed ends.
	RunDir(machine, name string) string
}

// Options are a cell's settings for its storage system, such as "protocol" of
// "A" for DRBD. What is not given is the system's default.
type Options map[string]string

// Driver is a storage system on real hosts.
type Driver interface {
	System
	driver.Facets
}

// Site is one end of the WAN.
type Site string

// The two sites. The storage server stands at site A.
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

// Spec is a disk to make.
type Spec struct {
	Name      string // of the disk, unique in the testbed: [a-z0-9-], at most 32 characters
	SizeBytes int64
	// MemoryMiB is the guest's memory, which takes room where its disk lies in a
	// datastore; 0 is the inventory's.
	MemoryMiB int `json:",omitempty"`
	// Fill is what the disk holds before anybody writes to it; nothing when it is
	// zero.
	Fill Fill `json:",omitzero"`
	// Path is the one between the sites, as it will be shaped: time-outs follow from it.
	Path limits.Path `json:",omitzero"`
}

// Fill says that a disk is filled where it is made, before anybody opens it: as much
// of its beginning with what follows from the seed, the same on each copy of it, and
// the rest with zeros that are written.
type Fill struct {
	Seed  uint64
	Bytes int64 // a multiple of 1 MiB
}

// Filled says how a disk was filled; zero where it was not.
type Filled struct {
	Bytes int64
	// Took is of the run that ended it, on the slowest of its copies.
	Took time.Duration
}

// Slower is the one of two copies that took longer.
func (f Filled) Slower(other Filled) Filled {
	if other.Took > f.Took || f.Bytes == 0 {
		return other
	}
	return f
}

// Disk is a provisioned disk.
type Disk struct {
	Spec
	// Device is the block device on each site's host, or the image file there
	// when File is set: what the hypervisor opens. It holds until a host is
	// restarted; Provision tells it anew. The sites' need not be alike: never
	// open one site's at the other.
	Device map[Site]string
	File   bool `json:",omitempty"`
	// Base, where it is set, is the raw block device on each site's host over
	// which Device is an image of format qcow2: it has what was written since.
	Base map[Site]string `json:",omitempty"`
	// Datastore, where it is set, is the inventory path of the datastore for each
	// site's host in which the hypervisor makes the disk itself, with the domain:
	// there is no Device.
	Datastore map[Site]string `json:",omitempty"`
	// Copy says that each site has a disk of its own, and how a migration
	// copies one to the other; "" means that both are the same disk.
	Copy hypervisor.Copy `json:",omitempty"`
	// Filled says how Provision filled it. Of a disk in a datastore nobody but the
	// guest can.
	Filled Filled `json:",omitzero"`
}

// At is the disk as the hypervisor of a site opens it.
func (d Disk) At(site Site) hypervisor.Disk {
	at := hypervisor.Disk{Path: d.Device[site], File: d.File, Base: d.Base[site], Datastore: d.Datastore[site], Copy: d.Copy}
	if at.Datastore != "" {
		at.SizeBytes = d.SizeBytes
	}
	return at
}

// System provides disks of one kind.
type System interface {
	// Kind is the name in campaign files and rows: "iscsi".
	Kind() string
	// Provision makes a disk that both sites can reach, usable at home. It is
	// blank, or filled as the specification says.
	Provision(ctx context.Context, spec Spec, home Site) (Disk, error)
	// PrepareMigration makes the disk usable at both sites. It makes sure that
	// what the destination would open is this disk and no other.
	PrepareMigration(ctx context.Context, disk Disk, from, to Site) error
	// FinishMigration ends the migration's window: the disk is usable at
	// home, where the domain now runs, and as it was before elsewhere.
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

// Roomer is a storage system whose disks take room of machines' file systems.
type Roomer interface {
	// CheckRoom refuses a disk for which a machine has too little free space, as
	// Provision would after the programs were installed. What the label's disks of
	// any system take there is as good as free: they are removed before another is
	// made. It changes nothing.
	// Of the disk its size, whether it is filled, and the guest's memory are looked at.
	CheckRoom(ctx context.Context, wanted Spec) error
}

// Diagnoser is a storage system that can tell what has happened to a disk from
// its own state, after anything has failed.
type Diagnoser interface {
	// Diagnose tells the code of the gravest trouble that the disk is in, ""
	// when it shows none or nobody can be asked, and its state in one line. Of
	// the disk only its name need be known. It changes nothing.
	Diagnose(ctx context.Context, disk Disk) (cause.Code, string)
}

// Ender is a storage system that makes something on machines by which others' work goes
// wrong, and which a machine removes by itself when whoever runs the trial is gone for good.
type Ender interface {
	// Ending is a constant text for sh(1) that removes it from a machine, whatever else
	// of the disks is still there; "" where there is nothing. Its argument is the
	// testbed's label.
	Ending(machine string) string
}

// Copy is where a disk's data can be read on a host, without going through the
// guest: a block device, a file, or, where the hypervisor makes the disks itself,
// the datastore.
type Copy struct {
	Name string `json:"name"` // unique for a disk: "site-b", "replica-a", "replica-b", "store"
	Host string `json:"host"` // in the inventory
	Path string `json:"path"`
}

// Copier is a storage system that tells where the copies of a disk are: the
// device of the site that it is open at, and each replica under it. They are
// for reading with direct I/O while nobody writes; what lies in a datastore is
// read through the hypervisor (hypervisor.Datastores). Where a device is not the disk
// as it is, what it has is read into one that is, each time that it is asked.
type Copier interface {
	Copies(ctx context.Context, disk Disk, at Site) ([]Copy, error)
}

// SiteCopy is the disk as a site reads it, on the host of that name.
func SiteCopy(disk Disk, at Site, host string) Copy {
	return Copy{Name: "site-" + string(at), Host: host, Path: disk.Device[at]}
}

// CheckSpec refuses a disk that no system could make.
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
