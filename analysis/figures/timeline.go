package figures

import (
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"heliotrope/analysis/stats"
	"heliotrope/analysis/summary"
)

// Trace is one trial's longest response times over time.
type Trace struct {
	Trial  string
	Failed bool      // the trial is target-failed
	MaxMs  []float64 // by bin of its Timeline; NaN where no I/O completed
}

// Mark is the beginning of a phase on the axis of a Timeline.
type Mark struct {
	Name string
	AtS  float64
}

// Timeline is the response times of a cell's trials, aligned at their switchovers.
type Timeline struct {
	FromS, BinS float64 // beginning of the first bin relative to the switchover; length of a bin
	Bins        int
	Traces      []Trace
	Marks       []Mark
	// BlackoutS is how long the guest stood still from 0 on, as a median; 0: not known.
	BlackoutS float64
}

// at is the middle of a bin.
func (t Timeline) at(bin int) float64 { return t.FromS + (float64(bin)+0.5)*t.BinS }

// median is the median of each bin over the trials; NaN where half of them or more
// completed no I/O.
func (t Timeline) median() []float64 {
	middle := make([]float64, t.Bins)
	for bin := range middle {
		values := t.values(bin, bin+1)
		if middle[bin] = math.NaN(); 2*len(values) > len(t.Traces) {
			middle[bin] = stats.Median(values)
		}
	}
	return middle
}

// values are the longest response times of the trials in some bins, sorted; a trial without
// I/Os there has no value.
func (t Timeline) values(from, to int) []float64 {
	var values []float64
	for _, trace := range t.Traces {
		longest := math.NaN()
		for _, value := range trace.MaxMs[from:to] {
			if !math.IsNaN(value) && !(value <= longest) {
				longest = value
			}
		}
		if !math.IsNaN(longest) {
			values = append(values, longest)
		}
	}
	slices.Sort(values)
	return values
}

// timelineRows is the number of rows of a timeline's table.
const timelineRows = 24

// Response is the timeline's figure. title names the kind of testbed and the cell.
func (t Timeline) Response(id, title string) Figure {
	f := Figure{ID: id, Title: Title{title, "longest response time around the switchover"}, width: wide, height: tall}
	f.Description = fmt.Sprintf("The longest response time of the I/Os that completed in each %s s, of %d trials: a thin line for each, dashed for one that failed; "+
		"the thick line is their median. 0 is the switchover, the moment at which the guest was suspended. A gap is time in which no I/O completed.",
		summary.Number(t.BinS), len(t.Traces))
	if t.BlackoutS > 0 {
		f.Description += fmt.Sprintf(" Between the bracket's ends the guest stood still, for %s s (median).", summary.Number(t.BlackoutS))
	}
	f.Table = t.table()
	p := newPlot(f.Title, "seconds from the switchover", "longest response time, ms")
	fit(p, f.width)
	low, high := math.Inf(1), math.Inf(-1)
	for _, value := range t.values(0, t.Bins) {
		high = max(high, value)
	}
	for _, trace := range t.Traces {
		for _, value := range trace.MaxMs {
			if value > 0 {
				low = min(low, value)
			}
		}
	}
	logarithmic(&p.Y, low, high)
	p.Y.Max *= 3 // room for the marks' names
	p.X.Min, p.X.Max = t.FromS, t.FromS+float64(t.Bins)*t.BinS
	p.X.Tick.Marker = round{}
	p.Add(drawing(grid), drawing(t.draw))
	f.plot = p
	return f
}

func (t Timeline) draw(c draw.Canvas, p *plot.Plot) {
	x, y := p.Transforms(&c)
	for _, trace := range t.Traces {
		style := traceStyle(trace.Failed)
		t.line(x, y, trace.MaxMs).stroke(c, style)
	}
	t.line(x, y, t.median()).stroke(c, ink.line(1.6))
	t.drawMarks(c, p)
}

// traceStyle is the style of a single trial's line.
func traceStyle(failed bool) draw.LineStyle {
	if failed {
		return two.line(0.9, dashed...)
	}
	return trace.line(0.6)
}

// line is the path of a trial: from the middle of one bin to the middle of the next, and
// over the whole bin where both neighbours are empty.
func (t Timeline) line(x, y func(float64) vg.Length, values []float64) *path {
	line := &path{}
	drawn := false
	empty := func(bin int) bool { return bin < 0 || bin >= len(values) || !(values[bin] > 0) }
	for bin, value := range values {
		switch {
		case empty(bin):
			drawn = false
		case empty(bin-1) && empty(bin+1):
			half := t.BinS / 2
			line.add(x(t.at(bin)-half), y(value), true)
			line.add(x(t.at(bin)+half), y(value), false)
		default:
			line.add(x(t.at(bin)), y(value), !drawn)
			drawn = true
		}
	}
	return line
}

// drawMarks draws the beginnings of the phases, with their names at the top, and a bracket
// from the guest's suspension to its resumption.
func (t Timeline) drawMarks(c draw.Canvas, p *plot.Plot) {
	x, _ := p.Transforms(&c)
	style := p.X.Tick.Label
	style.YAlign = draw.YTop
	row, right := 0, vg.Length(math.Inf(-1))
	for _, mark := range append(slices.Clone(t.Marks), Mark{"switchover", 0}) {
		at := x(mark.AtS)
		if at < c.Min.X || at > c.Max.X {
			continue
		}
		line := ink.line(0.6, dotted...)
		if mark.AtS == 0 {
			line = ink.line(0.9)
		}
		c.StrokeLine2(line, at, c.Min.Y, at, c.Max.Y)
		style.XAlign = draw.XLeft
		place := at + 3
		if width := style.Width(mark.Name); place+width > c.Max.X {
			style.XAlign, place = draw.XRight, at-3
		}
		if row++; at > right {
			row = 0
		}
		c.FillText(style, vg.Point{X: place, Y: c.Max.Y - vg.Length(row%3)*10}, mark.Name)
		right = max(right, place+style.Width(mark.Name)+3)
	}
	if t.BlackoutS > 0 {
		const above = 5
		from, to, y := x(0), min(x(t.BlackoutS), c.Max.X), c.Min.Y+above
		c.StrokeLine2(ink.line(2.5), from, y, to, y)
		for _, end := range []vg.Length{from, to} {
			c.StrokeLine2(ink.line(0.9), end, y-4, end, y+4)
		}
	}
}

// table puts the timeline into a few rows.
func (t Timeline) table() summary.Table {
	table := summary.Table{Title: "Longest response time by seconds from the switchover", Header: []string{"from s", "to s", "trials with I/O", "least ms", "median ms", "greatest ms"}}
	rows := min(timelineRows, t.Bins)
	for row := range rows {
		from, to := row*t.Bins/rows, (row+1)*t.Bins/rows
		values := t.values(from, to)
		line := []string{summary.Number(t.FromS + float64(from)*t.BinS), summary.Number(t.FromS + float64(to)*t.BinS), fmt.Sprintf("%d of %d", len(values), len(t.Traces)), "–", "–", "–"}
		if len(values) > 0 {
			line[3], line[4], line[5] = summary.Number(values[0]), summary.Number(stats.Median(values)), summary.Number(values[len(values)-1])
		}
		table.Rows = append(table.Rows, line)
	}
	return table
}
