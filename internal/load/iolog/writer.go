package iolog

import (
	"encoding/binary"
	"errors"
	"slices"

	"heliotrope/internal/load/spec"
)

// maxExceptions is the length of the exceptions, in bytes, at which a block is sealed.
const maxExceptions = 64 << 10

// Writer writes the log of one worker. It is for one goroutine. A stamp that is earlier than the
// previous one counts as the previous one.
type Writer struct {
	header   Header
	sequence *spec.Sequence
	access   spec.Access // only its rate is set
	began    Stamp
	store    *Store

	number                 uint32 // of the next block
	crc                    uint32 // of the previous block
	submissions, completed uint64
	inFlight               int // submitted and not completed
	flights                [maxSlots]flight
	closed                 bool

	// The block that is being filled.
	open       bool
	head       header
	state      []byte
	last       int64 // monotonic time of the previous event, as the reader will reconstruct it
	ahead      int64 // of the wall clock, as the reader will reconstruct it
	events     int
	failed     int // index of the last completion's event
	kinds      [maxEvents / 8]byte
	times      [maxEvents]uint64
	places     [maxEvents]uint16
	exceptions []byte

	histograms *folding // nil unless the block is one of histograms
}

// flight is an I/O in flight, by its slot.
type flight struct {
	mono   int64 // time of its submission, as the reader will reconstruct it
	number uint64
}

// NewWriter begins a worker's log. began is the load's beginning, which is the same for all
// workers.
func NewWriter(h Header, s *spec.Sequence, began Stamp, to *Store) *Writer {
	return &Writer{header: h, sequence: s, access: spec.Access{RateIOPS: h.RateIOPS}, began: began, store: to}
}

// Submitted logs the submission of the I/O that the sequence's Next returned.
func (w *Writer) Submitted(at Stamp) {
	flying := w.sequence.InFlight()
	if len(flying) != w.inFlight+1 {
		panic("iolog: Submitted without a Next before it")
	}
	at = w.prepare(at)
	slot := flying[len(flying)-1]
	if w.histograms == nil {
		w.event(false, 0, at)
	} else {
		w.last = at.MonoNs
	}
	w.flights[slot] = flight{mono: w.last, number: w.submissions}
	w.submissions++
	w.inFlight++
}

// Completed logs the end of a slot's I/O and calls the sequence's Complete.
func (w *Writer) Completed(slot, errno int, at Stamp) {
	at = w.prepare(at)
	place := slices.Index(w.sequence.InFlight(), slot)
	if place < 0 || place >= w.inFlight {
		panic("iolog: Completed of a slot that is not in flight")
	}
	if w.histograms == nil {
		if errno != 0 {
			w.exception(w.events, exceptionErrno, int64(errno))
		}
		w.failed = w.events
		w.event(true, place, at)
	} else {
		w.last = at.MonoNs
		io, _ := w.sequence.Flying(slot)
		w.histograms.completed(&io, w.response(slot, at), errno)
	}
	w.sequence.Complete(slot)
	w.completed++
	w.inFlight--
}

// response returns a response time in ns. In an open loop it counts from when the I/O was due.
func (w *Writer) response(slot int, at Stamp) int64 {
	flight := &w.flights[slot]
	response := at.MonoNs - flight.mono
	if w.header.RateIOPS > 0 {
		response = at.WallNs - w.began.WallNs - int64(w.access.Due(due(flight.number, w.header.Worker, w.header.Workers)))
	}
	return max(response, 0)
}

// due converts the number of a worker's I/O to the number among all workers' I/Os.
func due(number uint64, worker, workers int) uint64 {
	return number*uint64(workers) + uint64(worker) //nolint:gosec // both are small
}

// Violation logs a violation that the verify mode found in the I/O that completed last.
func (w *Writer) Violation(kind byte) {
	switch {
	case w.histograms != nil:
		w.histograms.violations++
	case w.open:
		w.exception(w.failed, exceptionViolation, int64(kind))
	}
}

// Tick seals the open block when it is due. It must be called when nothing is submitted and
// nothing completes for a while.
func (w *Writer) Tick(at Stamp) {
	if w.open && w.due(at) {
		w.seal()
	}
}

// Close seals the open block and ends the log with the I/Os in flight.
func (w *Writer) Close(at Stamp) error {
	if w.closed {
		return errors.New("end the log of the load: it has ended")
	}
	at = w.inOrder(at)
	w.closed = true
	if w.open {
		w.seal()
	}
	w.begin(at)
	w.head.kind = kindEnd
	w.crc = w.store.seal(&w.head, w.state, func(*coder) {})
	w.open = false
	return nil
}

// due reports whether the block is to be sealed. A block of histograms ends when there is room
// for events again and a second has passed.
func (w *Writer) due(at Stamp) bool {
	if w.histograms != nil {
		return at.MonoNs-w.head.at.MonoNs >= histogramNs && w.store.roomy()
	}
	return w.events == maxEvents || len(w.exceptions) >= maxExceptions || at.MonoNs-w.head.at.MonoNs >= blockNs
}

// inOrder returns the stamp, moved forward when it is earlier than the previous event.
func (w *Writer) inOrder(at Stamp) Stamp {
	late := max(w.last-at.MonoNs, 0)
	return Stamp{WallNs: at.WallNs + late, MonoNs: at.MonoNs + late}
}

// prepare ensures that an open block can take an event of that time, and returns the time in
// order.
func (w *Writer) prepare(at Stamp) Stamp {
	at = w.inOrder(at)
	if w.closed {
		panic("iolog: an event after Close")
	}
	if w.open && w.due(at) {
		w.seal()
	}
	if !w.open {
		w.begin(at)
		if w.store.full() {
			w.head.kind = kindHistograms
			w.histograms = newFolding(w.header.Workers)
		}
	}
	if w.histograms != nil {
		w.histograms.advance(at.MonoNs-w.head.at.MonoNs, w.age)
	}
	if ahead := at.ahead(); ahead-w.ahead > stepNs || w.ahead-ahead > stepNs {
		if w.histograms == nil {
			w.exception(w.events, exceptionStep, ahead-w.ahead)
		} else {
			w.histograms.step(at.MonoNs-w.head.at.MonoNs, ahead-w.ahead)
		}
		w.ahead = ahead
	}
	return at
}

// begin starts a block with the state before its first event.
func (w *Writer) begin(at Stamp) {
	w.open, w.last, w.ahead = true, at.MonoNs, at.ahead()
	w.events, w.failed, w.exceptions = 0, 0, w.exceptions[:0]
	clear(w.kinds[:])
	w.head = header{
		kind: kindEvents, version: spec.SequenceVersion, token: w.header.Token, worker: w.header.Worker, workers: w.header.Workers,
		number: w.number, submissions: w.submissions, complete: w.completed, at: at, config: [16]byte(w.header.Config[:16]),
		before: w.crc, beganNs: w.began.WallNs,
	}
	w.number++
	w.state = w.sequence.AppendState(w.state[:0])
	flying := w.sequence.InFlight()
	for _, slot := range flying[:w.inFlight] {
		flight := &w.flights[slot]
		w.state = binary.AppendUvarint(w.state, uint64(at.MonoNs-flight.mono)+1) //nolint:gosec // it was before
		w.state = binary.AppendUvarint(w.state, w.submissions-flight.number)
	}
	if len(flying) > w.inFlight {
		w.state = binary.AppendUvarint(w.state, 0) // drawn, but not submitted
	}
}

// seal passes the block to the store.
func (w *Writer) seal() {
	w.open = false
	if folding := w.histograms; folding != nil {
		folding.flush(w.age)
		w.crc = w.store.seal(&w.head, w.state, func(c *coder) { c.out = folding.appendTo(c.out) })
		w.histograms = nil
		return
	}
	w.head.events = w.events
	w.crc = w.store.seal(&w.head, w.state, w.fill)
}

// event records an event, and advances the last time by whole units.
func (w *Writer) event(completion bool, place int, at Stamp) {
	units := max(at.MonoNs-w.last, 0) / unitNs
	w.last += units * unitNs
	w.times[w.events] = uint64(units)
	w.places[w.events] = uint16(place) //nolint:gosec // below maxSlots
	if completion {
		w.kinds[w.events/8] |= 1 << (w.events % 8)
	}
	w.events++
}

func (w *Writer) exception(event int, kind byte, value int64) {
	w.exceptions = binary.AppendUvarint(w.exceptions, uint64(event)) //nolint:gosec // not negative
	w.exceptions = append(w.exceptions, kind)
	w.exceptions = binary.AppendVarint(w.exceptions, value)
}

// fill adds the planes of the block's events.
func (w *Writer) fill(c *coder) {
	c.add(planeKinds, w.kinds[:(w.events+7)/8])
	w.fillTimes(c, planeSubmitted, 0)
	w.fillTimes(c, planeCompleted, 1)
	for high, id := range []byte{planePlaces, planePlacesHigh} {
		c.plane = c.plane[:0]
		for i, place := range w.places[:w.events] {
			if w.kind(i) == 1 {
				c.plane = append(c.plane, byte(place>>(8*high))) //nolint:gosec // a byte is wanted
			}
		}
		c.add(id, c.plane)
	}
	c.add(planeExceptions, w.exceptions)
}

// kind returns 1 for a completion.
func (w *Writer) kind(event int) byte { return w.kinds[event/8] >> (event % 8) & 1 }

// fillTimes adds a plane for each byte of the times of one kind of event.
func (w *Writer) fillTimes(c *coder, first, kind byte) {
	var all uint64
	for i, time := range w.times[:w.events] {
		if w.kind(i) == kind {
			all |= time
		}
	}
	for id := first; all > 0; all, id = all>>8, id+1 {
		c.plane = c.plane[:0]
		for i, time := range w.times[:w.events] {
			if w.kind(i) == kind {
				c.plane = append(c.plane, byte(time>>(8*(id-first)))) //nolint:gosec // a byte is wanted
			}
		}
		c.add(id, c.plane)
	}
}

// age passes each I/O in flight to give with its age at a time after the block's beginning.
func (w *Writer) age(sinceNs int64, give func(io *spec.IO, ageNs int64)) {
	for _, slot := range w.sequence.InFlight()[:w.inFlight] {
		flight := &w.flights[slot]
		io, _ := w.sequence.Flying(slot)
		if age := w.head.at.MonoNs + sinceNs - flight.mono; age > 0 {
			give(&io, age)
		}
	}
}
