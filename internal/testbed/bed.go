package testbed

import (
	"context"
	"time"

	"heliotrope/internal/clock"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/inventory"
	"heliotrope/internal/ledger"
	"heliotrope/internal/load/engine"
	"heliotrope/internal/record"
	"heliotrope/internal/storage"
	"heliotrope/internal/trial"
	"heliotrope/internal/wan"
)

// Bed is a testbed as a trial uses it. Testbed implements it for real hosts, and
// package simulated for a model.
type Bed interface {
	Kind() inventory.Kind
	// Name is the testbed's label.
	Name() string
	// Now is the controller's time; a simulated testbed has a time of its own.
	Now() time.Time
	// Machines lists the testbed's machines, the measured guest last, with what
	// each can do for a trial.
	Machines() []trial.Machine
	Facts(ctx context.Context) (Facts, error)
	// Clock measures how far a machine's clock is from ours.
	Clock(ctx context.Context, name string) (clock.Offset, error)

	Hypervisor(site storage.Site) Hypervisor
	// Storage is the storage system of that kind, with a cell's options.
	Storage(kind string, options storage.Options) (storage.System, error)
	WAN() WAN
	// Certify measures the path between the sites in both directions, while
	// nothing else uses it.
	Certify(ctx context.Context, ref trial.Ref) (wan.Certificate, error)
	// StartGuest starts the measured guest at a site and waits until it answers.
	StartGuest(ctx context.Context, site storage.Site, guest Guest) (hypervisor.Domain, error)

	// LoadConfig is the trial's workload, which is also needed to read the
	// load's log.
	LoadConfig(ref trial.Ref) (engine.Config, error)
	// Load is the process in the guest that runs that workload; it is controlled
	// from here.
	Load(ref trial.Ref) (record.Recording, error)
	// CheckMigration checks whether the target could take the guest now, with
	// this disk.
	CheckMigration(ctx context.Context, guest Guest, from storage.Site) error
	// GuestAt is the measured guest as it runs, or would run, at a site.
	GuestAt(site storage.Site, guest Guest) hypervisor.Domain
	// Witness is the process that watches on a machine through a trial. It is
	// controlled from here; see package witness.
	Witness(ref trial.Ref, machine string) (record.Recording, error)
	// CheckLedger reads the ledger back from a copy of the disk. acked is the
	// newest record of whose acknowledgement the witness outside the guest was
	// told.
	CheckLedger(ctx context.Context, ref trial.Ref, copied storage.Copy, acked uint64) (ledger.Report, error)
	// Evidence copies what may explain a failure into a local folder: consoles,
	// kernel logs, logs of the toolstack and of DRBD, the qdiscs. What cannot be
	// copied is noted in the folder and is no error.
	Evidence(ctx context.Context, folder string) error

	Snapshot(ctx context.Context) (Snapshot, error)
	Teardown(ctx context.Context) error
	Close() error
}

// Guest is the measured guest of an attempt.
type Guest struct {
	Disk      storage.Disk
	MemoryMiB int // 0 means the inventory's default
	VCPUs     int // 0 means one
}

// GuestName is the measured guest's name among a testbed's machines.
const GuestName = trial.Guest

// Hypervisor is the hypervisor of a site, which can also migrate a domain.
type Hypervisor interface {
	hypervisor.Hypervisor
	hypervisor.Migrator
}

// WAN is the path between the sites, which one owner holds at a time; see
// wan.Shaper.
type WAN interface {
	Shape(ctx context.Context, owner string, profile wan.Profile, lease time.Duration) error
	Renew(ctx context.Context, owner string, profile wan.Profile, lease time.Duration) error
	Clear(ctx context.Context, owner string) error
}

// Facts say what a testbed is made of; they go into the provenance of a trial.
type Facts struct {
	Hosts []HostFacts `json:"hosts"`
	// Versions of DRBD, fio, QEMU and others, by name, as far as they could be
	// asked for.
	Versions       map[string]string `json:"versions"`
	GuestMemoryMiB int               `json:"guest_memory_mib"` // the inventory's default
	// FreeMemoryMiB is the smaller of the two hypervisors' free memory for
	// guests.
	FreeMemoryMiB int `json:"free_memory_mib"`
}

// HostFacts say what one machine is.
type HostFacts struct {
	Name string `json:"name"`
	// Site is "a" or "b" for the host that runs the guest at that site, and End
	// is "a" or "b" for the machine that is that end of the WAN.
	Site string `json:"site,omitempty"`
	End  string `json:"end,omitempty"`
	// Lacks are the capabilities that the machine does not have, without Worker.
	Lacks      []inventory.Capability `json:"lacks,omitempty"`
	Hypervisor string                 `json:"hypervisor,omitempty"` // "xen 4.17.7"
	Kernel     string                 `json:"kernel"`
	CPUs       int                    `json:"cpus"`
	MemoryMiB  int                    `json:"memory_mib"`
}

// Sites are the names of the hosts that run the guest, site A's first; none when
// they are not known.
func (f Facts) Sites() []string { return f.placed(func(h HostFacts) string { return h.Site }) }

// Ends are the names of the WAN's ends, A's first.
func (f Facts) Ends() []string { return f.placed(func(h HostFacts) string { return h.End }) }

// placed are the names of the hosts at site A and site B. When no host has a
// place, they are the first two.
func (f Facts) placed(at func(HostFacts) string) []string {
	var names []string
	for _, site := range []storage.Site{storage.SiteA, storage.SiteB} {
		for _, host := range f.Hosts {
			if at(host) == string(site) {
				names = append(names, host.Name)
			}
		}
	}
	if len(names) > 0 || len(f.Hosts) < 2 {
		return names
	}
	return []string{f.Hosts[0].Name, f.Hosts[1].Name}
}
