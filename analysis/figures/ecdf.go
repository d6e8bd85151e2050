package figures

import (
	"fmt"
	"math"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg/draw"

	"heliotrope/analysis/summary"
)

// Distribution is the distribution of response times of some I/Os: of one phase of several
// trials together, or of one operation of a log.
type Distribution struct {
	Name   string // for instance the phase
	IOs    int64
	Ms     []float64 // response times, ascending: upper ends of buckets
	Slower []int64   // number of I/Os that took longer than each; 0 for the last
	// Percentile returns a percentile of the response times in ms; its argument is in
	// thousandths.
	Percentile func(perMille int64) float64
}

// lines are the styles that tell distributions apart, in this order.
func lines() []draw.LineStyle {
	return []draw.LineStyle{one.line(1.4), two.line(1.8, dashed...), three.line(1.8, dotted...),
		ink.line(1.2, 9, 2, 1.5, 2), trace.line(2.6), ink.line(0.8, 2, 4)}
}

// MostLines is the largest number of distributions that a figure can tell apart.
const MostLines = 6

// Slower is the figure of the share of I/Os that took longer, by phase: one minus the
// empirical distribution function, so that a logarithmic axis shows the tail. title names
// the kind of testbed and the cell.
func Slower(id, title string, phases []Distribution, trials int) Figure {
	return slower(id, Title{title, "response times by phase"}, "phase", phases, fmt.Sprintf("For each response time the share of a phase's I/Os that took longer: "+
		"one minus the empirical distribution function, both axes logarithmic. "+
		"The I/Os of %d valid trials are counted together, those that failed left out. Solid: before; dashed: during the migration; dotted: after it.", trials))
}

// SlowerOf is the same figure for up to MostLines other distributions. by names what a
// distribution stands for, and about ends the description.
func SlowerOf(id string, title Title, by string, of []Distribution, about string) Figure {
	return slower(id, title, by, of, "For each response time the share of the I/Os that took longer: one minus the empirical distribution function (ECDF), both axes logarithmic. "+about)
}

func slower(id string, title Title, by string, of []Distribution, description string) Figure {
	f := Figure{ID: id, Title: title, Description: description, width: wide, height: short}
	f.Table = summary.Table{Title: "Response times by " + by + ", ms", Header: []string{by, "I/Os", "median", "90 %", "99 %", "99.9 %", "longest"}, Texts: -1}
	p := newPlot(f.Title, "response time, ms", "share that took longer")
	fit(p, f.width)
	low, high, least := math.Inf(1), math.Inf(-1), 1.0
	p.Add(drawing(grid))
	for i, d := range of {
		row := []string{d.Name, strconv.FormatInt(d.IOs, 10)}
		for _, perMille := range []int64{500, 900, 990, 999, 1000} {
			text := "–"
			if d.IOs > 0 {
				text = summary.Number(d.Percentile(perMille))
			}
			row = append(row, text)
		}
		f.Table.Rows = append(f.Table.Rows, row)
		style := lines()[i%MostLines]
		p.Legend.Add(d.Name, &plotter.Line{LineStyle: style})
		if d.IOs == 0 {
			continue
		}
		low, high = min(low, d.Ms[0]), max(high, d.Ms[len(d.Ms)-1])
		least = min(least, 1/float64(d.IOs))
		p.Add(drawing(func(c draw.Canvas, p *plot.Plot) { d.draw(c, p, style) }))
	}
	logarithmic(&p.X, max(low, 1e-6), high)
	logarithmic(&p.Y, least, 1)
	f.plot = p
	return f
}

// draw draws a step at each response time. The last step goes down to the axis.
func (d Distribution) draw(c draw.Canvas, p *plot.Plot, style draw.LineStyle) {
	x, y := p.Transforms(&c)
	line := path{}
	level := y(1)
	for i, ms := range d.Ms {
		at := x(max(ms, p.X.Min))
		line.add(at, level, i == 0)
		level = c.Min.Y
		if d.Slower[i] > 0 {
			level = y(float64(d.Slower[i]) / float64(d.IOs))
		}
		line.add(at, level, false)
	}
	line.stroke(c, style)
}
