package judge

import (
	"heliotrope/analysis/dataset"
	"heliotrope/analysis/stats"
	"heliotrope/internal/trial"
)

// phaseLoad adds up the load of one phase.
type phaseLoad struct {
	span
	name          string
	reads, writes stats.Histogram
	bytes         int64
}

// newPhases makes a phaseLoad for each phase that happened.
func newPhases(timeline trial.Timeline) []*phaseLoad {
	var phases []*phaseLoad
	for _, one := range []struct {
		phase trial.Phase
		name  string
	}{{trial.Before, dataset.Before}, {trial.Migrate, dataset.During}, {trial.After, dataset.After}} {
		if part, ok := phaseSpan(timeline, one.phase); ok {
			phases = append(phases, &phaseLoad{span: part, name: one.name})
		}
	}
	return phases
}

func (p *phaseLoad) add(io *dataset.IO) {
	if io.Op == dataset.OpRead {
		p.reads.Add(io.LatencyNs)
	} else {
		p.writes.Add(io.LatencyNs)
	}
	p.bytes += int64(io.SizeBytes)
}

// row is the phase's row; without any number when the load's log is not known.
func (p *phaseLoad) row(key string, known bool) dataset.Phase {
	seconds := p.seconds()
	row := dataset.Phase{Trial: key, Phase: p.name, StartedTsNs: p.from, EndedTsNs: p.to, Seconds: seconds}
	if !known {
		return row
	}
	var all stats.Histogram
	all.Join(p.reads)
	all.Join(p.writes)
	// These are copies: a pointer would keep the histograms in memory.
	row.IOs, row.Reads, row.Writes, row.Bytes = pointer(all.Count), pointer(p.reads.Count), pointer(p.writes.Count), pointer(p.bytes)
	row.IOPS, row.MBPerS = new(float64), new(float64)
	if seconds > 0 {
		*row.IOPS, *row.MBPerS = float64(all.Count)/seconds, float64(p.bytes)/(1e6*seconds)
	}
	if all.Count == 0 {
		return row
	}
	row.MeanMs = milliseconds(all.Mean())
	SetPercentiles(&row, &all)
	row.MaxMs = milliseconds(float64(all.LongestNs))
	return row
}

// SetPercentiles sets a row's percentiles of response times, of which there must be at least
// one.
func SetPercentiles(row *dataset.Phase, of *stats.Histogram) {
	row.P50Ms = milliseconds(float64(of.Percentile(500)))
	row.P99Ms = milliseconds(float64(of.Percentile(990)))
	row.P999Ms = milliseconds(float64(of.Percentile(999)))
}
