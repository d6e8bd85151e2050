package simulated

import (
	"iter"
	"math"
	"math/rand/v2"
	"time"

	"heliotrope/internal/campaign"
)

// operation is one I/O. Times are ns since 1970 on the controller's clock.
type operation struct {
	submitted, done int64
	latency         int64 // ns on the guest's clock, which stands still with the guest
	offset          int64
	size            int
	read            bool
	met             conditions // where it was completed
}

// workload is a closed loop of I/Os through a model's phases.
type workload struct {
	*model
	random               *rand.Rand
	migrating, suspended int64 // ns; MaxInt64 when it does not happen
	resumed, connected   int64
	lost                 int64 // ns: on the guest's clock, in the stall
	precopied, switched  int64 // ends of pre-copy's slowdown, and of DRBD's protocol C
	lossProbability      float64

	diskFree, wanFree int64 // ns: when they may begin the next I/O
	cursor            int64 // of sequential I/Os
}

// operations gives the I/Os that are completed from one moment to another, in
// the order of their completion. At the start all outstanding ones are made.
func (m *model) operations(from, to time.Time) iter.Seq[*operation] {
	return func(yield func(*operation) bool) {
		w := m.newWorkload()
		slots := make([]operation, m.access.Outstanding)
		for i := range slots {
			w.submit(&slots[i], from.UnixNano())
		}
		if until, ends := m.diskUntil(); ends && until.Before(to) {
			to = until
		}
		for end := to.UnixNano(); ; {
			first := &slots[0]
			for i := range slots {
				if slots[i].done < first.done {
					first = &slots[i]
				}
			}
			if first.done > end || !yield(first) {
				return
			}
			w.submit(first, first.done+int64(thinkTime))
		}
	}
}

func (m *model) newWorkload() *workload {
	w := &workload{model: m, random: source(m.ref, "load"), lossProbability: lossOfRoundTrip(m.profile),
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
	return w
}

// conditions are those of an I/O that is made at a moment.
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

// submit makes the next I/O of a slot. None is made while the guest is
// suspended. One in flight then is made again when the disk is connected at the
// other site; one of a guest that was only paused is found done when it goes on.
// What the guest's clock lost is missing in the latency.
func (w *workload) submit(o *operation, at int64) {
	if at >= w.suspended && at < w.resumed {
		at = w.resumed
	}
	line := w.draw()
	o.submitted, o.size, o.read = at, line.SizeBytes, w.random.IntN(100) < line.ReadPercent
	o.offset = w.place(line)
	o.met = w.conditions(at)
	o.done = w.complete(o, at)
	if at < w.suspended && o.done >= w.suspended {
		if w.schedule.moved {
			o.met = w.conditions(w.resumed)
			o.done = w.complete(o, w.resumed)
		}
		o.done = max(o.done, w.resumed)
	}
	o.latency = o.done - at
	if at < w.suspended && o.done >= w.resumed {
		o.latency -= w.lost
	}
}

// draw chooses a line of the access specification by the lines' shares.
func (w *workload) draw() *campaign.AccessLine {
	lines := w.access.Lines
	if len(lines) == 1 {
		return &lines[0]
	}
	draw := w.random.IntN(100)
	for i := range lines {
		if draw -= lines[i].SharePercent; draw < 0 {
			return &lines[i]
		}
	}
	return &lines[len(lines)-1]
}

// place chooses an offset on the disk.
func (w *workload) place(line *campaign.AccessLine) int64 {
	size, align := int64(line.SizeBytes), int64(line.AlignBytes)
	if align <= 0 {
		align = sectorBytes
	}
	last := (diskBytes - size) / align // in units of the alignment
	if w.random.IntN(100) < line.RandomPercent {
		return w.random.Int64N(last+1) * align
	}
	unit := (w.cursor + align - 1) / align
	if unit > last {
		unit = 0
	}
	w.cursor = unit*align + size
	return unit * align
}

// complete is when an I/O that is made at a moment, under its conditions, is
// completed.
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
		// The write waits only while the socket's buffer is full.
		return max(done, w.wanFree-int64(drbdBufferBytes/rate*float64(time.Second)))
	}
	done += w.wanFree - begin + int64(w.rtt) + int64(evenly(w.random, w.profile.Jitter))
	if w.random.Float64() < w.lossProbability {
		done += int64(retransmission + w.rtt)
	}
	return done
}
