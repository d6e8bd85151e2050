package results

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"heliotrope/internal/load/spec"
)

// Write writes tests in the format of Iometer 1.1.0, with all digits of their numbers. Commas and
// line breaks in the names of rows become spaces, as in Iometer. A value for a column that 1.1.0
// does not have is an error, and so is a value that is not a number; a time before the year 1000
// is left out.
func Write(w io.Writer, tests []Test) error {
	out := bufio.NewWriter(w)
	for _, test := range tests {
		if err := writeTest(out, test); err != nil {
			return err
		}
	}
	return out.Flush()
}

func writeTest(out *bufio.Writer, test Test) error {
	fmt.Fprintf(out, "%s\n0,%s\n%s\n%s\n", headTest, oneLine(test.Description), headVersion, oneLine(test.Version))
	writeTime(out, test.At)
	fmt.Fprintln(out, headSpecs)
	for _, access := range test.Specs {
		writeSpec(out, access)
	}
	fmt.Fprintf(out, "%s\n%s\n'%s\n", endSpecs, headResults, strings.Join(Columns, ","))
	for _, row := range test.Rows {
		if err := writeRow(out, row, test.Specs); err != nil {
			return err
		}
	}
	if test.Aborted {
		fmt.Fprintln(out, aborted)
	}
	_, err := fmt.Fprintln(out, endTest)
	return err
}

func writeTime(out *bufio.Writer, at time.Time) {
	if at.Year() < 1000 {
		return
	}
	at = at.UTC()
	fmt.Fprintf(out, "%s\n%s:%03d\n", headTime, at.Format(timeForm), at.Nanosecond()/int(time.Millisecond))
}

func writeSpec(out *bufio.Writer, access spec.Access) {
	fmt.Fprintf(out, "%s\n%s,0\n%s\n", headName, oneLine(access.Name), headLines)
	for _, l := range access.Lines {
		fmt.Fprintf(out, "%d,%d,%d,%d,%d,%d,%d,%d,\n",
			l.SizeBytes, l.SharePercent, l.ReadPercent, l.RandomPercent, l.DelayMs, l.Burst, l.AlignBytes, l.ReplyBytes)
	}
}

func writeRow(out *bufio.Writer, row Row, specs []spec.Access) error {
	for name, value := range row.Values {
		if !slices.Contains(Columns[3:], name) {
			return fmt.Errorf("row %s %s: %q is no column of Iometer's results", row.Type, row.Name, name)
		}
		if math.IsNaN(value) || math.IsInf(value, 0) {
			return fmt.Errorf("row %s %s: %s is no number", row.Type, row.Name, name)
		}
	}
	access := oneLine(row.Access)
	if !slices.ContainsFunc(specs, func(a spec.Access) bool { return a.Name == access }) {
		access = plain(access) // nothing marks its commas as parts of a name
	}
	fields := []string{plain(row.Type), plain(row.Name), access}
	for _, name := range Columns[3:] {
		text := ""
		if value, known := row.Values[name]; known {
			text = strconv.FormatFloat(value, 'f', -1, 64)
		}
		fields = append(fields, text)
	}
	_, err := fmt.Fprintln(out, strings.Join(fields, ","))
	return err
}

// oneLine replaces the line breaks in a text.
func oneLine(text string) string {
	return strings.TrimSpace(strings.NewReplacer("\r", " ", "\n", " ").Replace(text))
}

// plain makes a text that is one field.
func plain(text string) string {
	return strings.TrimSpace(strings.ReplaceAll(oneLine(text), ",", " "))
}
