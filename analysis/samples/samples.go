// Package samples reads the I/Os of a cell's trials for the cell's figures: once, trial
// after trial, with memory that depends only on the figures.
//
// It promises that its results are of the trials of one group (package group); that an I/O
// belongs to the phase in which it completed, as in table phases; that the longest response
// time of each bin is kept, so that no slow I/O is lost between bins; and that table
// histograms is included where a load's log had no room for single I/Os.
//
// Dangerous: an I/O that never completed is in no table of I/Os, and therefore in none of
// these results. A trial whose switchover nobody saw is aligned by the next best moment,
// and Cell.Aligned says by which.
package samples

import (
	"context"
	"fmt"
	"math"
	"path/filepath"
	"slices"

	"heliotrope/analysis/dataset"
	"heliotrope/analysis/group"
	"heliotrope/analysis/stats"
	"heliotrope/internal/campaign"
	"heliotrope/internal/trial"
)

// Bins is the number of bins of a cell's time axis.
const Bins = 240

// Phases has the measuring phases in their order.
var Phases = []string{dataset.Before, dataset.During, dataset.After}

// Trial is a trial of a cell, with its rows in the campaign's tables.
type Trial struct {
	Row       *dataset.Trial
	Phases    []dataset.Phase
	Witnesses []dataset.Witness
}

// Cell is what the I/Os of a cell's trials show.
type Cell struct {
	// Trials are the trials that have I/Os, valid and failed ones, in the order of the plan, with their
	// longest response times by bin.
	Trials []Line
	// FromS is the beginning of the first bin relative to the switchover, and BinS the
	// length of each of Bins bins.
	FromS, BinS float64
	// Slower has the response times of the valid trials together, by phase; Valid is the
	// number of these trials.
	Slower map[string]*stats.Histogram
	Valid  int
	// Aligned is how many trials are aligned by each moment.
	Aligned map[Moment]int
}

// Line is the longest response times of one trial.
type Line struct {
	Key    string
	Failed bool
	MaxMs  []float64 // of each bin; NaN where no I/O completed
}

// Moment is the moment by which a trial is aligned.
type Moment string

// Moments, beginning with the best.
const (
	BySuspension Moment = "the guest's suspension, as the hypervisor saw it"
	ByStall      Moment = "the beginning of the stall, as the guest's load saw it"
	ByMigration  Moment = "the migration's start"
	ByPhase      Moment = "the beginning of phase migrate"
)

// Switchover is when a trial's guest was suspended, in ns since 1970 on the controller's
// time base, or the next best moment; false for a trial that never came to its migration.
func (t Trial) Switchover() (int64, Moment, bool) {
	for _, try := range []struct {
		witness string
		moment  Moment
	}{{dataset.WitnessHypervisor, BySuspension}, {dataset.WitnessGuest, ByStall}} {
		for _, w := range t.Witnesses {
			if w.Witness == try.witness && w.FromTsNs != nil && t.Row.Control != campaign.ControlNone {
				return *w.FromTsNs, try.moment, true
			}
		}
	}
	if at := t.Row.MigrationStartedTsNs; at != nil {
		return *at, ByMigration, true
	}
	if at := t.Row.PhaseTsNs[slices.Index(trial.Phases, trial.Migrate)]; at != nil {
		return *at, ByPhase, true
	}
	return 0, "", false
}

// Valid says whether the trial is valid and shows work.
func (t Trial) Valid() bool {
	return trial.Verdict(t.Row.Verdict) == trial.Valid && group.Contradiction(t.Row, t.Phases) == ""
}

// Failed says whether the system under test failed in the trial.
func (t Trial) Failed() bool { return trial.Verdict(t.Row.Verdict) == trial.TargetFailed }

// span is from the beginning of a trial's first measuring phase to the end of the last.
func (t Trial) span() (from, to int64, ok bool) {
	from, to = math.MaxInt64, math.MinInt64
	for _, phase := range t.Phases {
		from, to = min(from, phase.StartedTsNs), max(to, phase.EndedTsNs)
	}
	return from, to, from < to
}

// Of reads the I/Os of a cell's trials in a campaign's folder. When the context ends, Of
// ends with the context's error.
func Of(ctx context.Context, folder string, trials []Trial) (Cell, error) {
	cell := Cell{Slower: map[string]*stats.Histogram{}, Aligned: map[Moment]int{}}
	for _, phase := range Phases {
		cell.Slower[phase] = new(stats.Histogram)
	}
	from, to := math.Inf(1), math.Inf(-1)
	var readable []reading
	for _, t := range trials {
		at, moment, ok := t.Switchover()
		begin, end, measured := t.span()
		if !ok || !measured || t.Row.IORows == nil || !t.Valid() && !t.Failed() {
			continue
		}
		from, to = min(from, float64(begin-at)/1e9), max(to, float64(end-at)/1e9)
		cell.Aligned[moment]++
		readable = append(readable, reading{Trial: t, at: at})
	}
	if len(readable) == 0 {
		return cell, nil
	}
	cell.FromS, cell.BinS = from, (to-from)/Bins
	for _, r := range readable {
		if err := ctx.Err(); err != nil {
			return cell, err
		}
		r.cell = &cell
		if err := r.read(folder); err != nil {
			return cell, fmt.Errorf("trial %s: %w", r.Row.Key, err)
		}
	}
	return cell, nil
}

// reading is a trial while it is read.
type reading struct {
	Trial
	cell  *Cell
	at    int64 // its switchover
	line  Line
	valid bool
}

func (r *reading) read(folder string) error {
	r.valid = r.Valid()
	r.line = Line{Key: r.Row.Key, Failed: r.Failed(), MaxMs: make([]float64, Bins)}
	for bin := range r.line.MaxMs {
		r.line.MaxMs[bin] = math.NaN()
	}
	path := func(table string) string {
		return filepath.Join(folder, filepath.FromSlash(r.Row.Folder), table+".parquet")
	}
	for rows, err := range dataset.ReadIO(path(dataset.IOs.Name), "ts_ns", "latency_ns", "error") {
		if err != nil {
			return err
		}
		for i := range rows {
			io := &rows[i]
			r.longest(io.TsNs, io.LatencyNs)
			if phase := r.phaseAt(io.TsNs); phase != nil && io.Error == 0 {
				phase.Add(io.LatencyNs)
			}
		}
	}
	if r.Row.HistogramRows != nil && *r.Row.HistogramRows > 0 {
		if err := r.readHistograms(path(dataset.Histograms.Name)); err != nil {
			return err
		}
	}
	r.cell.Trials = append(r.cell.Trials, r.line)
	if r.valid {
		r.cell.Valid++
	}
	return nil
}

func (r *reading) readHistograms(path string) error {
	for rows, err := range dataset.ReadHistograms(path) {
		if err != nil {
			return err
		}
		for i := range rows {
			h := &rows[i]
			r.longest(h.TsNs+h.LengthNs/2, h.MaxNs)
			if phase := r.phaseAt(h.TsNs); phase != nil && h.IOs > h.Errors {
				if err := phase.AddCounts(h.Counts, h.MaxNs); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// longest notes a response time in its bin, if there is a bin for it.
func (r *reading) longest(ts, latencyNs int64) {
	bin := int(math.Floor((float64(ts-r.at)/1e9 - r.cell.FromS) / r.cell.BinS))
	if bin < 0 || bin >= Bins {
		return
	}
	if ms := float64(latencyNs) / 1e6; !(ms <= r.line.MaxMs[bin]) {
		r.line.MaxMs[bin] = ms
	}
}

// phaseAt is the histogram of the phase that a moment is in; nil when it is in none, or the
// trial is not valid.
func (r *reading) phaseAt(ts int64) *stats.Histogram {
	if !r.valid {
		return nil
	}
	for i := range r.Phases {
		if phase := &r.Phases[i]; ts >= phase.StartedTsNs && ts < phase.EndedTsNs {
			return r.cell.Slower[phase.Phase]
		}
	}
	return nil
}

// Sort puts a campaign's attempts into their groups, with their rows.
func Sort(trials []dataset.Trial, phases []dataset.Phase, witnesses []dataset.Witness) map[group.Key][]Trial {
	of := map[string]*Trial{}
	var order []*Trial
	for i := range trials {
		if _, in := group.Of(&trials[i]); in {
			t := &Trial{Row: &trials[i]}
			of[trials[i].Key] = t
			order = append(order, t)
		}
	}
	for _, row := range phases {
		if t := of[row.Trial]; t != nil {
			t.Phases = append(t.Phases, row)
		}
	}
	for _, row := range witnesses {
		if t := of[row.Trial]; t != nil {
			t.Witnesses = append(t.Witnesses, row)
		}
	}
	groups := map[group.Key][]Trial{}
	for _, t := range order {
		key, _ := group.Of(t.Row)
		groups[key] = append(groups[key], *t)
	}
	return groups
}
