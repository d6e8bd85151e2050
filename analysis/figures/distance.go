package figures

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"heliotrope/analysis/summary"
)

// Series is a storage system's medians at several round trips.
type Series struct {
	Name   string
	Points []Estimate // by round trip, ascending
}

// Estimate is a median over migrations with its interval. Value is infinite when more than
// half of the migrations failed. Low and High are NaN where they are not known; High may be
// infinite.
type Estimate struct {
	RTTMs            float64
	Migrations       int
	Value, Low, High float64
}

// seriesStyles tell the storage systems apart, in this order: by the dashes of their lines
// and the shapes of their medians' marks.
var seriesStyles = []struct {
	of     Ink
	dashes []vg.Length
	shape  draw.GlyphDrawer
}{
	{one, nil, draw.CircleGlyph{}}, {two, dashed, draw.BoxGlyph{}}, {three, dotted, draw.PyramidGlyph{}},
	{ink, []vg.Length{9, 2, 2, 2}, draw.RingGlyph{}}, {trace, []vg.Length{3, 3}, draw.SquareGlyph{}},
}

// OverDistance is the figure of a metric over the round trip, with a line for each storage
// system. title names the kind of testbed and the factors that all series share; what is
// the metric with its unit.
func OverDistance(id, title, what string, series []Series) Figure {
	f := Figure{ID: id, Title: Title{title, what}, width: wide, height: tall}
	var names []string
	f.Table = summary.Table{Title: f.Title.What, Header: []string{"storage", "round trip ms", "migrations", "median", "from", "to"}}
	low, high, longest, infinite := math.Inf(1), math.Inf(-1), 0.0, false
	for _, of := range series {
		names = append(names, of.Name)
		for _, point := range of.Points {
			f.Table.Rows = append(f.Table.Rows, []string{of.Name, summary.Number(point.RTTMs), strconv.Itoa(point.Migrations), summary.Number(point.Value), summary.Number(point.Low), summary.Number(point.High)})
			longest, infinite = max(longest, point.RTTMs), infinite || math.IsInf(point.Value, 1)
			for _, value := range []float64{point.Value, point.Low, point.High} {
				if value > 0 && !math.IsInf(value, 1) { // leaves out NaN, too
					low, high = min(low, value), max(high, value)
				}
			}
		}
	}
	f.Description = fmt.Sprintf("%s over the round trip between the sites, in ms: the median over the migrations of %s, with its 95 %% interval as a bar. The vertical axis is logarithmic.",
		what, strings.Join(names, ", "))
	if infinite {
		f.Description += " A mark at the upper edge is a median of failures, which is above all."
	}
	p := newPlot(f.Title, "round trip, ms", what)
	fit(p, f.width)
	logarithmic(&p.Y, low, high)
	p.X.Min, p.X.Max, p.X.Tick.Marker = -0.05*max(longest, 1), 1.05*max(longest, 1), round{}
	p.Legend.Top, p.Legend.Left = true, true
	p.Add(drawing(grid))
	for i, of := range series {
		style := seriesStyles[i%len(seriesStyles)]
		line := style.of.line(1.2, style.dashes...)
		mark := draw.GlyphStyle{Color: style.of.color(), Radius: 3, Shape: style.shape}
		// Side by side, so that no bar hides another one.
		beside := vg.Length(3 * (float64(i) - float64(len(series)-1)/2))
		p.Add(drawing(func(c draw.Canvas, p *plot.Plot) { of.draw(c, p, line, mark, beside) }))
		p.Legend.Add(of.Name, &plotter.Line{LineStyle: line}, thumbnail{mark})
	}
	f.plot = p
	return f
}

// draw draws the medians, the intervals and the line between the medians. An infinite
// median has its mark at the upper edge, and no line leads to it.
func (s Series) draw(c draw.Canvas, p *plot.Plot, style draw.LineStyle, mark draw.GlyphStyle, beside vg.Length) {
	x, y := p.Transforms(&c)
	inside := func(value float64) vg.Length { return tenth(min(max(y(max(value, p.Y.Min)), c.Min.Y), c.Max.Y)) }
	line, move := path{}, true
	points := slices.DeleteFunc(slices.Clone(s.Points), func(e Estimate) bool { return !(e.Value > 0) })
	for _, point := range points {
		if math.IsInf(point.Value, 1) {
			move = true
			continue
		}
		line.add(x(point.RTTMs)+beside, y(point.Value), move)
		move = false
	}
	line.stroke(c, style)
	bar := style
	bar.Dashes, bar.Width = nil, 0.8
	for _, point := range points {
		at := tenth(x(point.RTTMs) + beside)
		top := c.Max.Y
		if !math.IsInf(point.Value, 1) {
			top = inside(point.Value)
		}
		if !math.IsNaN(point.Low) && !math.IsNaN(point.High) && !math.IsInf(point.Low, 1) {
			from, to := inside(point.Low), c.Max.Y
			if !math.IsInf(point.High, 1) {
				to = inside(point.High)
			}
			c.StrokeLine2(bar, at, from, at, to)
			for _, end := range []vg.Length{from, to} {
				c.StrokeLine2(bar, at-2, end, at+2, end)
			}
		}
		c.DrawGlyph(mark, vg.Point{X: at, Y: top})
	}
}

// thumbnail is a mark of the legend.
type thumbnail struct{ draw.GlyphStyle }

// Thumbnail implements plot.Thumbnailer.
func (t thumbnail) Thumbnail(c *draw.Canvas) { c.DrawGlyph(t.GlyphStyle, c.Center()) }
