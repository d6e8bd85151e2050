package page

import (
	"fmt"
	"slices"
	"strings"

	"heliotrope/analysis/answers"
	"heliotrope/analysis/figures"
	"heliotrope/analysis/group"
)

// overDistance has the metrics that are shown over the round trip.
var overDistance = []string{group.MaxResponseMs, group.BlackoutMs, answers.WANMB}

// overRTT is what cells have in common that differ only in storage and round trip.
type overRTT struct {
	factors   group.Factors // without storage, profile and round trip
	direction string
}

// distances draws metrics over the round trip: a figure for each metric and each group of
// cells that differ only in storage and round trip, where there are at least two round
// trips.
func distances(a answers.Answers, kind string) []figures.Figure {
	var order []overRTT
	cells := map[overRTT][]answers.Cell{}
	for _, cell := range a.Cells {
		if cell.Factors.Control != "" {
			continue
		}
		key := overRTT{cell.Factors, cell.Direction}
		key.factors.Storage, key.factors.WAN, key.factors.RTTMs = "", "", 0
		if _, seen := cells[key]; !seen {
			order = append(order, key)
		}
		cells[key] = append(cells[key], cell)
	}
	guest := guestsOf(a.Cells)
	var drawn []figures.Figure
	for _, key := range order {
		for _, name := range overDistance {
			metric := aboutOf(a, name)
			series := seriesOf(cells[key], name)
			if !severalRTTs(series) {
				continue
			}
			f := key.factors
			drawn = append(drawn, figures.OverDistance(fmt.Sprintf("distance-%d", len(drawn)+1), kind+": "+joined(f.Hypervisor, f.Access, guest(f), f.Migration, key.direction),
				shortly(metric), series))
		}
	}
	return drawn
}

// guestsOf words guests by what differs between those of the cells, as "256 MiB, 2 vCPUs":
// "" where all are alike.
func guestsOf(cells []answers.Cell) func(group.Factors) string {
	words := slices.DeleteFunc([]func(group.Factors) string{group.Factors.MemoryText, group.Factors.VCPUsText}, func(word func(group.Factors) string) bool {
		return !slices.ContainsFunc(cells, func(c answers.Cell) bool { return word(c.Factors) != word(cells[0].Factors) })
	})
	return func(f group.Factors) string {
		var parts []string
		for _, word := range words {
			parts = append(parts, word(f))
		}
		return joined(parts...)
	}
}

// shortly is a metric's name in words, up to the first explanation, with its unit.
func shortly(metric answers.About) string {
	says, _, _ := strings.Cut(metric.Says, ":")
	says, _, _ = strings.Cut(says, ",")
	if says == "" {
		says = metric.Name
	}
	return says + ", " + metric.Unit
}

// seriesOf are the storage systems' medians. The cells must come in the order of their
// round trips.
func seriesOf(cells []answers.Cell, metric string) []figures.Series {
	var series []figures.Series
	at := map[string]int{}
	for _, cell := range cells {
		e := cell.Estimate(metric)
		if !e.Median.Known() {
			continue
		}
		name := cell.Factors.Storage
		if _, seen := at[name]; !seen {
			at[name] = len(series)
			series = append(series, figures.Series{Name: name})
		}
		of := &series[at[name]]
		of.Points = append(of.Points, figures.Estimate{RTTMs: cell.Factors.RTTMs, Migrations: e.N, Value: float64(e.Median), Low: float64(e.Low), High: float64(e.High)})
	}
	return series
}

// severalRTTs says whether there are medians at two or more round trips.
func severalRTTs(series []figures.Series) bool {
	rtts := map[float64]bool{}
	for _, of := range series {
		for _, point := range of.Points {
			rtts[point.RTTMs] = true
		}
	}
	return len(rtts) > 1
}
