package hypervisor

import (
	"context"
	"time"

	"heliotrope/internal/clock"
	"heliotrope/internal/witness"
)

// Recorder is a hypervisor that itself records when a domain stood still, and whose
// host's clock can be read without a shell. It serves as a witness on hosts where no
// program of ours can watch. Its methods change nothing.
type Recorder interface {
	// Clock reads the host's clock once.
	Clock(ctx context.Context) (clock.Offset, error)
	// Record reads afterwards what this host has recorded about a domain between two
	// times of this machine's clock. The stops of a migration are recorded by the
	// host that the domain runs on after it. A record without stops says that there
	// were none: a record that cannot be read, or that may be incomplete for that
	// time, is an error.
	Record(ctx context.Context, name string, from, to time.Time) (Record, error)
}

// Record is what a hypervisor has recorded about a domain.
type Record struct {
	Stops []Stop `json:"stops,omitempty"` // in the order of their ends
	Notes []Note `json:"notes,omitempty"` // what else its toolstack reports, in the order of their times
}

// Stop is a period in which a domain stood still, on the clock of the host that
// recorded it.
type Stop struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
	// Resolution is how far From and To may each be off, in either direction, in
	// addition to the uncertainty of the clock.
	Resolution time.Duration `json:"resolution"`
}

// Note is something that a toolstack reports about a domain, on this machine's clock.
type Note struct {
	At     time.Time `json:"at"`
	Source string    `json:"source"` // who reports it
	Text   string    `json:"text"`
}

// Meter is a hypervisor that counts by itself what its host does, where no program of
// ours can. Its methods change nothing.
type Meter interface {
	// Counters reads what this host counted between two times of this machine's
	// clock: counters of the host, and of a domain on it from the time at which the
	// domain came to this host. Counters without a value are left out; one that
	// cannot be read is an error.
	Counters(ctx context.Context, of Counted, from, to time.Time) (Counts, error)
}

// Counted says what is counted on a host beside the host itself.
type Counted struct {
	Domain  string // the measured guest: "lab.guest"
	Storage string // the storage system of its disk under test, in a campaign's words
}

// Counts are a hypervisor's own counters, as it reported them.
type Counts struct {
	// Readings are in the order of their times, which are on the clock of Source.
	Readings []witness.Reading
	Source   string
	Clock    clock.Offset // of Source's clock
}
