// Package figures draws a campaign's figures with gonum.org/v1/plot: as SVG for an HTML
// page, and as PNG.
//
// It promises that the title inside a figure's drawing names the kind of testbed that its
// numbers come from, so that a copied figure still names it; that lines and bars differ by
// width, dash or filling and not by colour alone; that every figure has a table with its
// numbers; and that the SVG names no font, no address and no colour except the page's own
// CSS variables (see Inks).
//
// Dangerous: a figure's description must say what the figure leaves out, such as bins
// without an I/O; a logarithmic axis has no place for values of 0 and below, so they are
// not drawn.
package figures

import (
	"bytes"
	"fmt"
	"html"
	"image/color"
	"io"
	"regexp"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"

	"heliotrope/analysis/summary"
)

// Figure is a drawing with the table of its numbers.
type Figure struct {
	ID          string // of its element: letters, digits and hyphens, unique in a page
	Title       Title
	Description string // what it shows, for people who cannot see it
	Table       summary.Table

	plot          *plot.Plot
	width, height vg.Length
}

// Title is the title of a figure.
type Title struct {
	Of   string // the kind of testbed, and the cell
	What string // what the figure shows
}

// String is the title in one line.
func (t Title) String() string { return t.Of + ": " + t.What }

func (t Title) lines() string { return t.Of + "\n" + t.What }

// Width and heights of figures, in points.
const (
	wide  = 430 * vg.Length(1)
	tall  = 260 * vg.Length(1)
	short = 215 * vg.Length(1)
)

// Ink is a colour of the figures. In a page it is the CSS variable Name; in a PNG, and in a
// page with a light background, it is Light.
type Ink struct{ Name, Light, Dark string }

// The figures' inks. None is #000000, which vgsvg leaves out as the default. People who do
// not see red, green or blue can tell the three data inks apart (after Okabe and Ito, Color
// Universal Design, 2008). Those three have a contrast of 4.5 to the background, the other
// two 1.5 and 10.
var (
	ink   = Ink{"--ink", "#1B1B1B", "#E8E6E3"} // text, axes, medians
	faint = Ink{"--faint", "#C8C8C8", "#4A4A4A"}
	trace = Ink{"--trace", "#6F7F8F", "#8296A9"} // single trials
	one   = Ink{"--one", "#005A9C", "#6CB6F5"}
	two   = Ink{"--two", "#A34700", "#F0A35E"}
	three = Ink{"--three", "#00694A", "#55CFA4"}
)

// Inks are all inks, for the page's CSS.
func Inks() []Ink { return []Ink{ink, faint, trace, one, two, three} }

func (i Ink) color() color.Color {
	var c color.NRGBA
	if _, err := fmt.Sscanf(i.Light, "#%02X%02X%02X", &c.R, &c.G, &c.B); err != nil {
		panic(err)
	}
	c.A = 255
	return c
}

func (i Ink) line(points float64, dashes ...vg.Length) draw.LineStyle {
	return draw.LineStyle{Color: i.color(), Width: vg.Points(points), Dashes: dashes}
}

// Dashes that tell lines apart.
var (
	dashed = []vg.Length{6, 3}
	dotted = []vg.Length{1.5, 2.5}
)

// sans is the font with which figures are laid out.
var sans = font.Font{Typeface: "Liberation", Variant: "Sans"}

// newPlot is an empty plot in our style. The name of the y axis is above the axis, where
// people can read it without turning their heads.
func newPlot(title Title, x, y string) *plot.Plot {
	p := plot.New()
	p.BackgroundColor = nil
	p.Title.Text, p.X.Label.Text = title.lines(), x
	p.Title.Padding = 6
	for style, size := range map[*draw.TextStyle]vg.Length{&p.Title.TextStyle: 9, &p.X.Label.TextStyle: 9, &p.X.Tick.Label: 8, &p.Y.Tick.Label: 8, &p.Legend.TextStyle: 9} {
		style.Font, style.Color = font.From(sans, size), ink.color()
	}
	for _, axis := range []*plot.Axis{&p.X, &p.Y} {
		axis.LineStyle, axis.Tick.LineStyle = ink.line(0.5), ink.line(0.5)
		axis.Padding, axis.Tick.Length = 3, 5
	}
	if y != "" {
		p.Title.Padding = 18
		p.Add(drawing(func(c draw.Canvas, p *plot.Plot) {
			style := p.Y.Tick.Label
			style.XAlign, style.YAlign = draw.XLeft, draw.YBottom
			c.FillText(style, vg.Point{X: c.Min.X, Y: c.Max.Y + 5}, y)
		}))
	}
	p.Legend.Top, p.Legend.Padding, p.Legend.ThumbnailWidth = true, 2, 28
	return p
}

// fit shortens a line of a drawing's title that is wider than the drawing. The element's
// title has the whole text.
func fit(p *plot.Plot, width vg.Length) {
	lines := strings.Split(p.Title.Text, "\n")
	for i, line := range lines {
		text := []rune(line)
		for len(text) > 1 && p.Title.TextStyle.Width(lines[i]) > width {
			text = text[:len(text)-1]
			lines[i] = string(text) + "…"
		}
	}
	p.Title.Text = strings.Join(lines, "\n")
}

// Parts of vgsvg's output that a page must not have.
var (
	prelude = regexp.MustCompile(`(?s)^.*?<svg[^>]*>`)
	label   = regexp.MustCompile(`\s*style="font-family:[^"]*?font-size:([0-9.]+)px;fill:([^"]*)">([^<]*)<`)
)

// SVG is the figure as an element of an HTML page, with its title and description.
func (f Figure) SVG() string {
	canvas := vgsvg.New(f.width, f.height)
	f.plot.Draw(draw.New(canvas))
	var out bytes.Buffer
	_, _ = canvas.WriteTo(&out) // to memory
	text := prelude.ReplaceAllString(out.String(), "")
	text = label.ReplaceAllStringFunc(text, withoutTypeface)
	for _, i := range Inks() {
		text = strings.ReplaceAll(text, i.Light, "var("+i.Name+")")
	}
	head := fmt.Sprintf(`<svg viewBox="0 0 %g %g" role="img" aria-labelledby="%s-title %s-desc"><title id="%s-title">%s</title><desc id="%s-desc">%s</desc>`,
		f.width.Points(), f.height.Points(), f.ID, f.ID, f.ID, html.EscapeString(f.Title.String()), f.ID, html.EscapeString(f.Description))
	return head + strings.TrimSpace(text)
}

// withoutTypeface replaces the font of a text element by the length of the text: the
// browser stretches the page's font to that length.
func withoutTypeface(element string) string {
	parts := label.FindStringSubmatch(element)
	size, err := strconv.ParseFloat(parts[1], 64)
	if err != nil {
		panic(err) // vgsvg writes a number
	}
	style := draw.TextStyle{Font: font.From(sans, vg.Length(size)), Handler: plot.DefaultTextHandler}
	length := ""
	if text := html.UnescapeString(parts[3]); len(text) > 2 {
		length = fmt.Sprintf(` textLength="%.1f" lengthAdjust="spacingAndGlyphs"`, style.Width(text).Points())
	}
	return fmt.Sprintf(` font-size="%s"%s style="fill:%s">%s<`, parts[1], length, parts[2], parts[3])
}

// WritePNG writes the figure on a white background, with 150 dots per inch.
func (f Figure) WritePNG(w io.Writer) error {
	f.plot.BackgroundColor = color.White
	defer func() { f.plot.BackgroundColor = nil }()
	const dpi = 150
	canvas := vgimg.NewWith(vgimg.UseWH(f.width, f.height), vgimg.UseDPI(dpi))
	f.plot.Draw(draw.New(canvas))
	_, err := vgimg.PngCanvas{Canvas: canvas}.WriteTo(w)
	return err
}
