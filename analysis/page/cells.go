package page

import (
	"cmp"
	"context"
	"maps"
	"math"
	"slices"
	"strings"

	"heliotrope/analysis/dataset"
	"heliotrope/analysis/figures"
	"heliotrope/analysis/judge"
	"heliotrope/analysis/samples"
	"heliotrope/analysis/stats"
	"heliotrope/analysis/summary"
	"heliotrope/internal/campaign"
)

// witnesses has the witnesses in the order in which figures show them.
var witnesses = []string{dataset.WitnessGuest, dataset.WitnessHypervisor, dataset.WitnessBackend, dataset.WitnessNetwork}

// drawCell draws those figures of a cell that its trials have data for.
func drawCell(ctx context.Context, c Campaign, id, title string, trials []samples.Trial, wire wire) ([]figures.Figure, error) {
	read, err := samples.Of(ctx, c.Folder, trials)
	if err != nil {
		return nil, err
	}
	var drawn []figures.Figure
	if len(read.Trials) > 0 {
		f := timeline(read, trials).Response(id+"-timeline", title)
		f.Description += aligned(read)
		drawn = append(drawn, f)
	}
	if read.Valid > 0 {
		var phases []figures.Distribution
		for _, phase := range samples.Phases {
			phases = append(phases, distribution(phase, read.Slower[phase]))
		}
		drawn = append(drawn, figures.Slower(id+"-slower", title, phases, read.Valid))
	}
	if stalls := stallsOf(trials); slices.ContainsFunc(stalls, func(s figures.Stalls) bool { return len(s.Ms) > 0 }) {
		drawn = append(drawn, figures.Witnesses(id+"-witnesses", title, witnesses, stalls))
	}
	if sent := wire.of(trials); len(sent) > 0 {
		drawn = append(drawn, figures.Traffic(id+"-traffic", title, judge.ToB, sent))
	}
	return drawn, nil
}

// timeline is what the trials' I/Os show, with the median beginning of each phase.
func timeline(read samples.Cell, trials []samples.Trial) figures.Timeline {
	t := figures.Timeline{FromS: read.FromS, BinS: read.BinS, Bins: samples.Bins}
	for _, line := range read.Trials {
		t.Traces = append(t.Traces, figures.Trace{Trial: line.Key, Failed: line.Failed, MaxMs: line.MaxMs})
	}
	starts := map[string][]float64{}
	var blackouts []float64
	for _, one := range trials {
		at, _, ok := one.Switchover()
		if !ok || !one.Valid() {
			continue
		}
		for _, phase := range one.Phases {
			starts[phase.Phase] = append(starts[phase.Phase], float64(phase.StartedTsNs-at)/1e9)
		}
		if one.Row.BlackoutMs != nil && one.Row.Control != campaign.ControlNone {
			blackouts = append(blackouts, *one.Row.BlackoutMs/1e3)
		}
	}
	for _, phase := range samples.Phases {
		if of := starts[phase]; len(of) > 0 {
			t.Marks = append(t.Marks, figures.Mark{Name: phase, AtS: stats.Median(of)})
		}
	}
	if len(blackouts) > 0 {
		t.BlackoutS = stats.Median(blackouts)
	}
	return t
}

// aligned says which moments trials were aligned by when it was not the suspension.
func aligned(read samples.Cell) string {
	var parts []string
	for _, moment := range slices.Sorted(maps.Keys(read.Aligned)) {
		if moment != samples.BySuspension {
			parts = append(parts, summary.Number(float64(read.Aligned[moment]))+" of them by "+string(moment))
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return " Aligned by another moment: " + strings.Join(parts, "; ") + "."
}

func distribution(phase string, h *stats.Histogram) figures.Distribution {
	d := figures.Distribution{Name: phase, IOs: h.Count, Percentile: func(perMille int64) float64 { return float64(h.Percentile(perMille)) / 1e6 }}
	for ns, slower := range h.Steps {
		d.Ms, d.Slower = append(d.Ms, float64(ns)/1e6), append(d.Slower, slower)
	}
	return d
}

func stallsOf(trials []samples.Trial) []figures.Stalls {
	var stalls []figures.Stalls
	for _, one := range trials {
		if !one.Valid() {
			continue
		}
		s := figures.Stalls{Trial: one.Row.Key, Ms: map[string]float64{}, PlusMinusMs: map[string]float64{}}
		for _, w := range one.Witnesses {
			if w.StallMs != nil {
				s.Ms[w.Witness] = *w.StallMs
			}
			if w.UncertaintyMs != nil {
				s.PlusMinusMs[w.Witness] = *w.UncertaintyMs
			}
		}
		stalls = append(stalls, s)
	}
	return stalls
}

// wire is the bytes on the WAN during migrations: by attempt, then by class and direction.
type wire map[string]map[[2]string]int64

func newWire(tables summary.Tables) wire {
	w := wire{}
	for _, row := range tables.Traffic {
		if row.Phase == dataset.During && row.Class != judge.ClassInterface {
			if w[row.Trial] == nil {
				w[row.Trial] = map[[2]string]int64{}
			}
			w[row.Trial][[2]string{row.Class, row.Direction}] += row.Bytes
		}
	}
	return w
}

// of is what the valid trials of a cell sent, beginning with the class that sent most,
// without classes that sent nothing.
func (w wire) of(trials []samples.Trial) []figures.Sent {
	type values struct{ mb, rate []float64 }
	all := map[[2]string]*values{}
	total := map[string]float64{} // by class
	for _, one := range trials {
		if !one.Valid() {
			continue
		}
		seconds := math.NaN()
		for _, phase := range one.Phases {
			if phase.Phase == dataset.During && phase.Seconds > 0 {
				seconds = phase.Seconds
			}
		}
		for key, bytes := range w[one.Row.Key] {
			if all[key] == nil {
				all[key] = &values{}
			}
			mb := float64(bytes) / 1e6
			all[key].mb = append(all[key].mb, mb)
			if !math.IsNaN(seconds) {
				all[key].rate = append(all[key].rate, 8*mb/seconds)
			}
			total[key[0]] += mb
		}
	}
	var sent []figures.Sent
	for key, of := range all {
		if total[key[0]] == 0 {
			continue
		}
		sent = append(sent, figures.Sent{Class: key[0], Direction: key[1], Trials: len(of.mb), MB: stats.Median(of.mb), MbitPerS: stats.Median(of.rate)})
	}
	slices.SortFunc(sent, func(a, b figures.Sent) int {
		return cmp.Or(cmp.Compare(total[b.Class], total[a.Class]), cmp.Compare(a.Class, b.Class), cmp.Compare(b.Direction, a.Direction))
	})
	return sent
}
