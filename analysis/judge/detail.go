package judge

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"heliotrope/analysis/dataset"
)

// coarsest is the longest interval of a histogram whose I/Os can still be assigned to one
// round or another.
const coarsest = 100 * time.Millisecond

// blurred are completions that only table histograms has. Each interval with completions is
// one event at the interval's end, which may have happened up to the interval's length
// earlier.
type blurred struct {
	events []event // events that have not been handled yet, in their order
	ios    int64
	// longestNs is the longest interval in the window. coarse says that an interval in the
	// measuring phases is too long to be assigned to rounds.
	longestNs int64
	coarse    bool
}

// readHistograms reads table histograms. It must run before the I/Os of table io are read.
func (s *scene) readHistograms(histograms dataset.Batches[dataset.Histogram]) error {
	window, _ := s.window()
	blurred := &s.load.blurred
	for rows, err := range orNone(histograms) {
		if err != nil {
			return fmt.Errorf("its histograms: %w", err)
		}
		for i := range rows {
			h := &rows[i]
			if err := s.load.addHistogram(h); err != nil {
				return fmt.Errorf("its histograms: row at %d ns: %w", h.TsNs, err)
			}
			part := span{h.TsNs, h.TsNs + h.LengthNs}
			blurred.coarse = blurred.coarse || h.LengthNs > coarsest.Nanoseconds() && part.overlaps(s.measuring())
			if part.overlaps(window) {
				blurred.longestNs = max(blurred.longestNs, h.LengthNs)
			}
		}
	}
	slices.SortStableFunc(blurred.events, func(a, b event) int { return cmp.Compare(a.ts, b.ts) })
	return nil
}

// addHistogram counts the I/Os of an interval at the interval's beginning.
func (l *load) addHistogram(h *dataset.Histogram) error {
	for _, phase := range l.phases {
		if phase.contains(h.TsNs) {
			if err := phase.addHistogram(h); err != nil {
				return err
			}
		}
	}
	l.count(h.TsNs, h.IOs-h.Errors)
	l.responses.addHistogram(h)
	l.blurred.ios += h.IOs - h.Errors
	if h.IOs > h.Errors {
		l.blurred.events = append(l.blurred.events, event{ts: h.TsNs + h.LengthNs, spacing: h.LengthNs})
	}
	return nil
}

// until handles the events up to a moment.
func (l *load) until(ts int64) {
	for events := l.blurred.events; len(events) > 0 && events[0].ts <= ts; events = l.blurred.events {
		l.blurred.events = events[1:]
		l.hear(events[0])
	}
}

// addHistogram counts response times as the middles of their buckets; both histograms have
// the same buckets.
func (p *phaseLoad) addHistogram(h *dataset.Histogram) error {
	if h.IOs == h.Errors {
		return nil // nothing completed successfully
	}
	of := &p.writes
	if h.Op == dataset.OpRead {
		of = &p.reads
	}
	if err := of.AddCounts(h.Counts, h.MaxNs); err != nil {
		return err
	}
	p.bytes += h.Bytes
	return nil
}

// addHistogram takes an interval's longest I/O, the only one whose response time is known
// exactly. When that I/O may have been in flight over the step, it counts as blurred.
func (r *responses) addHistogram(h *dataset.Histogram) {
	part := span{h.TsNs - h.MaxNs, h.TsNs + h.LengthNs}
	if part.from >= r.part.to || part.to < r.part.from || h.IOs == 0 {
		return
	}
	of := &r.writes
	if h.Op == dataset.OpRead {
		of = &r.reads
	}
	of.ios += h.IOs
	if r.stall && r.guests(h.TsNs)-h.MaxNs <= r.stepAt+r.margin && r.guests(h.TsNs)+h.LengthNs >= r.stepAt-r.margin {
		of.blurred = max(of.blurred, h.MaxNs)
		return
	}
	of.elsewhen = max(of.elsewhen, h.MaxNs)
}
