package simulated

import (
	"iter"
	"time"

	"heliotrope/internal/witness"
)

const (
	// domainID is the guest's domain ID on either host.
	domainID = 1
	// lookSpread is how much later than planned the domains are looked at, on average.
	lookSpread = time.Millisecond
	watchEvery = time.Second
)

// change is a new state of the guest's domain on a host.
type change struct {
	at    time.Time
	state string
}

// changes returns the changes on one host, in their order. On the host that the guest will move
// to, its domain is paused until it takes over.
func (w *watching) changes(from time.Time) []change {
	s := w.model.schedule
	var all []change
	if w.place() == s.from {
		all = append(all, change{from, witness.DomainRunning})
		switch {
		case s.moved:
			all = append(all, change{s.suspended, witness.DomainSuspended}, change{s.finished, witness.DomainGone})
		case s.held:
			all = append(all, change{s.suspended, witness.DomainPaused}, change{s.resumed, witness.DomainRunning})
		}
		return all
	}
	switch {
	case s.moved:
		all = append(all, change{s.started, witness.DomainPaused}, change{s.resumed, witness.DomainRunning})
	case s.begun:
		all = append(all, change{s.started, witness.DomainPaused}, change{s.fails(), witness.DomainGone})
	}
	return all
}

// domains yields what a host's witness writes about the guest's domain: each change at the first
// look that finds it, and a line each second to say that it is being watched.
func (w *watching) domains(from, to time.Time) iter.Seq[witness.DomainReading] {
	return func(yield func(witness.DomainReading) bool) {
		clock, random := w.clock(), source(w.model.ref, "domains "+w.machine)
		spacing := func() time.Duration {
			return witness.DomainInterval + time.Duration(random.ExpFloat64()*float64(lookSpread))
		}
		watched := from.Add(watchEvery)
		watch := func(until time.Time) bool {
			for ; !watched.After(until); watched = watched.Add(watchEvery) {
				longest := max(spacing(), spacing(), spacing())
				if !yield(witness.DomainReading{At: clock.says(watched), State: witness.DomainWatch, Spacing: longest}) {
					return false
				}
			}
			return true
		}
		for _, change := range w.changes(from) {
			reading := witness.DomainReading{ID: domainID, State: change.state}
			seen := change.at
			if seen.After(from) { // otherwise the first look finds the state, and it is not known since when
				reading.Spacing = spacing()
				seen = seen.Add(time.Duration(random.Float64() * float64(reading.Spacing)))
			}
			if seen.After(to) {
				break
			}
			if !watch(seen) {
				return
			}
			reading.At = clock.says(seen)
			if !yield(reading) {
				return
			}
		}
		watch(to)
	}
}
