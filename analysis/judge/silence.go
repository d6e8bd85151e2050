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

// longestSilence is the longest time between neighbours among events that
// overlaps the stall, or the window where stall is nil; and the longest beside
// it in the window. False when no two events have such a time between them.
func longestSilence(events []event, window span, stall *span) (longest silence, beside int64, found bool) {
	where := window
	if stall != nil {
		where = *stall
	}
	var gaps []silence
	for i := 1; i < len(events); i++ {
		gap := silence{events[i-1], events[i]}
		if !gap.span().overlaps(window) {
			continue
		}
		gaps = append(gaps, gap)
		if gap.span().overlaps(where) && (!found || gap.next.ts-gap.last.ts > longest.next.ts-longest.last.ts) {
			longest, found = gap, true
		}
	}
	for _, gap := range gaps {
		if gap != longest {
			beside = max(beside, gap.next.ts-gap.last.ts)
		}
	}
	return longest, beside, found
}

// around is the events of a window, with the one before it and the one after
// it; false when there is none before, or after. What ends with the window, as
// a load may, was there after it when it was there after the stall.
func (s *scene) around(events []event, window span) (part []event, before, after bool) {
	part, before, after = around(events, window)
	if !after && len(part) > 0 {
		after = s.stall == nil || part[len(part)-1].ts >= s.stall.to
	}
	return part, before, after
}

func around(events []event, window span) (part []event, before, after bool) {
	slices.SortStableFunc(events, func(a, b event) int { return cmp.Compare(a.ts, b.ts) })
	find := func(ts int64) int {
		i, _ := slices.BinarySearchFunc(events, ts, func(e event, ts int64) int { return cmp.Compare(e.ts, ts) })
		return i
	}
	first, last := find(window.from), find(window.to)
	before, after = first > 0, last < len(events)
	if before {
		first--
	}
	if after {
		last++
	}
	return events[first:last], before, after
}

// unheard is what a witness says that has no silence to tell of: that it heard
// nothing at all, nothing before, nothing after, or was never without.
type unheard struct{ nothing, before, after, silence string }

// longest finds a witness's longest silence among its events, notes the longest
// time beside it, and says why there is none.
func (s *scene) longest(w *dataset.Witness, events []event, window span, words unheard) silence {
	part, before, after := s.around(events, window)
	silent, beside, found := longestSilence(part, window, s.stall)
	w.SpacingMs = *milliseconds(float64(beside))
	switch {
	case len(events) == 0:
		w.Problem = words.nothing
	case !before:
		w.Problem = words.before
	case !after:
		w.Problem = words.after
	case !found:
		w.Problem = words.silence
	}
	return silent
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
