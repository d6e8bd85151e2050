package simulated

import (
	"iter"
	"math/rand/v2"
	"time"

	"heliotrope/internal/ledger"
	"heliotrope/internal/load/spec"
	"heliotrope/internal/storage"
	"heliotrope/internal/witness"
)

const (
	// sendSpread is how late the guest sends a heartbeat, on average.
	sendSpread = 300 * time.Microsecond
	// hopSpread is how much longer than half of the round-trip time a datagram takes, on average.
	hopSpread = 200 * time.Microsecond
)

// heartbeats yields the heartbeats that arrive at site A until a moment, in the order of their
// arrival. The guest sends one each 10 ms while it runs, and the first one after a stall as soon
// as it resumes.
func (w *watching) heartbeats(from, to time.Time) iter.Seq[witness.Heartbeat] {
	return func(yield func(witness.Heartbeat) bool) {
		if w.place() != storage.SiteA {
			return
		}
		m, clock := w.model, w.clock()
		random := source(m.ref, "heartbeats")
		written := m.newLedger(from)
		since, hung := m.hangs()
		told, forget := m.telling(from, to)
		defer forget()
		var arrived time.Time
		tick := from
		for sequence := uint64(1); ; sequence++ {
			if _, runs := m.schedule.where(tick); !runs {
				tick = m.schedule.resumed
			}
			// A heartbeat that is due while the guest is stopped is sent when the guest resumes.
			sent := tick.Add(time.Duration(random.ExpFloat64() * float64(sendSpread)))
			site, runs := m.schedule.where(sent)
			if !runs {
				tick = m.schedule.resumed
				sent, site = tick, m.siteAfter()
			}
			way, lost := m.hop(random, site == storage.SiteB)
			// No heartbeat overtakes another on the way.
			if at := sent.Add(way); at.After(arrived) {
				arrived = at
			}
			if arrived.After(to) || hung && !sent.Before(since) {
				return
			}
			beat := witness.Heartbeat{Arrived: clock.says(arrived), Sequence: sequence,
				Sent: time.Unix(0, m.guest.says(sent.UnixNano())), Acked: written.acked(sent)}
			beat.OldestNs, beat.Completed = told(sent)
			if !lost && !yield(beat) {
				return
			}
			tick = tick.Add(witness.HeartbeatInterval)
		}
	}
}

// telling returns a function that gives what the guest's witness knows of the load at a moment.
// Its moments must not decrease. forget must be called at the end.
func (m *model) telling(from, to time.Time) (told func(at time.Time) (oldestNs int64, completed uint64), forget func()) {
	if m.access.Engine == spec.EngineFio {
		return func(time.Time) (int64, uint64) { return witness.NotTold, 0 }, func() {}
	}
	next, forget := iter.Pull(m.newWorkload(from).events(to))
	var known event
	coming, more := next()
	return func(at time.Time) (int64, uint64) {
		for more && coming.at <= at.UnixNano() {
			known = coming
			coming, more = next()
		}
		if known.oldest == 0 {
			return 0, known.completed
		}
		return m.guest.says(known.oldest), known.completed
	}, forget
}

// siteAfter returns the site where the guest resumes after its stall.
func (m *model) siteAfter() storage.Site {
	site, _ := m.schedule.where(m.schedule.resumed)
	return site
}

// hop returns how long a datagram takes between the guest and a host, and whether it is lost;
// remote says that the WAN is between them.
func (m *model) hop(random *rand.Rand, remote bool) (way time.Duration, lost bool) {
	way = clockRTT/2 + time.Duration(random.ExpFloat64()*float64(hopSpread))
	if !remote {
		return way, false
	}
	way += m.rtt/2 + evenly(random, m.profile.Jitter)/2
	return way, m.profile.LossPercent > 0 && random.Float64() < m.profile.LossPercent/100
}

// writing is the guest's ledger: a record each 200 ms, one after the other, while the guest runs
// and has its disk.
type writing struct {
	model  *model
	number uint64    // newest acknowledged record
	next   time.Time // when the next record will be acknowledged
}

func (m *model) newLedger(from time.Time) *writing {
	w := &writing{model: m}
	w.next = w.after(from)
	return w
}

// acked returns the newest acknowledged record, 0 without a ledger. Successive times must not
// decrease.
func (w *writing) acked(at time.Time) uint64 {
	if w.model.ref.LedgerBytes == 0 {
		return 0
	}
	until, ends := w.model.diskUntil()
	for !w.next.After(at) && (!ends || !w.next.After(until)) {
		w.number++
		w.next = w.after(w.next)
	}
	return w.number
}

// after returns when the record is acknowledged that follows a record acknowledged at `at`.
func (w *writing) after(at time.Time) time.Time {
	s := &w.model.schedule
	next := at.Add(ledger.Interval).Add(w.takes(at))
	if s.stalls() && at.Before(s.connected) && !next.Before(s.suspended) {
		// The record waits until the guest runs and has its disk again.
		return s.connected.Add(w.takes(s.connected))
	}
	return next
}

// takes returns how long the write of a record takes that is made at a moment.
func (w *writing) takes(at time.Time) time.Duration {
	site, _ := w.model.schedule.where(at)
	c := conditions{site: site, protocol: w.model.protocol}
	took := w.model.service(false, c)
	if _, waits := w.model.crosses(false, c); waits {
		took += w.model.rtt
	}
	return took
}

// exchanges yields the guest's clock as a site's host reads it each witness.ExchangeInterval, while the
// guest runs.
func (w *watching) exchanges(from, to time.Time) iter.Seq[witness.Exchange] {
	return func(yield func(witness.Exchange) bool) {
		m, clock, place := w.model, w.clock(), w.place()
		random := source(m.ref, "exchanges "+w.machine)
		wider := time.Duration(0)
		if m.faults.uncertainClocks(m.ref) {
			wider = uncertainBy
		}
		if since, hung := m.hangs(); hung && since.Before(to) {
			to = since
		}
		for at := from; !at.After(to); at = at.Add(witness.ExchangeInterval) {
			site, runs := m.schedule.where(at)
			there, lost := m.hop(random, site != place)
			back, lostBack := m.hop(random, site != place)
			if !runs || lost || lostBack {
				continue
			}
			// The error is half of the difference between the two ways.
			ahead := time.Unix(0, m.guest.says(at.UnixNano())).Sub(clock.says(at)) + (there-back)/2
			if !yield(witness.Exchange{At: clock.says(at), Ahead: ahead, Uncertainty: (there+back)/2 + wider}) {
				return
			}
		}
	}
}
