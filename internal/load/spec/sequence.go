package spec

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// SequenceVersion is increased whenever the same arguments come to give a different sequence.
const SequenceVersion = 1

// IO is one I/O of a sequence.
type IO struct {
	Target, Line, Slot int           // Line is the line of the I/O's transaction
	Write, Reply       bool          // Reply: the second I/O of a transaction
	SizeBytes          int           //
	OffsetBytes        int64         // on the device
	Delay              time.Duration // before it is submitted
}

// Sequence is the I/Os of one worker, in the order in which Iometer's Grunt::Do_IOs submits them
// and at the offsets that TargetDisk::Seek gives them. It is for one goroutine.
type Sequence struct {
	lines    []Line
	grid     [100]uint8 // the line of each percent
	patterns bool       // each write draws from the worker's stream, as in Iometer

	random  generator // the worker's stream, which chooses the line
	current uint8     // line of the burst
	left    uint32    // transactions left in the burst

	targets []cursor
	slots   []slot
	free    []uint16 // a ring: the queue of free slots
	first   int      // index of the queue's head
	waiting int      // length of the queue
	flying  []int    // slots in flight, oldest first
}

// cursor is a worker's position in a target.
type cursor struct {
	random     generator
	start, end int64 // of the region, on the device
	offset     int64 // of the previous I/O
	length     int64 // of the previous I/O; 0 at first
}

// slot runs one transaction at a time. Slot n belongs to target n modulo the number of targets.
type slot struct {
	offset   int64 // of its I/O in flight
	line     uint8 // of its transaction
	inFlight bool
	reply    bool // in flight: the I/O is the reply; free: the next I/O will be the reply
	write    bool // likewise
}

// NewSequence returns the sequence of a worker, counted from 0, on all its targets. It allocates
// all the memory that the sequence will ever need.
func NewSequence(a Access, targets []Target, worker int, seed uint64) (*Sequence, error) {
	a = a.Complete()
	if err := a.sound(targets); err != nil {
		return nil, fmt.Errorf("the I/Os of %q: %w", a.Name, err)
	}
	if worker < 0 || worker >= a.Workers {
		return nil, fmt.Errorf("the I/Os of %q: worker %d of %d: want 0 to %d", a.Name, worker, a.Workers, a.Workers-1)
	}
	slots := a.Outstanding * a.Targets
	s := &Sequence{
		lines: a.Lines, slots: make([]slot, slots), targets: make([]cursor, a.Targets),
		free: make([]uint16, slots), waiting: slots, flying: make([]int, 0, slots),
	}
	for percent, line := 0, 0; line < len(a.Lines); line++ {
		for range a.Lines[line].SharePercent {
			s.grid[percent] = uint8(line)
			percent++
		}
	}
	for i := range s.free {
		s.free[i] = uint16(i)
	}
	s.random = newGenerator(a.FixedSeed, seed, worker, 0)
	for i, target := range targets {
		s.targets[i] = cursor{
			random: newGenerator(a.FixedSeed, seed, worker, i+1),
			start:  target.OffsetBytes, end: target.OffsetBytes + target.SizeBytes, offset: target.OffsetBytes,
		}
	}
	if a.FixedSeed != nil {
		s.asIometer(a)
	}
	return s, nil
}

// sound returns an error when no sequence is possible.
func (a Access) sound(targets []Target) error {
	problems := a.Problems(0)
	if len(problems) == 0 && len(targets) != a.Targets {
		return fmt.Errorf("%d targets are given: want %d", len(targets), a.Targets)
	}
	for i := 0; i < len(targets) && len(problems) == 0; i++ {
		if targets[i].OffsetBytes < 0 {
			return fmt.Errorf("target %d begins at %d: want 0 or more", i, targets[i].OffsetBytes)
		}
		problems = a.room(targets[i])
	}
	if len(problems) > 0 {
		return errors.New(problems[0].Setting + ": " + problems[0].Message)
	}
	return nil
}

// asIometer draws from the worker's stream the numbers that Iometer draws for its patterns: one
// for each byte of the fixed pattern (Grunt::Begin_IO), and one for each write of the random
// pattern, which says where in the buffer the write begins.
func (s *Sequence) asIometer(a Access) {
	switch a.Pattern {
	case PatternFixed:
		for range a.LongestBytes() {
			s.random.below(255)
		}
	case PatternRandom:
		s.patterns = true
	}
}

// Next takes the slot at the head of the queue of free slots and returns its next I/O, which is
// to be submitted after its Delay. free is false when every slot is in flight.
func (s *Sequence) Next() (io IO, free bool) {
	if s.waiting == 0 {
		return IO{}, false
	}
	number := int(s.free[s.first])
	s.first = (s.first + 1) % len(s.free)
	s.waiting--
	slot, target := &s.slots[number], number%len(s.targets)
	at := &s.targets[target]
	var delay time.Duration
	if !slot.reply {
		delay = s.transaction(slot, at)
	}
	io = IO{Target: target, Line: int(slot.line), Slot: number, Write: slot.write, Reply: slot.reply, SizeBytes: s.size(slot), Delay: delay}
	line := &s.lines[s.current]
	at.seek(int(at.random.below(100)) < line.RandomPercent, int64(io.SizeBytes), int64(line.AlignBytes)) //nolint:gosec // below 100
	if s.patterns && slot.write {
		s.random.below(1)
	}
	slot.inFlight, slot.offset = true, at.offset
	io.OffsetBytes = at.offset
	s.flying = append(s.flying, number)
	return io, true
}

// transaction begins a new transaction, and a new burst when the last one is over. It returns how
// long to wait before the transaction's first I/O.
func (s *Sequence) transaction(slot *slot, at *cursor) (delay time.Duration) {
	if s.left == 0 {
		s.current = s.grid[s.random.below(100)]
		s.left = uint32(s.lines[s.current].Burst) //nolint:gosec // a million at most
		delay = time.Duration(s.lines[s.current].DelayMs) * time.Millisecond
	}
	s.left--
	slot.line = s.current
	slot.write = int(at.random.below(100)) >= s.lines[s.current].ReadPercent //nolint:gosec // below 100
	return delay
}

// size returns the size of a slot's I/O in bytes.
func (s *Sequence) size(slot *slot) int {
	if slot.reply {
		return s.lines[slot.line].ReplyBytes
	}
	return s.lines[slot.line].SizeBytes
}

// seek moves the cursor to the next I/O's offset, as TargetDisk::Seek does.
func (c *cursor) seek(random bool, size, align int64) {
	if random {
		c.offset = c.start + int64(c.random.below(uint64(c.end-c.start))) //nolint:gosec // a region's size is positive
	} else {
		c.offset += c.length
	}
	c.offset = alignUp(c.offset, align)
	if c.offset+size > c.end {
		c.offset = alignUp(c.start, align)
	}
	c.length = size
}

// Complete records that a slot's I/O has completed or failed. Complete and Next may be called in
// either order, unless no slot was free.
func (s *Sequence) Complete(slot int) {
	place := slices.Index(s.flying, slot)
	if place < 0 {
		panic(fmt.Sprintf("slot %d is not in flight", slot))
	}
	s.flying = slices.Delete(s.flying, place, place+1)
	done := &s.slots[slot]
	done.inFlight = false
	if !done.reply && s.lines[done.line].ReplyBytes > 0 {
		done.reply, done.write = true, !done.write
	} else {
		done.reply = false
	}
	s.free[(s.first+s.waiting)%len(s.free)] = uint16(slot) //nolint:gosec // 2048 slots at most
	s.waiting++
}

// InFlight returns the slots that are in flight, oldest first. The slice is valid until the next
// call.
func (s *Sequence) InFlight() []int { return s.flying }

// Flying returns the I/O that is in flight in a slot, without its Delay. ok is false when the
// slot is free.
func (s *Sequence) Flying(slot int) (io IO, ok bool) {
	if slot < 0 || slot >= len(s.slots) || !s.slots[slot].inFlight {
		return IO{}, false
	}
	at := &s.slots[slot]
	return IO{
		Target: slot % len(s.targets), Line: int(at.line), Slot: slot, Write: at.write, Reply: at.reply,
		SizeBytes: s.size(at), OffsetBytes: at.offset,
	}, true
}
