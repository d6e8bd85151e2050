package hypervisor

import (
	"context"
	"time"

	"heliotrope/internal/clock"
	"heliotrope/internal/witness"
)

// Recorder is a hypervisor that keeps a record of its own of when a domain stood
// still, and whose host's clock can be read without a shell: a witness for hosts
// on which no program of ours may watch. Its methods change nothing.
type Recorder interface {
	// Clock reads the host's clock once.
	Clock(ctx context.Context) (clock.Offset, error)
	// Record reads, after the fact, what this host has written down of a domain
	// between two times of this machine's clock. The stops of a migration are
	// written down by the host that the domain runs on afterwards. A record
	// without stops says that there was none: what cannot be read, or may lack
	// some of that time, is an error.
	Record(ctx context.Context, name string, from, to time.Time) (Record, error)
}

// Record is what a hypervisor has written down of a domain.
type Record struct {
	Stops []Stop `json:"stops,omitempty"` // in the order of their ends
	Notes []Note `json:"notes,omitempty"` // what its toolstack tells beside, in the order of their times
}

// Stop is a time for which a domain stood still, on the clock of the host that has
// written it down.
type Stop struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
	// Resolution is by how much both may be off, either way, beside what the
	// clock is.
	Resolution time.Duration `json:"resolution"`
}

// Note is something that a toolstack tells of a domain, on this machine's clock.
type Note struct {
	At     time.Time `json:"at"`
	Source string    `json:"source"` // who tells
	Text   string    `json:"text"`
}

// Meter is a hypervisor that counts what its host does by itself, where no program
// of ours may. Its methods change nothing.
type Meter interface {
	// Counters reads what was counted on this host between two times of this
	// machine's clock: of the host, and of a domain that is here, from when it came
	// here. What nobody has a value of is left out; what cannot be asked is an error.
	Counters(ctx context.Context, of Counted, from, to time.Time) (Counts, error)
}

// Counted says what is counted on a host beside itself.
type Counted struct {
	Domain  string // the measured guest: "lab.guest"
	Storage string // the storage system of its disk under test, in a campaign's words
}

// Counts are a hypervisor's own counters, as it told them.
type Counts struct {
	// Readings in the order of their times, which are by the clock of Source.
	Readings []witness.Reading
	Source   string
	Clock    clock.Offset // of that clock
}
