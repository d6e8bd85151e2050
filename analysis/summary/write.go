package summary

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"heliotrope/analysis/answers"
)

// terminalColumns is the largest width of a table on a terminal.
const terminalColumns = 120

// maxFailures is the largest number of failures that are listed one by one.
const maxFailures = 20

// Table is a table of a report. The first two columns of a summary's table are the cell's
// number and name.
type Table struct {
	Title  string
	Part   Part
	Header []string
	Rows   [][]string
	// Texts is how many columns after the first two are texts, which are aligned to the
	// left like those two; -1: only the first column is.
	Texts int
	// optional says that the table is left out when it has no rows.
	optional bool
}

// Part is the part of a report that a table of a summary belongs to.
type Part string

// The parts.
const (
	PartOutcomes Part = "outcomes" // what became of the trials, and why
	PartStall    Part = "stall"    // migrations, and what the witnesses say
	PartLoad     Part = "load"     // the load, phase by phase
	PartWire     Part = "wire"     // bytes on the WAN
	PartRecovery Part = "recovery" // of the load, of the disk, and the hand-over
	PartValidity Part = "validity" // the evidence for the measurements
)

// warning is the first line of a report.
func (s Summary) warning() string { return KindSays(s.TestbedKind) }

// KindSays says what numbers from a kind of testbed are worth. Everything that shows such
// numbers shows this first.
func KindSays(kind string) string {
	switch kind {
	case simulated:
		return "SIMULATED — not a measurement"
	case vcenterSimulator:
		return "VCENTER SIMULATOR — no ESXi host was involved: measured on emulated hosts behind a simulator of vCenter"
	case ingested:
		return "INGESTED — measured by others, and ingested from the files that they have: nobody of ours watched how"
	case "":
		return "UNKNOWN kind of testbed"
	}
	return "Measured on a testbed that is: " + kind
}

// KindName names a kind of testbed in a few words, for the titles of figures.
func KindName(kind string) string {
	switch kind {
	case simulated:
		return "SIMULATED, no measurement"
	case vcenterSimulator:
		return "VCENTER SIMULATOR"
	case ingested:
		return "INGESTED, measured by others"
	case "":
		return "UNKNOWN testbed"
	}
	return "Measured, " + kind
}

// IsIngested says whether a kind of dataset has what somebody else measured: it has no
// migrations.
func IsIngested(kind string) bool { return kind == ingested }

// IsModel says whether numbers of a kind of testbed come from a model.
func IsModel(kind string) bool { return kind == simulated }

// Facts are the lines above the tables.
func (s Summary) Facts() []string {
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
	if late := s.Ran.Late; late > 0 {
		facts = append(facts, fmt.Sprintf("PROBLEM: %d of %d attempts of the cells took longer than a limit after their migration had begun, and are invalid: ", late, s.Ran.Attempts)+
			"the slowest migrations may be missing (late time-outs in Trials)")
	}
	if failed := len(s.FailedControls()); failed > 0 {
		facts = append(facts, fmt.Sprintf("PROBLEM: %d trials of controls did not show what they must: see Controls", failed))
	}
	for _, problem := range s.Problems {
		facts = append(facts, "PROBLEM: "+problem)
	}
	return facts
}

// facts say how many writes are lost, and what it proves when none is.
func (l Lost) facts() []string {
	switch {
	case l.Attempts == 0:
		return nil
	case l.Losses > 0:
		return []string{fmt.Sprintf("Ledger: %d of %d acknowledged writes that were looked for are LOST, in %d of %d attempts", l.Losses, l.Checked, l.Losing, l.Attempts)}
	}
	return []string{fmt.Sprintf("Ledger: 0 of %d acknowledged writes that were looked for are lost, in %d attempts;", l.Checked, l.Attempts) +
		fmt.Sprintf(" with 95 %% fewer than %s %% lose any", Number(100*AtMost(l.Attempts)))}
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

// text formats a spread over a cell; valid is the number of trials that could have the
// value.
func (s Spread) text(valid int) string {
	text := ""
	switch s.N {
	case 0:
		return "–"
	case 1, s.Infinite:
		text = Number(s.Median)
	default:
		text = fmt.Sprintf("%s (%s–%s)", Number(s.Median), Number(s.Min), Number(s.Max))
	}
	if s.Infinite > 0 && s.N > 1 {
		text += fmt.Sprintf(" ∞×%d", s.Infinite)
	}
	if s.N != valid {
		text += fmt.Sprintf(" n=%d", s.N)
	}
	return text
}

// most formats the largest value of a spread.
func (s Spread) most() string {
	if s.N == 0 {
		return "–"
	}
	return Number(s.Max)
}

// Number formats a number with three significant digits, or all digits before the point
// when there are more.
func Number(v float64) string { return answers.Number(v).String() }

// WriteMarkdown writes summary.md.
func WriteMarkdown(w io.Writer, summary Summary) error {
	var out strings.Builder
	fmt.Fprintf(&out, "**%s**\n\n# Campaign %s\n\n", Markdown(summary.warning()), Markdown(summary.Campaign))
	for _, fact := range summary.Facts() {
		fmt.Fprintf(&out, "- %s\n", Markdown(fact))
	}
	for _, table := range summary.Tables() {
		table.WriteMarkdown(&out, "##")
	}
	if lines := summary.failures(); len(lines) > 0 {
		out.WriteString("\n## Not valid\n\n")
		for _, line := range lines {
			fmt.Fprintf(&out, "- %s\n", Markdown(line))
		}
	}
	_, err := io.WriteString(w, out.String())
	return err
}

// WriteMarkdown writes a table below a heading; heading has its # characters.
func (t Table) WriteMarkdown(out *strings.Builder, heading string) {
	fmt.Fprintf(out, "\n%s %s\n\n| %s |\n|%s\n", heading, t.Title, strings.Join(t.Header, " | "),
		strings.Repeat(" --- |", 2+t.Texts)+strings.Repeat(" ---: |", len(t.Header)-2-t.Texts))
	for _, row := range t.Rows {
		cells := make([]string, len(row))
		for i, text := range row {
			cells[i] = Markdown(text)
		}
		fmt.Fprintf(out, "| %s |\n", strings.Join(cells, " | "))
	}
}

// Markdown escapes a text so that Markdown shows it literally.
func Markdown(text string) string {
	return strings.NewReplacer("|", `\|`, "*", `\*`, "_", `\_`, "<", "&lt;", "`", "\\`", "[", `\[`).Replace(text)
}

// WriteTable writes the summary for a terminal: no line of a table is wider than 120
// columns. Names of cells that do not fit are shortened; their numbers are not.
func WriteTable(w io.Writer, summary Summary) error {
	var out strings.Builder
	out.WriteString(summary.warning() + "\n\n" + strings.Join(summary.Facts(), "\n") + "\n")
	for _, table := range summary.Tables() {
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
func (t Table) write(out *strings.Builder) {
	widths := make([]int, len(t.Header))
	lines := append([][]string{t.Header}, t.Rows...)
	total := 2 * (len(widths) - 1)
	for i := range widths {
		for _, line := range lines {
			widths[i] = max(widths[i], utf8.RuneCountInString(line[i]))
		}
		total += widths[i]
	}
	const name = 1
	widths[name] = max(len(t.Header[name]), widths[name]-max(0, total-terminalColumns))
	fmt.Fprintf(out, "\n%s\n", t.Title)
	for _, line := range lines {
		texts := make([]string, len(line))
		for i, text := range line {
			if i >= name && i <= name+t.Texts {
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

// IsText says whether a column is aligned to the left.
func (t Table) IsText(column int) bool { return column < 2+t.Texts }

// IsName says whether a column has the names of the rows: the one after the cell's number,
// or the first one.
func (t Table) IsName(column int) bool {
	if len(t.Header) > 0 && t.Header[0] == "#" {
		return column == 1
	}
	return column == 0
}

// IsLong says whether a text should be broken into lines.
func (t Table) IsLong(text string) bool { return utf8.RuneCountInString(text) > 40 }
