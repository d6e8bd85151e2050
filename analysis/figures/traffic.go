package figures

import (
	"fmt"
	"math"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"heliotrope/analysis/summary"
)

// Sent is what one class sent over the WAN in one direction during a cell's migrations:
// medians over the cell's valid trials.
type Sent struct {
	Class, Direction string
	Trials           int
	MB               float64 // 10^6 bytes
	MbitPerS         float64 // 10^6 bit/s, over phase migrate; NaN: its length is not known
}

// text is the text beside the bar.
func (s Sent) text() string {
	if math.IsNaN(s.MbitPerS) {
		return summary.Number(s.MB) + " MB"
	}
	return summary.Number(s.MB) + " MB, " + summary.Number(s.MbitPerS) + " Mbit/s"
}

// least is the smallest share of the longest bar at which another bar is drawn.
const least = 1e-3

// Traffic is the figure of the bytes on the WAN by class. toB names the direction whose
// bars are filled.
func Traffic(id, title, toB string, sent []Sent) Figure {
	f := Figure{ID: id, Title: Title{title, "bytes on the WAN during the migration, by class"}, width: wide}
	f.Description = "Bars with the bytes that each class sent over the WAN in phase migrate, medians over the valid trials, in 10^6 bytes; beside them the same and the mean rate. " +
		"Filled: towards site B; outlined: towards site A. What sent less than a thousandth of the longest bar has none; it is in the table."
	f.Table = summary.Table{Title: f.Title.What, Header: []string{"class", "direction", "trials", "MB", "Mbit/s"}, Texts: 0}
	most := 0.0
	for _, s := range sent {
		rate := "–"
		if !math.IsNaN(s.MbitPerS) {
			rate = summary.Number(s.MbitPerS)
		}
		f.Table.Rows = append(f.Table.Rows, []string{s.Class, s.Direction, fmt.Sprint(s.Trials), summary.Number(s.MB), rate})
		most = max(most, s.MB)
	}
	var ticks plot.ConstantTicks
	var bars []Sent
	for _, s := range sent {
		if s.MB >= least*most {
			ticks = append(ticks, plot.Tick{Value: -float64(len(bars)), Label: s.Class + " " + s.Direction})
			bars = append(bars, s)
		}
	}
	f.height = vg.Length(64 + 16*max(len(bars), 1))
	p := newPlot(f.Title, "MB (10^6 bytes)", "")
	fit(p, f.width)
	if most == 0 {
		most = 1
	}
	p.X.Min, p.X.Max = 0, 1.45*most // room for the numbers
	p.Y.Min, p.Y.Max = -float64(max(len(bars), 1))+0.5, 0.5
	p.Y.Tick.Marker, p.Y.Tick.Length, p.X.Tick.Marker = ticks, 0, round{}
	p.Add(drawing(func(c draw.Canvas, p *plot.Plot) {
		x, y := p.Transforms(&c)
		style := p.X.Tick.Label
		style.XAlign, style.YAlign = draw.XLeft, draw.YCenter
		for i, s := range bars {
			middle, half := y(-float64(i)), vg.Length(5)
			corners := []vg.Point{{X: x(0), Y: middle - half}, {X: x(s.MB), Y: middle - half}, {X: x(s.MB), Y: middle + half}, {X: x(0), Y: middle + half}}
			if s.Direction == toB {
				c.FillPolygon(one.color(), corners)
			} else {
				c.StrokeLines(one.line(1), append(corners, corners[0]))
			}
			c.FillText(style, vg.Point{X: x(s.MB) + 5, Y: middle}, s.text())
		}
	}))
	f.plot = p
	return f
}
