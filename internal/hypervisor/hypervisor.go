// Package hypervisor says what Heliotrope needs of a hypervisor on one host:
// run the measured guest, and move it live to another host.
//
// Implementations promise that every method is idempotent (run twice, or
// again after a crash half-way, it ends in the same state), that they touch
// only domains whose name carries the testbed's label, and that Teardown needs
// nothing but the inventory.
//
// Dangerous: after a lost connection a migration's outcome is unknown until
// both hosts were asked with List. Never start the guest on the other host
// before that: two running copies on one disk destroy it.
package hypervisor

import (
	"context"
	"errors"
	"time"
)

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
	// Destroy ends the domain at once. A domain that is not there is no error.
	Destroy(ctx context.Context, name string) error
	// Teardown destroys all the testbed's own domains on this host and removes
	// what was written for them.
	Teardown(ctx context.Context) error
}

// Migrator is a hypervisor that moves a running domain to another host.
type Migrator interface {
	// Migrate moves the domain live. progress, when not nil, is called as the
	// stream advances. A domain that already runs at the target, and not at
	// the source, is no error and no migration. When ctx ends before the
	// target has all of the domain, the migration is cancelled and the domain
	// goes on at the source; the error is ctx's. A failed migration is a
	// *MigrationError, and the domain goes on at the source where that could
	// be had.
	Migrate(ctx context.Context, name string, target Hypervisor, progress func(Progress)) (Migration, error)
}

// LabelSeparator stands between a testbed's label and a name. No label holds
// it, so that the testbeds "lab" and "lab-2" never take each other's things.
const LabelSeparator = "."

// Domain is a guest to run.
type Domain struct {
	Name      string // starts with the testbed's label and LabelSeparator
	MemoryMiB int
	VCPUs     int
	Kernel    string // path on the host
	Ramdisk   string // path on the host
	Cmdline   string
	Disk      string // block device on the host; the guest sees it as its first disk
	MAC       string
	// NativeTSC gives the guest the processor's own time stamp counter. Where
	// that is not invariant, a hypervisor else emulates every read of it,
	// which is right when the hosts' counters run at different speeds, and
	// slow always.
	NativeTSC bool
	Bridge    string
}

// Status of a domain, as far as the measurement cares.
type Status string

// The states of a domain.
const (
	Running   Status = "running" // running or waiting for a CPU
	Paused    Status = "paused"
	Suspended Status = "suspended" // for a migration
	Crashed   Status = "crashed"
	ShutDown  Status = "shut-down"
	Leftover  Status = "leftover" // one end of a migration that was cut off
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
	Hypervisor     string // "xen"
	Version        string // "4.17.7"
	Kernel         string // release of the control domain's kernel
	CPUs           int
	MemoryMiB      int
	FreeMemoryMiB  int
	HardwareAssist bool // hardware-assisted paging, which live migration needs
}

// Progress is how far a running migration is.
type Progress struct {
	At        time.Time `json:"at"`
	SentBytes int64     `json:"sent_bytes"` // of the migration stream, over all pre-copy rounds
	// MemoryBytes is the guest's memory: what one round over all of it sends.
	MemoryBytes int64 `json:"memory_bytes"`
}

// Migration is the account of a finished migration.
type Migration struct {
	Started, Finished time.Time // on this machine's clock
	StreamBytes       int64     // sent by the source, as its transport counted them
	Log               string    // the toolstack's own output, both ends
}

// Duration is the total migration time.
func (m Migration) Duration() time.Duration { return m.Finished.Sub(m.Started) }

// MigrationError is a migration that failed: a result, not an accident.
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
