// Package campaign is the campaign file: what it may contain, what is wrong with it, and the plan
// that follows from it.
//
// It is pure: it uses no host and no clock, and the same file and seed give the same plan on
// every machine and with every version of Go.
package campaign

import (
	"cmp"
	"time"

	"heliotrope/internal/load/spec"
)

// Version of the file format.
const Version = 1

// The kinds of testbeds that a campaign may ask for.
const (
	TestbedEmulated  = "emulated"  // the testbed that `heliotrope lab` runs; it is started if it is not running
	TestbedHosts     = "hosts"     // the inventories that the file names
	TestbedSimulated = "simulated" // a model: for tests and dry runs, never a measurement
)

// Orders of trials.
const (
	OrderBlocks     = "blocks"     // randomised complete blocks: each repetition runs every cell once, shuffled
	OrderSequential = "sequential" // cell by cell, as the matrix is written
)

// Directions of the migrations.
const (
	Outbound = "outbound" // from site A, where the storage server is, to site B
	Return   = "return"   // from site B to site A
	Balanced = "balanced" // each cell as often in one direction as in the other, give or take one
)

// Hypervisors.
const (
	Xen     = "xen"
	KVM     = "kvm"
	VSphere = "vsphere"
)

// Storage systems that not every hypervisor supports.
const (
	DRBD   = "drbd"
	Mirror = "mirror" // a private disk at each site; the hypervisor copies it during the migration
	Local  = "local"  // a private datastore on each site's host; the hypervisor moves the whole guest between them
)

// The content of the disk before the load.
const (
	PreconditionFill = "fill" // bytes that follow from the seed, the same on every copy
	PreconditionNone = "none"
)

// How a migration copies a mirror's disk.
const (
	FullCopy        = "full"        // all of it, asynchronously to the guest's writes
	SynchronousCopy = "synchronous" // all of it, and meanwhile each write of the guest waits for the other site
	IncrementalCopy = "incremental" // what was written since both sites had the same content, asynchronously to the guest's writes
)

// How a migration transfers the guest's memory.
const (
	PreCopy  = "precopy"  // in rounds while the guest runs at its source; the rest during a stop
	PostCopy = "postcopy" // one round and a stop; the rest while the guest runs at the other site
)

// Controls: cells that should show nothing, or a known effect.
const (
	ControlNone  = "none"  // no migration: the load runs as if there were one
	ControlLAN   = "lan"   // a migration without a WAN
	ControlPause = "pause" // the hypervisor pauses the guest for a known time instead
)

// Spec is a campaign of Heliotrope: which trials are run, where, and how long they measure.
type Spec struct {
	// Version of the file format: 1.
	Version int `yaml:"version" jsonschema:"enum=1"`
	// Name of the campaign: part of workflow IDs and of the dataset's folders.
	Name string `yaml:"name" jsonschema:"pattern=^[a-z0-9][a-z0-9-]{0\\,39}$"`
	// What the campaign is for, in your own words.
	Description string `yaml:"description,omitempty"`
	// Seed of the trials' order and of their loads: the same file gives the same plan everywhere.
	Seed int `yaml:"seed"`
	// Where the trials run. emulated: the testbed of `heliotrope lab`, started when it does not run. hosts: the
	// testbeds of the inventories. simulated: a model, for tests and dry runs, never a measurement.
	Testbed string `yaml:"testbed" jsonschema:"enum=emulated,enum=hosts,enum=simulated"`
	// Inventory files, each of them a testbed that runs one trial at a time; relative paths start at this file's
	// folder. For testbed: hosts.
	Inventories []string `yaml:"inventories,omitempty" jsonschema:"minItems=1,uniqueItems=true"`
	// How many simulated testbeds run side by side: 1 by default. For testbed: simulated.
	Lanes int `yaml:"lanes,omitempty" jsonschema:"minimum=1,maximum=256"`
	// The factors, each with its levels. The cells of the campaign are all combinations.
	Matrix Matrix `yaml:"matrix"`
	// Cells of the matrix that are not run: those that match any of these.
	Exclude []Match `yaml:"exclude,omitempty"`
	// Cells that are run beside those of the matrix. A factor that is not named has the matrix's level, which must
	// then be its only one.
	Include []Match `yaml:"include,omitempty"`
	// Which way the guests migrate: outbound (the default), return, or balanced: each cell as often one way as the other,
	// but for one.
	Directions string `yaml:"directions,omitempty" jsonschema:"enum=outbound,enum=return,enum=balanced"`
	// Negative controls: cells that should show nothing, or a pause of known length. They are run in every block.
	Controls []Control `yaml:"controls,omitempty"`
	// A cell that is run again and again through the campaign, to see whether the testbed drifts.
	Sentinel *Sentinel `yaml:"sentinel,omitempty"`
	// Ends the campaign as soon as its results are precise enough. Then repetitions is not given.
	Stop *Stop `yaml:"stop,omitempty"`
	// The campaign's own access specifications, beside the well-known ones.
	Access []AccessSpec `yaml:"access_specifications,omitempty"`
	// How often each cell is run. With stop, its max is.
	Repetitions int `yaml:"repetitions,omitempty" jsonschema:"minimum=1"`
	// Order of the trials. blocks (the default): each repetition runs every cell once, shuffled. sequential: cell by
	// cell, as the matrix is written.
	Order string `yaml:"order,omitempty" jsonschema:"enum=blocks,enum=sequential"`
	// How long the measuring phases last.
	Phases Phases `yaml:"phases,omitempty"`
	// When the load counts as steady, which ends the warm-up.
	SteadyState SteadyState `yaml:"steady_state,omitempty"`
	// When the load counts as back after a stall.
	Recovery Recovery `yaml:"recovery,omitempty"`
	// The disk under test.
	Disk DiskSpec `yaml:"disk,omitempty"`
	// What ends a trial that takes too long, or measures badly.
	Limits Limits `yaml:"limits,omitempty"`

	// Notes say what of Iometer's files is not taken over.
	Notes []string `yaml:"-" json:"-"`
}

// Matrix is the factors, each with its levels.
type Matrix struct {
	// Hypervisors: xen by default.
	Hypervisor []string `yaml:"hypervisor,omitempty" jsonschema:"enum=xen,enum=kvm,enum=vsphere,minItems=1,uniqueItems=true"`
	// Storage systems of the guest's disk. mirror, for kvm only, is a private disk at each site, which the hypervisor
	// copies during the migration. local, for vsphere only, is a datastore of each host's own, between which the migration
	// moves the guest with its disks. vsphere has iscsi and nfs besides, as datastores that both hosts have.
	Storage []string `yaml:"storage" jsonschema:"enum=iscsi,enum=nfs,enum=drbd,enum=mirror,enum=local,minItems=1,uniqueItems=true"`
	// WAN profiles: lan, continental, transatlantic, transpacific, or numbers such as
	// rtt=60ms,jitter=2ms,loss=0.1%,rate=50mbit.
	WAN []string `yaml:"wan" jsonschema:"minItems=1,uniqueItems=true"`
	// Access specifications: 4k-mixed-random, 4k-read-sequential, 4k-write-random, database, file-server,
	// web-server, workstation, those that Iometer has from the start, such as "4 KiB; 75% Read; 0% random", or the names of the
	// campaign's own.
	Access []string `yaml:"access" jsonschema:"minItems=1,uniqueItems=true"`
	// I/Os in flight of each worker on each target: the access specifications' own when left out.
	Outstanding []int `yaml:"outstanding,omitempty" jsonschema:"minimum=1,maximum=256,minItems=1,uniqueItems=true"` // then 0 in a Cell
	// Memory of the measured guest in MiB: the inventory's default when left out.
	GuestMemoryMiB []int `yaml:"guest_memory_mib,omitempty" jsonschema:"minimum=112,minItems=1,uniqueItems=true"` // then 0 in a Cell
	// Virtual processors of the measured guest: 1 when left out.
	GuestVCPUs []int `yaml:"guest_vcpus,omitempty" jsonschema:"minimum=1,maximum=128,minItems=1,uniqueItems=true"` // then 0 in a Cell
	// Replication protocols, for drbd only: C by default. With A and B, DRBD runs with C during the migration.
	DRBDProtocol []string `yaml:"drbd_protocol,omitempty" jsonschema:"enum=A,enum=B,enum=C,minItems=1,uniqueItems=true"`
	// How the migration copies the disk, for mirror only: full (the default) copies behind the guest's writes and may never
	// catch up; synchronous has each write wait for the other site meanwhile; incremental copies, behind the guest's writes, only
	// what was written since both sites had the same blank disk.
	MirrorCopy []string `yaml:"mirror_copy,omitempty" jsonschema:"enum=full,enum=synchronous,enum=incremental,minItems=1,uniqueItems=true"`
	// How the guest's memory is handed over: precopy by default. postcopy is for kvm only.
	Migration []string `yaml:"migration,omitempty" jsonschema:"enum=precopy,enum=postcopy,minItems=1,uniqueItems=true"`
	// Whether the hypervisor slows the guest down when it dirties memory faster than the WAN carries it: false by
	// default. true is for kvm only.
	AutoConverge []bool `yaml:"auto_converge,omitempty" jsonschema:"minItems=1,uniqueItems=true"`
	// Most that the migration may send, in MiB a second: 0 by default, which is no limit.
	BandwidthMiBPerS []int `yaml:"bandwidth_mib_per_s,omitempty" jsonschema:"minimum=0,maximum=1048576,minItems=1,uniqueItems=true"`
	// How long a stop the hypervisor may plan, in ms: 0 by default, which leaves it to the hypervisor. Others are for kvm
	// only.
	MaxDowntimeMs []int `yaml:"max_downtime_ms,omitempty" jsonschema:"minimum=0,maximum=2000000,minItems=1,uniqueItems=true"`
}

// Match is some levels of some factors; what is left out matches anything.
type Match struct {
	// Hypervisor.
	Hypervisor string `yaml:"hypervisor,omitempty" jsonschema:"enum=xen,enum=kvm,enum=vsphere"`
	// Storage system.
	Storage string `yaml:"storage,omitempty" jsonschema:"enum=iscsi,enum=nfs,enum=drbd,enum=mirror,enum=local"`
	// WAN profile.
	WAN string `yaml:"wan,omitempty"`
	// Access specification.
	Access string `yaml:"access,omitempty"`
	// I/Os in flight.
	Outstanding int `yaml:"outstanding,omitempty" jsonschema:"minimum=1,maximum=256"`
	// Memory of the measured guest in MiB.
	GuestMemoryMiB int `yaml:"guest_memory_mib,omitempty" jsonschema:"minimum=112"`
	// Virtual processors of the measured guest.
	GuestVCPUs int `yaml:"guest_vcpus,omitempty" jsonschema:"minimum=1,maximum=128"`
	// Replication protocol of drbd.
	DRBDProtocol string `yaml:"drbd_protocol,omitempty" jsonschema:"enum=A,enum=B,enum=C"`
	// How mirror's disk is copied.
	MirrorCopy string `yaml:"mirror_copy,omitempty" jsonschema:"enum=full,enum=synchronous,enum=incremental"`
	// How the guest's memory is handed over.
	Migration string `yaml:"migration,omitempty" jsonschema:"enum=precopy,enum=postcopy"`
	// Whether the hypervisor slows the guest down.
	AutoConverge *bool `yaml:"auto_converge,omitempty"`
	// Most that the migration may send, in MiB a second; 0 is no limit.
	BandwidthMiBPerS *int `yaml:"bandwidth_mib_per_s,omitempty" jsonschema:"minimum=0,maximum=1048576"`
	// How long a stop the hypervisor may plan, in ms; 0 leaves it to the hypervisor.
	MaxDowntimeMs *int `yaml:"max_downtime_ms,omitempty" jsonschema:"minimum=0,maximum=2000000"`
}

// Phases are how long the measuring phases last. The load runs through all of them, and through the migration.
type Phases struct {
	// Load that is not measured: 20s by default. It lasts longer until the load is steady, but not beyond warm_up_max.
	WarmUp time.Duration `yaml:"warm_up,omitempty"`
	// The longest warm-up: a trial that is not steady by then goes on, and says so. Three times warm_up by default, and
	// at least steady_state's window of rounds.
	WarmUpMax time.Duration `yaml:"warm_up_max,omitempty"`
	// Load before the migration: 30s by default, at least 1s.
	Before time.Duration `yaml:"before,omitempty"`
	// Load after the migration: 30s by default, at least 1s.
	After time.Duration `yaml:"after,omitempty"`
}

// SteadyState is when a load counts as steady, after the SNIA's Solid State Storage Performance Test Specification
// (version 2.0.1, 2.1.24): over a window of rounds, the best is above the worst by no more than the range allows, and the
// line of best fit through them rises or falls by no more than the slope allows.
type SteadyState struct {
	// Length of a round: 2s by default.
	Round time.Duration `yaml:"round,omitempty"`
	// Rounds in the window: 5 by default.
	Window int `yaml:"window,omitempty" jsonschema:"minimum=3,maximum=100"`
	// Most that the highest round may be above the lowest, in percent of the window's average IOPS: 20 by default.
	RangePercent float64 `yaml:"range_percent,omitempty" jsonschema:"exclusiveMinimum=0"`
	// Most that the line of best fit may rise or fall over the window, in percent of the average: 10 by default.
	SlopePercent float64 `yaml:"slope_percent,omitempty" jsonschema:"exclusiveMinimum=0"`
}

// Recovery is when the load counts as back after a stall.
type Recovery struct {
	// How far the IOPS may be below the new site's own steady level, in percent: 10 by default. More is as good.
	WithinPercent float64 `yaml:"within_percent,omitempty" jsonschema:"exclusiveMinimum=0,maximum=100"`
	// For how long: 5s by default, or phases.after when that is less.
	For time.Duration `yaml:"for,omitempty"`
}

// Control is a cell that should show nothing, or a known thing.
type Control struct {
	// none: no migration. lan: a migration without a WAN. pause: the hypervisor pauses the guest.
	Control string `yaml:"control" jsonschema:"enum=none,enum=lan,enum=pause"`
	// The cell's levels; a factor that is not named has the first of the matrix's.
	Match `yaml:",inline"`
	// How long the guest is paused (5s by default), or how long the trial without a migration is watched instead (30s).
	Hold time.Duration `yaml:"hold,omitempty"`
}

// Sentinel is a cell that is run again and again.
type Sentinel struct {
	// The cell's levels; a factor that is not named has the first of the matrix's.
	Match `yaml:",inline"`
	// After how many other trials it is run again. It is the first and the last trial as well.
	Every int `yaml:"every" jsonschema:"minimum=1"`
}

// Stop ends a campaign by precision.
type Stop struct {
	// Column of table trials whose median is to be known: blackout_ms, total_migration_ms, recovery_ms, io_lost_s.
	Metric string `yaml:"metric" json:"metric" jsonschema:"enum=blackout_ms,enum=total_migration_ms,enum=recovery_ms,enum=io_lost_s"`
	// Half the width of the 95 % interval of the median, in percent of that median, that is precise enough: for each cell of the
	// matrix, controls and the sentinel left out.
	RelativeCIPercent float64 `yaml:"relative_ci_percent" json:"relative_ci_percent" jsonschema:"exclusiveMinimum=0"`
	// Repetitions that are run in any case: 5 by default.
	Min int `yaml:"min,omitempty" json:"min,omitempty" jsonschema:"minimum=3"`
	// Repetitions after which the campaign ends in any case.
	Max int `yaml:"max" json:"max" jsonschema:"minimum=3"`
}

// Same reports whether two rules are equal; nil means no rule.
func (s *Stop) Same(other *Stop) bool {
	if s == nil || other == nil {
		return s == other
	}
	return *s == *other
}

// DiskSpec is the disk under test.
type DiskSpec struct {
	// Size in MiB: 64 by default, and as much more as the ledger needs, of which half of the disk is at most.
	SizeMiB int `yaml:"size_mib,omitempty" jsonschema:"minimum=16,maximum=1048576"`
	// How much of it, at its end, is the ledger's, in MiB: by default as much as the writes of limits.migration, a minute and
	// phases.after need. The load has the rest.
	LedgerMiB int `yaml:"ledger_mib,omitempty" jsonschema:"minimum=1,maximum=1024"`
	// What is on the disk before the load: fill (the default), random bytes in each sector, as on a disk that has been in
	// use, or none, a disk without contents, of which a storage system may know that there is nothing.
	Precondition string `yaml:"precondition,omitempty" jsonschema:"enum=fill,enum=none"`
}

// Limits end what takes too long.
type Limits struct {
	// How often a trial is tried at most when its measurement is invalid: 3 by default.
	Attempts int `yaml:"attempts,omitempty" jsonschema:"minimum=1,maximum=100"`
	// A migration that takes longer is cancelled and counts as target-failed: by default three times as long as the slowest of
	// the cells is expected to take, 10m at least, and no longer than the largest ledger holds.
	Migration time.Duration `yaml:"migration,omitempty"`
	// All of one attempt: by default twice what the phases, the longest migration, the filling and the verification of the disk
	// are expected to take, 30m at least.
	Trial time.Duration `yaml:"trial,omitempty"`
	// How far the measured round trip may be from the profile's, in ms or in percent of it, whichever is more: 2 ms and
	// 3 % by default.
	RTTToleranceMs float64 `yaml:"rtt_tolerance_ms,omitempty" jsonschema:"exclusiveMinimum=0"`
	// The other of the two: in percent of the profile's round trip.
	RTTTolerancePercent float64 `yaml:"rtt_tolerance_percent,omitempty" jsonschema:"exclusiveMinimum=0"`
	// Least measured throughput, in percent of the profile's rate: 20 by default. More than the rate is never right.
	MinThroughputPercent float64 `yaml:"min_throughput_percent,omitempty" jsonschema:"minimum=0,maximum=100"`
	// How much longer one way over the WAN may take 90 % of the datagrams than the shortest, beside four times the
	// profile's jitter, in ms: 20 by default, and 500 on the emulated testbed. It has in it how busy the hosts are.
	SpreadMs float64 `yaml:"spread_ms,omitempty" jsonschema:"exclusiveMinimum=0"`
	// A trial whose clocks are less certain than this is invalid, in ms: 20 by default.
	ClockUncertaintyMs float64 `yaml:"clock_uncertainty_ms,omitempty" jsonschema:"exclusiveMinimum=0"`
	// Disk space to leave free where the dataset goes, in MiB: 256 by default.
	MinFreeMiB int `yaml:"min_free_mib,omitempty" jsonschema:"minimum=0"`
	// For how long the setup of a trial that the target has failed stays on the hosts, to be looked at: not at all by
	// default, and at most 24h. Its lane runs no other trial meanwhile.
	Retain time.Duration `yaml:"retain,omitempty"`
}

// AccessSpec is an access specification.
type AccessSpec = spec.Access

// AccessLine is a line of an access specification.
type AccessLine = spec.Line

// Cell is one combination of the factors.
type Cell struct {
	Hypervisor     string     `json:"hypervisor,omitempty"`
	Storage        string     `json:"storage,omitempty"`
	DRBDProtocol   string     `json:"drbd_protocol,omitempty"` // "" unless storage is drbd
	MirrorCopy     string     `json:"mirror_copy,omitempty"`   // "" unless storage is mirror
	WAN            string     `json:"wan"`                     // as package wan parses it
	RTTMs          float64    `json:"rtt_ms"`                  // the profile's round trip
	Access         AccessSpec `json:"access,omitzero"`
	Outstanding    int        `json:"outstanding,omitempty"`      // 0: the access specification's own; otherwise Access has it too
	GuestMemoryMiB int        `json:"guest_memory_mib,omitempty"` // 0: the inventory's default
	GuestVCPUs     int        `json:"guest_vcpus,omitempty"`      // 0: one
	MigrationOptions
	// Control is "" for a cell of the matrix; Hold is how long a control
	// without a migration lasts, or its pause.
	Control string        `json:"control,omitempty"`
	Hold    time.Duration `json:"hold,omitempty"`
}

// StorageOptions returns the cell's settings for its storage system, in the form that the
// system's driver takes.
func (c Cell) StorageOptions() map[string]string {
	options := map[string]string{}
	if c.DRBDProtocol != "" {
		options["protocol"] = c.DRBDProtocol
	}
	if c.MirrorCopy != "" {
		options["copy"] = c.MirrorCopy
	}
	return options
}

// MigrationOptions are the options of a cell's migration for the hypervisor. The zero value is
// what every hypervisor supports: pre-copy without limits.
type MigrationOptions struct {
	Migration        string `json:"migration,omitempty"` // PostCopy; "" is PreCopy
	AutoConverge     bool   `json:"auto_converge,omitempty"`
	BandwidthMiBPerS int    `json:"bandwidth_mib_per_s,omitempty"` // 0: no limit
	MaxDowntimeMs    int    `json:"max_downtime_ms,omitempty"`     // 0: the hypervisor's default
}

// VCPUs returns how many virtual processors the cell's guest has.
func (c Cell) VCPUs() int { return max(1, c.GuestVCPUs) }

// Mode returns PreCopy or PostCopy.
func (o MigrationOptions) Mode() string { return cmp.Or(o.Migration, PreCopy) }

// Migrates reports whether the cell's trials have a migration.
func (c Cell) Migrates() bool { return c.Control == "" || c.Control == ControlLAN }

// Trial is one planned execution of a cell.
type Trial struct {
	Sequence int    `json:"sequence"`          // from 1, in the order of the plan
	Block    int    `json:"block,omitempty"`   // from 1: the repetition
	CellID   string `json:"cell_id,omitempty"` // Cell.ID()
	Cell     Cell   `json:"cell"`
	Seed     uint64 `json:"seed,string,omitempty"`
	// Direction is Outbound or Return. It says where the guest starts, and where it moves to when
	// the cell has a migration.
	Direction string `json:"direction,omitempty"` // "" is Outbound
	Sentinel  bool   `json:"sentinel,omitempty"`
}
