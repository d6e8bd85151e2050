package figures

import (
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg/draw"

	"heliotrope/analysis/summary"
)

// OverTime is the values of some lines in bins of equal length, from 0 on.
type OverTime struct {
	BinS  float64
	Lines []TimeLine // at most three: colour, dashes and width tell them apart
}

// TimeLine is one line, for instance of an operation.
type TimeLine struct {
	Name   string
	Values []float64 // by bin; NaN means no I/O, and never occurs in a rate
	Above  []float64 // values of a thinner line: the longest response times beside the medians; nil for a rate
}

// overRows is the largest number of rows of such a figure's table.
const overRows = 24

// Response is the figure of the response times in ms: medians as thick lines, the longest
// ones as thin lines.
func (o OverTime) Response(id string, title Title) Figure {
	f := Figure{ID: id, Title: title, width: wide, height: tall}
	f.Description = fmt.Sprintf("The median response time of the I/Os that completed in each %s s, as a thick line, and the longest of them, as a thin one; %s. "+
		"The axis of response times is logarithmic. A gap is time in which no I/O completed.", summary.Number(o.BinS), o.kinds())
	p := newPlot(f.Title, "seconds from the log's beginning", "response time, ms: median and longest")
	low, high := math.Inf(1), math.Inf(-1)
	for _, line := range o.Lines {
		for _, value := range slices.Concat(line.Values, line.Above) {
			if value > 0 {
				low, high = min(low, value), max(high, value)
			}
		}
	}
	logarithmic(&p.Y, low, high)
	f.Table = o.table("Response times over time, ms", []string{"medians", "longest"})
	o.add(p, &f)
	return f
}

// Rate is the figure of a rate, with an axis from 0 on. unit is the rate's unit, such as
// "1/s".
func (o OverTime) Rate(id string, title Title, unit string) Figure {
	f := Figure{ID: id, Title: title, width: wide, height: short}
	f.Description = fmt.Sprintf("The mean rate in each %s s, in %s; %s.", summary.Number(o.BinS), unit, o.kinds())
	p := newPlot(f.Title, "seconds from the log's beginning", unit)
	p.Y.Min, p.Y.Max = 0, 0
	for _, line := range o.Lines {
		for _, value := range line.Values {
			p.Y.Max = max(p.Y.Max, value)
		}
	}
	p.Y.Max = max(p.Y.Max*1.05, 1e-3)
	p.Y.Tick.Marker = round{}
	f.Table = o.table(title.What+", "+unit, []string{""})
	o.add(p, &f)
	return f
}

// kinds says which line is drawn in which way.
func (o OverTime) kinds() string {
	text := ""
	for i, line := range o.Lines {
		text += fmt.Sprintf("%s%s: %s", []string{"", ", "}[min(i, 1)], line.Name, []string{"solid", "dashed", "dotted"}[i%3])
	}
	return text
}

// add adds the lines to the plot, and the plot to the figure.
func (o OverTime) add(p *plot.Plot, f *Figure) {
	fit(p, f.width)
	bins := 0
	for i, line := range o.Lines {
		bins = max(bins, len(line.Values))
		p.Legend.Add(line.Name, &plotter.Line{LineStyle: lines()[i%3]})
	}
	p.Y.Max = o.withRoom(p)
	p.X.Min, p.X.Max = 0, float64(bins)*o.BinS
	p.X.Tick.Marker = round{}
	p.Add(drawing(grid), drawing(func(c draw.Canvas, p *plot.Plot) {
		x, y := p.Transforms(&c)
		for i, line := range o.Lines {
			style := lines()[i%3]
			if line.Above == nil { // a rate: 0 is a value
				rate := path{}
				for bin, value := range line.Values {
					rate.add(x((float64(bin)+0.5)*o.BinS), y(value), bin == 0)
				}
				rate.stroke(c, style)
				continue
			}
			thin := style
			thin.Width *= 0.4
			// The longest are drawn first, so that they do not hide the medians.
			Timeline{BinS: o.BinS}.line(x, y, line.Above).stroke(c, thin)
			Timeline{BinS: o.BinS}.line(x, y, line.Values).stroke(c, style)
		}
	}))
	f.plot = p
}

// withRoom is the axis's greatest value with room for the legend above the lines.
func (o OverTime) withRoom(p *plot.Plot) float64 {
	if _, is := p.Y.Scale.(plot.LogScale); is {
		return p.Y.Max * math.Pow(p.Y.Max/p.Y.Min, 0.12)
	}
	return p.Y.Max * 1.2
}

// table puts the lines into a few rows of several bins each. A rate is given as its mean.
// Percentiles must not be averaged: response times are given as the least to the greatest of
// the bins' medians, and as the longest.
func (o OverTime) table(title string, of []string) summary.Table {
	t := summary.Table{Title: title, Header: []string{"from s", "to s"}, Texts: -1}
	bins := 0
	for _, line := range o.Lines {
		bins = max(bins, len(line.Values))
		for _, what := range of {
			name := line.Name
			if what != "" {
				name += ", " + what
			}
			t.Header = append(t.Header, name)
		}
	}
	rows := min(overRows, bins)
	for row := range rows {
		from, to := row*bins/rows, (row+1)*bins/rows
		cells := []string{summary.Number(float64(from) * o.BinS), summary.Number(float64(to) * o.BinS)}
		for _, line := range o.Lines {
			if len(of) == 1 {
				cells = append(cells, known(mean(line.Values[from:to])))
			} else {
				cells = append(cells, fromTo(line.Values[from:to]), known(greatest(line.Above[from:to])))
			}
		}
		t.Rows = append(t.Rows, cells)
	}
	return t
}

func known(value float64) string {
	if math.IsNaN(value) {
		return "–"
	}
	return summary.Number(value)
}

// fromTo formats the least and the greatest of the values that are not NaN.
func fromTo(values []float64) string {
	negative := make([]float64, len(values))
	for i, value := range values {
		negative[i] = -value
	}
	least, most := known(-greatest(negative)), known(greatest(values))
	if least == most {
		return most
	}
	return least + " to " + most
}

// mean is the mean of the values that are not NaN; NaN when there are none.
func mean(values []float64) float64 {
	sum, n := 0.0, 0
	for _, value := range values {
		if !math.IsNaN(value) {
			sum += value
			n++
		}
	}
	return sum / float64(n)
}

// greatest is the greatest of the values that are not NaN; NaN when there are none.
func greatest(values []float64) float64 {
	most := math.NaN()
	for _, value := range values {
		if !math.IsNaN(value) && !(value <= most) {
			most = value
		}
	}
	return most
}
