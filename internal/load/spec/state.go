package spec

import (
	"encoding/binary"
	"fmt"
)

// The flags of a slot in a state.
const (
	flagInFlight = 1 << iota
	flagReply
	flagWrite
)

// AppendState appends the sequence's state: all that its future depends on, and what is in
// flight. Each item below is preceded by its length in bytes; numbers are little-endian:
//
//	1 SequenceVersion, 1 current line, 4 transactions left in the burst, 8 the worker's stream;
//	for each target: 8 its stream, 8 offset and 4 length of the previous I/O;
//	for each slot: 1 flags (1 in flight, 2 reply, 4 write), 1 line, 8 offset;
//	2 count of free slots, 2 for each, in the order of the queue;
//	2 count of slots in flight, 2 for each, oldest first.
//
//nolint:gosec // each number is below its type's limit, by what NewSequence takes
func (s *Sequence) AppendState(to []byte) []byte {
	order := binary.LittleEndian
	to = append(to, SequenceVersion, s.current)
	to = order.AppendUint32(to, s.left)
	to = order.AppendUint64(to, s.random.state)
	for i := range s.targets {
		to = order.AppendUint64(to, s.targets[i].random.state)
		to = order.AppendUint64(to, uint64(s.targets[i].offset))
		to = order.AppendUint32(to, uint32(s.targets[i].length))
	}
	for i := range s.slots {
		to = append(to, s.slots[i].flags(), s.slots[i].line)
		to = order.AppendUint64(to, uint64(s.slots[i].offset))
	}
	to = order.AppendUint16(to, uint16(s.waiting))
	for i := range s.waiting {
		to = order.AppendUint16(to, s.free[(s.first+i)%len(s.free)])
	}
	to = order.AppendUint16(to, uint16(len(s.flying)))
	for _, slot := range s.flying {
		to = order.AppendUint16(to, uint16(slot))
	}
	return to
}

func (s *slot) flags() (flags byte) {
	if s.inFlight {
		flags |= flagInFlight
	}
	if s.reply {
		flags |= flagReply
	}
	if s.write {
		flags |= flagWrite
	}
	return flags
}

// SetState makes a sequence continue from a state of a sequence with the same arguments. A state
// that no such sequence can have is an error, and changes nothing.
func (s *Sequence) SetState(state []byte) error {
	next := *s
	next.targets = append([]cursor(nil), s.targets...)
	next.slots = append([]slot(nil), s.slots...)
	next.free = make([]uint16, len(s.free))
	next.flying = make([]int, 0, len(s.slots))
	if len(state) > 0 && state[0] != SequenceVersion {
		return fmt.Errorf("a state of the sequence: written by version %d, this is version %d", state[0], SequenceVersion)
	}
	if want := s.stateBytes(); len(state) != want {
		return fmt.Errorf("a state of the sequence: %d bytes, want %d", len(state), want)
	}
	r := reader{state}
	if err := next.read(&r); err != nil {
		return fmt.Errorf("a state of the sequence: %w", err)
	}
	*s = next
	return nil
}

// stateBytes is the length of a state: every slot is either free or in flight.
func (s *Sequence) stateBytes() int {
	return 1 + 1 + 4 + 8 + 20*len(s.targets) + (10+2)*len(s.slots) + 2 + 2
}

// reader takes numbers off a state that is long enough.
type reader struct{ rest []byte }

func (r *reader) take(bytes int) (value uint64) {
	for i := range bytes {
		value |= uint64(r.rest[i]) << (8 * i)
	}
	r.rest = r.rest[bytes:]
	return value
}

//nolint:gosec // numbers are compared with their limits
func (s *Sequence) read(r *reader) error {
	r.take(1) // the version
	s.current = byte(r.take(1))
	s.left = uint32(r.take(4))
	s.random.state = r.take(8)
	if int(s.current) >= len(s.lines) || int(s.left) > s.lines[s.current].Burst {
		return fmt.Errorf("%d more of line %d: there are %d lines", s.left, s.current, len(s.lines))
	}
	for i := range s.targets {
		at := &s.targets[i]
		at.random.state, at.offset, at.length = r.take(8), int64(r.take(8)), int64(r.take(4))
		if at.length > maxIOBytes || at.offset < at.start || at.offset > at.end-at.length {
			return fmt.Errorf("target %d: %d bytes at %d are not within %d to %d", i, at.length, at.offset, at.start, at.end)
		}
	}
	for i := range s.slots {
		if err := s.readSlot(r, i); err != nil {
			return err
		}
	}
	return s.readLines(r)
}

//nolint:gosec // numbers are compared with their limits
func (s *Sequence) readSlot(r *reader, number int) error {
	flags, line, offset := byte(r.take(1)), byte(r.take(1)), int64(r.take(8))
	at := &s.targets[number%len(s.targets)]
	if flags > flagInFlight|flagReply|flagWrite || int(line) >= len(s.lines) || flags&flagReply != 0 && s.lines[line].ReplyBytes == 0 {
		return fmt.Errorf("slot %d: flags %d and line %d: there are %d lines", number, flags, line, len(s.lines))
	}
	slot := slot{offset: offset, line: line, inFlight: flags&flagInFlight != 0, reply: flags&flagReply != 0, write: flags&flagWrite != 0}
	if slot.inFlight && (offset < at.start || offset > at.end-int64(s.size(&slot))) {
		return fmt.Errorf("slot %d: %d bytes at %d are not within %d to %d", number, s.size(&slot), offset, at.start, at.end)
	}
	s.slots[number] = slot
	return nil
}

// readLines reads the queue of free slots and the list of slots in flight. Each slot must be in
// exactly one of them.
func (s *Sequence) readLines(r *reader) error {
	seen := make([]bool, len(s.slots))
	once := func(slot int, inFlight bool) error {
		if slot >= len(s.slots) || seen[slot] || s.slots[slot].inFlight != inFlight {
			return fmt.Errorf("slot %d is in the wrong line, or in two", slot)
		}
		seen[slot] = true
		return nil
	}
	free := int(r.take(2)) //nolint:gosec // 2 bytes
	if free > len(s.slots) {
		return fmt.Errorf("%d of %d slots are free", free, len(s.slots))
	}
	s.first, s.waiting = 0, free
	for i := range free {
		s.free[i] = uint16(r.take(2)) //nolint:gosec // 2 bytes
		if err := once(int(s.free[i]), false); err != nil {
			return err
		}
	}
	if flying := int(r.take(2)); free+flying != len(s.slots) { //nolint:gosec // 2 bytes
		return fmt.Errorf("%d slots are free and %d in flight: there are %d", free, flying, len(s.slots))
	}
	for range len(s.slots) - free {
		slot := int(r.take(2)) //nolint:gosec // 2 bytes
		if err := once(slot, true); err != nil {
			return err
		}
		s.flying = append(s.flying, slot)
	}
	return nil
}
