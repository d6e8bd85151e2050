// Package report computes what a trial's rows say, and puts a campaign's
// trials together into a summary.
//
// It promises that every number comes from rows of the dataset: exact
// percentiles over the response times (never percentiles of percentiles),
// medians over migrations (never over I/Os), and nothing where nothing is
// known. A simulated testbed is named first, before any number.
//
// Dangerous: times are those of the rows, on the controller's time base; a gap
// is no more certain than the clocks were, and says how uncertain it is.
package report

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/clock"
	"heliotrope/internal/trial"
)

// logResolution is the resolution of the time stamps in fio's log.
const logResolution = time.Millisecond

// span is a part of a trial: from its first moment to the one after its last.
type span struct{ from, to int64 }

func (s span) contains(ts int64) bool { return s.from <= ts && ts < s.to }

// phaseSpan is from a phase's beginning to that of whichever came next; false
// when it did not begin, or nothing followed it.
func phaseSpan(timeline trial.Timeline, phase trial.Phase) (span, bool) {
	for i, mark := range timeline[:max(0, len(timeline)-1)] {
		if mark.Phase == phase {
			return span{mark.At.UnixNano(), timeline[i+1].At.UnixNano()}, true
		}
	}
	return span{}, false
}

// Measure computes an attempt's rows of table phases from its I/Os, in one
// pass, and completes its row of table trials: IORows, OverheadS, LongestGapMs,
// its uncertainty, and GapGuestClockMs. Of the row it uses the key, the
// timeline, MigrationStartedTsNs (the phase's beginning when it is nil) and the
// clocks. The I/Os may come in any order: fio's log is in the order of its own
// time, and logs of several jobs follow one another.
func Measure(row *dataset.Trial, ios dataset.Batches[dataset.IO]) ([]dataset.Phase, error) {
	timeline := row.Timeline()
	row.IORows, row.LongestGapMs, row.LongestGapUncertaintyMs, row.GapGuestClockMs = 0, nil, nil, nil
	row.OverheadS = overhead(row, timeline)

	var phases []*phaseLoad
	for _, name := range []struct {
		phase trial.Phase
		name  string
	}{{trial.Before, dataset.Before}, {trial.Migrate, dataset.During}, {trial.After, dataset.After}} {
		if part, ok := phaseSpan(timeline, name.phase); ok {
			phases = append(phases, &phaseLoad{name: name.name, span: part})
		}
	}
	window, hasWindow := gapWindow(row, timeline)
	var completions []completion
	for rows, err := range ios {
		if err != nil {
			return nil, fmt.Errorf("measure trial %s: %w", row.Key, err)
		}
		for i := range rows {
			row.IORows++
			for _, phase := range phases {
				if phase.contains(rows[i].TsNs) {
					phase.add(&rows[i])
				}
			}
			if hasWindow && window.contains(rows[i].TsNs) {
				completions = append(completions, completion{rows[i].TsNs, rows[i].GuestTsNs})
			}
		}
	}
	// Without any I/O there was no load, and no gap in it.
	if hasWindow && row.IORows > 0 {
		measureGap(row, completions, window)
	}
	result := make([]dataset.Phase, len(phases))
	for i, phase := range phases {
		result[i] = phase.row(row.Key)
	}
	return result, nil
}

// overhead is the time of a trial outside of warm-up, before, migrate and
// after; nil when it did not get through them.
func overhead(row *dataset.Trial, timeline trial.Timeline) *float64 {
	measured := int64(0)
	for _, phase := range []trial.Phase{trial.WarmUp, trial.Before, trial.Migrate, trial.After} {
		part, ok := phaseSpan(timeline, phase)
		if !ok {
			return nil
		}
		measured += part.to - part.from
	}
	seconds := float64(row.EndedTsNs-row.StartedTsNs-measured) / 1e9
	return &seconds
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
	seconds := float64(p.to-p.from) / 1e9
	row := dataset.Phase{
		Trial: key, Phase: p.name, StartedTsNs: p.from, EndedTsNs: p.to, Seconds: seconds,
		IOs: p.reads + p.writes, Reads: p.reads, Writes: p.writes, Bytes: p.bytes,
	}
	if seconds > 0 {
		row.IOPS, row.MBPerS = float64(row.IOs)/seconds, float64(p.bytes)/(1e6*seconds)
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

func milliseconds(ns float64) *float64 {
	ms := ns / 1e6
	return &ms
}

// Percentile is the exact percentile of sorted values by nearest rank: the
// smallest of them that at least so many thousandths of them do not exceed
// (990 is the 99th percentile). There must be one value at least.
func Percentile(sorted []int64, perMille int) int64 {
	rank := (len(sorted)*perMille + 999) / 1000
	return sorted[max(rank, 1)-1]
}

// Gap is an interval without a completed I/O, ns since 1970 UTC.
type Gap struct{ FromNs, ToNs int64 }

// Length of the gap.
func (g Gap) Length() time.Duration { return time.Duration(g.ToNs - g.FromNs) }

// LongestGap is the longest interval in [from, to] without a completion, the
// earliest of several. The interval's ends bound gaps too: without any
// completion it is the gap, and a load that never came back is a gap up to its
// end. Completions outside do not matter; they may be in any order.
func LongestGap(completions []int64, from, to int64) Gap {
	if !slices.IsSorted(completions) {
		completions = slices.Sorted(slices.Values(completions))
	}
	longest, last := Gap{from, from}, from
	for _, ts := range append(slices.Clip(completions), to) {
		ts = min(max(ts, from), to)
		if ts-last > longest.ToNs-longest.FromNs {
			longest = Gap{last, ts}
		}
		last = ts
	}
	return longest
}

// completion of an I/O on both clocks.
type completion struct{ ts, guest int64 }

// gapWindow is where the blackout is looked for: from the migration's start to
// the end of phase after, or of the migration when there was no after.
func gapWindow(row *dataset.Trial, timeline trial.Timeline) (span, bool) {
	window, ok := phaseSpan(timeline, trial.Migrate)
	if !ok {
		return span{}, false
	}
	if row.MigrationStartedTsNs != nil {
		window.from = *row.MigrationStartedTsNs
	}
	if after, ok := phaseSpan(timeline, trial.After); ok {
		window.to = after.to
	}
	return window, window.from < window.to
}

// measureGap finds the blackout on the controller's time base, and the longest
// step between neighbours on the guest's clock.
func measureGap(row *dataset.Trial, completions []completion, window span) {
	slices.SortStableFunc(completions, func(a, b completion) int {
		return cmp.Or(cmp.Compare(a.ts, b.ts), cmp.Compare(a.guest, b.guest))
	})
	times := make([]int64, len(completions))
	guest := int64(math.MinInt64)
	for i, c := range completions {
		times[i] = c.ts
		if i > 0 {
			guest = max(guest, c.guest-completions[i-1].guest)
		}
	}
	row.LongestGapMs = milliseconds(float64(LongestGap(times, window.from, window.to).Length()))
	if len(completions) > 1 {
		row.GapGuestClockMs = milliseconds(float64(guest))
	}
	if row.GuestClockBeforeUncertNs != nil && row.GuestClockAfterUncertNs != nil {
		row.LongestGapUncertaintyMs = milliseconds(float64(
			*row.GuestClockBeforeUncertNs + *row.GuestClockAfterUncertNs + logResolution.Nanoseconds()))
	}
}

// SetGuestClocks notes the guest's clock before and after the migration; nil
// is not known. Call it before Measure: the gap's uncertainty is the sum of
// theirs, because its ends are on one and on the other, and of the log's
// resolution.
func SetGuestClocks(row *dataset.Trial, before, after *clock.Offset) {
	split := func(offset *clock.Offset) (ahead, uncertainty *int64) {
		if offset == nil {
			return nil, nil
		}
		a, u := offset.Ahead.Nanoseconds(), offset.Uncertainty.Nanoseconds()
		return &a, &u
	}
	row.GuestClockBeforeNs, row.GuestClockBeforeUncertNs = split(before)
	row.GuestClockAfterNs, row.GuestClockAfterUncertNs = split(after)
}
