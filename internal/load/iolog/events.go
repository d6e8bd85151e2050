package iolog

import (
	"encoding/binary"
	"fmt"
	"math/bits"
)

// events are the events of a block, as its planes hold them.
type events struct {
	kinds      []byte
	times      [2][8][]byte // of submissions and of completions, the least significant byte first
	places     [2][]byte
	at         [2]int // how many of each kind next has returned
	exceptions []exception
}

type exception struct {
	event int
	kind  byte
	value int64
}

// eventsOf checks the lengths of all planes.
func eventsOf(h *header, planes *[planes][]byte) (*events, error) {
	e := &events{kinds: planes[planeKinds]}
	completions := 0
	for i, b := range e.kinds {
		if past := 8*(i+1) - h.events; past > 0 {
			b = b << past >> past // drop the bits after the last event
		}
		completions += bits.OnesCount8(b)
	}
	counts := [2]int{h.events - completions, completions}
	fits := func(plane []byte, length int) bool { return len(plane) == 0 || len(plane) == length }
	ok := fits(e.kinds, (h.events+7)/8) && counts[0] >= 0
	for kind, first := range []int{planeSubmitted, planeCompleted} {
		for i := range 8 {
			e.times[kind][i] = planes[first+i]
			ok = ok && fits(e.times[kind][i], counts[kind])
		}
	}
	for i, id := range []int{planePlaces, planePlacesHigh} {
		e.places[i] = planes[id]
		ok = ok && fits(e.places[i], completions)
	}
	var err error
	if e.exceptions, err = exceptionsOf(planes[planeExceptions], h.events); err == nil && !ok {
		err = fmt.Errorf("%w: its planes are not as long as its %d events want, of which %d are completions", ErrDamaged, h.events, completions)
	}
	return e, err
}

// exceptionsOf reads a plane of exceptions, which are in the order of their events.
func exceptionsOf(plane []byte, events int) (all []exception, err error) {
	before := 0
	for len(plane) > 0 {
		event, n := binary.Uvarint(plane)
		if n <= 0 || len(plane) < n+1 {
			return nil, fmt.Errorf("%w: an exception is cut", ErrDamaged)
		}
		e := exception{event: int(min(event, maxEvents)), kind: plane[n]}
		plane = plane[n+1:]
		if e.value, n = binary.Varint(plane); n <= 0 {
			return nil, fmt.Errorf("%w: an exception is cut", ErrDamaged)
		}
		plane = plane[n:]
		switch {
		case e.kind < exceptionErrno || e.kind > exceptionStep:
			return nil, fmt.Errorf("%w: kind %d of an exception is not known", ErrDamaged, e.kind)
		case e.event >= events || e.event < before || e.kind == exceptionErrno && (e.value <= 0 || e.value > 1<<31-1):
			return nil, fmt.Errorf("%w: exception of kind %d with %d at event %d of %d", ErrDamaged, e.kind, e.value, e.event, events)
		}
		before = e.event
		all = append(all, e)
	}
	return all, nil
}

// next returns event n. It must be called for one event after the other.
func (e *events) next(n int) (completion bool, units int64, place int) {
	kind := 0
	if len(e.kinds) > 0 {
		kind = int(e.kinds[n/8] >> (n % 8) & 1)
	}
	at := e.at[kind]
	e.at[kind]++
	for i, plane := range e.times[kind] {
		if len(plane) > 0 {
			units |= int64(plane[at]) << (8 * i)
		}
	}
	if kind == 0 {
		return false, units, 0
	}
	for i, plane := range e.places {
		if len(plane) > 0 {
			place |= int(plane[at]) << (8 * i)
		}
	}
	return true, units, place
}

// exceptionsOf returns the exceptions of event n and removes them.
func (e *events) exceptionsOf(n int) (all []exception) {
	count := 0
	for count < len(e.exceptions) && e.exceptions[count].event == n {
		count++
	}
	all, e.exceptions = e.exceptions[:count], e.exceptions[count:]
	return all
}
