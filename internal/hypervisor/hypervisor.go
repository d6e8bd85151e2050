// Package hypervisor defines what Heliotrope needs of a hypervisor on one host: run the
// measured guest, and live-migrate it to another host.
//
// Implementations promise that
//   - every method is idempotent: called twice, or again after a crash half-way, it ends in the same state;
//   - they touch only domains whose name carries the testbed's label;
//   - Teardown needs nothing but the inventory;
//   - they give an error a class (package fault) wherever they know better than "a host has failed".
//
// Dangerous: after a lost connection a migration's outcome is unknown until List was
// called on both hosts. Never start the guest on the other host before that: two running
// copies of it on one disk destroy the disk's contents. A path is valid on one host
// only: /dev/sdb of one site may be somebody else's disk at the other.
package hypervisor

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/google/uuid"

	"heliotrope/internal/driver"
	"heliotrope/internal/inventory"
	"heliotrope/internal/remote"
	"heliotrope/internal/trial"
)

// Kind is a kind of hypervisor that a testbed may have. Package drivers registers each
// with one line.
type Kind struct {
	Name string // in inventories, campaign files and the dataset: "xen"
	// New makes the driver of one host, and touches nothing.
	New func(Setup) (Driver, error)
	// OpensFiles says that the hypervisor opens an image file itself, with direct I/O;
	// otherwise it needs a block device.
	OpensFiles bool
	// CopiesDisks says that the hypervisor's migrations can copy a private disk.
	CopiesDisks bool
	// Datastores says that the hypervisor makes the disks itself, in datastores: its
	// drivers implement Datastores, and no storage system opens a disk on a host.
	Datastores bool
	// Guest has the names that the guest gives its own devices under this hypervisor.
	Guest Devices
}

// Devices are names of devices in a guest.
type Devices struct {
	Disk    string // the disk under test: "/dev/vda"
	NIC     string // the network interface: "eth0"
	Console string // of the kernel: "ttyS0"
}

// Setup is what the driver of one host is made from.
type Setup struct {
	Label   string // the testbed's: the names of our domains start with it and LabelSeparator
	Machine inventory.Machine
	Remote  remote.Host        // the machine
	VCenter *inventory.VCenter // the vCenter that manages the machine; nil when none does
	// GuestDisk is the inventory's path of the disk under test in the guest; "" means
	// the path in the hypervisor's Kind.Guest.
	GuestDisk string
}

// Driver is the driver of a hypervisor on real hosts.
type Driver interface {
	Hypervisor
	Migrator
	driver.Facets
	// Watcher is the name under which the witness's program knows how to watch
	// this hypervisor's domains.
	Watcher() string
}

// Hypervisor drives one host.
type Hypervisor interface {
	// Host is the name of the host.
	Host() string
	// Info asks the host what it is.
	Info(ctx context.Context) (HostInfo, error)
	// Create starts the domain. A domain of the same name that already runs is left as
	// it is; a half-made one is removed first.
	Create(ctx context.Context, domain Domain) error
	// List lists the testbed's own domains on this host.
	List(ctx context.Context) ([]State, error)
	// Pause stops the domain's virtual CPUs, and Unpause lets them go on.
	Pause(ctx context.Context, name string) error
	Unpause(ctx context.Context, name string) error
	// Destroy ends the domain at once. It returns when the hypervisor holds nothing of
	// the domain any more. A domain that is not there is no error.
	Destroy(ctx context.Context, name string) error
	// Teardown destroys all the testbed's own domains on this host and removes the files
	// that were written for them.
	Teardown(ctx context.Context) error
}

// Migrator is a hypervisor that moves a running domain to another host.
type Migrator interface {
	// CheckMigration checks whether the target could take the domain now: versions,
	// processors, free memory, and the network path to the target as far as that can be
	// tested while nothing listens there. It is called before a campaign and again
	// before each migration.
	CheckMigration(ctx context.Context, domain Domain, target Hypervisor) error
	// Migrate moves a domain live. When the domain already runs at the target and not at
	// the source, that is no error, and nothing is migrated. When ctx ends before the
	// target has all of the domain, the migration is cancelled, the domain goes on at
	// the source, and the error is ctx's.
	//
	// Before the domain runs at the target, the devices and files that the target has
	// opened are compared with those that it should have opened.
	//
	// A failed migration is a *MigrationError; the domain goes on at the source where
	// that was possible. A failure before the first byte of the stream is no failed
	// migration but an error of the infrastructure.
	Migrate(ctx context.Context, order Order) (Migration, error)
}

// Datastores is a driver of a hypervisor that makes the disks itself and on whose hosts
// no program of ours runs. Datastores are named by their inventory paths.
type Datastores interface {
	// Host is the name of the host.
	Host() string
	// CheckDatastore checks whether domains of this host can be placed in a datastore,
	// and their disks be read from it. The error has a line for each problem. It changes
	// nothing.
	CheckDatastore(ctx context.Context, datastore string) error
	// FreeBytes is how much room a datastore will have once the testbed's own domains
	// are gone.
	FreeBytes(ctx context.Context, datastore string) (int64, error)
	// DomainBytes is how much of its datastore a domain with that much memory may come
	// to take, beside the disk under test.
	DomainBytes(ctx context.Context, memoryMiB int) (int64, error)
	// OpenDisk opens the disk of a domain on this host for reading. Nobody can read the
	// disk while the domain runs: OpenDisk powers the domain off and leaves it off. A
	// running relocation of the domain is an error.
	OpenDisk(ctx context.Context, name string) (DiskFile, error)
}

// Mounter is a driver that can give its host a datastore for a trial. Each storage
// system has a datastore of its own, whose name begins with the testbed's label.
type Mounter interface {
	Datastores
	Maker
	// CheckMount checks whether the datastore exists or could be made. The error has a
	// line for each problem. It changes nothing, so it cannot find a problem that shows
	// only when the datastore is made.
	CheckMount(ctx context.Context, system string, of inventory.Mount) error
	// Mount makes the datastore on this host and on another of the same kind, and
	// returns its inventory path. An existing datastore of ours is left as it is; one
	// with that name that is not ours is refused.
	Mount(ctx context.Context, system string, of inventory.Mount, other Datastores) (datastore string, err error)
	// Unmount removes the datastore from both hosts. A datastore that is not there is no
	// error; one that domains use is an error.
	Unmount(ctx context.Context, system string, of inventory.Mount, other Datastores) error
	// Mounted is the inventory path of the datastore; "" when it is not there.
	Mounted(ctx context.Context, system string) (datastore string, err error)
}

// Maker is a driver that makes things other than domains, which no command on its host
// would list.
type Maker interface {
	// Made lists what exists of the testbed beside domains, a line for each thing:
	// "datastore lab.vm".
	Made(ctx context.Context) ([]string, error)
}

// Ender is a driver whose host can end a domain by itself when the controller is gone
// for good.
type Ender interface {
	// Ending is a constant text for sh(1) that ends the domains that have a given UUID
	// and the testbed's label: its arguments are the label and the UUID.
	Ending() string
}

// Operator is a driver that runs commands in its domains itself, because nothing else
// reaches into them.
type Operator interface {
	// Inside is the domain of that name, on whichever host it runs, as a machine that
	// can run commands and do nothing else.
	Inside(name string, login inventory.Operations) remote.Host
}

// DiskFile is a disk that is read through its hypervisor. Reading it sequentially, with
// one reader at a time, is fastest.
type DiskFile interface {
	io.ReaderAt
	io.Closer
}

// LabelSeparator stands between a testbed's label and a name. No label contains it, so
// the testbeds "lab" and "lab-2" never take each other's things.
const LabelSeparator = "."

// GuestEnd follows the label in the name of a testbed's guest. That is the only name by which
// a log on a host is recognised as ours after its domain has gone.
const GuestEnd = LabelSeparator + trial.Guest

// Domain is a guest to run on one host: its paths are that host's own.
type Domain struct {
	Name      string // starts with the testbed's label and LabelSeparator
	MemoryMiB int
	VCPUs     int
	Kernel    string // path on the host
	Ramdisk   string // path on the host
	Cmdline   string
	Disk      Disk // the guest's first disk, or its last one when the disk lies in a datastore; the zero value means no disk
	MAC       string
	// NativeTSC gives the guest direct access to the processor's time stamp counter
	// (TSC). Where the TSC is not invariant, the hypervisor otherwise emulates every
	// read of it: correct when the hosts' counters differ, always slow.
	NativeTSC bool
	Bridge    string
}

// UUID is the domain's identity on every host. It is derived from the name, so a domain
// is recognised after a migration and distinguished from a foreign one.
func (d Domain) UUID() uuid.UUID { return UUID(d.Name) }

// UUID is the identity of a domain of that name: a name-based UUID (RFC 9562, version
// 5).
func UUID(name string) uuid.UUID { return uuid.NewSHA1(namespace, []byte(name)) }

// namespace is the UUID namespace of our domains' names.
var namespace = uuid.MustParse("6f1dbb0e-2a9c-5c0b-9b5e-5b1f7f1d4c11")

// Disk is a domain's disk on one host.
type Disk struct {
	// Path is a block device, or an image file that the hypervisor opens itself, with
	// direct I/O. It must be no symbolic link: a host's kernel names open files by their
	// real path.
	Path string
	File bool // Path is a file
	// Base, when not "", is a raw block device that nobody writes to. Path is then a
	// qcow2 image with this backing device: the image holds what was written since, and
	// everything else is read from the base. "" means that Path is raw.
	Base string
	// Datastore, when not "", is the inventory path of the datastore in which the
	// hypervisor makes the disk when it creates the domain, blank and of SizeBytes. The
	// domain's other files lie there too, and Path is "".
	Datastore string
	SizeBytes int64
	// Copy says that the disk is private to its host, and how a migration copies it to
	// the target's own disk; "" means that both hosts share one disk.
	Copy Copy
}

// Copy is how a migration copies a private disk.
type Copy string

// The ways to copy a private disk.
const (
	FullCopy        Copy = "full"        // all of it, behind the domain's writes: the copy may never catch up
	SynchronousCopy Copy = "synchronous" // all of it, and each write waits for the copy meanwhile: the copy always catches up
	IncrementalCopy Copy = "incremental" // what was written since the Base that both hosts have, behind the domain's writes
)

// Mode is how a migration transfers the memory.
type Mode string

// The modes of a migration.
const (
	PreCopy  Mode = "precopy"  // rounds of dirty memory, then stop-and-copy
	PostCopy Mode = "postcopy" // one round, a stop, and the rest while the domain runs at the target
)

// Order describes a migration to make.
type Order struct {
	Domain Domain // as it runs at the source
	Target Hypervisor
	// AtTarget is the same domain with the target's own paths.
	AtTarget Domain
	Mode     Mode // PreCopy when empty
	// AutoConverge slows the domain's processors down when the domain dirties memory
	// faster than the path can send it.
	AutoConverge bool
	// BandwidthMiBPerSecond limits the stream; 0 means that we set no limit.
	BandwidthMiBPerSecond int
	// MaxDowntime is the longest downtime that the hypervisor may plan; 0 means the
	// hypervisor's own default.
	MaxDowntime time.Duration
	// Settle is how long both hosts may take to come to rest after a cancelled
	// migration: in post-copy, the rest of the memory still has to arrive. A driver may
	// wait longer.
	Settle time.Duration
	// Progress, when not nil, is called as the stream advances.
	Progress func(Progress)
}

// Status is the status of a domain, as far as the measurement needs it.
type Status string

// The states of a domain.
const (
	Running  Status = "running" // running or waiting for a CPU
	Paused   Status = "paused"
	Crashed  Status = "crashed"
	ShutDown Status = "shut-down" // the domain shut itself down, or is suspended for a migration
	Leftover Status = "leftover"  // what one end of an interrupted migration left behind
	Dying    Status = "dying"     // destroyed, but something still holds parts of it
)

// State is one domain on one host.
type State struct {
	Name      string
	ID        int
	Status    Status
	MemoryMiB int
	CPUTime   time.Duration
}

// HostInfo says what a host is; it goes into the provenance of a trial.
type HostInfo struct {
	Hypervisor    string // the driver's name
	Version       string // "4.17.7"
	Kernel        string // release of the host's or the control domain's kernel
	CPUs          int
	MemoryMiB     int
	FreeMemoryMiB int
}

// Progress is how far a running migration is. Values that a hypervisor does not report
// are nil.
type Progress struct {
	At        time.Time `json:"at"`
	SentBytes int64     `json:"sent_bytes"` // of the migration stream, over all pre-copy rounds
	// MemoryBytes is the size of the guest's memory: what one round over all of it
	// sends.
	MemoryBytes int64 `json:"memory_bytes"`
	// Phase is the migration's current phase, in the hypervisor's own word.
	Phase               string `json:"phase,omitempty"`
	Round               *int64 `json:"round,omitempty"` // over the memory, from 1
	RemainingBytes      *int64 `json:"remaining_bytes,omitempty"`
	DirtyBytesPerSecond *int64 `json:"dirty_bytes_per_second,omitempty"`
	// DiskSentBytes and DiskBytes describe the copy of a private disk.
	DiskSentBytes *int64 `json:"disk_sent_bytes,omitempty"`
	DiskBytes     *int64 `json:"disk_bytes,omitempty"`
}

// Migration is the account of a finished migration. Values that a hypervisor does not
// report are nil.
type Migration struct {
	// Started is when the toolstack was told to migrate, before it prepares the target.
	// Finished is when the source had released the domain. Both are on this machine's
	// clock, and the time between them is the total migration time as Clark et al.
	// define it (Live Migration of Virtual Machines, NSDI 2005, stages 0 to 5). When
	// nobody reported the end, Finished is zero, and Started is the latest time before
	// which the migration did not begin; Started is zero too when not even that is
	// known.
	Started, Finished time.Time
	// Phases are the phases that the hypervisor reports, in the order in which they
	// began. The first begins at Started. Their times are known to about 0.1 s.
	Phases      []Phase
	StreamBytes int64  // sent by the source, as its transport counted them
	Log         string // the toolstack's own output, both ends
	// Downtime is how long the domain ran on neither host, as the hypervisor reports it.
	Downtime *time.Duration
	Rounds   *int64
	// DiskBytes is how many bytes were sent for the copy of a private disk.
	DiskBytes *int64
}

// Duration is the total migration time; 0 when it is not known.
func (m Migration) Duration() time.Duration {
	if m.Finished.IsZero() {
		return 0
	}
	return m.Finished.Sub(m.Started)
}

// Phase is a phase of a migration. It lasts until the next phase begins, the last one
// until the migration has finished.
type Phase struct {
	Name PhaseName `json:"name"`
	At   time.Time `json:"at"`
}

// PhaseName says what a migration does during a phase.
type PhaseName string

// The phases. Which of them a migration has depends on its mode and its hypervisor.
const (
	Preparing  PhaseName = "prepare"  // the target prepares for the domain
	Copying    PhaseName = "copy"     // a private disk is copied, and no memory is sent yet
	Converging PhaseName = "converge" // the copy has all of the disk and follows its writes, while the memory is sent
	Sending    PhaseName = "memory"   // the memory is sent, and no disk is copied
	Switching  PhaseName = "switch"   // the domain stops, and the rest of it is sent
	Fetching   PhaseName = "postcopy" // the domain runs at the target, and the rest of its memory is sent
	Releasing  PhaseName = "release"  // the domain runs at the target, and the source releases it
)

// Took is how long a phase took; nil when the migration had no such phase.
func (m Migration) Took(name PhaseName) *time.Duration {
	for i, phase := range m.Phases {
		if phase.Name != name {
			continue
		}
		end := m.Finished
		if i+1 < len(m.Phases) {
			end = m.Phases[i+1].At
		}
		took := end.Sub(phase.At)
		return &took
	}
	return nil
}

// MigrationError is a migration that failed after its stream had begun: a result of the
// measurement, not an accident.
type MigrationError struct {
	Name     string
	From, To string
	Log      string
	Err      error
}

func (e *MigrationError) Error() string {
	return "migrate " + e.Name + " from " + e.From + " to " + e.To + ": " + e.Err.Error()
}

func (e *MigrationError) Unwrap() error { return e.Err }

// ErrNotFound says that a host has no domain of that name.
var ErrNotFound = errors.New("no such domain")

// ErrBegun says that the hypervisor had begun a migration, or may have, and that the
// error is not the migration's own failure: what was measured is lost. It is for
// hypervisors that report no bytes sent.
var ErrBegun = errors.New("the migration had begun")

// ErrUnknown says that a migration has ended in an unknown way, and that a host which
// could have the domain cannot be asked. Its class is that of the infrastructure, also
// when the migration was cancelled.
var ErrUnknown = errors.New("where the domain is, is not known: ask both hosts before it is started anywhere")
