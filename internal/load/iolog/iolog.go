// Package iolog is the log of package engine: every I/O, in a few bytes each.
//
// A log is a set of blocks, each of which can be read alone. The blocks do not say what an I/O
// was: the reader draws the I/Os again from the same spec.Sequence. The blocks hold only the
// times, and which of the I/Os in flight completed. docs/load.md has the format, in §3.
//
// The package promises that a complete log gives each I/O once, with its times within 16 ns by
// the monotonic clock. Of an incomplete log it names the missing blocks; any other log is
// refused. A writer needs no more memory than its Budget, however long the load runs: beyond the
// budget it counts response times in histograms, until a host has taken blocks.
//
// It is dangerous to read a log with a configuration other than the one it was written with. The
// configuration's hash is in every block and is compared.
package iolog

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"time"

	"heliotrope/internal/load/spec"
)

// Port is the TCP port on which a site's host takes blocks from the guest.
const Port = 17192

// ErrDamaged says that a log contradicts itself.
var ErrDamaged = errors.New("the log of the load is damaged")

// ErrForeign says that a log belongs to another attempt, another configuration or another version
// of the program.
var ErrForeign = errors.New("the log is not of this load")

// Stamp is CLOCK_REALTIME and CLOCK_MONOTONIC, read together, in ns.
type Stamp struct{ WallNs, MonoNs int64 }

// ahead returns how far the wall clock is ahead of the monotonic one.
func (s Stamp) ahead() int64 { return s.WallNs - s.MonoNs }

// Budget limits how much of the log may stay in the guest's memory.
type Budget struct {
	KeepBytes       int64 // 5 MiB when 0
	StreamFromBytes int64 // 2.5 MiB in DefaultBudget; 0 sends each block as soon as it is sealed
}

// Header identifies a worker's log.
type Header struct {
	Token           uint64
	Config          [32]byte // ConfigHash
	Worker, Workers int
	// RateIOPS is the rate of an open loop, whose response times count from when an I/O was due.
	// 0 is a closed loop.
	RateIOPS float64
}

// Replay is the configuration that a log was written with.
type Replay struct {
	Access      spec.Access
	Targets     []spec.Target
	Seed, Token uint64
}

// ConfigHash returns the SHA-256 of everything that determines the I/Os. Each block has its first
// half.
func ConfigHash(a spec.Access, targets []spec.Target, seed uint64) ([32]byte, error) {
	text, err := json.Marshal(struct {
		Access  spec.Access
		Targets []spec.Target
		Seed    uint64
	}{a.Complete(), targets, seed})
	return sha256.Sum256(text), err
}

// Entry is one I/O. Times are the guest's wall clock.
type Entry struct {
	SubmittedNs int64
	CompletedNs int64 // 0 when the I/O was in flight at the end
	// LateNs is how long the I/O waited for a slot after it was due, in an open loop. That time
	// precedes SubmittedNs and is part of the response time.
	LateNs       int64
	OffsetBytes  int64
	SizeBytes    int32
	Error        int32 // errno; 0: it succeeded
	Worker       int16
	Target, Line int16
	Write, Reply bool
}

// Details of an Account.
const (
	DetailAll       = "all"       // each I/O has its entry
	DetailHistogram = "histogram" // some are in Histograms only
)

// Account is what a log has besides its I/Os.
type Account struct {
	IOs        int64 // entries, plus the I/Os that are in histograms only
	Errors     int64
	Violations int64
	FirstError int // errno of the first failed I/O, in the order of the workers; 0: none failed
	Detail     string
	Pending    []Entry // in flight when the log ended; their LateNs has no meaning when the last block is missing
	Steps      []Step
	Missing    []string // one line for each gap, with the worker and the numbers of the blocks
	Histograms []Histogram
}

// Step is a step of the guest's wall clock relative to its monotonic clock. It happened between
// the worker's previous event and the event at AtNs. AtNs is in the time after the step.
type Step struct {
	AtNs int64
	// BeforeNs is when the previous event happened, in the time before the step. 0: not known, as
	// for steps in histograms.
	BeforeNs int64
	By       time.Duration
}

// Histogram covers one interval, worker, operation and line. Each I/O that completed in the
// interval is either counted here or has an Entry.
type Histogram struct {
	AtNs             int64 // where it begins
	Length           time.Duration
	Worker, Line     int16
	Write            bool
	IOs, Errors      int64
	Bytes            int64
	LongestNs        int64   // the longest response time, exactly
	OldestInFlightNs int64   // age of the oldest I/O in flight at the interval's end
	Counts           []Count // by response time; failed I/Os are included
}

// Count is how many response times are in a bucket.
type Count struct{ Bucket, IOs int64 }

const (
	magic        = "HIOLOG1\n"
	headerBytes  = 104
	trailerBytes = 4
	maxBlock     = 1 << 20
	maxEvents    = 16384
	unitNs       = 16                      // resolution of times
	blockNs      = int64(10 * time.Second) // a block is sealed this long after its first event
	stepNs       = int64(50 * time.Microsecond)
	maxSlots     = 2048 // of a worker
)

// Kinds of blocks.
const (
	kindEvents     = 1
	kindHistograms = 2
	kindEnd        = 3
)

// Kinds of exceptions.
const (
	exceptionErrno     = 1
	exceptionViolation = 2
	exceptionStep      = 3
)

// header is the first 104 bytes of a block, without the magic.
type header struct {
	length                int
	kind, version         byte
	token                 uint64
	worker, workers       int
	number                uint32
	submissions, complete uint64 // numbers of the block's first submission and completion
	at                    Stamp
	config                [16]byte
	before                uint32 // CRC of the previous block
	events                int
	beganNs               int64
	stateBytes            int
}
