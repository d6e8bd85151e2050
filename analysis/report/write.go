package report

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/campaign"
	"heliotrope/internal/trial"
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
	facts := []string{
		"Campaign: " + s.Campaign,
		"Campaign file: SHA-256 " + orNone(s.Specs),
		"Binary version: " + orNone(s.Binaries),
		fmt.Sprintf("Trials counted: %d (%d attempts)", s.Trials, s.Attempts),
		"Values: median (min–max) over the valid trials of a cell; n where not all of them know it; – where none does.",
		"Blackout: the guest's stall as the hypervisor saw it; ± is the largest. Longest gap: without I/O, whatever its cause.",
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

// verdicts are the columns of table Trials.
var verdicts = []trial.Verdict{trial.Valid, trial.TargetFailed, trial.Invalid, trial.Skipped}

// tables are the report's: those that have rows.
func (s Summary) tables() []table {
	names := labels(s.Cells)
	tables := append([]table{s.verdictTable(names), s.causeTable()}, s.migrationTables(names)...)
	tables = append(tables, s.loadTables(names)...)
	tables = append(tables, s.clockTable(names), s.sentinelTable())
	tables = append(tables, s.proofTables()...)
	// Campaigns from before the witnesses have nothing to tell of some. What
	// was run is told even when it is nothing.
	return slices.DeleteFunc(tables, func(t table) bool { return len(t.rows) == 0 && t.optional })
}

// perCell is a table with a row for each cell.
func (s Summary) perCell(names []string, title string, header []string, values func(cell Cell, valid int) []string) table {
	t := table{title: title, header: append([]string{"#", "cell"}, header...)}
	for i, cell := range s.Cells {
		t.rows = append(t.rows, append([]string{strconv.Itoa(i + 1), names[i]}, values(cell, cell.Verdicts[trial.Valid])...))
	}
	return t
}

func (s Summary) verdictTable(names []string) table {
	header := []string{}
	for _, verdict := range verdicts {
		header = append(header, string(verdict))
	}
	return s.perCell(names, "Trials", header, func(cell Cell, _ int) []string {
		row := []string{}
		for _, verdict := range verdicts {
			row = append(row, strconv.Itoa(cell.Verdicts[verdict]))
		}
		return row
	})
}

// causeTable counts the trials that are not valid by their causes.
func (s Summary) causeTable() table {
	t := table{title: "Causes", header: []string{"verdict", "cause", "trials"}, optional: true}
	counts := map[[2]string]*int{}
	for _, failure := range s.Failures {
		if failure.Cause != "" {
			*entry(counts, string(failure.Verdict), failure.Cause)++
		}
	}
	for _, key := range sortedKeys(counts) {
		t.rows = append(t.rows, []string{key[0], key[1], strconv.Itoa(*counts[key])})
	}
	return t
}

// migrationTables are what the migrations, and the pauses, did.
func (s Summary) migrationTables(names []string) []table {
	migration := s.perCell(names, "Migration", []string{"total s", "blackout ms", "± ms", "WAN MB"}, func(cell Cell, valid int) []string {
		return []string{cell.MigrationS.text(valid), cell.BlackoutMs.text(valid), cell.UncertaintyMs.most(), cell.WANMB.text(valid)}
	})
	// A row for each witness of a cell: four stalls side by side are what is compared.
	stalls := table{title: "Stall by witness", header: []string{"#", "cell", "witness", "stall ms", "± ms"}, texts: 1, optional: true}
	for i, cell := range s.Cells {
		valid := cell.Verdicts[trial.Valid]
		if len(cell.Witnesses) == 0 {
			continue
		}
		for _, name := range []string{dataset.WitnessGuest, dataset.WitnessHypervisor, dataset.WitnessBackend, dataset.WitnessNetwork} {
			stall := cell.Witnesses[name]
			stalls.rows = append(stalls.rows, []string{strconv.Itoa(i + 1), names[i], name, stall.Ms.text(valid), stall.UncertaintyMs.most()})
		}
		if cell.ToldMs.N > 0 {
			// What the hypervisor tells of itself, to compare what was seen with.
			stalls.rows = append(stalls.rows, []string{strconv.Itoa(i + 1), names[i], "downtime told", cell.ToldMs.text(valid), "–"})
		}
		stalls.rows = append(stalls.rows, []string{strconv.Itoa(i + 1), names[i], "disagreement", cell.DisagreementMs.text(valid), "–"})
	}
	around := s.perCell(names, "Load around the stall", []string{"steady", "longest gap ms", "recovery ms", "I/O lost s"}, func(cell Cell, valid int) []string {
		steady := "–"
		if cell.SteadyKnown > 0 {
			steady = fmt.Sprintf("%d of %d", cell.Steady, cell.SteadyKnown)
		}
		return []string{steady, cell.LongestGapMs.text(valid), cell.RecoveryMs.text(valid), cell.IOLostS.text(valid)}
	})
	return []table{migration, stalls, s.controlTable(names), around}
}

// controlTable compares the stalls of pauses with their known lengths. The other
// controls are cells among the others.
func (s Summary) controlTable(names []string) table {
	t := table{title: "Pauses of known length", header: []string{"#", "cell", "witness", "pause ms", "stall less pause ms", "± ms"}, texts: 1, optional: true}
	for i, cell := range s.Cells {
		hold := cell.Example.HoldMs
		if cell.Example.Control != campaign.ControlPause || hold == nil {
			continue
		}
		for _, name := range []string{dataset.WitnessGuest, dataset.WitnessHypervisor, dataset.WitnessBackend, dataset.WitnessNetwork} {
			stall := cell.Witnesses[name]
			off := stall.Ms
			off.Median, off.Min, off.Max = off.Median-*hold, off.Min-*hold, off.Max-*hold
			t.rows = append(t.rows, []string{strconv.Itoa(i + 1), names[i], name, number(*hold), off.text(cell.Verdicts[trial.Valid]), stall.UncertaintyMs.most()})
		}
	}
	return t
}

// loadTables are the load's, phase by phase.
func (s Summary) loadTables(names []string) []table {
	var tables []table
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
		phases := []string{dataset.Before, dataset.During, dataset.After}
		tables = append(tables, s.perCell(names, metric.title, phases, func(cell Cell, valid int) []string {
			row := []string{}
			for _, phase := range phases {
				row = append(row, metric.value(cell.Phases[phase]).text(valid))
			}
			return row
		}))
	}
	return tables
}

func (s Summary) clockTable(names []string) table {
	t := s.perCell(names, "Clocks", []string{"uncertainty ms", "drift ppm", "guest's step ms"}, func(cell Cell, valid int) []string {
		return []string{cell.ClockMs.text(valid), cell.DriftPPM.text(valid), cell.GuestStepMs.text(valid)}
	})
	t.optional = true
	if !slices.ContainsFunc(s.Cells, func(c Cell) bool { return c.ClockMs.N+c.DriftPPM.N+c.GuestStepMs.N > 0 }) {
		t.rows = nil
	}
	return t
}

// sentinelTable is the same cell again and again: does the testbed drift?
func (s Summary) sentinelTable() table {
	t := table{title: "Sentinel: the same cell through the campaign", header: []string{"trial", "verdict", "after min", "IOPS before", "total s", "blackout ms"}, optional: true}
	for _, w := range s.Sentinel {
		minutes := float64(w.StartedTsNs-s.Sentinel[0].StartedTsNs) / 60e9
		t.rows = append(t.rows, []string{w.Trial, string(w.Verdict), number(minutes), known(w.IOPS, 1), known(w.MigrationMs, 1e-3), known(w.BlackoutMs, 1)})
	}
	return t
}

func known(value *float64, factor float64) string {
	if value == nil {
		return "–"
	}
	return number(*value * factor)
}

// proofTables are what the measurements rest on.
func (s Summary) proofTables() []table {
	traffic := table{title: "Bytes on the WAN during the migration, by class", header: []string{"storage", "class", "to B MB", "to A MB"}, optional: true}
	for _, t := range s.Traffic {
		traffic.rows = append(traffic.rows, []string{t.Storage, t.Class, t.ToBMB.text(t.ToBMB.N), t.ToAMB.text(t.ToAMB.N)})
	}
	paths := table{title: "The WAN's certificates", header: []string{"direction", "profile", "want ms", "RTT ms", "lost %", "Mbit/s", "drops", "n", "bad"}, optional: true}
	for _, p := range s.Paths {
		paths.rows = append(paths.rows, []string{p.Direction, p.Profile, number(p.WantRTTMs), p.RTTMs.text(p.Certificates), p.LossPercent.most(),
			p.ThroughputMbit.text(p.Certificates), strconv.FormatInt(p.Drops, 10), strconv.Itoa(p.Certificates), strconv.Itoa(p.Problems)})
	}
	ledgers := table{title: "Ledger: acknowledged writes that were read back", header: []string{"storage", "copy", "trials", "acknowledged", "checked", "found", "LOST"}, optional: true}
	for _, l := range s.Ledgers {
		row := []string{l.Storage, l.Copy, strconv.Itoa(l.Trials)}
		for _, n := range []int64{l.Acked, l.Checked, l.Found, l.Losses} {
			row = append(row, strconv.FormatInt(n, 10))
		}
		ledgers.rows = append(ledgers.rows, row)
	}
	return []table{ledgers, paths, traffic}
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

// most is the largest of a spread.
func (s Spread) most() string {
	if s.N == 0 {
		return "–"
	}
	return number(s.Max)
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
