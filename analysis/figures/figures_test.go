package figures_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"image/png"
	"io"
	"math"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/analysis/figures"
)

// all draws one of each figure, of a cell called <&"> on a model.
func all() []figures.Figure {
	const of = `SIMULATED, no measurement: drbd C, <&">`
	nan, inf := math.NaN(), math.Inf(1)
	timeline := figures.Timeline{FromS: -2, BinS: 0.5, Bins: 8, BlackoutS: 0.7, Marks: []figures.Mark{{Name: "before", AtS: -2}, {Name: "after", AtS: 1}},
		Traces: []figures.Trace{
			{Trial: "00001.1", MaxMs: []float64{1, 2, 3, nan, nan, 800, 5, 6}},
			{Trial: "00002.1", MaxMs: []float64{3, 2, 1, nan, 7, nan, 7, 8}},
			{Trial: "00003.1", MaxMs: []float64{2, 2, 2, 2, nan, nan, nan, nan}, Failed: true},
		}}
	over := figures.OverTime{BinS: 0.5, Lines: []figures.TimeLine{
		{Name: "read", Values: []float64{1, 2, nan, 4}, Above: []float64{1, 20, nan, 40}}, {Name: "write", Values: []float64{nan, nan, nan, 3}, Above: []float64{nan, nan, nan, 3}},
	}}
	percentile := func(perMille int64) float64 { return float64(perMille) }
	return []figures.Figure{
		timeline.Response("a", of),
		figures.Slower("b", of, []figures.Distribution{
			{Name: "before", IOs: 4, Ms: []float64{1, 2, 40}, Slower: []int64{3, 1, 0}, Percentile: percentile},
			{Name: "during"},
		}, 3),
		figures.Witnesses("c", of, []string{"guest", "hypervisor"}, []figures.Stalls{
			{Trial: "00001.1", Ms: map[string]float64{"guest": 100, "hypervisor": 50}, PlusMinusMs: map[string]float64{"guest": 2}},
			{Trial: "00002.1", Ms: map[string]float64{"guest": 300}, PlusMinusMs: map[string]float64{"guest": 1}},
		}),
		figures.SlowerOf("e", figures.Title{Of: of, What: "response times"}, "log", []figures.Distribution{{Name: "one", IOs: 1, Ms: []float64{3}, Slower: []int64{0}, Percentile: percentile}}, ""),
		over.Response("f", figures.Title{Of: of, What: "response time over time"}),
		over.Rate("g", figures.Title{Of: of, What: "I/Os a second"}, "1/s"),
		figures.Traffic("d", of, "to-b", []figures.Sent{{Class: "migration", Direction: "to-b", Trials: 2, MB: 100, MbitPerS: 80}, {Class: "drbd", Direction: "to-a", Trials: 2, MB: 0.01, MbitPerS: nan}}),
		figures.OverDistance("h", of, "longest response time, ms", []figures.Series{
			{Name: "iscsi", Points: []figures.Estimate{{RTTMs: 0, Migrations: 6, Value: 400, Low: 300, High: 500}, {RTTMs: 30, Migrations: 6, Value: 900, Low: 800, High: inf}, {RTTMs: 90, Migrations: 6, Value: inf, Low: 2000, High: inf}}},
			{Name: "drbd C", Points: []figures.Estimate{{RTTMs: 0, Migrations: 2, Value: 700, Low: nan, High: nan}, {RTTMs: 30, Migrations: 6, Value: 0, Low: 0, High: 10}, {RTTMs: 90, Migrations: 6, Value: inf, Low: inf, High: inf}}},
		}),
	}
}

// TestEveryFigure: a figure names its testbed where people see it, where a screen reader
// reads it, and where it is copied to; it has a table; and it loads nothing from elsewhere.
func TestEveryFigure(t *testing.T) {
	hex := regexp.MustCompile(`#[0-9A-Fa-f]{3,6}\b`)
	for _, f := range all() {
		svg := f.SVG()
		require.NoError(t, wellFormed(svg), f.ID)
		assert.True(t, strings.HasPrefix(svg, `<svg viewBox="0 0 `), f.ID)
		assert.Contains(t, svg, fmt.Sprintf(`role="img" aria-labelledby="%s-title %s-desc"`, f.ID, f.ID))
		assert.Contains(t, svg, fmt.Sprintf(`<title id="%s-title">SIMULATED, no measurement: drbd C, &lt;&amp;&#34;&gt;: `, f.ID))
		assert.Contains(t, svg, fmt.Sprintf(`<desc id="%s-desc">%s`, f.ID, strings.Fields(f.Description)[0]))
		assert.Regexp(t, `<text [^>]*>SIMULATED, no measurement: drbd C, &lt;&amp;&#34;&gt;<`, svg, "in the drawing itself")
		assert.NotContains(t, svg, "http", f.ID)
		assert.NotContains(t, svg, "font-family", f.ID)
		assert.Empty(t, hex.FindAllString(strings.ReplaceAll(svg, "&#34;", ""), -1), "colours are the page's")
		require.NotEmpty(t, f.Table.Rows, f.ID)
		for _, row := range f.Table.Rows {
			assert.Len(t, row, len(f.Table.Header), f.ID)
		}
		var out bytes.Buffer
		require.NoError(t, f.WritePNG(&out))
		picture, err := png.Decode(&out)
		require.NoError(t, err)
		r, g, b, a := picture.At(0, 0).RGBA()
		assert.Equal(t, []uint32{0xffff, 0xffff, 0xffff, 0xffff}, []uint32{r, g, b, a}, "on white ground")
		assert.Equal(t, svg, f.SVG(), "drawing it does not change it")
	}
}

func wellFormed(text string) error {
	decoder := xml.NewDecoder(strings.NewReader(text))
	for {
		if _, err := decoder.Token(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// TestTimelineTable: the numbers of a window are those of the trials that have I/O in it.
func TestTimelineTable(t *testing.T) {
	rows := all()[0].Table.Rows
	require.Len(t, rows, 8)
	assert.Equal(t, []string{"-2.00", "-1.50", "3 of 3", "1.00", "2.00", "3.00"}, rows[0])
	assert.Equal(t, []string{"-0.50", "0.00", "1 of 3", "2.00", "2.00", "2.00"}, rows[3])
	assert.Equal(t, []string{"0.50", "1.00", "1 of 3", "800", "800", "800"}, rows[5])
}

// TestOverDistanceTable: a median of failures is ∞, and an interval that is not known is left
// out.
func TestOverDistanceTable(t *testing.T) {
	drawn := all()
	f := drawn[slices.IndexFunc(drawn, func(f figures.Figure) bool { return f.ID == "h" })]
	require.Len(t, f.Table.Rows, 6)
	assert.Equal(t, []string{"iscsi", "90.0", "6", "∞", "2000", "∞"}, f.Table.Rows[2])
	assert.Equal(t, []string{"drbd C", "0.00", "2", "700", "–", "–"}, f.Table.Rows[3])
	assert.Contains(t, f.Description, "median of failures")
	assert.NotContains(t, f.SVG(), "Inf")
	assert.NotContains(t, f.SVG(), "NaN")
}

// TestWithoutColour: what differs by colour in a figure also differs by dashes, width or
// filling.
func TestWithoutColour(t *testing.T) {
	colour := regexp.MustCompile(`var\(--[a-z]+\)`)
	styles := func(f figures.Figure, paths string) map[string]bool {
		seen := map[string]bool{}
		for _, found := range regexp.MustCompile(`<path [^>]*style="([^"]*)"`).FindAllStringSubmatch(f.SVG(), -1) {
			if strings.Contains(found[1], paths) {
				seen[colour.ReplaceAllString(found[1], "")] = true
			}
		}
		return seen
	}
	drawn := all()
	assert.GreaterOrEqual(t, len(styles(drawn[0], "--trace"))+len(styles(drawn[0], "--two"))+len(styles(drawn[0], "stroke-width:1.6")), 3, "a trial, a failed one, the median")
	for style := range styles(drawn[0], "--two") {
		assert.Contains(t, style, "stroke-dasharray", "a failed trial is dashed")
	}
	assert.Contains(t, drawn[1].SVG(), "stroke-dasharray:6,3", "the phases' lines differ by their dashes")
	traffic := figures.Traffic("t", "x", "to-b", []figures.Sent{{Class: "c", Direction: "to-b", MB: 1}, {Class: "c", Direction: "to-a", MB: 1}}).SVG()
	assert.Regexp(t, `style="fill:var\(--one\)"`, traffic)
	assert.Regexp(t, `style="fill:none;stroke:var\(--one\)`, traffic)
}

// TestNothingToDraw: a cell whose trials have no data still has figures, without a panic
// from a logarithm.
func TestNothingToDraw(t *testing.T) {
	for _, f := range []figures.Figure{
		figures.Timeline{Bins: 2, BinS: 1, FromS: -1, Traces: []figures.Trace{{MaxMs: []float64{math.NaN(), math.NaN()}}}}.Response("a", "x"),
		figures.Slower("b", "x", []figures.Distribution{{Name: "before"}}, 0),
		figures.Witnesses("c", "x", []string{"guest"}, []figures.Stalls{{Ms: map[string]float64{"guest": 0}}}),
		figures.Traffic("d", "x", "to-b", nil),
		figures.OverDistance("e", "x", "ms", []figures.Series{{Name: "nfs", Points: []figures.Estimate{{Value: math.NaN(), Low: math.NaN(), High: math.NaN()}}}}),
		figures.OverDistance("f", "x", "ms", nil),
	} {
		assert.NoError(t, wellFormed(f.SVG()))
		assert.NotContains(t, f.SVG(), "NaN")
		assert.NotContains(t, f.SVG(), "Inf")
	}
}

// TestOverTimeTable: rows of several bins have the range of the bins' medians, never a mean
// of them, and the longest of all.
func TestOverTimeTable(t *testing.T) {
	values, longest := make([]float64, 48), make([]float64, 48)
	for i := range values {
		values[i], longest[i] = float64(i+1), float64(100*(i+1))
	}
	o := figures.OverTime{BinS: 2, Lines: []figures.TimeLine{{Name: "read", Values: values, Above: longest}}}
	table := o.Response("a", figures.Title{}).Table
	assert.Equal(t, []string{"from s", "to s", "read, medians", "read, longest"}, table.Header)
	require.Len(t, table.Rows, 24)
	assert.Equal(t, []string{"4.00", "8.00", "3.00 to 4.00", "400"}, table.Rows[1])
	rate := o.Rate("b", figures.Title{What: "I/Os a second"}, "1/s").Table
	assert.Equal(t, []string{"4.00", "8.00", "3.50"}, rate.Rows[1])
}
