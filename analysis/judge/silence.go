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

// silence is the time from one event to the next one.
type silence struct{ last, next event }

func (s silence) span() span { return span{s.last.ts, s.next.ts} }

// looking is the most that a silence can be off by because of the time between
// looks: its beginning was up to one spacing earlier, or its end was, but for a
// sum of both the two would have to be off in opposite ways.
func (s silence) looking() int64 { return max(s.last.spacing, s.next.spacing) }

// silences finds the longest silence among events that come in their order: the
// longest time between neighbours that overlaps the stall, or the window where
// stall is nil; and the longest beside it in the window. What it keeps does not
// grow with the events.
type silences struct {
	window        span
	stall         *span
	last          event // that was heard, up to the first after the window
	heard         bool
	before, after bool // something was heard before the window, and after it
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

// cameBack says whether there was something after the stall: what ends with the
// window, as a load may, was there after it when it was there after the stall.
func (s *silences) cameBack() bool {
	return s.after || s.heard && (s.stall == nil || s.last.ts >= s.stall.to)
}

// unheard is what a witness says that has no silence to tell of: that it heard
// nothing at all, nothing before, nothing after, or was never without.
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

// tell gives the longest silence, notes the longest time beside it, and says why
// there is none.
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

// hole is the longest time between two looks of a witness, at the moments
// looks in their order, that overlaps a span; an end of the span stands in for
// the look that there is not before it, or after it.
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

// say fills a witness's row with a stall and its uncertainty in ns.
func say(row *dataset.Witness, stall span, uncertainty int64) {
	row.FromTsNs, row.ToTsNs = pointer(stall.from), pointer(stall.to)
	row.StallMs, row.UncertaintyMs = pointer(stall.milliseconds()), milliseconds(float64(uncertainty))
}
