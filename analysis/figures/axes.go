package figures

import (
	"math"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// decades are the ticks of a logarithmic axis: one with a label at each power of ten, and
// ticks without labels at 2 to 9 times it.
type decades struct{}

// Ticks implements plot.Ticker.
func (decades) Ticks(low, high float64) []plot.Tick {
	var ticks []plot.Tick
	from, to := int(math.Floor(math.Log10(low)+1e-9)), int(math.Ceil(math.Log10(high)-1e-9))
	every := 1 + (to-from)/10 // labels
	for exponent := from; exponent <= to; exponent++ {
		power := math.Pow(10, float64(exponent))
		if power > high*(1+1e-9) {
			break
		}
		label := ""
		if (exponent-from)%every == 0 {
			label = strconv.FormatFloat(power, 'f', -1, 64)
			if exponent < -4 || exponent > 6 {
				label = "1e" + strconv.Itoa(exponent)
			}
		}
		ticks = append(ticks, plot.Tick{Value: power, Label: label})
		for times := 2.0; times < 10 && exponent < to; times++ {
			if times*power <= high {
				ticks = append(ticks, plot.Tick{Value: times * power})
			}
		}
	}
	return ticks
}

// round are the ticks of a linear axis: about six, at multiples of 1, 2 or 5 times a power
// of ten.
type round struct{}

// Ticks implements plot.Ticker.
func (round) Ticks(low, high float64) []plot.Tick {
	if !(high > low) {
		return nil
	}
	rough := (high - low) / 6
	step := math.Pow(10, math.Floor(math.Log10(rough)))
	for _, times := range []float64{2, 2.5, 2} { // 2, 5, 10
		if step < rough {
			step *= times
		}
	}
	var ticks []plot.Tick
	for n := math.Ceil(low/step - 1e-9); n*step <= high+1e-9*step; n++ {
		value := math.Round(n*step*1e9)/1e9 + 0 // no -0
		ticks = append(ticks, plot.Tick{Value: value, Label: strconv.FormatFloat(value, 'g', 10, 64)})
	}
	return ticks
}

// logarithmic makes an axis logarithmic, with whole decades around two values above 0.
func logarithmic(axis *plot.Axis, low, high float64) {
	if !(low > 0) || math.IsInf(low, 0) || !(high >= low) || math.IsInf(high, 0) {
		low, high = 0.1, 1 // there is nothing to draw
	}
	axis.Min = math.Pow(10, math.Floor(math.Log10(low)+1e-9))
	axis.Max = math.Pow(10, math.Ceil(math.Log10(high)-1e-9))
	if axis.Max <= axis.Min {
		axis.Max = 10 * axis.Min
	}
	axis.Scale, axis.Tick.Marker = plot.LogScale{}, decades{}
}

// drawing is a plotter made from a function.
type drawing func(draw.Canvas, *plot.Plot)

// Plot implements plot.Plotter.
func (d drawing) Plot(c draw.Canvas, p *plot.Plot) { d(c, p) }

// grid draws faint lines at the labels of both axes.
func grid(c draw.Canvas, p *plot.Plot) {
	x, y := p.Transforms(&c)
	style := faint.line(0.4)
	for _, tick := range p.X.Tick.Marker.Ticks(p.X.Min, p.X.Max) {
		if !tick.IsMinor() && tick.Value >= p.X.Min && tick.Value <= p.X.Max {
			c.StrokeLine2(style, x(tick.Value), c.Min.Y, x(tick.Value), c.Max.Y)
		}
	}
	for _, tick := range p.Y.Tick.Marker.Ticks(p.Y.Min, p.Y.Max) {
		if !tick.IsMinor() && tick.Value >= p.Y.Min && tick.Value <= p.Y.Max {
			c.StrokeLine2(style, c.Min.X, y(tick.Value), c.Max.X, y(tick.Value))
		}
	}
}

// tenth rounds a length to a tenth of a point: nobody sees the difference, and a path of
// many points takes half of the bytes.
func tenth(length vg.Length) vg.Length { return vg.Length(math.Round(float64(length)*10) / 10) }

// path is a path of points with gaps.
type path struct {
	vg.Path
	last vg.Point
}

// add draws a line to a point, or moves there without one. It adds nothing when the path is
// already there.
func (p *path) add(x, y vg.Length, move bool) {
	at := vg.Point{X: tenth(x), Y: tenth(y)}
	switch {
	case move || len(p.Path) == 0:
		p.Move(at)
	case at == p.last:
		return
	default:
		p.Line(at)
	}
	p.last = at
}

// stroke draws the path.
func (p *path) stroke(c draw.Canvas, style draw.LineStyle) {
	if len(p.Path) == 0 {
		return
	}
	c.SetLineStyle(style)
	c.Stroke(p.Path)
}
