// Package spec defines what a load does: Iometer's access specifications, and the sequence of
// I/Os that follows from one.
//
// It promises that a specification means what it means in Iometer 1.1.0 (docs/load.md has each
// rule with its place in Iometer's source), and that the same arguments give the same sequence on
// every machine and for ever.
//
// It is dangerous to change. The log of a load holds no offsets: its reader draws the sequence
// again. Whoever changes the sequence must increase SequenceVersion. The package is part of the
// program that runs in the measured guest, so it imports only the standard library.
package spec

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// Engines that run a load.
const (
	EngineOwn = "heliotrope" // package engine
	EngineFio = "fio"
	// DefaultEngine runs a load that names none.
	DefaultEngine = EngineOwn
)

// What a load does when an I/O fails.
const (
	ErrorGoesOn = "continue" // counts the failure and continues, as Iometer does: the default
	ErrorStops  = "stop"     // ends, as fio does unless told otherwise
)

// What a load checks in the data that it reads. "" checks nothing.
const (
	VerifyContent    = "content"    // that the data was written there, and that it is the newest
	VerifyConsistent = "consistent" // that the data was written there; it may be older
)

// The data that is written. "" is PatternRandom.
const (
	PatternRepeating = "repeating" // one random byte, repeated
	PatternFixed     = "fixed"     // one pseudo-random buffer
	PatternRandom    = "random"    // a random place in a pseudo-random buffer
)

// Access is an access specification, Iometer's word for a workload: a mix of
// lines, and how it is run. It means what it means in Iometer, or is refused.
// A setting that is 0, "" or nil has its default.
type Access struct {
	// Name of the access specification, as Iometer has it.
	Name string `yaml:"name,omitempty" json:"name" jsonschema:"minLength=1,maxLength=127"`
	// I/Os in flight of each worker on each target: 1 by default. Factor outstanding takes its place.
	Outstanding int `yaml:"outstanding,omitempty" json:"outstanding" jsonschema:"minimum=1,maximum=256"`
	// The lines of the mix.
	Lines []Line `yaml:"lines,omitempty" json:"lines" jsonschema:"minItems=1,maxItems=100"`
	// Where the lines come from when they are not written here: a specification in a file of Iometer's.
	Source *Source `yaml:"workload,omitempty" json:"source,omitempty"`
	// Which program runs the load: heliotrope (the default), which runs every specification as Iometer does and knows what is in
	// flight, or fio.
	Engine string `yaml:"engine,omitempty" json:"engine,omitempty" jsonschema:"enum=heliotrope,enum=fio"`
	// Workers, each of which runs the whole specification: 1 by default.
	Workers int `yaml:"workers,omitempty" json:"workers,omitempty" jsonschema:"minimum=1,maximum=16"`
	// How many equal parts the disk is cut into, each a target with its own position: 1 by default.
	Targets int `yaml:"targets,omitempty" json:"targets,omitempty" jsonschema:"minimum=1,maximum=8"`
	// I/Os a second at which the load begins its I/Os, whether or not others have completed (open loop). Left out, each slot
	// begins its next I/O when its last has completed (closed loop), as Iometer's do.
	RateIOPS float64 `yaml:"rate,omitempty" json:"rate,omitempty" jsonschema:"exclusiveMinimum=0"`
	// Least time before I/Os count: phases.warm_up is never less.
	RampUp time.Duration `yaml:"ramp_up,omitempty" json:"ramp_up,omitempty"`
	// What happens when an I/O fails: continue (the default of heliotrope, as Iometer does), or stop (fio always does).
	OnError string `yaml:"on_error,omitempty" json:"on_error,omitempty" jsonschema:"enum=continue,enum=stop"`
	// Whether what is read is compared with what was written: content, or consistent, which does not tell an older content.
	Verify string `yaml:"verify,omitempty" json:"verify,omitempty" jsonschema:"enum=content,enum=consistent"`
	// Pattern is what is written, from Iometer's file only.
	Pattern string `yaml:"-" json:"pattern,omitempty" jsonschema:"-"`
	// FixedSeed is Iometer's "use fixed seed": its random numbers, from this one.
	FixedSeed *uint64 `yaml:"-" json:"fixed_seed,omitempty,string" jsonschema:"-"`
}

// Line is one line of an access specification.
type Line struct {
	// Size of an I/O in bytes.
	SizeBytes int `yaml:"size_bytes" json:"size_bytes" jsonschema:"minimum=512,maximum=16777216,multipleOf=512"`
	// How many of the bursts are of this line, in percent; the lines' shares sum to 100.
	SharePercent int `yaml:"share_percent" json:"share_percent" jsonschema:"minimum=1,maximum=100"`
	// How many of the line's I/Os are reads, in percent.
	ReadPercent int `yaml:"read_percent" json:"read_percent" jsonschema:"minimum=0,maximum=100"`
	// How many of the line's I/Os go to a random place, in percent.
	RandomPercent int `yaml:"random_percent" json:"random_percent" jsonschema:"minimum=0,maximum=100"`
	// What offsets are multiples of, in bytes: the sector of 512 bytes by default.
	AlignBytes int `yaml:"align_bytes,omitempty" json:"align_bytes,omitempty" jsonschema:"minimum=0,maximum=16777216,multipleOf=512"` // 0: the sector
	// Time before a burst of the line begins, in ms: 0 by default.
	DelayMs int `yaml:"delay_ms,omitempty" json:"delay_ms,omitempty" jsonschema:"minimum=0,maximum=3600000"`
	// Transactions in a row of the line, over all of the worker's targets: 1 by default.
	Burst int `yaml:"burst,omitempty" json:"burst,omitempty" jsonschema:"minimum=0,maximum=1000000"`
	// Size in bytes of the I/O in the other direction that follows each of the line's: 0, which is none, by default.
	ReplyBytes int `yaml:"reply_bytes,omitempty" json:"reply_bytes,omitempty" jsonschema:"minimum=0,maximum=16777216,multipleOf=512"`
}

// Source is a specification in one of Iometer's files.
type Source struct {
	// Iometer's configuration file (.icf); a relative path starts at this file's folder.
	File string `yaml:"icf" json:"file"`
	// Name of the access specification in it.
	Name string `yaml:"spec" json:"name"`
	// SHA256 is the file's, in hex, when its numbers were taken.
	SHA256 string `yaml:"-" json:"sha256,omitempty" jsonschema:"-"`
}

// Target is a region of a block device, or of a file.
type Target struct {
	Device      string // path of the device, in the guest
	OffsetBytes int64  // where the region begins
	SizeBytes   int64
}

// Problem is one thing wrong with a specification.
type Problem struct {
	Setting string // such as lines[1].size_bytes; "" is the whole
	Message string
}

// SectorBytes is the sector size of the disk under test: Iometer's alignment for a line that
// names none.
const SectorBytes = 512

// Complete fills in every default. The default of OnError depends on the engine: fio stops.
func (a Access) Complete() Access {
	a.Engine = cmp.Or(a.Engine, DefaultEngine)
	a.Outstanding = cmp.Or(a.Outstanding, 1)
	a.Workers = cmp.Or(a.Workers, 1)
	a.Targets = cmp.Or(a.Targets, 1)
	a.Pattern = cmp.Or(a.Pattern, PatternRandom)
	if a.Engine == EngineFio {
		a.OnError = cmp.Or(a.OnError, ErrorStops)
	}
	a.OnError = cmp.Or(a.OnError, ErrorGoesOn)
	a.Lines = slices.Clone(a.Lines)
	for i := range a.Lines {
		a.Lines[i].AlignBytes = cmp.Or(a.Lines[i].AlignBytes, SectorBytes)
		a.Lines[i].Burst = cmp.Or(a.Lines[i].Burst, 1)
	}
	return a
}

// Due returns when I/O n of an open loop is due, counted from the load's beginning. n counts the
// I/Os of all workers: I/O k of worker w of W is n = k·W + w.
func (a Access) Due(n uint64) time.Duration {
	return time.Duration(math.Round(float64(n) / a.RateIOPS * float64(time.Second)))
}

// RandomBytes is how many bytes a buffer of random bytes is longer than the longest I/O.
const RandomBytes = 1 << 20

// verifyBytes is the memory that VerifyContent needs for the largest region that it supports: 4
// bytes a sector.
const verifyBytes = MaxVerifyBytes / SectorBytes * 4

// MaxVerifyBytes is the largest region, in bytes, for which VerifyContent remembers every sector.
const MaxVerifyBytes = 512 << 20

// BufferBytes returns the guest's memory that the I/Os need, without the log. All I/Os of a
// worker share one buffer for reads and one for writes; with Verify each I/O has its own.
func (a Access) BufferBytes() int64 {
	a = a.Complete()
	longest := int64(a.LongestBytes())
	worker := 2 * longest
	if a.Pattern == PatternRandom {
		worker += RandomBytes
	}
	remembered := int64(0)
	if a.Verify != "" {
		worker = int64(a.Outstanding) * int64(a.Targets) * longest
	}
	if a.Verify == VerifyContent {
		remembered = verifyBytes
	}
	return int64(a.Workers)*worker + remembered
}

// LongestBytes returns the size of the longest I/O or reply.
func (a Access) LongestBytes() int {
	longest := 0
	for _, line := range a.Lines {
		longest = max(longest, line.SizeBytes, line.ReplyBytes)
	}
	return longest
}
