// Package campaign is the campaign file: what it may say, what is wrong with
// it, and the plan that follows from it.
//
// It is pure: it touches no host and no clock, and the same file and seed give
// the same plan on every machine and with every version of Go.
package campaign

import "time"

// Version of the file format.
const Version = 1

// The kinds of testbeds a campaign may ask for.
const (
	TestbedEmulated  = "emulated"  // the testbed that `heliotrope lab` runs; started when it does not run
	TestbedHosts     = "hosts"     // the inventories that the file names
	TestbedSimulated = "simulated" // a model: for tests and dry runs, never a measurement
)

// Orders of trials.
const (
	OrderBlocks     = "blocks"     // randomised complete blocks: each repetition runs every cell once, shuffled
	OrderSequential = "sequential" // cell by cell, as the matrix is written
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
	Lanes int `yaml:"lanes,omitempty" jsonschema:"minimum=1,maximum=64"`
	// The factors, each with its levels. The cells of the campaign are all combinations.
	Matrix Matrix `yaml:"matrix"`
	// Cells of the matrix that are not run: those that match any of these.
	Exclude []Match `yaml:"exclude,omitempty"`
	// Cells that are run beside those of the matrix. A factor that is not named has the matrix's level, which must
	// then be its only one.
	Include []Match `yaml:"include,omitempty"`
	// The campaign's own access specifications, beside the well-known ones.
	Access []AccessSpec `yaml:"access_specifications,omitempty"`
	// How often each cell is run.
	Repetitions int `yaml:"repetitions" jsonschema:"minimum=1"`
	// Order of the trials. blocks (the default): each repetition runs every cell once, shuffled. sequential: cell by
	// cell, as the matrix is written.
	Order string `yaml:"order,omitempty" jsonschema:"enum=blocks,enum=sequential"`
	// How long the measuring phases last.
	Phases Phases `yaml:"phases,omitempty"`
	// The disk under test.
	Disk DiskSpec `yaml:"disk,omitempty"`
	// What ends a trial that takes too long, or measures badly.
	Limits Limits `yaml:"limits,omitempty"`
}

// Matrix is the factors, each with its levels.
type Matrix struct {
	// Hypervisors: xen by default.
	Hypervisor []string `yaml:"hypervisor,omitempty" jsonschema:"enum=xen,minItems=1,uniqueItems=true"`
	// Storage systems of the guest's disk.
	Storage []string `yaml:"storage" jsonschema:"enum=iscsi,enum=nfs,enum=drbd,minItems=1,uniqueItems=true"`
	// WAN profiles: lan, continental, transatlantic, transpacific, or numbers such as
	// rtt=60ms,jitter=2ms,loss=0.1%,rate=50mbit.
	WAN []string `yaml:"wan" jsonschema:"minItems=1,uniqueItems=true"`
	// Access specifications: 4k-mixed-random, 4k-read-sequential, 4k-write-random, database, file-server,
	// web-server, or the names of the campaign's own.
	Access []string `yaml:"access" jsonschema:"minItems=1,uniqueItems=true"`
	// Memory of the measured guest in MiB: the inventory's default when left out.
	GuestMemoryMiB []int `yaml:"guest_memory_mib,omitempty" jsonschema:"minimum=112,minItems=1,uniqueItems=true"` // then 0 in a Cell
	// Replication protocols, for drbd only: C by default. With A and B, DRBD runs with C during the migration.
	DRBDProtocol []string `yaml:"drbd_protocol,omitempty" jsonschema:"enum=A,enum=B,enum=C,minItems=1,uniqueItems=true"`
}

// Match is some levels of some factors; what is left out matches anything.
type Match struct {
	// Hypervisor.
	Hypervisor string `yaml:"hypervisor,omitempty" jsonschema:"enum=xen"`
	// Storage system.
	Storage string `yaml:"storage,omitempty" jsonschema:"enum=iscsi,enum=nfs,enum=drbd"`
	// WAN profile.
	WAN string `yaml:"wan,omitempty"`
	// Access specification.
	Access string `yaml:"access,omitempty"`
	// Memory of the measured guest in MiB.
	GuestMemoryMiB int `yaml:"guest_memory_mib,omitempty" jsonschema:"minimum=112"`
	// Replication protocol of drbd.
	DRBDProtocol string `yaml:"drbd_protocol,omitempty" jsonschema:"enum=A,enum=B,enum=C"`
}

// Phases are how long the measuring phases last. The load runs through all of them, and through the migration.
type Phases struct {
	// Load that is not measured: 20s by default.
	WarmUp time.Duration `yaml:"warm_up,omitempty"`
	// Load before the migration: 30s by default, at least 1s.
	Before time.Duration `yaml:"before,omitempty"`
	// Load after the migration: 30s by default, at least 1s.
	After time.Duration `yaml:"after,omitempty"`
}

// DiskSpec is the disk under test.
type DiskSpec struct {
	// Size in MiB: 64 by default.
	SizeMiB int `yaml:"size_mib,omitempty" jsonschema:"minimum=16,maximum=1048576"`
}

// Limits end what takes too long.
type Limits struct {
	// How often a trial is tried at most when its measurement is invalid: 3 by default.
	Attempts int `yaml:"attempts,omitempty" jsonschema:"minimum=1,maximum=100"`
	// A migration that takes longer is cancelled and counts as target-failed: 10m by default.
	Migration time.Duration `yaml:"migration,omitempty"`
	// All of one attempt: 30m by default.
	Trial time.Duration `yaml:"trial,omitempty"`
	// How far the measured round trip may be from the profile's, beyond what the path has unshaped, in ms: 5 by
	// default.
	RTTToleranceMs int `yaml:"rtt_tolerance_ms,omitempty" jsonschema:"minimum=1"`
	// Disk space to leave free where the dataset goes, in MiB: 256 by default.
	MinFreeMiB int `yaml:"min_free_mib,omitempty" jsonschema:"minimum=0"`
}

// AccessSpec is an access specification, Iometer's word for a workload: a mix
// of lines. It means what it means in Iometer, or is refused.
type AccessSpec struct {
	// Name of the access specification.
	Name string `yaml:"name" json:"name" jsonschema:"pattern=^[a-z0-9][a-z0-9-]{0\\,39}$"`
	// I/Os in flight: 1 by default.
	Outstanding int `yaml:"outstanding,omitempty" json:"outstanding" jsonschema:"minimum=1,maximum=256"`
	// The lines of the mix.
	Lines []AccessLine `yaml:"lines" json:"lines" jsonschema:"minItems=1,maxItems=64"`
}

// AccessLine is one line of an access specification.
type AccessLine struct {
	// Size of an I/O in bytes.
	SizeBytes int `yaml:"size_bytes" json:"size_bytes" jsonschema:"minimum=512,multipleOf=512"`
	// How many of the I/Os are of this line, in percent; the lines' shares sum to 100.
	SharePercent int `yaml:"share_percent" json:"share_percent" jsonschema:"minimum=1,maximum=100"`
	// How many of the line's I/Os are reads, in percent.
	ReadPercent int `yaml:"read_percent" json:"read_percent" jsonschema:"minimum=0,maximum=100"`
	// How many of the line's I/Os go to a random place, in percent.
	RandomPercent int `yaml:"random_percent" json:"random_percent" jsonschema:"minimum=0,maximum=100"`
	// What offsets are multiples of, in bytes: the sector of 512 bytes by default.
	AlignBytes int `yaml:"align_bytes,omitempty" json:"align_bytes,omitempty" jsonschema:"minimum=512,multipleOf=512"` // 0: the sector
}

// Cell is one combination of the factors.
type Cell struct {
	Hypervisor     string     `json:"hypervisor"`
	Storage        string     `json:"storage"`
	DRBDProtocol   string     `json:"drbd_protocol,omitempty"` // "" unless storage is drbd
	WAN            string     `json:"wan"`                     // as package wan parses it
	RTTMs          float64    `json:"rtt_ms"`                  // the profile's round trip
	Access         AccessSpec `json:"access"`
	GuestMemoryMiB int        `json:"guest_memory_mib,omitempty"` // 0: the inventory's default
}

// Trial is one planned execution of a cell.
type Trial struct {
	Sequence int    `json:"sequence"` // from 1, in the order of the plan
	Block    int    `json:"block"`    // from 1: the repetition
	CellID   string `json:"cell_id"`  // Cell.ID()
	Cell     Cell   `json:"cell"`
	Seed     uint64 `json:"seed,string"`
}
