package judge

import (
	"cmp"
	"math"
	"slices"
	"time"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/timebase"
	"heliotrope/internal/trial"
)

// responses finds the longest response times of the I/Os that were in flight at any time in
// a span.
//
// A guest's clock that stands still in the stall has the same reading, stepAt, for the
// whole stall. That reading is only known within a margin. When a stamp of an I/O is within
// the margin, nobody can say whether the I/O was in flight in the stall: its response time
// is what its stamps say, or that plus what the clock lost. But when such I/Os cover the
// whole margin, one of them was in flight, so the longest response time is at least what
// the clock lost plus the shortest of their times.
type responses struct {
	part          span
	middle        int64 // of the stall: on the controller's time base, the clock stepped there
	lost          int64 // by the guest's clock in the stall, ns
	stepAt        int64 // when the clock stepped, on the controller's time base without what was lost
	margin        int64 // uncertainty of stepAt, ns
	stall         bool  // there was a stall, and the four fields above are known
	reads, writes longest
}

// longest is what is found for reads, or for writes.
type longest struct {
	ios      int64
	elsewhen int64  // longest response time of I/Os that were certainly not in flight over the step
	over     int64  // the same for I/Os that certainly were
	perhaps  []span // all other I/Os, on the time base of responses.stepAt
	blurred  int64  // longest I/O that only table histograms has and that may have been in flight over the step
}

// newResponses needs the guest's clock.
func (s *scene) newResponses() *responses {
	r := &responses{part: s.atStake()}
	clock, known := s.clocks.bounds[trial.Guest].(*timebase.GuestClock)
	if !known || s.stall == nil || clock.StepAt().IsZero() {
		return r
	}
	from := time.Unix(0, s.stall.from)
	r.stall = true
	r.middle = s.stall.from + (s.stall.to-s.stall.from)/2
	r.lost = -clock.Step().Nanoseconds()
	r.stepAt = clock.StepAt().Add(-clock.Ahead(from)).UnixNano()
	r.margin = clock.StepMargin().Nanoseconds() + s.resolution()
	return r
}

func (r *responses) add(io *dataset.IO) {
	one := span{io.TsNs - io.LatencyNs, io.TsNs}
	if one.from >= r.part.to || one.to < r.part.from {
		return
	}
	of := &r.writes
	if io.Op == dataset.OpRead {
		of = &r.reads
	}
	of.ios++
	if r.stall {
		one = span{r.guests(one.from), r.guests(one.to)}
		if near := (span{r.stepAt - r.margin, r.stepAt + r.margin}); one.from <= near.to && one.to >= near.from {
			if one.from < near.from && one.to > near.to {
				of.over = max(of.over, one.to-one.from+r.lost)
			} else {
				of.perhaps = append(of.perhaps, one)
			}
			return
		}
	}
	of.elsewhen = max(of.elsewhen, io.LatencyNs)
}

// guests converts a moment to the controller's time base without what the guest's clock
// lost.
func (r *responses) guests(ts int64) int64 {
	if ts > r.middle {
		return ts - r.lost
	}
	return ts
}

// bounds are the lower and upper bound of the longest response time, in ns; over says that
// the upper one belongs to an I/O that was, or may have been, in flight over the step.
type bounds struct {
	ios       int64
	low, high int64
	over      bool
}

func (r *responses) bounds(of longest) bounds {
	b := bounds{ios: of.ios, low: max(of.elsewhen, of.over), high: max(of.elsewhen, of.over), over: of.over > of.elsewhen}
	either := func(seen int64) {
		b.low = max(b.low, min(seen, seen+r.lost))
		if with := max(seen, seen+r.lost); with > b.high {
			b.high, b.over = with, true
		}
	}
	if of.blurred > 0 {
		either(of.blurred)
	}
	shortest := int64(math.MaxInt64)
	for _, one := range of.perhaps {
		either(one.to - one.from)
		shortest = min(shortest, one.to-one.from)
	}
	if r.covered(of.perhaps) {
		b.low = max(b.low, shortest+r.lost)
	}
	return b
}

// all are the bounds for reads, for writes, and for both together.
func (r *responses) all() (reads, writes, both bounds) {
	reads, writes = r.bounds(r.reads), r.bounds(r.writes)
	both = r.bounds(longest{ios: reads.ios + writes.ios, elsewhen: max(r.reads.elsewhen, r.writes.elsewhen),
		over: max(r.reads.over, r.writes.over), perhaps: slices.Concat(r.reads.perhaps, r.writes.perhaps), blurred: max(r.reads.blurred, r.writes.blurred)})
	both.low = max(both.low, reads.low, writes.low)
	return reads, writes, both
}

// covered says whether one of these I/Os was in flight at every moment at which the clock
// may have stepped. Times between one I/O and the next that a worker submits do not count
// as uncovered when they are no longer than the log's resolution.
func (r *responses) covered(flights []span) bool {
	if len(flights) == 0 {
		return false
	}
	hole := logResolution.Nanoseconds()
	slices.SortFunc(flights, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	at := r.stepAt - r.margin
	for _, one := range flights {
		if one.from > at+hole {
			return false
		}
		at = max(at, one.to)
	}
	return at+hole >= r.stepAt+r.margin
}

// tellResponses sets the longest response times: of all I/Os, of reads and of writes. An
// I/O that was in flight when the load ended took at least until the guest was last heard.
// Where the load's log has no I/Os in flight, the heartbeats report them, but not whether
// they are reads or writes. When neither reports them, and the load did not go on until the
// end, nothing is known.
func (s *scene) tellResponses(heartbeats []dataset.Heartbeat) {
	row, r := s.row, s.load.responses
	if !s.load.known || r.part == (span{}) {
		return
	}
	f := s.flying(heartbeats)
	reads, writes, both := r.all()
	switch {
	case row.IOPending != nil:
		row.ReadResponse, row.WriteResponse = s.pending(reads, row.PendingReadTsNs, f), s.pending(writes, row.PendingWriteTsNs, f)
		row.Response = s.pending(both, earlier(row.PendingReadTsNs, row.PendingWriteTsNs), f)
	case f.told && f.longest.to-f.longest.from > both.high+s.doubt(f.longest):
		row.Response = s.inFlight(f.longest)
	case !f.told && r.part.to-s.load.last > both.high:
	default:
		row.Response, row.ReadResponse, row.WriteResponse = s.response(both), s.response(reads), s.response(writes)
		if f.told {
			row.Response.InFlight, row.ReadResponse.InFlight, row.WriteResponse.InFlight = new(bool), new(bool), new(bool)
		}
	}
}

// flying is what heartbeats report of the I/Os in flight.
type flying struct {
	told    bool
	longest span  // from the submission of the oldest I/O to the heartbeat that reported it
	heard   int64 // the time at which the guest was last heard
}

func (s *scene) flying(heartbeats []dataset.Heartbeat) flying {
	part := s.load.responses.part
	f := flying{heard: s.load.last}
	for _, beat := range heartbeats {
		f.told = f.told || beat.CompletedIOs.Known
	}
	for _, beat := range heartbeats {
		if f.told && !beat.OldestSubmittedTsNs.Known || !part.contains(beat.SentTsNs) {
			continue
		}
		f.heard = max(f.heard, beat.SentTsNs)
		if one := (span{beat.OldestSubmittedTsNs.Value, beat.SentTsNs}); f.told && one.to-one.from > f.longest.to-f.longest.from {
			f.longest = one
		}
	}
	f.heard = min(f.heard, part.to)
	return f
}

// doubt is the uncertainty of an I/O's age, in ns; 0 where it is not known.
func (s *scene) doubt(one span) int64 {
	ns, _ := s.guestUncertainty(one)
	return ns
}

func earlier(a, b *int64) *int64 {
	if a == nil || b != nil && *b < *a {
		return b
	}
	return a
}

// pending is the longest response time when it is known which I/O is the oldest that never
// completed: submitted is when that was, nil when all completed.
func (s *scene) pending(of bounds, submitted *int64, f flying) dataset.Response {
	if submitted == nil || *submitted >= s.load.responses.part.to {
		response := s.response(of)
		response.InFlight = new(bool)
		return response
	}
	one := span{*submitted, max(f.heard, *submitted)}
	if one.to-one.from > of.high {
		return s.inFlight(one)
	}
	response := s.response(of)
	response.InFlight = pointer(true)
	return response
}

// inFlight is the response time of an I/O that took at least as long as the span.
func (s *scene) inFlight(one span) dataset.Response {
	response := dataset.Response{Ms: pointer(one.milliseconds()), InFlight: pointer(true)}
	if ns, known := s.guestUncertainty(one); known {
		response.UncertaintyMs = milliseconds(float64(ns))
	}
	return response
}

// response is the longest response time of the I/Os that completed.
func (s *scene) response(of bounds) dataset.Response {
	if of.ios == 0 {
		return dataset.Response{}
	}
	response := dataset.Response{Ms: milliseconds(float64(of.low+of.high) / 2)}
	bound, known := float64(of.high)*timebase.DefaultDriftPPM/1e6, s.clocks.bounds[trial.Guest] != nil
	if of.over {
		var ns int64
		ns, known = s.guestUncertainty(*s.stall)
		bound = float64(ns)
	}
	if known {
		response.UncertaintyMs = milliseconds(float64(of.high-of.low)/2 + bound)
	}
	return response
}
