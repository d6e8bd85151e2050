package page

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"heliotrope/analysis/group"
	"heliotrope/analysis/summary"
)

// grid shows a metric of all cells: a row for each combination of the factors other than
// the WAN, and a column for each profile and direction.
type grid struct {
	Title   string
	Columns []string
	Rows    []gridRow
}

type gridRow struct {
	Name   string
	Values []gridValue
}

// gridValue is a median, and the fifth of the grid's range that it is in, from 0.
type gridValue struct {
	Text, Mark string
	Fifth      int

	value float64 // NaN: not known
}

// marks stand for the fifths, so that colour is not needed to see them.
var marks = []string{"▁", "▂", "▄", "▆", "█"}

type gridColumn struct {
	rttMs          float64
	wan, direction string
}

// grids show the matrix at a glance.
func grids(cells []summary.Cell) []grid {
	return []grid{
		newGrid("Longest response time around the stall, ms: median", cells, func(c summary.Cell) summary.Spread { return c.MaxResponseMs }),
		newGrid("Blackout, ms: median", cells, func(c summary.Cell) summary.Spread { return c.BlackoutMs }),
	}
}

func newGrid(title string, cells []summary.Cell, metric func(summary.Cell) summary.Spread) grid {
	var columns []gridColumn
	for i := range cells {
		if column := columnOf(&cells[i]); !slices.Contains(columns, column) {
			columns = append(columns, column)
		}
	}
	slices.SortFunc(columns, func(a, b gridColumn) int {
		return cmp.Or(cmp.Compare(a.rttMs, b.rttMs), cmp.Compare(a.wan, b.wan), cmp.Compare(a.direction, b.direction))
	})
	g := grid{Title: title}
	for _, column := range columns {
		g.Columns = append(g.Columns, fmt.Sprintf("%s (%s ms), %s", column.wan, summary.Number(column.rttMs), column.direction))
	}
	names := rowNames(cells)
	at := map[string]int{} // rows by their names
	for i := range cells {
		column, name := slices.Index(columns, columnOf(&cells[i])), names[i]
		row, known := at[name]
		if known && g.Rows[row].Values[column].Text != "" { // they differ in something that the name does not have
			name += ", " + cells[i].ID
			row, known = at[name]
		}
		if !known {
			row = len(g.Rows)
			at[name] = row
			g.Rows = append(g.Rows, gridRow{Name: name, Values: make([]gridValue, len(columns))})
		}
		value := gridValue{Text: "–", value: math.NaN()}
		if spread := metric(cells[i]); spread.N > 0 {
			value.Text, value.value = summary.Number(spread.Median), spread.Median
		}
		g.Rows[row].Values[column] = value
	}
	g.shade()
	return g
}

func columnOf(c *summary.Cell) gridColumn {
	return gridColumn{c.Example.RTTMs, c.Example.WAN, c.Direction}
}

// rowNames name the cells by the factors in which they differ, without WAN and direction.
func rowNames(cells []summary.Cell) []string {
	factors := []func(group.Factors) string{
		func(f group.Factors) string { return f.Hypervisor },
		func(f group.Factors) string { return f.Storage },
		func(f group.Factors) string { return f.Access },
		group.Factors.MemoryText,
		group.Factors.VCPUsText,
		func(f group.Factors) string { return f.Migration },
	}
	const storage = 1
	names := make([]string, len(cells))
	for i := range cells {
		var parts []string
		for j, factor := range factors {
			text := factor(group.FactorsOf(&cells[i].Example))
			differs := slices.ContainsFunc(cells, func(c summary.Cell) bool { return factor(group.FactorsOf(&c.Example)) != text })
			if text != "" && (differs || j == storage) {
				parts = append(parts, text)
			}
		}
		if control := cells[i].Example.Control; control != "" {
			parts = append(parts, "control "+control)
		}
		names[i] = strings.Join(parts, ", ")
	}
	return names
}

// shade assigns the values to fifths of their range, on a logarithmic scale.
func (g grid) shade() {
	low, high := math.Inf(1), math.Inf(-1)
	for _, row := range g.Rows {
		for _, v := range row.Values {
			if v.Text != "" && v.value > 0 && !math.IsInf(v.value, 1) {
				low, high = min(low, v.value), max(high, v.value)
			}
		}
	}
	for _, row := range g.Rows {
		for i := range row.Values {
			v := &row.Values[i]
			switch {
			case v.Text == "" || math.IsNaN(v.value):
				continue
			case math.IsInf(v.value, 1):
				v.Fifth = len(marks) - 1
			case v.value > low && high > low:
				v.Fifth = min(len(marks)-1, int(float64(len(marks))*math.Log(v.value/low)/math.Log(high/low)))
			}
			v.Mark = marks[v.Fifth]
		}
	}
}
