// Package hypervisor says what Heliotrope needs of a hypervisor on one host:
// run the measured guest, and move it live to another host.
//
// Implementations promise that every method is idempotent (run twice, or
// again after a crash half-way, it ends in the same state), that they touch
// only domains whose name carries the testbed's label, that Teardown needs
// nothing but the inventory, and that they give their errors a class (package
// fault) wherever they know better than that a host has failed.
//
// Dangerous: after a lost connection a migration's outcome is unknown until
// both hosts were asked with List. Never start the guest on the other host
// before that: two running copies on one disk destroy it. And paths are those
// of one host: what /dev/sdb is at one site may be somebody else's disk at the
// other.
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
)

// Kind is a hypervisor that testbeds may have: one line of registration.
type Kind struct {
	Name string // in inventories, campaign files and the dataset: "xen"
	// New makes the driver of one host, and touches nothing.
	New func(Setup) (Driver, error)
	// OpensFiles says that it opens an image file itself, with direct I/O;
	// otherwise it wants a block device.
	OpensFiles bool
	// CopiesDisks says that its migrations can copy a private disk.
	CopiesDisks bool
	// Datastores says that it makes the disks itself, in datastores: its drivers
	// are Datastores, and no storage system opens a disk on a host.
	Datastores bool
	// Guest is what the guest's own devices are called under it.
	Guest Devices
}

// Devices are names of devices in a guest.
type Devices struct {
	Disk    string // the disk under test: "/dev/vda"
	NIC     string // the network interface: "eth0"
	Console string // of the kernel: "ttyS0"
}

// Setup is what a driver of one host is made of.
type Setup struct {
	Label   string // of the testbed: our domains' names start with it and LabelSeparator
	Machine inventory.Machine
	Remote  remote.Host        // the machine
	VCenter *inventory.VCenter // that manages the machine; nil when none does
	// GuestDisk is where the guest is said to find the disk under test; "" is where
	// the hypervisor's own Kind.Guest says.
	GuestDisk string
}

// Driver is a hypervisor of a real host.
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
	// Create starts the domain; one of the same name that already runs is left
	// as it is. A half-made one is removed first.
	Create(ctx context.Context, domain Domain) error
	// List lists the testbed's own domains on this host.
	List(ctx context.Context) ([]State, error)
	// Pause stops the domain's virtual CPUs, and Unpause lets them go on.
	Pause(ctx context.Context, name string) error
	Unpause(ctx context.Context, name string) error
	// Destroy ends the domain at once. It returns when the hypervisor has
	// nothing of it any more. A domain that is not there is no error.
	Destroy(ctx context.Context, name string) error
	// Teardown destroys all the testbed's own domains on this host and removes
	// what was written for them.
	Teardown(ctx context.Context) error
}

// Migrator is a hypervisor that moves a running domain to another host.
type Migrator interface {
	// CheckMigration looks whether the target could take the domain now:
	// versions, processors, free memory, and the way to it where that can be
	// told while nobody listens there. It is asked before a campaign and again
	// before each migration.
	CheckMigration(ctx context.Context, domain Domain, target Hypervisor) error
	// Migrate moves a domain live. One that already runs at the target, and not
	// at the source, is no error and no migration. When ctx ends before the
	// target has all of the domain, the migration is cancelled and the domain
	// goes on at the source; the error is ctx's.
	//
	// What the target has opened is compared with what it should have before
	// the domain runs there.
	//
	// A failed migration is a *MigrationError, and the domain goes on at the
	// source where that could be had. What failed before the first byte of the
	// stream is no failed migration but one of the infrastructure.
	Migrate(ctx context.Context, order Order) (Migration, error)
}

// Datastores is a driver of a hypervisor that makes the disks itself, where no
// program of ours runs on the host. Datastores are named by their inventory paths.
type Datastores interface {
	// Host is the name of the host.
	Host() string
	// CheckDatastore looks whether domains of this host can lie in a datastore, and
	// their disks be read from it: a line for each problem. It changes nothing.
	CheckDatastore(ctx context.Context, datastore string) error
	// FreeBytes is how much a datastore has room for when the testbed's own domains
	// are gone.
	FreeBytes(ctx context.Context, datastore string) (int64, error)
	// DomainBytes is how much of its datastore a domain of so much memory may come to
	// take, beside the disk under test.
	DomainBytes(ctx context.Context, memoryMiB int) (int64, error)
	// OpenDisk opens the disk of a domain on this host for reading. Nobody can read
	// it while the domain runs: it is switched off, and stays that way. A relocation
	// that runs is an error.
	OpenDisk(ctx context.Context, name string) (DiskFile, error)
}

// Mounter is a driver whose host can be given a datastore for a trial. Each storage
// system has one of its own, whose name begins with the testbed's label.
type Mounter interface {
	Datastores
	Maker
	// CheckMount looks whether the datastore is there or could be made: a line for
	// each problem. It changes nothing, so what only the making shows is not found.
	CheckMount(ctx context.Context, system string, of inventory.Mount) error
	// Mount makes the datastore on this host and on another of the same kind, and
	// gives its inventory path. One that is there is left as it is; one of that name
	// that is not ours is refused.
	Mount(ctx context.Context, system string, of inventory.Mount, other Datastores) (datastore string, err error)
	// Unmount takes it from both hosts again. One that is not there is no error, and
	// one that domains use is.
	Unmount(ctx context.Context, system string, of inventory.Mount, other Datastores) error
	// Mounted is the inventory path of the datastore; "" when it is not there.
	Mounted(ctx context.Context, system string) (datastore string, err error)
}

// Maker is a driver that makes more than domains, which no command on its host
// would list.
type Maker interface {
	// Made lists what of the testbed's is there beside domains, a line for each
	// thing: "datastore lab.vm".
	Made(ctx context.Context) ([]string, error)
}

// Ender is a driver whose host can end a domain by itself, when whoever runs it is
// gone for good.
type Ender interface {
	// Ending is a constant text for sh(1) that ends the domains of a UUID that have
	// the testbed's label: its arguments are the label and the UUID.
	Ending() string
}

// Operator is a driver that runs commands in its domains itself, where nobody else
// reaches into them.
type Operator interface {
	// Inside is the domain of that name, on whatever host it is, as a machine that runs
	// commands and does nothing else.
	Inside(name string, login inventory.Operations) remote.Host
}

// DiskFile is a disk that is read through its hypervisor: from its beginning to
// its end is fastest, one reader at a time.
type DiskFile interface {
	io.ReaderAt
	io.Closer
}

// LabelSeparator stands between a testbed's label and a name. No label holds
// it, so that the testbeds "lab" and "lab-2" never take each other's things.
const LabelSeparator = "."

// Domain is a guest to run on one host: its paths are that host's.
type Domain struct {
	Name      string // starts with the testbed's label and LabelSeparator
	MemoryMiB int
	VCPUs     int
	Kernel    string // path on the host
	Ramdisk   string // path on the host
	Cmdline   string
	Disk      Disk // the guest sees it as its first disk, or where it lies in a datastore as its last; none when it is empty
	MAC       string
	// NativeTSC gives the guest the processor's own time stamp counter. Where
	// that is not invariant, a hypervisor otherwise emulates every read of it:
	// correct when the hosts' counters differ, always slow.
	NativeTSC bool
	Bridge    string
}

// UUID is the domain's identity on every host: it follows from the name, so that
// a domain is known again after a migration, and told from a stranger.
func (d Domain) UUID() uuid.UUID { return UUID(d.Name) }

// UUID is the identity of a domain of that name (RFC 9562, version 5).
func UUID(name string) uuid.UUID { return uuid.NewSHA1(namespace, []byte(name)) }

// namespace is that of our domains' names.
var namespace = uuid.MustParse("6f1dbb0e-2a9c-5c0b-9b5e-5b1f7f1d4c11")

// Disk is a domain's disk on one host.
type Disk struct {
	// Path is a block device, or an image file that the hypervisor opens
	// itself, with direct I/O. It is no symbolic link: a host's kernel names
	// what is open by this path.
	Path string
	File bool // Path is a file
	// Base, when not "", is a raw block device that nobody writes, and Path then
	// an image of format qcow2 over it: it has what was written since, and all
	// else is read from the base. "" means that Path is raw.
	Base string
	// Datastore, when not "", is the inventory path of the datastore in which the
	// hypervisor makes the disk as it creates the domain, blank and of SizeBytes;
	// all else of the domain lies there too. Path is "" then.
	Datastore string
	SizeBytes int64
	// Copy says that the disk is private to its host, and that a migration
	// copies it to the target's own; "" means that both hosts have one disk.
	Copy Copy
}

// Copy is how a migration copies a private disk.
type Copy string

// The ways to copy a private disk.
const (
	FullCopy        Copy = "full"        // all of it, behind the domain's writes: it may never catch up
	SynchronousCopy Copy = "synchronous" // all of it, and each write waits for the copy meanwhile: it always does
	IncrementalCopy Copy = "incremental" // what was written since the Base that both hosts have, behind the domain's writes
)

// Mode is how a migration hands the memory over.
type Mode string

// The modes of a migration.
const (
	PreCopy  Mode = "precopy"  // rounds of dirty memory, then a stop
	PostCopy Mode = "postcopy" // one round, a stop, and the rest while the domain runs at the target
)

// Order is a migration to make.
type Order struct {
	Domain Domain // as it runs at the source
	Target Hypervisor
	// AtTarget is the same domain with the target's own paths.
	AtTarget Domain
	Mode     Mode // PreCopy when empty
	// AutoConverge slows the domain's processors down when it dirties memory
	// faster than the path carries it.
	AutoConverge bool
	// BandwidthMiBPerSecond limits the stream; 0 is no limit of ours.
	BandwidthMiBPerSecond int
	// MaxDowntime is how long a stop the hypervisor may plan; 0 is its own
	// default.
	MaxDowntime time.Duration
	// Settle is how long both hosts may take to come to rest after a migration that was
	// cancelled: what follows its domain in post-copy still has to come. A driver may
	// wait longer.
	Settle time.Duration
	// Progress, when not nil, is called as the stream advances.
	Progress func(Progress)
}

// Status of a domain, as far as the measurement cares.
type Status string

// The states of a domain.
const (
	Running  Status = "running" // running or waiting for a CPU
	Paused   Status = "paused"
	Crashed  Status = "crashed"
	ShutDown Status = "shut-down" // by itself, or suspended for a migration
	Leftover Status = "leftover"  // one end of a migration that was cut off
	Dying    Status = "dying"     // destroyed, and something still holds parts of it
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

// Progress is how far a running migration is. What a hypervisor does not tell
// is nil.
type Progress struct {
	At        time.Time `json:"at"`
	SentBytes int64     `json:"sent_bytes"` // of the migration stream, over all pre-copy rounds
	// MemoryBytes is the guest's memory: what one round over all of it sends.
	MemoryBytes int64 `json:"memory_bytes"`
	// Phase is what the migration is at, in the hypervisor's own word.
	Phase               string `json:"phase,omitempty"`
	Round               *int64 `json:"round,omitempty"` // over the memory, from 1
	RemainingBytes      *int64 `json:"remaining_bytes,omitempty"`
	DirtyBytesPerSecond *int64 `json:"dirty_bytes_per_second,omitempty"`
	// DiskSentBytes and DiskBytes are of the copy of a private disk.
	DiskSentBytes *int64 `json:"disk_sent_bytes,omitempty"`
	DiskBytes     *int64 `json:"disk_bytes,omitempty"`
}

// Migration is the account of a finished migration. What a hypervisor does not
// tell is nil.
type Migration struct {
	// Started is when the toolstack was told to migrate, which makes the target ready
	// first, and Finished when the source had let go: total migration time as Clark et
	// al. have it (Live Migration of Virtual Machines, NSDI 2005, stages 0 to 5). On
	// this machine's clock. Finished is zero when nobody told when that was, and Started
	// then the latest time before which the migration did not begin; zero, too, when
	// even that is not known.
	Started, Finished time.Time
	// Phases are the parts that the hypervisor tells, as they began; the first begins
	// with Started. They are known to about 0.1 s.
	Phases      []Phase
	StreamBytes int64  // sent by the source, as its transport counted them
	Log         string // the toolstack's own output, both ends
	// Downtime is how long the domain ran nowhere, as the hypervisor tells it.
	Downtime *time.Duration
	Rounds   *int64
	// DiskBytes were sent for the copy of a private disk.
	DiskBytes *int64
}

// Duration is the total migration time; 0 when it is not known.
func (m Migration) Duration() time.Duration {
	if m.Finished.IsZero() {
		return 0
	}
	return m.Finished.Sub(m.Started)
}

// Phase is a part of a migration: it lasts until the next one begins, and the last
// until the migration has finished.
type Phase struct {
	Name PhaseName `json:"name"`
	At   time.Time `json:"at"`
}

// PhaseName is what a migration does meanwhile.
type PhaseName string

// The phases. A migration has those that its way and its hypervisor have.
const (
	Preparing  PhaseName = "prepare"  // the target makes ready for the domain
	Copying    PhaseName = "copy"     // a private disk is copied, the memory waits
	Converging PhaseName = "converge" // the copy has all of the disk and keeps up with it, while the memory is sent
	Sending    PhaseName = "memory"   // the memory is sent, and no disk
	Switching  PhaseName = "switch"   // the domain stops, and what is left of it is sent
	Fetching   PhaseName = "postcopy" // the domain runs at the target, and the rest of its memory is sent
	Releasing  PhaseName = "release"  // the domain runs at the target, and the source lets go
)

// Took is how long a phase took; nil when there was none.
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

// MigrationError is a migration that failed after its stream had begun: a
// result, not an accident.
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

// ErrBegun says that a migration did not fail by itself, and that the hypervisor had
// begun it: what it measured is lost. It is for hypervisors that tell no bytes.
var ErrBegun = errors.New("the migration had begun")

// ErrUnknown says that a migration has ended in some way, and a host that could
// have the domain cannot be asked. It is the infrastructure's, also when the
// migration was cancelled.
var ErrUnknown = errors.New("where the domain is, is not known: ask both hosts before it is started anywhere")
