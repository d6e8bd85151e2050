// Package iolog is the log of package engine: every I/O, in a few bytes each.
package iolog

import (
	"context"
	"io"
	"net/netip"
	"time"

	_ "github.com/klauspost/compress/huff0" // codes the planes of a block

	"heliotrope/internal/load/spec"
)

// Stamp is CLOCK_REALTIME and CLOCK_MONOTONIC, read together, in ns.
type Stamp struct{ WallNs, MonoNs int64 }

// Budget is how much of the log may stay in the guest's memory.
type Budget struct {
	KeepBytes       int64 // 8 MiB
	StreamFromBytes int64 // 4 MiB; 0 sends each block once it is sealed
}

// Header names a worker's log.
type Header struct {
	Token           uint64
	Config          [32]byte
	Worker, Workers int
}

// Store has the sealed blocks of all workers.
type Store struct{}

// NewStore is an empty store.
func NewStore(b Budget) *Store { panic("not built") }

// Send sends blocks to whichever host is near, until the context ends.
func (s *Store) Send(ctx context.Context, near func() netip.AddrPort) error { panic("not built") }

// WriteTo writes what nobody has taken.
func (s *Store) WriteTo(w io.Writer) (int64, error) { panic("not built") }

// Writer writes the log of one worker. It is for one goroutine.
type Writer struct{}

// NewWriter begins a worker's log.
func NewWriter(h Header, s *spec.Sequence, began Stamp, to *Store) *Writer { panic("not built") }

// Submitted logs what Next gave.
func (w *Writer) Submitted(at Stamp) { panic("not built") }

// Completed logs the end of a slot's I/O and calls the sequence's Complete.
func (w *Writer) Completed(slot, errno int, at Stamp) { panic("not built") }

// Violation logs one of the verify mode, of the I/O that completed last.
func (w *Writer) Violation(kind byte) { panic("not built") }

// Close seals what is left and ends the log.
func (w *Writer) Close(at Stamp) error { panic("not built") }

// Receive takes the blocks of one attempt, on a site's host, until the context ends.
func Receive(ctx context.Context, listen netip.AddrPort, from netip.Addr, token uint64, out io.Writer) error {
	panic("not built")
}

// Replay is what a log was made from.
type Replay struct {
	Access      spec.Access
	Targets     []spec.Target
	Seed, Token uint64
}

// Entry is one I/O.
type Entry struct {
	SubmittedNs, CompletedNs, LateNs, OffsetBytes int64
	SizeBytes, Error                              int32
	Worker, Target, Line                          int16
	Write, Reply                                  bool
}

// Account is what a log has beside its I/Os.
type Account struct {
	IOs, Errors, Violations int64
	FirstError              int
	Detail                  string
	Pending                 []Entry
	Steps                   []Step
	Missing                 []string
	Histograms              []Histogram
}

// Step is one of the guest's wall clock against its monotonic one.
type Step struct {
	AtNs int64
	By   time.Duration
}

// Histogram is 10 ms of one worker, operation and line.
type Histogram struct {
	AtNs                                            int64
	Worker, Line                                    int16
	Write                                           bool
	IOs, Errors, Bytes, LongestNs, OldestInFlightNs int64
	Counts                                          []Count
}

// Count is how many response times lie in a bucket.
type Count struct{ Bucket, IOs int64 }

// Read replays the files of a log.
func Read(files []io.Reader, c Replay, give func(Entry) error) (Account, error) { panic("not built") }
