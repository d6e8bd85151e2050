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

// Stalls is the stall of one trial as its witnesses saw it.
type Stalls struct {
	Trial       string
	Ms          map[string]float64 // by witness; without those that say nothing
	PlusMinusMs map[string]float64
}

// Witnesses is the figure of the stalls as each witness saw them, side by side in the order
// of witnesses.
func Witnesses(id, title string, witnesses []string, trials []Stalls) Figure {
	f := Figure{ID: id, Title: Title{title, "the stall by four witnesses"}, width: wide, height: short}
	f.Description = fmt.Sprintf("The stall of each of %d valid trials in ms, as each witness saw it: a ring for each, with a line from witness to witness of one trial, and a bar for the uncertainty; "+
		"the thick strokes are medians. The axis is logarithmic.", len(trials))
	f.Table = summary.Table{Title: "Stall by witness, ms", Header: []string{"witness", "trials", "least", "median", "greatest", "± at most"}}
	low, high := math.Inf(1), math.Inf(-1)
	medians := map[string]float64{}
	for _, witness := range witnesses {
		var values []float64
		plusMinus := math.NaN()
		for _, t := range trials {
			if ms, known := t.Ms[witness]; known {
				values = append(values, ms)
				if u, known := t.PlusMinusMs[witness]; known && !(u <= plusMinus) {
					plusMinus = u
				}
				if ms > 0 {
					low, high = min(low, ms), max(high, ms)
				}
			}
		}
		row := []string{witness, fmt.Sprintf("%d of %d", len(values), len(trials)), "–", "–", "–", "–"}
		if slices.Sort(values); len(values) > 0 {
			medians[witness] = stats.Median(values)
			row[2], row[3], row[4] = summary.Number(values[0]), summary.Number(medians[witness]), summary.Number(values[len(values)-1])
		}
		if !math.IsNaN(plusMinus) {
			row[5] = summary.Number(plusMinus)
		}
		f.Table.Rows = append(f.Table.Rows, row)
	}
	p := newPlot(f.Title, "", "stall, ms")
	fit(p, f.width)
	logarithmic(&p.Y, low, high)
	var ticks plot.ConstantTicks
	for i, witness := range witnesses {
		ticks = append(ticks, plot.Tick{Value: float64(i), Label: witness})
	}
	p.X.Tick.Marker = ticks
	p.X.Min, p.X.Max = -0.5, float64(len(witnesses))-0.5
	p.Add(drawing(grid), drawing(func(c draw.Canvas, p *plot.Plot) { drawStalls(c, p, witnesses, trials, medians) }))
	f.plot = p
	return f
}

func drawStalls(c draw.Canvas, p *plot.Plot, witnesses []string, trials []Stalls, medians map[string]float64) {
	x, y := p.Transforms(&c)
	ring := draw.GlyphStyle{Color: one.color(), Radius: 2.2, Shape: draw.RingGlyph{}}
	for _, t := range trials {
		line := path{}
		move := true
		for i, witness := range witnesses {
			ms, known := t.Ms[witness]
			if !known || !(ms > 0) {
				move = true
				continue
			}
			line.add(x(float64(i)), y(ms), move)
			move = false
		}
		line.stroke(c, trace.line(0.5))
		for i, witness := range witnesses {
			ms := t.Ms[witness]
			if !(ms > 0) {
				continue
			}
			at := x(float64(i))
			if u := t.PlusMinusMs[witness]; u > 0 {
				lowest := max(y(max(ms-u, p.Y.Min)), c.Min.Y)
				c.StrokeLine2(one.line(0.5), tenth(at), tenth(lowest), tenth(at), tenth(min(y(ms+u), c.Max.Y)))
			}
			c.DrawGlyph(ring, vg.Point{X: tenth(at), Y: tenth(y(ms))})
		}
	}
	for i, witness := range witnesses {
		if ms := medians[witness]; ms > 0 {
			c.StrokeLine2(ink.line(2.2), x(float64(i)-0.18), y(ms), x(float64(i)+0.18), y(ms))
		}
	}
}
