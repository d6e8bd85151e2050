// Package iolog is the log of package engine: every I/O, in a few bytes each.
//
// A log is a set of blocks, each of which can be read alone. What an I/O was is
// not written: the reader draws it again from the same spec.Sequence, and the
// blocks have the times only, and which I/O of those in flight completed.
// docs/load.md has the format, in §3.
//
// The package promises that a complete log gives each I/O once, with its times
// within 16 ns by the monotonic clock, and that of any other log it is said
// which blocks are missing, or that it is refused. A writer needs no more
// memory than its Budget, whatever the length of the load: beyond it, it counts
// response times in histograms, until somebody has taken blocks.
//
// It is dangerous to read a log with another configuration than the one that it
// was written with. Its hash is in every block and is compared.
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

// ErrForeign says that a log is not of this attempt, or not of this program.
var ErrForeign = errors.New("the log is not of this load")

// Stamp is CLOCK_REALTIME and CLOCK_MONOTONIC, read together, in ns.
type Stamp struct{ WallNs, MonoNs int64 }

// ahead is how far the wall clock is before the monotonic one.
func (s Stamp) ahead() int64 { return s.WallNs - s.MonoNs }

// Budget is how much of the log may stay in the guest's memory.
type Budget struct {
	KeepBytes       int64 // 5 MiB
	StreamFromBytes int64 // 2.5 MiB; 0 sends each block once it is sealed
}

// Header names a worker's log.
type Header struct {
	Token           uint64
	Config          [32]byte // ConfigHash
	Worker, Workers int
	// RateIOPS is that of an open loop, whose response times count from when an
	// I/O was due. 0 is a closed loop.
	RateIOPS float64
}

// Replay is what a log was made from.
type Replay struct {
	Access      spec.Access
	Targets     []spec.Target
	Seed, Token uint64
}

// ConfigHash is the SHA-256 of what the I/Os follow from, of which each block
// has the first half.
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
	CompletedNs int64 // 0 of one that was in flight at the end
	// LateNs is how long it waited for a slot after it was due, in an open loop.
	// It comes before SubmittedNs and is part of the response time.
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

// Account is what a log has beside its I/Os.
type Account struct {
	IOs        int64 // entries, and those that are in histograms only
	Errors     int64
	Violations int64
	FirstError int // errno of the first that failed, by workers; 0: none
	Detail     string
	Pending    []Entry // what was in flight when the log ended; LateNs has no meaning in them when the last block is missing
	Steps      []Step
	Missing    []string // each a line, with worker and numbers of blocks
	Histograms []Histogram
}

// Step is one of the guest's wall clock against its monotonic one. It happened
// between the worker's event before AtNs and the one at AtNs, by the new time.
type Step struct {
	AtNs int64
	// BeforeNs is when the event before it was, by the time of before; 0 is not
	// known, as of those in histograms.
	BeforeNs int64
	By       time.Duration
}

// Histogram is an interval of one worker, operation and line. Each I/O that
// completed in it is either here or has an Entry.
type Histogram struct {
	AtNs             int64 // where it begins
	Length           time.Duration
	Worker, Line     int16
	Write            bool
	IOs, Errors      int64
	Bytes            int64
	LongestNs        int64   // the longest response time, exactly
	OldestInFlightNs int64   // the age of the oldest in flight at its end
	Counts           []Count // by response time, those of failed I/Os as well
}

// Count is how many response times lie in a bucket.
type Count struct{ Bucket, IOs int64 }

const (
	magic        = "HIOLOG1\n"
	headerBytes  = 104
	trailerBytes = 4
	maxBlock     = 1 << 20
	maxEvents    = 16384
	unitNs       = 16                      // of times
	blockNs      = int64(10 * time.Second) // after its first event a block is sealed
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

// header is the first 104 bytes of a block, but for its magic.
type header struct {
	length                int
	kind, version         byte
	token                 uint64
	worker, workers       int
	number                uint32
	submissions, complete uint64 // numbers of the first ones in it
	at                    Stamp
	config                [16]byte
	before                uint32 // CRC of the block before
	events                int
	beganNs               int64
	stateBytes            int
}
