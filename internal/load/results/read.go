package results

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"heliotrope/internal/load/icf"
	"heliotrope/internal/load/spec"
	"heliotrope/internal/strict"
)

// Limits of a file.
const (
	maxBytes     = 16 << 20
	maxLineBytes = 16 << 10
	maxProblems  = 1000    // more come from one mistake
	maxValues    = 2 << 20 // more than maxBytes of rows have that Iometer wrote
	rowValues    = 8       // a row needs memory for at least so many
)

// reader reads the lines of a file once, from first to last.
type reader struct {
	name     string
	rest     string // the lines that were not read yet
	ended    bool   // all of them were
	number   int    // of the line that was read last
	values   int    // in all rows
	problems []strict.Problem
	tests    []Test
	test     Test     // the test that is being read
	columns  []string // of its results, by the newest names; nil outside results
}

// Read reads all tests of a file of at most 16 MiB, which must be text in UTF-8. If anything is wrong, a *strict.Error lists
// all problems; name is the file's name in them.
func Read(name string, r io.Reader) ([]Test, error) {
	f := &reader{name: name}
	text, err := io.ReadAll(io.LimitReader(r, maxBytes+1))
	switch {
	case err != nil:
		f.report(1, "cannot be read: %v", err)
	case len(text) > maxBytes:
		f.report(1, "is larger than %d bytes", maxBytes)
	default:
		text = bytes.TrimPrefix(text, []byte("\uFEFF"))
		f.rest = strings.NewReplacer("\r\n", "\n", "\r", " ").Replace(string(text))
		f.read()
	}
	if len(f.problems) > 0 {
		return nil, &strict.Error{Problems: f.problems}
	}
	return f.tests, nil
}

func (f *reader) report(line int, format string, values ...any) {
	if len(f.problems) < maxProblems {
		f.problems = append(f.problems, strict.Problem{File: f.name, Line: line, Column: 1, Message: fmt.Sprintf(format, values...)})
	}
}

// take returns the next line and its number, and moves past it.
func (f *reader) take() (line string, number int, ok bool) {
	if f.ended {
		return "", f.number, false
	}
	line, rest, more := strings.Cut(f.rest, "\n")
	f.rest, f.ended = rest, !more
	f.number++
	line = strings.TrimSpace(line)
	switch {
	case len(line) > maxLineBytes:
		f.report(f.number, "is longer than %d bytes", maxLineBytes)
		line = ""
	case !utf8.ValidString(line):
		f.report(f.number, "is not UTF-8: convert the file, as with iconv -f WINDOWS-1252 -t UTF-8, from the code page of the Windows that wrote it")
		line = strings.ToValidUTF8(line, "\uFFFD")
	}
	return line, f.number, true
}

// value returns the line after a heading, and its number.
func (f *reader) value(heading string) (string, int) {
	line, number, ok := f.take()
	if !ok {
		f.report(number, "ends after %s: is the file cut?", heading)
	}
	return line, number
}

func (f *reader) read() {
	for {
		line, number, ok := f.take()
		if !ok {
			break
		}
		switch {
		case line == "":
		case strings.EqualFold(line, headTest):
			f.end()
			text, at := f.value(headTest)
			kind, description, ok := strings.Cut(text, ",")
			if !ok || strings.ContainsFunc(kind, func(r rune) bool { return r < '0' || r > '9' }) {
				f.report(at, "%.60q: want a number, a comma and a description", text)
			}
			f.test = Test{Description: strings.TrimSpace(description)}
		case strings.EqualFold(line, headVersion):
			f.test.Version, _ = f.value(headVersion)
		case strings.EqualFold(line, headTime):
			f.end()
			f.test.At = f.time()
		case strings.EqualFold(line, headSpecs):
			f.end()
			f.specs()
		case strings.EqualFold(line, headResults):
			f.end()
			f.header()
		case strings.EqualFold(line, endTest):
			f.end()
		case strings.EqualFold(line, aborted):
			f.end()
			if len(f.tests) > 0 {
				f.tests[len(f.tests)-1].Aborted = true
			}
		case f.columns == nil:
			f.report(number, "is nothing that Iometer writes: %.60q", line)
		default:
			f.row(line, number)
		}
	}
	f.end()
	if len(f.tests) == 0 && len(f.problems) == 0 {
		f.report(1, "has no results of Iometer: want %s and rows after it", headResults)
	}
}

// end ends the test, if it has results. Another test of the same run may follow.
func (f *reader) end() {
	if f.columns == nil {
		return
	}
	f.tests = append(f.tests, f.test)
	f.test.Rows, f.columns = nil, nil
}

// time reads a time such as 2006-07-27 10:11:12:013.
func (f *reader) time() time.Time {
	text, at := f.value(headTime)
	last := strings.LastIndexByte(text, ':')
	if last < 0 {
		last = len(text)
	}
	seconds, err := time.Parse(timeForm, text[:last])
	ms, wrong := 0, error(nil)
	if last < len(text) {
		ms, wrong = strconv.Atoi(text[last+1:])
	}
	if err != nil || wrong != nil || ms < 0 || ms > 999 || seconds.Year() < 1000 {
		f.report(at, "%.40q is no time such as 2006-07-27 10:11:12:013", text)
		return time.Time{}
	}
	return seconds.Add(time.Duration(ms) * time.Millisecond)
}

// specs reads the specifications of the following tests.
func (f *reader) specs() {
	f.test.Specs = nil
	began := f.number
	for {
		line, at, ok := f.take()
		switch {
		case !ok:
			f.report(at, "%s of line %d does not end: is the file cut?", headSpecs, began)
			return
		case strings.EqualFold(line, endSpecs):
			return
		case strings.EqualFold(line, headName):
			text, at := f.value(headName)
			name, _, ok := icf.CutName(text)
			if !ok {
				f.report(at, "%.60q: want a name, a comma and its default assignment", text)
			}
			f.test.Specs = append(f.test.Specs, spec.Access{Name: name})
		case line == "" || strings.EqualFold(line, headLines):
		case len(f.test.Specs) == 0:
			f.report(at, "is of no access specification: %.60q", line)
		default:
			read, old, err := icf.Line(line)
			if err != nil || old {
				f.report(at, "%.60q is no line of an access specification: %v", line, err)
				continue
			}
			last := &f.test.Specs[len(f.test.Specs)-1]
			last.Lines = append(last.Lines, read)
		}
	}
}

// header reads the names of the columns.
func (f *reader) header() {
	line, at := f.value(headResults)
	f.columns, f.test.Line = []string{}, at-1
	for _, name := range strings.Split(strings.TrimPrefix(line, "'"), ",") {
		name = strings.TrimSpace(name)
		if now := newest[name]; now != "" {
			name = now
		}
		if name != "" && slices.Contains(f.columns, name) {
			f.report(at, "has column %.60q twice", name)
		}
		f.columns = append(f.columns, name)
	}
	for _, name := range []string{columnType, columnName, columnAccess} {
		if !slices.Contains(f.columns, name) {
			f.report(at, "has no column %s: want the header of Iometer's results", name)
		}
	}
}

// row reads a row of results. Quotes are ordinary text.
func (f *reader) row(line string, at int) {
	fields := f.join(strings.Split(line, ","))
	if len(fields) > len(f.columns) {
		f.report(at, "has %d fields and the header %d: decimal commas? Save it with decimal points", len(fields), len(f.columns))
		return
	}
	if f.ended {
		f.report(at, "the last line has no end: is the file cut?")
	}
	row := Row{Values: map[string]float64{}}
	for i, field := range fields {
		field = strings.TrimSpace(field)
		switch name := f.columns[i]; {
		case name == columnType:
			row.Type = field
		case name == columnName:
			row.Name = field
		case name == columnAccess:
			row.Access = field
		case field == "" || unknown.MatchString(field):
		case name == "":
			f.report(at, "%.30q is in a column without a name", field)
		default:
			n, err := strconv.ParseFloat(field, 64)
			if err != nil || math.IsInf(n, 0) || strings.ContainsAny(field, "xX_") {
				f.report(at, "%s %.30q is no number", name, field)
				continue
			}
			row.Values[name] = n
		}
	}
	if f.values += max(len(row.Values), rowValues); f.values > maxValues {
		f.report(at, "has more than %d numbers with the rows above it: Iometer writes fewer in %d bytes", maxValues, maxBytes)
		f.ended = true
	}
	if !rowType.MatchString(row.Type) {
		f.report(at, "%.30q is no type of a row: want such as ALL, MANAGER, WORKER, DISK", row.Type)
	}
	f.test.Rows = append(f.test.Rows, row)
}

var (
	// unknown matches what C++ libraries print for a value that is not a number.
	unknown = regexp.MustCompile(`(?i)^[-+]?(nan(\(.*\))?|inf(inity)?|1\.#.*)$`)
	rowType = regexp.MustCompile(`^[A-Z]+$`)
)

// join puts the fields of a specification's name with commas together again, if the file defines
// such a specification: Iometer writes names without quotes.
func (f *reader) join(fields []string) []string {
	at := slices.Index(f.columns, columnAccess)
	more := len(fields) - len(f.columns)
	if at < 0 || more <= 0 {
		return fields
	}
	// Rows may have fewer fields than the header, so the name may contain any number of commas.
	for n := len(fields) - at; n > 1; n-- {
		name := strings.TrimSpace(strings.Join(fields[at:at+n], ","))
		if slices.ContainsFunc(f.test.Specs, func(a spec.Access) bool { return a.Name == name }) {
			return slices.Concat(fields[:at], []string{name}, fields[at+n:])
		}
	}
	return fields
}
