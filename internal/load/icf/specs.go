package icf

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"heliotrope/internal/load/spec"
)

// Keys of the section.
const (
	keyName  = "'Access specification name,default assignment"
	endSpecs = "'END access specifications"
)

// assignments say which workers run a specification that is assigned to none, by their numbers
// (GalileoDefs.h).
var assignments = []string{"NONE", "ALL", "DISK", "NET"}

// Line reads one line of a specification. It has 8 numbers separated by commas (size in bytes,
// share of the bursts, reads and random in percent, delay in ms, burst, alignment and reply in
// bytes), or 6 numbers separated by blanks (before 1998.05.21: size, share, reads, random, delay,
// burst); old is true for the second form. Line checks Iometer's own limits only.
func Line(text string) (line spec.Line, old bool, err error) {
	fields, want := strings.Fields(text), 6
	if old = !strings.Contains(text, ","); !old {
		fields, want = strings.Split(strings.TrimSuffix(text, ","), ","), 8
	}
	if len(fields) != want {
		return line, old, fmt.Errorf("%d numbers: want size,%% of size,%% reads,%% random,delay,burst,align,reply", len(fields))
	}
	var n [8]int
	for i, field := range fields {
		field = strings.TrimSpace(field)
		if !whole.MatchString(field) {
			return line, old, fmt.Errorf("%.20q is no whole number below 10^9", field)
		}
		n[i], _ = strconv.Atoi(field) // at most 9 digits
	}
	if max(n[1], n[2], n[3]) > 100 {
		return line, old, errors.New("more than 100%")
	}
	line = spec.Line{SizeBytes: n[0], SharePercent: n[1], ReadPercent: n[2], RandomPercent: n[3], DelayMs: n[4], Burst: n[5], AlignBytes: n[6], ReplyBytes: n[7]}
	if old {
		line.AlignBytes = 2048 // AccessSpecList::InitAccessSpecLine
	}
	return line, old, nil
}

// CutName splits a line NAME,ASSIGNMENT. The name may contain commas.
func CutName(text string) (name, assignment string, ok bool) {
	comma := strings.LastIndexByte(text, ',')
	if comma < 0 {
		return "", "", false
	}
	name, assignment = strings.TrimSpace(text[:comma]), oneOf(strings.TrimSpace(text[comma+1:]), assignments)
	return name, assignment, name != "" && assignment != ""
}

// collected is the specification that is being read.
type collected struct {
	spec.Access
	place
	open, old bool
	damaged   bool // a problem of one of its lines is reported
	share     int
}

// specs reads the section ACCESS SPECIFICATIONS in either form. In the old form a specification
// ends when its shares are complete, and the section has no end mark: it ends with any comment
// after a specification.
func (p *parser) specs(began int) {
	var c collected
	for {
		text, ok := p.peek()
		comment, named := strings.HasPrefix(text, "'"), strings.EqualFold(text, keyName)
		switch {
		case c.old && (!ok || comment && !named || outside(text)):
			p.endOld(&c)
			return
		case !ok || outside(text):
			p.cut(began, headSpecs, 0)
			return
		}
		_, at := p.take()
		switch {
		case prefix(text, endSpecs):
			p.finish(&c)
			return
		case named:
			p.finish(&c)
			p.named(&c)
		case text == "" || comment && len(c.lines) == 0:
			// the names of the columns
		case comment:
			p.report(at, "is no setting of %s: %.60q", headSpecs, text)
			c.damaged = true
			p.skip()
		default:
			p.line(&c, text, at)
		}
	}
}

// endOld ends the section in its old form: at a comment, or at the end of the file.
func (p *parser) endOld(c *collected) {
	if c.open {
		p.report(p.next, "the shares of the last specification sum to %d%%: is the file cut?", c.share)
	}
	if last := len(p.lines); p.next >= last && p.lines[last-1] != "" {
		p.report(last, "the last line has no end: is the file cut?")
	}
	if line, ok := p.peek(); ok && prefix(line, endSpecs) {
		p.next++
	}
}

// named begins a specification that has a name.
func (p *parser) named(c *collected) {
	text, at := p.value()
	*c = collected{open: true, place: place{name: at}}
	var ok bool
	if c.Name, c.assignment, ok = CutName(text); !ok {
		p.report(at, "%.60q: want a name, a comma, and %s", text, strings.Join(assignments, " or "))
	}
}

// line adds a line to the specification, or begins an old one with it.
func (p *parser) line(c *collected, text string, at int) {
	line, old, err := Line(text)
	switch {
	case err != nil:
		p.report(at, "%v", err)
		c.damaged = true
		return
	case !c.open && !old:
		p.report(at, "a line of no specification: want %s before it", keyName)
		return
	case !c.open:
		*c = collected{open: true, old: true, place: place{name: at, assignment: "ALL"}}
	case old != c.old:
		p.report(at, "%.60q is of another form than the lines before", text)
		c.damaged = true
		return
	}
	if line.SharePercent == 0 {
		c.notes = append(c.notes, fmt.Sprintf("line %d, which is 0%% of all, is left out", at))
	} else {
		c.Lines, c.lines = append(c.Lines, line), append(c.lines, at)
	}
	c.share += line.SharePercent
	if c.old && c.share >= 100 {
		c.Name = p.smartName(c.Lines)
		p.finish(c)
	}
}

// finish adds the specification. It replaces one of the same name, as Iometer does, which
// compares names in any case.
func (p *parser) finish(c *collected) {
	if !c.open {
		return
	}
	old := c.old
	if len(p.file.Specs) == maxSpecs {
		p.report(c.place.name, "more than %d access specifications", maxSpecs)
		return
	}
	if c.share != 100 && !c.damaged {
		p.report(c.place.name, "the shares of %q sum to %d%%: want 100%%", c.Name, c.share)
	}
	if i := p.file.index(c.Name); i >= 0 {
		c.notes = append(c.notes, fmt.Sprintf("the one of this name at line %d is replaced by it", p.file.places[i].name))
		p.file.Specs[i], p.file.places[i] = c.Access, c.place
	} else {
		p.file.Specs, p.file.places = append(p.file.Specs, c.Access), append(p.file.places, c.place)
	}
	*c = collected{old: old}
}

// index returns the index of the specification with a name, in any case, or -1.
func (f *File) index(name string) int {
	return slices.IndexFunc(f.Specs, func(a spec.Access) bool { return strings.EqualFold(a.Name, name) })
}

// smartName makes the name of a specification from before names existed: as
// AccessSpecList::SmartName does for one line, as NextUntitled does otherwise.
func (p *parser) smartName(lines []spec.Line) string {
	if len(lines) != 1 {
		n := 1
		for _, access := range p.file.Specs {
			if strings.HasPrefix(access.Name, "Untitled") {
				n++
			}
		}
		for p.file.index(fmt.Sprintf("Untitled %d", n)) >= 0 {
			n++
		}
		return fmt.Sprintf("Untitled %d", n)
	}
	name := sizeName(lines[0].SizeBytes) + partName(lines[0].RandomPercent, "sequential", "random") + partName(lines[0].ReadPercent, "writes", "reads")
	// Names are never freed, so numbers that were taken before need not be tried again.
	unique, n := name, max(2, p.numbered[name])
	for ; p.file.index(unique) >= 0; n++ {
		unique = fmt.Sprintf("%s %d", name, n)
	}
	p.numbered[name] = n
	return unique
}

func sizeName(bytes int) string {
	switch bytes {
	case 512:
		return "512 B"
	case 1 << 20:
		return "1 MiB"
	}
	return fmt.Sprintf("%d KiB", bytes>>10)
}

// partName describes a share in percent: none of it, all of it, or how much.
func partName(percent int, none, all string) string {
	switch percent {
	case 0:
		return " " + none
	case 100:
		return " " + all
	}
	return fmt.Sprintf(" %d%% %s", percent, all)
}
