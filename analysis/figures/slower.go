package figures

import (
	"fmt"
	"math"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg/draw"

	"heliotrope/analysis/report"
)

// Distribution is the response times of one phase: of I/Os of several trials together.
type Distribution struct {
	Phase  string
	IOs    int64
	Ms     []float64 // response times, ascending: a bucket's upper end
	Slower []int64   // I/Os that took longer than that; none than the last
	// Percentile of the response times in ms, of thousandths of them.
	Percentile func(perMille int64) float64
}

// phaseLines are by which the phases' lines differ: in this order.
func phaseLines() []draw.LineStyle {
	return []draw.LineStyle{one.line(1.4), two.line(1.8, dashed...), three.line(1.8, dotted...)}
}

// Slower is the figure of the shares of the I/Os that took longer, by phase: one less the
// empirical distribution function, whose tail a logarithmic axis then shows. title names the
// kind of testbed, and the cell.
func Slower(id, title string, phases []Distribution, trials int) Figure {
	f := Figure{ID: id, Title: Title{title, "response times by phase"}, width: wide, height: short}
	f.Description = fmt.Sprintf("For each response time the share of a phase's I/Os that took longer: one minus the empirical distribution function, both axes logarithmic. "+
		"The I/Os of %d valid trials are counted together, those that failed left out. Solid: before; dashed: during the migration; dotted: after it.", trials)
	f.Table = report.Table{Title: "Response times by phase, ms", Header: []string{"phase", "I/Os", "median", "90 %", "99 %", "99.9 %", "longest"}, Texts: 0}
	p := newPlot(f.Title, "response time, ms", "share that took longer")
	fit(p, f.width)
	low, high, least := math.Inf(1), math.Inf(-1), 1.0
	p.Add(drawing(grid))
	for i, phase := range phases {
		row := []string{phase.Phase, strconv.FormatInt(phase.IOs, 10)}
		for _, perMille := range []int64{500, 900, 990, 999, 1000} {
			text := "–"
			if phase.IOs > 0 {
				text = report.Number(phase.Percentile(perMille))
			}
			row = append(row, text)
		}
		f.Table.Rows = append(f.Table.Rows, row)
		style := phaseLines()[i%len(phaseLines())]
		p.Legend.Add(phase.Phase, &plotter.Line{LineStyle: style})
		if phase.IOs == 0 {
			continue
		}
		low, high = min(low, phase.Ms[0]), max(high, phase.Ms[len(phase.Ms)-1])
		least = min(least, 1/float64(phase.IOs))
		p.Add(drawing(func(c draw.Canvas, p *plot.Plot) { phase.draw(c, p, style) }))
	}
	logarithmic(&p.X, max(low, 1e-6), high)
	logarithmic(&p.Y, least, 1)
	f.plot = p
	return f
}

// draw draws a step at each response time. The last one goes down to the axis.
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
