package iolog

import (
	"bytes"
	"fmt"
	"time"

	"heliotrope/internal/load/spec"
)

// replay reads the blocks of one worker.
type replay struct {
	worker, workers int
	access          spec.Access
	sequence        *spec.Sequence
	blocks          []block // blocks that are left
	account         *Account
	entries, rest   []Entry // of the block that was read last, and those of them that are left
	buffer          []byte
	unpacker        unpacker

	read                   int // number of blocks that were read
	number                 int // of the previous block; -1 at first
	known                  bool
	drawn                  bool // the youngest I/O in flight is not submitted yet
	submissions, completed uint64
	flights                []flying // by slot
	ahead                  int64    // of the wall clock, at the end of the previous block
	last                   int64    // time of the last event, by the wall clock
	ended                  bool
}

// flying is an I/O in flight.
type flying struct{ submittedNs, lateNs int64 }

// fill reads blocks until there are entries left or all blocks are read.
func (r *replay) fill() error {
	for len(r.rest) == 0 && len(r.blocks) > 0 {
		one := &r.blocks[0]
		var err error
		if r.buffer, err = one.read(r.buffer); err != nil {
			return err
		}
		if err := r.block(one, r.buffer[headerBytes:one.length-trailerBytes]); err != nil {
			return fmt.Errorf("worker %d, block %d: %w", r.worker, one.number, err)
		}
		r.blocks = r.blocks[1:]
		r.number, r.read = int(one.number), r.read+1
	}
	return nil
}

// block reads one block; text is its bytes after the header.
func (r *replay) block(one *block, text []byte) error {
	state, text := text[:one.stateBytes], text[one.stateBytes:]
	if err := r.begin(one, state); err != nil {
		return err
	}
	switch one.kind {
	case kindHistograms:
		r.known = false
		ios := r.account.IOs
		steps := len(r.account.Steps)
		err := histogramsOf(&one.header, text, r.account)
		for _, step := range r.account.Steps[steps:] {
			r.ahead += int64(step.By)
		}
		r.completed += uint64(r.account.IOs - ios) //nolint:gosec // counts
		return err
	case kindEnd:
		r.ended = true
		if one.events != 0 || len(text) != 0 {
			return fmt.Errorf("%w: the end has events", ErrDamaged)
		}
		return nil
	}
	if err := r.unpacker.unpack(text); err != nil {
		return err
	}
	return r.replay(&one.header)
}

// begin brings the sequence to the block's beginning. Usually it is there already, which begin
// checks; after a gap begin sets the sequence's state from the block.
func (r *replay) begin(one *block, state []byte) error {
	own := len(r.sequence.AppendState(nil))
	if len(state) < own {
		return fmt.Errorf("%w: its state has %d bytes, want %d at least", ErrDamaged, len(state), own)
	}
	state, stamps := state[:own], uvarints{rest: state[own:]}
	if missing := int(one.number) - r.expected(); missing > 0 {
		r.known = false
		r.miss(r.expected(), int(one.number)-1, one.complete-r.completed)
	}
	if r.read > 0 {
		if by := one.at.ahead() - r.ahead; by > stepNs || -by > stepNs {
			r.account.Steps = append(r.account.Steps, Step{AtNs: one.at.WallNs, BeforeNs: r.last, By: time.Duration(by)})
		}
	}
	r.ahead, r.last = one.at.ahead(), one.at.WallNs
	if !r.known {
		return r.set(one, state, &stamps)
	}
	if endsDrawn(stamps) && !r.drawn {
		_, r.drawn = r.sequence.Next()
	}
	if !bytes.Equal(r.sequence.AppendState(nil), state) || one.submissions != r.submissions || one.complete != r.completed {
		return fmt.Errorf("%w: the I/Os before it do not lead to it: another program's sequence, or another configuration", ErrForeign)
	}
	return nil
}

// expected returns the number that the next block should have.
func (r *replay) expected() int {
	if r.read == 0 {
		return 0
	}
	return r.number + 1
}

// endsDrawn reports whether the last of the stamps is of an I/O that is drawn but not submitted
// yet.
func endsDrawn(stamps uvarints) bool {
	for len(stamps.rest) > 0 {
		if stamps.next() == 0 {
			return !stamps.bad && len(stamps.rest) == 0
		}
		stamps.next()
	}
	return false
}

// set takes the state and the stamps from the block.
func (r *replay) set(one *block, state []byte, stamps *uvarints) error {
	if err := r.sequence.SetState(state); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	r.known, r.drawn = true, false
	r.submissions, r.completed = one.submissions, one.complete
	for _, slot := range r.sequence.InFlight() {
		age := stamps.next()
		if r.drawn || stamps.bad {
			return fmt.Errorf("%w: its state has not one stamp for each I/O in flight", ErrDamaged)
		}
		if age == 0 {
			r.drawn = true
			continue
		}
		r.submit(&one.header, slot, one.at.WallNs-int64(age-1), r.submissions-stamps.next()) //nolint:gosec // as it was written
	}
	if stamps.bad || len(stamps.rest) > 0 {
		return fmt.Errorf("%w: its state has not one stamp for each I/O in flight", ErrDamaged)
	}
	return nil
}

// submit records the submission of the I/O in a slot; number counts the worker's submissions.
func (r *replay) submit(h *header, slot int, at int64, number uint64) {
	r.flights[slot] = flying{submittedNs: at}
	if r.access.RateIOPS > 0 {
		late := at - h.beganNs - int64(r.access.Due(due(number, r.worker, r.workers)))
		r.flights[slot].lateNs = max(late, 0)
	}
}

// replay applies the events of a block to the sequence.
func (r *replay) replay(h *header) error {
	events, err := eventsOf(h, &r.unpacker.planes)
	if err != nil {
		return err
	}
	r.entries = r.entries[:0]
	mono, ahead := h.at.MonoNs, h.at.ahead()
	for n := range h.events {
		completion, units, place := events.next(n)
		mono += units * unitNs
		errno := int64(0)
		for _, e := range events.exceptionsOf(n) {
			switch e.kind {
			case exceptionErrno:
				errno = e.value
			case exceptionViolation:
				r.account.Violations++
			case exceptionStep:
				ahead += e.value
				r.account.Steps = append(r.account.Steps, Step{AtNs: mono + ahead, BeforeNs: r.last, By: time.Duration(e.value)})
			}
		}
		r.last = mono + ahead
		if !completion {
			if !r.draw() {
				return fmt.Errorf("%w: event %d submits more than there are slots", ErrDamaged, n)
			}
			flying := r.sequence.InFlight()
			r.submit(h, flying[len(flying)-1], mono+ahead, r.submissions)
			r.submissions++
			continue
		}
		if !r.complete(place, errno, mono+ahead) {
			return fmt.Errorf("%w: event %d completes I/O %d of those in flight, of which there are %d", ErrDamaged, n, place, len(r.sequence.InFlight()))
		}
	}
	if len(events.exceptions) > 0 {
		return fmt.Errorf("%w: exceptions of events that are not there", ErrDamaged)
	}
	r.ahead, r.rest = ahead, r.entries
	return nil
}

// draw takes the next I/O of the sequence, unless one is drawn already.
func (r *replay) draw() (ok bool) {
	if r.drawn {
		r.drawn = false
		return true
	}
	_, ok = r.sequence.Next()
	return ok
}

// complete makes an entry of the I/O at a place among those in flight.
func (r *replay) complete(place int, errno, at int64) (ok bool) {
	flying := r.submitted()
	if place >= len(flying) {
		return false
	}
	slot := flying[place]
	entry := r.entry(slot)
	entry.CompletedNs, entry.Error = at, int32(errno) //nolint:gosec // checked when it was read
	r.entries = append(r.entries, entry)
	r.sequence.Complete(slot)
	r.completed++
	return true
}

// submitted returns the slots in flight, without one that is only drawn.
func (r *replay) submitted() []int {
	flying := r.sequence.InFlight()
	if r.drawn {
		return flying[:len(flying)-1]
	}
	return flying
}

// entry returns what is known of an I/O in flight.
func (r *replay) entry(slot int) Entry {
	io, _ := r.sequence.Flying(slot)
	return Entry{
		SubmittedNs: r.flights[slot].submittedNs, LateNs: r.flights[slot].lateNs, OffsetBytes: io.OffsetBytes,
		SizeBytes: int32(io.SizeBytes), Worker: int16(r.worker), Target: int16(io.Target), Line: int16(io.Line), //nolint:gosec // below the limits of spec
		Write: io.Write, Reply: io.Reply,
	}
}

// miss records missing blocks.
func (r *replay) miss(first, last int, ios uint64) {
	r.account.Missing = append(r.account.Missing, fmt.Sprintf("worker %d: blocks %d to %d, with %d I/Os", r.worker, first, last, ios))
}

// finish records missing blocks at the end, and what was in flight.
func (r *replay) finish() {
	switch {
	case r.read == 0:
		r.account.Missing = append(r.account.Missing, fmt.Sprintf("worker %d: all blocks", r.worker))
	case !r.ended:
		r.account.Missing = append(r.account.Missing, fmt.Sprintf("worker %d: the end, after block %d", r.worker, r.number))
	}
	if r.known {
		for _, slot := range r.submitted() {
			r.account.Pending = append(r.account.Pending, r.entry(slot))
		}
	}
}
