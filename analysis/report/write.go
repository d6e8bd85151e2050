package report

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"heliotrope/analysis/answers"
)

// terminalColumns is how wide the terminal's tables are at most.
const terminalColumns = 120

// maxFailures is how many failures are listed one by one.
const maxFailures = 20

// table is a table of a report. Its second column is a name.
type table struct {
	title  string
	header []string
	rows   [][]string
	texts  int // columns that are texts, beside the first two: to the left, as these are in Markdown
	// optional says that the table is left out when it has no rows.
	optional bool
}

// warning is the first thing that a report says.
func (s Summary) warning() string { return KindSays(s.TestbedKind) }

// KindSays says of what worth numbers are that come from a kind of testbed. It is
// the first thing that anything says which shows some.
func KindSays(kind string) string {
	switch kind {
	case simulated:
		return "SIMULATED — not a measurement"
	case vcenterSimulator:
		return "VCENTER SIMULATOR — no ESXi host was involved: measured on emulated hosts behind a simulator of vCenter"
	case "":
		return "UNKNOWN kind of testbed"
	}
	return "Measured on a testbed that is: " + kind
}

// facts are the lines above the tables.
func (s Summary) facts() []string {
	var facts []string
	if s.State != "" {
		facts = append(facts, s.State)
	}
	facts = append(facts,
		"Campaign: "+s.Campaign,
		"Campaign file: SHA-256 "+orNone(s.Specs),
		"Binary version: "+orNone(s.Binaries),
		fmt.Sprintf("Trials counted: %d (%d attempts)", s.Trials, s.Attempts),
		"Cell: one combination of the factors, in one direction; the sentinel's trials are in none.",
		"Values: median (min–max) over the valid trials of a cell; n where not all of them know it; – where none does.",
		"∞: a trial that failed, in total time, blackout, longest response, recovery and I/O lost; what had no end. ×k: so many.",
		"Blackout: the guest's stall as the hypervisor saw it; ± is the largest. Longest gap: without I/O, whatever its cause.",
	)
	if s.Skipped > 0 {
		facts = append(facts, fmt.Sprintf("Skipped: %d of these trials, which did not run to their end; they are in no cell", s.Skipped))
	}
	facts = append(facts, s.Lost.facts()...)
	if len(s.Specs) > 1 {
		facts = append(facts, "PROBLEM: the trials are of different campaign files")
	}
	if failed := len(s.FailedControls()); failed > 0 {
		facts = append(facts, fmt.Sprintf("PROBLEM: %d trials of controls did not show what they must: see Controls", failed))
	}
	for _, problem := range s.Problems {
		facts = append(facts, "PROBLEM: "+problem)
	}
	return facts
}

// facts say how many of them are lost, and where none is, what that proves.
func (l Lost) facts() []string {
	switch {
	case l.Attempts == 0:
		return nil
	case l.Losses > 0:
		return []string{fmt.Sprintf("Ledger: %d of %d acknowledged writes that were looked for are LOST, in %d of %d attempts", l.Losses, l.Checked, l.Losing, l.Attempts)}
	}
	return []string{fmt.Sprintf("Ledger: 0 of %d acknowledged writes that were looked for are lost, in %d attempts;", l.Checked, l.Attempts) +
		fmt.Sprintf(" with 95 %% fewer than %s %% lose any", number(100*AtMost(l.Attempts)))}
}

func orNone(texts []string) string {
	if len(texts) == 0 {
		return "none"
	}
	return strings.Join(texts, ", ")
}

// failures are lines about the trials that are not valid.
func (s Summary) failures() []string {
	var lines []string
	for _, failure := range s.Failures[:min(maxFailures, len(s.Failures))] {
		verdict := string(failure.Verdict)
		if failure.Cause != "" {
			verdict += " (" + failure.Cause + ")"
		}
		lines = append(lines, fmt.Sprintf("%s %s: %s", failure.Trial, verdict, strings.Join(strings.Fields(failure.Reason), " ")))
	}
	if more := len(s.Failures) - len(lines); more > 0 {
		lines = append(lines, fmt.Sprintf("and %d more: see trials.parquet", more))
	}
	return lines
}

// text is a spread of a cell that has so many trials which may know it.
func (s Spread) text(valid int) string {
	text := ""
	switch s.N {
	case 0:
		return "–"
	case 1, s.Infinite:
		text = number(s.Median)
	default:
		text = fmt.Sprintf("%s (%s–%s)", number(s.Median), number(s.Min), number(s.Max))
	}
	if s.Infinite > 0 && s.N > 1 {
		text += fmt.Sprintf(" ∞×%d", s.Infinite)
	}
	if s.N != valid {
		text += fmt.Sprintf(" n=%d", s.N)
	}
	return text
}

// most is the largest of a spread.
func (s Spread) most() string {
	if s.N == 0 {
		return "–"
	}
	return number(s.Max)
}

// number has three significant digits, or all before the point.
func number(v float64) string { return answers.Number(v).String() }

// WriteMarkdown writes summary.md.
func WriteMarkdown(w io.Writer, summary Summary) error {
	var out strings.Builder
	fmt.Fprintf(&out, "**%s**\n\n# Campaign %s\n\n", markdown(summary.warning()), markdown(summary.Campaign))
	for _, fact := range summary.facts() {
		fmt.Fprintf(&out, "- %s\n", markdown(fact))
	}
	for _, table := range summary.tables() {
		fmt.Fprintf(&out, "\n## %s\n\n| %s |\n|%s\n", table.title, strings.Join(table.header, " | "),
			strings.Repeat(" --- |", 2+table.texts)+strings.Repeat(" ---: |", len(table.header)-2-table.texts))
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
			if i >= name && i <= name+t.texts {
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
