package judge

import (
	"cmp"
	"math"
	"slices"
	"time"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/trial"
)

// logResolution is the resolution of the time stamps in fio's log.
const logResolution = time.Millisecond

// completion of an I/O on both clocks.
type completion struct{ ts, guest int64 }

// load reads the attempt's I/Os, in any order, computes its rows of table
// phases, and completes its row: IORows, OverheadS, and the longest gap
// wherever it was.
func (s *scene) load(ios dataset.Batches[dataset.IO]) ([]dataset.Phase, error) {
	row := s.row
	row.IORows, row.LongestGapMs, row.LongestGapUncertaintyMs, row.GapGuestClockMs = nil, nil, nil, nil
	row.OverheadS = s.overhead()
	var phases []*phaseLoad
	for _, name := range []struct {
		phase trial.Phase
		name  string
	}{{trial.Before, dataset.Before}, {trial.Migrate, dataset.During}, {trial.After, dataset.After}} {
		if part, ok := phaseSpan(s.timeline, name.phase); ok {
			phases = append(phases, &phaseLoad{name: name.name, span: part})
		}
	}
	for rows, err := range orNone(ios) {
		if err != nil {
			return nil, err
		}
		for i := range rows {
			s.completions = append(s.completions, completion{rows[i].TsNs, rows[i].GuestTsNs})
			for _, phase := range phases {
				if phase.contains(rows[i].TsNs) {
					phase.add(&rows[i])
				}
			}
		}
	}
	row.IORows = pointer(int64(len(s.completions)))
	slices.SortStableFunc(s.completions, func(a, b completion) int {
		return cmp.Or(cmp.Compare(a.ts, b.ts), cmp.Compare(a.guest, b.guest))
	})
	result := make([]dataset.Phase, len(phases))
	for i, phase := range phases {
		result[i] = phase.row(row.Key)
	}
	return result, nil
}

// overhead is the time of a trial outside of its measuring phases; nil when it
// did not get through them.
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

// within is the completions in a span.
func (s *scene) within(part span) []completion {
	find := func(ts int64) int {
		i, _ := slices.BinarySearchFunc(s.completions, ts, func(c completion, ts int64) int { return cmp.Compare(c.ts, ts) })
		return i
	}
	return s.completions[find(part.from):find(part.to)]
}

// longestGap finds the longest interval without a completed I/O, whatever its
// cause, on the controller's time base, and the longest step between neighbours
// on the guest's clock. The window's ends bound gaps too: a load that never
// came back is a gap up to its end.
//
// Without any I/O there was no load, and no gap in it. The guest's clock must be
// known: it needs the stall.
func (s *scene) longestGap() {
	window, ok := s.window()
	if !ok || !s.row.HasIO() {
		return
	}
	completions := s.within(window)
	longest, last, guest := span{window.from, window.from}, window.from, int64(math.MinInt64)
	consider := func(ts int64) {
		if ts-last > longest.to-longest.from {
			longest = span{last, ts}
		}
		last = ts
	}
	for i, c := range completions {
		consider(c.ts)
		if i > 0 {
			guest = max(guest, c.guest-completions[i-1].guest)
		}
	}
	consider(window.to)
	s.row.LongestGapMs = pointer(longest.milliseconds())
	if len(completions) > 1 {
		s.row.GapGuestClockMs = milliseconds(float64(guest))
	}
	if ns, ok := s.guestUncertainty(longest); ok {
		s.row.LongestGapUncertaintyMs = milliseconds(float64(ns))
	}
}

// guestUncertainty is that of an interval between two completions, in ns: of
// the guest's clock at both ends, as table clocks or, from before there was one,
// the row has it, and of fio's log.
func (s *scene) guestUncertainty(gap span) (int64, bool) {
	from, known := s.clocks.at(trial.Guest, gap.from)
	to, _ := s.clocks.at(trial.Guest, gap.to)
	if !known {
		if s.row.GuestClockBeforeUncertNs == nil || s.row.GuestClockAfterUncertNs == nil {
			return 0, false
		}
		from, to = *s.row.GuestClockBeforeUncertNs, *s.row.GuestClockAfterUncertNs
	}
	return from + to + logResolution.Nanoseconds(), true
}

// phaseLoad is the load of one phase, on its way into a row.
type phaseLoad struct {
	span
	name                 string
	reads, writes, bytes int64
	latencies            []int64
}

func (p *phaseLoad) add(io *dataset.IO) {
	if io.Op == dataset.OpRead {
		p.reads++
	} else {
		p.writes++
	}
	p.bytes += int64(io.SizeBytes)
	p.latencies = append(p.latencies, io.LatencyNs)
}

func (p *phaseLoad) row(key string) dataset.Phase {
	seconds := p.seconds()
	row := dataset.Phase{
		Trial: key, Phase: p.name, StartedTsNs: p.from, EndedTsNs: p.to, Seconds: seconds,
		IOs: pointer(p.reads + p.writes), Reads: pointer(p.reads), Writes: pointer(p.writes), Bytes: pointer(p.bytes),
		IOPS: new(float64), MBPerS: new(float64),
	}
	if seconds > 0 {
		row.IOPS, row.MBPerS = pointer(float64(p.reads+p.writes)/seconds), pointer(float64(p.bytes)/(1e6*seconds))
	}
	if len(p.latencies) == 0 {
		return row
	}
	slices.Sort(p.latencies)
	sum := 0.0
	for _, ns := range p.latencies {
		sum += float64(ns)
	}
	row.MeanMs = milliseconds(sum / float64(len(p.latencies)))
	row.P50Ms = milliseconds(float64(Percentile(p.latencies, 500)))
	row.P99Ms = milliseconds(float64(Percentile(p.latencies, 990)))
	row.P999Ms = milliseconds(float64(Percentile(p.latencies, 999)))
	row.MaxMs = milliseconds(float64(Percentile(p.latencies, 1000)))
	return row
}

// Percentile is the exact percentile of sorted values by nearest rank: the
// smallest of them that at least so many thousandths of them do not exceed
// (990 is the 99th percentile). There must be one value at least.
func Percentile(sorted []int64, perMille int) int64 {
	rank := (len(sorted)*perMille + 999) / 1000
	return sorted[max(rank, 1)-1]
}
