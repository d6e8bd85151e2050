package simulated

import (
	"iter"
	"math"
	"math/rand/v2"
	"time"

	"heliotrope/internal/load/iolog"
	"heliotrope/internal/load/spec"
)

// operation is one I/O. Times are ns since 1970 on the controller's clock.
type operation struct {
	submitted, done int64
	latency         int64 // ns on the guest's clock, which stands still with the guest; in an open loop, from when the I/O was due
	offset          int64
	size            int
	read            bool
	met             conditions // conditions under which it was completed
}

// event is the submission or the completion of an I/O.
type event struct {
	*operation
	at        int64
	completes bool
	// oldest is when the oldest I/O in flight after the event was submitted, 0 when none is in
	// flight; completed is how many I/Os have completed.
	oldest    int64
	completed uint64
}

// logger records what a worker does: an iolog.Writer, or unlogged.
type logger interface {
	Submitted(at iolog.Stamp)
	// Completed also calls the worker's sequence's Complete.
	Completed(slot, errno int, at iolog.Stamp)
}

// unlogged records nothing.
type unlogged struct{ *spec.Sequence }

func (unlogged) Submitted(iolog.Stamp)                  {}
func (u unlogged) Completed(slot, _ int, _ iolog.Stamp) { u.Complete(slot) }

// workload is the I/Os of a load's workers through the model's phases.
type workload struct {
	*model
	from                 int64
	random               *rand.Rand
	workers              []*worker
	migrating, suspended int64 // ns; MaxInt64 when it does not happen
	resumed, connected   int64
	lost                 int64 // ns that the guest's clock loses in the stall
	precopied, switched  int64 // ns: ends of pre-copy's slowdown, and of DRBD's protocol C
	lossProbability      float64

	diskFree, wanFree int64 // ns: when the disk and the WAN can begin the next I/O
	completed         uint64
}

// worker is one worker of a load. Its I/Os follow from its sequence; the model says how long each
// one takes.
type worker struct {
	number     int
	sequence   *spec.Sequence
	log        logger
	operations []operation // by slot
	free       []int64     // when each free slot may be used, in the order of the sequence's queue
	last       int64       // submission of the previous I/O
	begun      uint64      // number of I/Os
	drawn      *spec.IO    // I/O that waits until at; nil: the next I/O is not drawn yet
	at         int64
	first      int // slot in flight that will complete first, or none
}

// none stands for no slot.
const none = -1

// flying returns the slots whose I/Os are in flight, oldest first, without one that is only
// drawn.
func (w *worker) flying() []int {
	slots := w.sequence.InFlight()
	if w.drawn != nil {
		slots = slots[:len(slots)-1]
	}
	return slots
}

// operations yields the I/Os that are completed between two moments, in the order of their
// completion. At the beginning all slots are free.
func (m *model) operations(from, to time.Time) iter.Seq[*operation] {
	return func(yield func(*operation) bool) {
		for e := range m.newWorkload(from).events(to) {
			if e.completes && !yield(e.operation) {
				return
			}
		}
	}
}

func (m *model) newWorkload(from time.Time) *workload {
	w := &workload{model: m, from: from.UnixNano(), random: source(m.ref, "load"), lossProbability: lossOfRoundTrip(m.profile),
		migrating: math.MaxInt64, suspended: math.MaxInt64, resumed: math.MaxInt64, precopied: math.MaxInt64, switched: math.MaxInt64}
	s := m.schedule
	if s.begun {
		w.migrating, w.precopied = s.started.UnixNano(), s.suspended.UnixNano()
		w.switched = s.finished.Add(s.finish).UnixNano()
	}
	if s.stalls() {
		w.lost = m.guest.lost
		w.suspended, w.resumed, w.connected = s.suspended.UnixNano(), s.resumed.UnixNano(), s.connected.UnixNano()
	}
	for number := range m.load.Access.Workers {
		sequence, err := spec.NewSequence(m.load.Access, m.load.Targets, number, m.load.Seed)
		if err != nil {
			panic("simulated: a load that modelOf has let through: " + err.Error())
		}
		slots := m.load.Access.Outstanding * m.load.Access.Targets
		one := &worker{number: number, sequence: sequence, log: unlogged{sequence}, operations: make([]operation, slots), free: make([]int64, slots), first: none}
		for slot := range one.free {
			one.free[slot] = w.from
		}
		w.workers = append(w.workers, one)
	}
	return w
}

// events yields what happens until a moment, in its order.
func (w *workload) events(to time.Time) iter.Seq[event] {
	return func(yield func(event) bool) {
		if until, ends := w.diskUntil(); ends && until.Before(to) {
			to = until
		}
		for end := to.UnixNano(); ; {
			one, at, completes := w.next()
			if at > end {
				return
			}
			e := event{at: at, completes: completes}
			if completes {
				e.operation = w.finish(one)
			} else if e.operation = w.submit(one, at); e.operation == nil {
				continue // the I/O waits for its delay
			}
			e.oldest, e.completed = w.oldest(), w.completed
			if !yield(e) {
				return
			}
		}
	}
}

// next returns the worker whose event is next, when that is, and whether it is a completion.
func (w *workload) next() (one *worker, at int64, completes bool) {
	at = math.MaxInt64
	for _, other := range w.workers {
		if begins := w.begins(other); begins < at {
			one, at, completes = other, begins, false
		}
		if other.first != none && other.operations[other.first].done <= at {
			one, at, completes = other, other.operations[other.first].done, true
		}
	}
	return one, at, completes
}

// begins returns when a worker submits or draws its next I/O, which it does not do while the
// guest is suspended. It is MaxInt64 when no slot is free.
func (w *workload) begins(one *worker) int64 {
	if one.drawn != nil {
		return w.awake(one.at)
	}
	if len(one.free) == 0 {
		return math.MaxInt64
	}
	return w.awake(max(one.free[0], one.last, w.due(one)))
}

// awake returns when the guest does what it would otherwise do at a moment.
func (w *workload) awake(at int64) int64 {
	if at >= w.suspended && at < w.resumed {
		return w.resumed
	}
	return at
}

// due returns when a worker's next I/O is due in an open loop, by the guest's clock.
func (w *workload) due(one *worker) int64 {
	access := &w.load.Access
	if access.RateIOPS == 0 {
		return w.from
	}
	at := w.from + int64(access.Due(one.begun*uint64(access.Workers)+uint64(one.number))) //nolint:gosec // counts
	if at >= w.suspended {
		at += w.lost
	}
	return at
}

// oldest returns when the oldest I/O in flight was submitted; 0 when none is in flight.
func (w *workload) oldest() int64 {
	oldest := int64(0)
	for _, one := range w.workers {
		if flying := one.flying(); len(flying) > 0 && (oldest == 0 || one.operations[flying[0]].submitted < oldest) {
			oldest = one.operations[flying[0]].submitted
		}
	}
	return oldest
}

// stamp returns what the guest's clocks show. The monotonic clock stands still whenever the wall
// clock does, and the wall clock is never set.
func (w *workload) stamp(at int64) iolog.Stamp {
	wall := w.guest.says(at)
	return iolog.Stamp{WallNs: wall, MonoNs: wall - w.guest.says(w.from) + int64(bootTime)}
}

// conditions returns the conditions of an I/O that is made at a moment.
func (w *workload) conditions(at int64) conditions {
	c := conditions{site: w.schedule.from, protocol: w.protocol, migrating: at >= w.migrating && at < w.precopied}
	if at >= w.resumed && w.schedule.moved {
		c.site = c.site.Other()
	}
	if at >= w.migrating && at < w.switched {
		c.protocol = protocolC // for two primaries
	}
	return c
}

// submit draws a worker's next I/O and submits it, unless it is delayed. An I/O in flight when
// the guest is suspended is made again when the disk is connected at the other site; if the guest
// was only paused, the I/O has completed when the guest resumes. The time that the guest's clock
// lost is missing from the latency.
func (w *workload) submit(one *worker, at int64) *operation {
	due := at
	if one.drawn == nil {
		if w.load.Access.RateIOPS > 0 {
			due = w.due(one)
		}
		next, _ := one.sequence.Next()
		one.free = one.free[1:]
		one.drawn = &next
		if next.Delay > 0 {
			one.at = at + int64(next.Delay)
			return nil
		}
	}
	io := one.drawn
	one.drawn, one.last = nil, at
	one.begun++
	one.log.Submitted(w.stamp(at))
	o := &one.operations[io.Slot]
	*o = operation{submitted: at, size: io.SizeBytes, read: !io.Write, offset: io.OffsetBytes, met: w.conditions(at)}
	o.done = w.complete(o, at)
	if at < w.suspended && o.done >= w.suspended {
		if w.schedule.moved {
			o.met = w.conditions(w.resumed)
			o.done = w.complete(o, w.resumed)
		}
		o.done = max(o.done, w.resumed)
	}
	o.latency = o.done - due
	if due < w.suspended && o.done >= w.resumed {
		o.latency -= w.lost
	}
	if one.first == none || o.done < one.operations[one.first].done {
		one.first = io.Slot
	}
	return o
}

// finish completes the worker's I/O that completes first, and finds the one that will complete
// next.
func (w *workload) finish(one *worker) *operation {
	slot := one.first
	done := one.operations[slot]
	one.log.Completed(slot, 0, w.stamp(done.done))
	one.free = append(one.free, done.done+int64(thinkTime))
	w.completed++
	one.first = none
	for _, slot := range one.flying() {
		if one.first == none || one.operations[slot].done < one.operations[one.first].done {
			one.first = slot
		}
	}
	return &done
}

// complete returns when an I/O that is made at a moment, under its conditions, completes.
func (w *workload) complete(o *operation, at int64) int64 {
	begin := max(at, w.diskFree)
	if at >= w.resumed {
		begin = max(begin, w.connected)
	}
	moving := int64(float64(o.size) / diskBytesPerS * float64(time.Second))
	w.diskFree = begin + max(int64(diskPause), moving)
	service := float64(w.service(o.read, o.met)) * math.Exp(spread*w.random.NormFloat64())
	done := begin + int64(service) + moving

	data, waits := w.crosses(o.read, o.met)
	if !data {
		return done
	}
	rate := w.wanBytesPerS(o.met)
	w.wanFree = max(begin, w.wanFree) + int64(float64(o.size)/rate*float64(time.Second))
	if !waits {
		// The write waits only as long as the socket's buffer is full.
		return max(done, w.wanFree-int64(drbdBufferBytes/rate*float64(time.Second)))
	}
	done += w.wanFree - begin + int64(w.rtt) + int64(evenly(w.random, w.profile.Jitter))
	if w.random.Float64() < w.lossProbability {
		done += int64(retransmission + w.rtt)
	}
	return done
}
