package judge

import (
	"fmt"
	"math"
	"time"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/cause"
	"heliotrope/internal/load/spec"
	"heliotrope/internal/steady"
	"heliotrope/internal/trial"
)

// logResolution is the resolution of the times in fio's log.
const logResolution = time.Millisecond

// resolution is the resolution of the times in the load's log, in ns.
func (s *scene) resolution() int64 {
	if s.row.Engine != nil && *s.row.Engine == spec.EngineOwn {
		return 0
	}
	return logResolution.Nanoseconds()
}

// load is what one pass over an attempt's I/Os finds. The memory for it does not grow with
// the number of I/Os. Method inOrder handles what needs completions in the order of their
// times.
type load struct {
	known  bool  // the load's log is known
	rows   int64 // of table io
	last   int64 // time of the last completion
	phases []*phaseLoad
	// Levels before and after, recovery and loss are computed from these.
	warmUp, recovery, after    *steady.Rounds
	untilStall, fromStall      tally
	responses                  *responses
	order                      order
	usual, window, unavailable gaps      // in phase before; where a stall is looked for; from the storage's preparation on
	unavailableNs              int64     // of the gaps of unavailable that are longer than usual
	guest                      steps     // of the guest's clock in the window
	silences                   *silences // as the guest's witness sees them
	blurred                    blurred
}

// tally counts the completions in a span.
type tally struct {
	span
	ios int64
}

func (t *tally) add(ts, ios int64) {
	if t.contains(ts) {
		t.ios += ios
	}
}

// readLoad reads the attempt's I/Os and sets all results except level, recovery and loss.
// The stall and the guest's clock must be known by now.
func (s *scene) readLoad(raw Raw, judged *Judged) error {
	s.row.Response, s.row.ReadResponse, s.row.WriteResponse = dataset.Response{}, dataset.Response{}, dataset.Response{}
	l := s.newLoad()
	s.load = l
	l.known = raw.IO != nil
	if err := s.readHistograms(raw.Histograms); err != nil {
		return err
	}
	for rows, err := range orNone(raw.IO) {
		if err != nil {
			return fmt.Errorf("its I/Os: %w", err)
		}
		for i := range rows {
			l.add(&rows[i])
		}
		l.rows += int64(len(rows))
	}
	l.order.end()
	l.until(math.MaxInt64)
	l.usual.end()
	l.window.end()
	l.countUnavailable(l.unavailable.end())
	judged.Phases = s.tellLoad()
	return nil
}

func (s *scene) newLoad() *load {
	window, _ := s.window()
	l := &load{
		phases: newPhases(s.timeline), warmUp: s.warmUpRounds(), after: s.afterRounds(),
		recovery: steady.NewRounds(0, 0, recoveryRound), responses: s.newResponses(),
		usual: newGaps(s.phase(trial.Before)), window: newGaps(window), unavailable: newGaps(s.atStake()),
		silences: newSilences(window, s.stall),
	}
	l.untilStall.span = window
	if s.stall != nil {
		l.untilStall.to = s.stall.from
		l.fromStall.span = span{s.stall.from, window.to}
		l.recovery = steady.NewRounds(s.stall.to, window.to, recoveryRound)
	}
	l.order.give = l.inOrder
	return l
}

// atStake is the span from the start of phase migrate to the end of phase after; empty when
// one of the two did not happen.
func (s *scene) atStake() span {
	after := s.phase(trial.After)
	if after == (span{}) {
		return span{}
	}
	return span{s.phase(trial.Migrate).from, after.to}
}

// add takes an I/O; they may come in any order. A failed I/O has a response time, but does
// not count as completed work: a disk that refuses I/Os at once has not recovered.
func (l *load) add(io *dataset.IO) {
	l.responses.add(io)
	if io.Error != 0 {
		return
	}
	for _, phase := range l.phases {
		if phase.contains(io.TsNs) {
			phase.add(io)
		}
	}
	l.count(io.TsNs, 1)
	l.order.add(completion{io.TsNs, io.GuestTsNs})
}

// count counts completions, which may come in any order.
func (l *load) count(ts, ios int64) {
	l.warmUp.Add(ts, ios)
	l.recovery.Add(ts, ios)
	l.after.Add(ts, ios)
	l.untilStall.add(ts, ios)
	l.fromStall.add(ts, ios)
}

// inOrder takes completions in the order of their times.
func (l *load) inOrder(c completion) {
	l.until(c.ts)
	if l.window.contains(c.ts) {
		l.guest.to(c.guest)
	}
	l.hear(event{ts: c.ts})
}

// hear takes completions in the order of their times, from table io and table histograms.
func (l *load) hear(e event) {
	l.usual.completed(e.ts)
	l.countUnavailable(l.unavailable.completed(e.ts))
	l.window.completed(e.ts)
	l.silences.hear(e)
	l.last = max(l.last, e.ts)
}

// ios is the number of I/Os in both tables.
func (l *load) ios() int64 { return l.rows + l.blurred.ios }

// countUnavailable counts a gap when it is longer than all gaps of phase before.
func (l *load) countUnavailable(gap int64) {
	if gap > l.usual.longest.to-l.usual.longest.from {
		l.unavailableNs += gap
	}
}

// gaps are the intervals of a span without a completed I/O. The span's ends count as
// completions: when the load never comes back, the gap lasts until the span's end.
type gaps struct {
	span
	last    int64 // the last completion
	longest span
}

func newGaps(part span) gaps {
	return gaps{span: part, last: part.from, longest: span{part.from, part.from}}
}

// completed takes the next completion, and returns the length of the gap that it ends.
func (g *gaps) completed(ts int64) int64 {
	if ts < g.from {
		return 0
	}
	ts = min(ts, g.to)
	gap := span{g.last, ts}
	if g.last = ts; gap.to-gap.from > g.longest.to-g.longest.from {
		g.longest = gap
	}
	return gap.to - gap.from
}

// end returns the length of the gap that ends with the span.
func (g *gaps) end() int64 { return g.completed(g.to) }

// steps are the steps of the guest's clock from one completion to the next.
type steps struct {
	last, longest int64
	count         int64 // of completions
}

func (s *steps) to(guest int64) {
	if s.count++; s.count == 2 {
		s.longest = guest - s.last
	} else if s.count > 2 {
		s.longest = max(s.longest, guest-s.last)
	}
	s.last = guest
}

// tellLoad sets the results of the pass in the attempt's row, except level, recovery and loss.
func (s *scene) tellLoad() []dataset.Phase {
	row, l := s.row, s.load
	row.IORows, row.LongestGapMs, row.LongestGapUncertaintyMs, row.GapGuestClockMs, row.UnavailableS = nil, nil, nil, nil, nil
	if l.known {
		row.IORows = pointer(l.rows)
	}
	row.OverheadS = s.overhead()
	result := make([]dataset.Phase, len(l.phases))
	for i, phase := range l.phases {
		result[i] = phase.row(row.Key, l.known)
	}
	if l.order.tooLate > 0 {
		s.problem(cause.DataDamaged, "table io is not in the order of completion: %d of %d I/Os come more than %d rows too late",
			l.order.tooLate, l.rows, mostLate)
		return result
	}
	if l.ios() > 0 {
		s.tellGaps()
	}
	return result
}

// tellGaps sets the longest interval without a completed I/O, whatever its cause, on the
// controller's time base; the longest step between two neighbouring completions on the
// guest's clock; and for how long no I/O completed for longer than usual. Without any I/O
// there was no load, and so no gap. The guest's clock must be known, and therefore the
// stall.
func (s *scene) tellGaps() {
	row, l := s.row, s.load
	if _, ok := s.window(); ok {
		row.LongestGapMs = pointer(l.window.longest.milliseconds())
		if l.guest.count > 1 && l.blurred.longestNs == 0 {
			row.GapGuestClockMs = milliseconds(float64(l.guest.longest))
		}
		if ns, ok := s.guestUncertainty(l.window.longest); ok {
			row.LongestGapUncertaintyMs = milliseconds(float64(ns + l.blurred.longestNs))
		}
	}
	if s.complete() {
		row.UnavailableS = pointer(float64(l.unavailableNs) / 1e9)
	}
}

// overhead is a trial's time outside of its measuring phases; nil when the trial did not
// complete them.
func (s *scene) overhead() *float64 {
	if !s.complete() {
		return nil
	}
	measured := int64(0)
	for _, phase := range measuringPhases {
		part := s.phase(phase)
		measured += part.to - part.from
	}
	return pointer(float64(s.row.EndedTsNs-s.row.StartedTsNs-measured) / 1e9)
}

// guestUncertainty is the uncertainty of an interval between two completions, in ns: that of
// the guest's clock at both ends, from table clocks or, for older attempts, from the row;
// and that of the load's log.
func (s *scene) guestUncertainty(gap span) (int64, bool) {
	from, known := s.clocks.at(trial.Guest, gap.from)
	to, _ := s.clocks.at(trial.Guest, gap.to)
	if !known {
		if s.row.GuestClockBeforeUncertNs == nil || s.row.GuestClockAfterUncertNs == nil {
			return 0, false
		}
		from, to = *s.row.GuestClockBeforeUncertNs, *s.row.GuestClockAfterUncertNs
	}
	return from + to + s.resolution(), true
}
