package judge

import (
	"cmp"
	"slices"

	"heliotrope/analysis/dataset"
)

// event is a sign of life that a witness saw: a completed I/O, a sample in
// which a counter had grown, a heartbeat.
type event struct {
	ts int64
	// spacing is how long before ts it may have happened, in ns.
	spacing int64
	place   string // the host that saw it; "" where there is only one
}

// silence is the time from one event to the next.
type silence struct{ last, next event }

func (s silence) span() span { return span{s.last.ts, s.next.ts} }

// looking is by how much the time between looks can falsify a silence, in ns. Its beginning
// may have been up to one spacing earlier, and so may its end. The two errors do not add
// up: they change the length in opposite directions.
func (s silence) looking() int64 { return max(s.last.spacing, s.next.spacing) }

// silences finds the longest silence among events that come in their order: the longest
// time between neighbours that overlaps the stall, or the window where stall is nil. It
// also finds the longest other silence in the window. The memory for it does not grow with
// the number of events.
type silences struct {
	window        span
	stall         *span
	last          event // the last one heard, up to the first after the window
	heard         bool
	before, after bool // an event was heard before the window, and after it
	longest       silence
	found         bool
	beside        int64
}

func newSilences(window span, stall *span) *silences { return &silences{window: window, stall: stall} }

func (s *silences) hear(e event) {
	if s.after {
		return
	}
	s.before, s.after = s.before || e.ts < s.window.from, e.ts >= s.window.to
	if s.heard {
		s.between(silence{s.last, e})
	}
	s.last, s.heard = e, true
}

func (s *silences) between(gap silence) {
	where := s.window
	if s.stall != nil {
		where = *s.stall
	}
	length := gap.next.ts - gap.last.ts
	switch {
	case !gap.span().overlaps(s.window):
	case gap.span().overlaps(where) && (!s.found || length > s.longest.next.ts-s.longest.last.ts):
		s.beside = max(s.beside, s.longest.next.ts-s.longest.last.ts)
		s.longest, s.found = gap, true
	default:
		s.beside = max(s.beside, length)
	}
}

// cameBack says whether an event came after the stall. Events that end with the window, as
// a load's may, count when they came after the stall.
func (s *silences) cameBack() bool {
	return s.after || s.heard && (s.stall == nil || s.last.ts >= s.stall.to)
}

// unheard has the problems of a witness that has no silence to report: it heard nothing at
// all, nothing before, nothing after, or was never silent.
type unheard struct{ nothing, before, after, silence string }

// longest finds a witness's longest silence among its events.
func (s *scene) longest(w *dataset.Witness, events []event, window span, words unheard) silence {
	slices.SortStableFunc(events, func(a, b event) int { return cmp.Compare(a.ts, b.ts) })
	heard := newSilences(window, s.stall)
	for _, e := range events {
		heard.hear(e)
	}
	return heard.tell(w, words)
}

// tell returns the longest silence and sets the longest other time in the witness's row, or
// its problem when there is none.
func (s *silences) tell(w *dataset.Witness, words unheard) silence {
	w.SpacingMs = *milliseconds(float64(s.beside))
	switch {
	case !s.heard:
		w.Problem = words.nothing
	case !s.before:
		w.Problem = words.before
	case !s.cameBack():
		w.Problem = words.after
	case !s.found:
		w.Problem = words.silence
	}
	return s.longest
}

// hole is the longest time between two looks of a witness that overlaps a span; looks are
// their moments, in order. The ends of the span stand in for missing looks before the first
// and after the last.
func hole(looks []int64, part span) int64 {
	if len(looks) == 0 {
		return part.to - part.from
	}
	longest := max(looks[0]-part.from, part.to-looks[len(looks)-1])
	for i := 1; i < len(looks); i++ {
		if (span{looks[i-1], looks[i]}).overlaps(part) {
			longest = max(longest, looks[i]-looks[i-1])
		}
	}
	return longest
}

// say sets a witness's stall and its uncertainty, which is in ns.
func say(row *dataset.Witness, stall span, uncertainty int64) {
	row.FromTsNs, row.ToTsNs = pointer(stall.from), pointer(stall.to)
	row.StallMs, row.UncertaintyMs = pointer(stall.milliseconds()), milliseconds(float64(uncertainty))
}
