package icf

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"heliotrope/internal/strict"
)

// parser reads the lines of a file once, from first to last.
type parser struct {
	file     *File
	lines    []string // without spaces around them
	next     int      // index of the next line
	version  int64    // as Iometer converts it to a number: a later version is larger
	problems []strict.Problem
	numbered map[string]int // by the name of an old specification: the number to try next
}

// report records a problem in a line; lines count from 1.
func (p *parser) report(line int, format string, values ...any) {
	if len(p.problems) < maxProblems {
		p.problems = append(p.problems, strict.Problem{File: p.file.name, Line: max(1, line), Column: 1, Message: fmt.Sprintf(format, values...)})
	}
}

// split splits a text into lines, and returns false when that is not possible.
func (p *parser) split(text []byte) bool {
	switch {
	case len(text) > maxBytes:
		p.report(1, "is larger than %d bytes: no configuration is", maxBytes)
		return false
	case bytes.HasPrefix(text, []byte("\xff\xfe")) || bytes.HasPrefix(text, []byte("\xfe\xff")):
		p.report(1, "is UTF-16: save it as UTF-8 or ANSI")
		return false
	}
	text = bytes.TrimPrefix(text, []byte("\uFEFF"))
	if !utf8.Valid(text) {
		text = latin1(text)
	}
	for i, line := range strings.Split(strings.ReplaceAll(string(text), "\r\n", "\n"), "\n") {
		if len(line) > maxLineBytes {
			p.report(i+1, "is longer than %d bytes", maxLineBytes)
		}
		p.lines = append(p.lines, strings.TrimSpace(line))
	}
	return len(p.problems) == 0
}

// latin1 decodes bytes as ISO 8859-1, which agrees with the code page of older Windows in most of
// the world except for 32 characters.
func latin1(text []byte) []byte {
	var utf []byte
	for _, b := range text {
		utf = utf8.AppendRune(utf, rune(b))
	}
	return utf
}

// peek returns the next line; ok is false at the file's end.
func (p *parser) peek() (line string, ok bool) {
	if p.next >= len(p.lines) {
		return "", false
	}
	return p.lines[p.next], true
}

// take returns the next line and its number, and moves past it.
func (p *parser) take() (line string, number int) {
	line, _ = p.peek()
	p.next++
	return line, p.next
}

// value returns the value of the preceding key: the next line that is no comment, as in
// ICF_ifstream::GetPair. It is "" when the section or the file ends.
func (p *parser) value() (value string, number int) {
	for {
		line, ok := p.peek()
		switch {
		case !ok || prefix(line, "'End") || prefix(line, "'Version"):
			return "", p.next
		case !strings.HasPrefix(line, "'"):
			return p.take()
		}
		p.next++
	}
}

// skip moves past everything that belongs to an unknown key: column names and values.
func (p *parser) skip() {
	for {
		line, ok := p.peek()
		columns := strings.HasPrefix(line, "'\t") || strings.HasPrefix(line, "' ")
		if !ok || strings.HasPrefix(line, "'") && !columns || isVersion(line) {
			return
		}
		p.next++
	}
}

// prefix reports whether a line begins with a text, in any case.
func prefix(line, with string) bool {
	return len(line) >= len(with) && strings.EqualFold(line[:len(with)], with)
}

// versionLine matches the first line of every file, which is also the last line of a complete
// one.
var versionLine = regexp.MustCompile(`(?i)^version\s+(\d{1,9})\.(\d{1,9})\.(\d{1,9})`)

func isVersion(line string) bool { return prefix(line, "version") && versionLine.MatchString(line) }

// Versions of Iometer since which something has its present form.
const (
	namedSpecs  = 19980521 // specifications have names
	setupEnds   = 19990217 // a test setup has an end
	firstPublic = 19980105 // the version that 3.26.97 was distributed with
)

// number converts a version to a number as ICF_ifstream::GetVersion does.
func number(line string) (int64, bool) {
	parts := versionLine.FindStringSubmatch(line)
	if parts == nil {
		return 0, false
	}
	var n [3]int64
	for i := range n {
		n[i], _ = strconv.ParseInt(parts[i+1], 10, 64) // at most 9 digits
	}
	switch {
	case n == [3]int64{3, 26, 97}:
		return firstPublic, true
	case n[0] > 1900:
		return n[0]*10000 + n[1]*100 + n[2], true
	}
	return n[0]*10_000_000_000 + n[1]*100_000 + n[2], true
}

// The headings of sections. The rest of a heading's line is ignored.
const (
	headSetup    = "'TEST SETUP"
	headDisplay  = "'RESULTS DISPLAY"
	headSpecs    = "'ACCESS SPECIFICATIONS"
	headManagers = "'MANAGER LIST"
)

// heading returns the section that begins at a line, or "".
func heading(line string) string {
	for _, head := range []string{headSetup, headDisplay, headSpecs, headManagers} {
		if prefix(line, head) {
			return head
		}
	}
	return ""
}

// outside reports whether a line belongs to no section: an open section ends there at the latest.
func outside(line string) bool { return heading(line) != "" || isVersion(line) }

// parse reads the whole file.
func (p *parser) parse() {
	for p.next < len(p.lines)-1 && p.lines[p.next] == "" {
		p.next++
	}
	first, at := p.take()
	known := false
	if p.version, known = number(first); !known {
		p.report(at, "is no configuration of Iometer: want a first line such as Version 1.1.0")
		return
	}
	p.file.Version = strings.TrimSpace(first[len("Version"):])
	seen := map[string]bool{}
	for {
		line, ok := p.peek()
		if !ok {
			break
		}
		_, at := p.take()
		head := heading(line)
		if line != "" {
			p.file.open = p.version >= setupEnds
		}
		if head != "" && seen[head] {
			p.report(at, "%s is there twice", head)
		}
		seen[head] = true
		switch {
		case head == headSetup:
			p.setup()
		case head == headDisplay:
			p.display(at)
		case head == headSpecs:
			p.specs(at)
		case head == headManagers:
			p.managers(at)
		case isVersion(line):
			p.file.open = false
		case line != "" && p.version >= setupEnds:
			p.report(at, "is in no section that Iometer has: %.60q", line)
			p.skip()
		}
	}
	if !seen[headSpecs] {
		p.report(len(p.lines), "has no section %s: is the file cut?", headSpecs)
	}
}

// display skips the section with the settings of Iometer's windows.
func (p *parser) display(began int) {
	for {
		line, ok := p.peek()
		if !ok || outside(line) {
			p.cut(began, headDisplay, setupEnds)
			return
		}
		p.next++
		if prefix(line, "'END results display") {
			return
		}
	}
}

// cut reports a section without an end in a file whose version writes one.
func (p *parser) cut(began int, head string, since int64) {
	if p.version >= since {
		p.report(p.next, "%s of line %d does not end: is the file cut?", head, began)
	}
}

// Forms of numbers.
var (
	whole = regexp.MustCompile(`^\d{1,9}$`)
	blank = regexp.MustCompile(`[\s,]+`)
)

// numbers reads one whole number for each name from the beginning of a value, and returns the
// words after them.
func (p *parser) numbers(key, value string, line int, names ...string) (numbers []int, rest []string, ok bool) {
	words := strings.Split(blank.ReplaceAllString(value, " "), " ")
	for i := range names {
		if i >= len(words) || !whole.MatchString(words[i]) {
			p.report(line, "%s %.60q: want %s as whole numbers", key, value, strings.Join(names, ", "))
			return nil, nil, false
		}
		n, _ := strconv.Atoi(words[i]) // at most 9 digits
		numbers = append(numbers, n)
	}
	return numbers, words[len(names):], true
}
