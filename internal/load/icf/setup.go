package icf

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// kinds are the types of tests, by their old numbers (PageSetup.h; for the words
// CPageSetup::LoadConfig).
var kinds = []string{
	"NORMAL", "CYCLE_TARGETS", "CYCLE_WORKERS", "INCREMENT_TARGETS_PARALLEL", "INCREMENT_TARGETS_SERIAL",
	"CYCLE_WORKERS_AND_TARGETS", "CYCLE_OUTSTANDING_IOS", "CYCLE_OUTSTANDING_IOS_AND_TARGETS",
}

// recordings are the choices of which results are recorded, by their old numbers.
var recordings = []string{"ALL", "NO_TARGETS", "NO_WORKERS", "NO_MANAGERS", "NONE"}

// steps are the types of steps, by their old numbers.
var steps = []string{"LINEAR", "EXPONENTIAL"}

// maxSeconds is the longest accepted time: 31 years.
const maxSeconds = 1_000_000_000

// setup reads the section TEST SETUP, which has no end mark before 1999.02.17.
func (p *parser) setup() {
	p.file.Kind = kinds[0]
	began := p.next
	for {
		line, ok := p.peek()
		if !ok || outside(line) {
			p.cut(began, headSetup, setupEnds)
			return
		}
		key, at := p.take()
		switch {
		case strings.EqualFold(key, "'END test setup"):
			return
		case key == "":
		case !p.setting(strings.ToLower(key)):
			if p.version < setupEnds {
				return
			}
			p.report(at, "is no setting of %s: %.60q", headSetup, key)
			p.skip()
		}
	}
}

// setting reads one key of the test setup. It returns false when the key is unknown.
func (p *parser) setting(key string) bool {
	switch {
	case key == "'test description":
		p.file.Description, _ = p.value()
	case key == "'run time":
		p.file.RunTime = p.seconds(key, "hours", "minutes", "seconds")
	case strings.HasPrefix(key, "'ramp up time"):
		p.file.RampUp = p.seconds(key, "seconds")
	case key == "'default workers to spawn", key == "'default disk workers to spawn", key == "'default network workers to spawn":
		value, at := p.value()
		if !strings.EqualFold(value, "NUMBER_OF_CPUS") {
			p.numbers(key, value, at, "workers")
		}
	case key == "'record results":
		p.word(key, recordings)
	case key == "'worker cycling":
		p.file.Cycled = p.steps(key, "start", "step")
	case key == "'disk cycling":
		p.file.Disks = p.steps(key, "start", "step")
	case key == "'queue depth cycling":
		p.file.Queue = p.steps(key, "start", "end", "step")
	case key == "'test type":
		if kind := p.word(key, kinds); kind != "" {
			p.file.Kind = kind
		}
	default:
		return false
	}
	return true
}

// seconds reads a time in whole units, of which the last is the second.
func (p *parser) seconds(key string, units ...string) time.Duration {
	value, at := p.value()
	numbers, _, ok := p.numbers(key, value, at, units...)
	total := 0
	for _, n := range numbers {
		total = 60*total + n
	}
	if ok && total > maxSeconds {
		p.report(at, "%s %.60q: longer than %d s", key, value, maxSeconds)
		return 0
	}
	return time.Duration(total) * time.Second
}

// word reads one of the words, or a word's old number. It returns "" when the value is neither.
func (p *parser) word(key string, words []string) string {
	value, at := p.value()
	word := oneOf(value, words)
	if word == "" {
		p.report(at, "%s %.60q: want %s, or 0 to %d", key, value, strings.Join(words, ", "), len(words)-1)
	}
	return word
}

func oneOf(value string, words []string) string {
	if i := slices.IndexFunc(words, func(word string) bool { return strings.EqualFold(word, value) }); i >= 0 {
		return words[i]
	}
	if i, err := strconv.Atoi(value); err == nil && whole.MatchString(value) && i < len(words) {
		return words[i]
	}
	return ""
}

// steps reads a test's steps: their numbers, and whether they grow linearly or exponentially.
func (p *parser) steps(key string, names ...string) (r Range) {
	value, at := p.value()
	numbers, rest, ok := p.numbers(key, value, at, names...)
	if !ok {
		return r
	}
	kind := ""
	if len(rest) > 0 {
		kind = oneOf(rest[0], steps)
	}
	if kind == "" {
		p.report(at, "%s %.60q: want %s, and LINEAR or EXPONENTIAL", key, value, strings.Join(names, ", "))
	}
	r.Start, r.Step, r.Exponential = numbers[0], numbers[len(numbers)-1], kind == "EXPONENTIAL"
	if len(numbers) == 3 {
		r.End = numbers[1]
	}
	return r
}
