package spec

import "time"

// SequenceVersion counts the changes of what the same arguments give.
const SequenceVersion = 1

// IO is one I/O of a sequence.
type IO struct {
	Target, Line, Slot int
	Write, Reply       bool // Reply: the second I/O of a transaction
	SizeBytes          int
	OffsetBytes        int64         // on the device
	Delay              time.Duration // before it is submitted
}

// Sequence is the I/Os of one worker.
type Sequence struct{}

// NewSequence is the sequence of a worker, from 0, on all of its targets. It
// allocates all it will ever need.
func NewSequence(a Access, targets []Target, worker int, seed uint64) (*Sequence, error) {
	panic("not built")
}

// Next takes the head of the line of free slots, to be submitted after its
// Delay. free is false when every slot is in flight.
func (s *Sequence) Next() (io IO, free bool) { panic("not built") }

// Complete says that a slot's I/O has completed, or failed. Whether that or a
// Next comes first is all one, unless no slot was free.
func (s *Sequence) Complete(slot int) { panic("not built") }

// InFlight are the slots that are in flight, oldest first: valid until the next call.
func (s *Sequence) InFlight() []int { panic("not built") }

// AppendState appends all that the sequence's future depends on.
func (s *Sequence) AppendState(to []byte) []byte { panic("not built") }

// SetState makes a sequence of the same arguments go on from a state.
func (s *Sequence) SetState(state []byte) error { panic("not built") }
