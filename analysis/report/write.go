package report

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/trial"
)

// terminalColumns is how wide the terminal's tables are at most.
const terminalColumns = 120

// maxFailures is how many failures are listed one by one.
const maxFailures = 20

// table is a table of a report. Its first two columns are the cell's number
// and name.
type table struct {
	title  string
	header []string
	rows   [][]string
}

// warning is the first thing that a report says.
func (s Summary) warning() string {
	switch s.TestbedKind {
	case simulated:
		return "SIMULATED — not a measurement"
	case "":
		return "UNKNOWN kind of testbed"
	}
	return "Measured on a testbed that is: " + s.TestbedKind
}

// facts are the lines above the tables.
func (s Summary) facts() []string {
	facts := []string{
		"Campaign: " + s.Campaign,
		"Campaign file: SHA-256 " + orNone(s.Specs),
		"Binary version: " + orNone(s.Binaries),
		fmt.Sprintf("Trials counted: %d (%d attempts)", s.Trials, s.Attempts),
		"Values: median (min–max) over the valid trials of a cell; n where not all of them know it; – where none does.",
	}
	if len(s.Specs) > 1 {
		facts = append(facts, "PROBLEM: the trials are of different campaign files")
	}
	for _, problem := range s.Problems {
		facts = append(facts, "PROBLEM: "+problem)
	}
	return facts
}

func orNone(texts []string) string {
	if len(texts) == 0 {
		return "none"
	}
	return strings.Join(texts, ", ")
}

// tables are the report's.
func (s Summary) tables() []table {
	names := labels(s.Cells)
	start := func(i int) []string { return []string{strconv.Itoa(i + 1), names[i]} }
	trials := table{title: "Trials", header: []string{"#", "cell"}}
	verdicts := []trial.Verdict{trial.Valid, trial.TargetFailed, trial.Invalid, trial.Skipped}
	for _, verdict := range verdicts {
		trials.header = append(trials.header, string(verdict))
	}
	migration := table{title: "Migration",
		header: []string{"#", "cell", "total s", "blackout ms", "± ms", "WAN MB"}}
	for i, cell := range s.Cells {
		row := start(i)
		for _, verdict := range verdicts {
			row = append(row, strconv.Itoa(cell.Verdicts[verdict]))
		}
		trials.rows = append(trials.rows, row)
		n := cell.Verdicts[trial.Valid]
		uncertainty := "–"
		if cell.UncertaintyMs.N > 0 {
			uncertainty = number(cell.UncertaintyMs.Max)
		}
		migration.rows = append(migration.rows, append(start(i),
			cell.MigrationS.text(n), cell.BlackoutMs.text(n), uncertainty, cell.WANMB.text(n)))
	}
	tables := []table{trials, migration}
	for _, metric := range []struct {
		title string
		value func(Load) Spread
	}{
		{"IOPS", func(l Load) Spread { return l.IOPS }},
		{"MB/s", func(l Load) Spread { return l.MBPerS }},
		{"Mean response time, ms", func(l Load) Spread { return l.MeanMs }},
		{"99th percentile of the response time, ms", func(l Load) Spread { return l.P99Ms }},
		{"Maximum response time, ms", func(l Load) Spread { return l.MaxMs }},
	} {
		t := table{title: metric.title, header: []string{"#", "cell", dataset.Before, dataset.During, dataset.After}}
		for i, cell := range s.Cells {
			row := start(i)
			for _, phase := range []string{dataset.Before, dataset.During, dataset.After} {
				row = append(row, metric.value(cell.Phases[phase]).text(cell.Verdicts[trial.Valid]))
			}
			t.rows = append(t.rows, row)
		}
		tables = append(tables, t)
	}
	return tables
}

// failures are lines about the trials that are not valid.
func (s Summary) failures() []string {
	var lines []string
	for _, failure := range s.Failures[:min(maxFailures, len(s.Failures))] {
		lines = append(lines, fmt.Sprintf("%s %s: %s", failure.Trial, failure.Verdict, strings.Join(strings.Fields(failure.Reason), " ")))
	}
	if more := len(s.Failures) - len(lines); more > 0 {
		lines = append(lines, fmt.Sprintf("and %d more: see trials.parquet", more))
	}
	return lines
}

// text is a spread of a cell that has so many valid trials.
func (s Spread) text(valid int) string {
	text := ""
	switch s.N {
	case 0:
		return "–"
	case 1:
		text = number(s.Median)
	default:
		text = fmt.Sprintf("%s (%s–%s)", number(s.Median), number(s.Min), number(s.Max))
	}
	if s.N != valid {
		text += fmt.Sprintf(" n=%d", s.N)
	}
	return text
}

// number has three significant digits, or all before the point.
func number(v float64) string {
	switch magnitude := math.Abs(v); {
	case magnitude >= 1e6:
		return strconv.FormatFloat(v, 'g', 3, 64)
	case magnitude >= 99.95:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case magnitude >= 9.995:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case magnitude >= 0.1 || magnitude == 0:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
	return strconv.FormatFloat(v, 'f', 3, 64)
}

// WriteMarkdown writes summary.md.
func WriteMarkdown(w io.Writer, summary Summary) error {
	var out strings.Builder
	fmt.Fprintf(&out, "**%s**\n\n# Campaign %s\n\n", markdown(summary.warning()), markdown(summary.Campaign))
	for _, fact := range summary.facts() {
		fmt.Fprintf(&out, "- %s\n", markdown(fact))
	}
	for _, table := range summary.tables() {
		fmt.Fprintf(&out, "\n## %s\n\n| %s |\n|%s\n", table.title, strings.Join(table.header, " | "),
			strings.Repeat(" --- |", 2)+strings.Repeat(" ---: |", len(table.header)-2))
		for _, row := range table.rows {
			cells := make([]string, len(row))
			for i, text := range row {
				cells[i] = markdown(text)
			}
			fmt.Fprintf(&out, "| %s |\n", strings.Join(cells, " | "))
		}
	}
	if lines := summary.failures(); len(lines) > 0 {
		out.WriteString("\n## Not valid\n\n")
		for _, line := range lines {
			fmt.Fprintf(&out, "- %s\n", markdown(line))
		}
	}
	_, err := io.WriteString(w, out.String())
	return err
}

// markdown makes a text mean itself.
func markdown(text string) string {
	return strings.NewReplacer("|", `\|`, "*", `\*`, "_", `\_`, "<", "&lt;", "`", "\\`", "[", `\[`).Replace(text)
}

// WriteTable writes the summary for a terminal: no line of a table is wider
// than 120 columns. Names of cells that do not fit are cut; their numbers are not.
func WriteTable(w io.Writer, summary Summary) error {
	var out strings.Builder
	out.WriteString(summary.warning() + "\n\n" + strings.Join(summary.facts(), "\n") + "\n")
	for _, table := range summary.tables() {
		table.write(&out)
	}
	if lines := summary.failures(); len(lines) > 0 {
		out.WriteString("\nNot valid\n")
		for _, line := range lines {
			out.WriteString(cut(line, terminalColumns) + "\n")
		}
	}
	_, err := io.WriteString(w, out.String())
	return err
}

// write aligns a table: names to the left, numbers to the right.
func (t table) write(out *strings.Builder) {
	widths := make([]int, len(t.header))
	lines := append([][]string{t.header}, t.rows...)
	total := 2 * (len(widths) - 1)
	for i := range widths {
		for _, line := range lines {
			widths[i] = max(widths[i], utf8.RuneCountInString(line[i]))
		}
		total += widths[i]
	}
	const name = 1
	widths[name] = max(len(t.header[name]), widths[name]-max(0, total-terminalColumns))
	fmt.Fprintf(out, "\n%s\n", t.title)
	for _, line := range lines {
		texts := make([]string, len(line))
		for i, text := range line {
			if i == name {
				texts[i] = fmt.Sprintf("%-*s", widths[i], cut(text, widths[i]))
			} else {
				texts[i] = fmt.Sprintf("%*s", widths[i], text)
			}
		}
		out.WriteString(strings.Join(texts, "  ") + "\n")
	}
}

// cut shortens a text to a number of characters.
func cut(text string, width int) string {
	if utf8.RuneCountInString(text) <= width {
		return text
	}
	return string([]rune(text)[:width-1]) + "…"
}
