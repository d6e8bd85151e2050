package icf

import (
	"slices"
	"strconv"
	"strings"
)

// idle is a specification that every Iometer has: no I/O. It is never saved in a file, but may be
// assigned, so that a worker does nothing in a step of the test.
const idle = "Idle"

// blocks maps each key that begins a block of the manager list to the words after 'End that end
// the block.
var blocks = map[string]string{
	"'manager id, manager name":           "manager",
	"'worker":                             "worker",
	"'default target settings for worker": "default target settings for worker",
	"'assigned access specs":              "assigned access specs",
	"'target assignments":                 "target assignments",
	"'target":                             "target",
}

// within maps each block to the block that encloses it.
var within = map[string]string{
	"manager": "", "worker": "manager", "default target settings for worker": "worker", "assigned access specs": "worker",
	"target assignments": "worker", "target": "target assignments",
}

// managerList reads section MANAGER LIST.
type managerList struct {
	*parser
	manager string
	worker  Worker
	open    []string // names of the open blocks, outermost first
}

func (p *parser) managers(began int) {
	m := &managerList{parser: p}
	for {
		line, ok := p.peek()
		if !ok || outside(line) && m.block() != "assigned access specs" {
			p.cut(began, headManagers, 0)
			return
		}
		key, at := p.take()
		lower := strings.ToLower(key)
		switch end, isEnd := strings.CutPrefix(lower, "'end "); {
		case isEnd && end == "manager list" && len(m.open) == 0:
			return
		case isEnd && m.block() != "" && end == m.block():
			m.end(at)
		case isEnd:
			p.report(at, "%.60q ends what did not begin", key)
		case blocks[lower] != "":
			m.begin(blocks[lower], at)
		case key == "":
		case strings.HasPrefix(key, "'"):
			if !m.setting(lower) {
				p.report(at, "is no setting of %s: %.60q", headManagers, key)
				p.skip()
			}
		case m.block() == "assigned access specs":
			m.worker.Assigned = append(m.worker.Assigned, key)
		default:
			p.report(at, "is of no setting: %.60q", key)
		}
	}
}

// block returns the innermost open block.
func (m *managerList) block() string {
	if len(m.open) == 0 {
		return ""
	}
	return m.open[len(m.open)-1]
}

func (m *managerList) begin(block string, at int) {
	if within[block] != m.block() {
		m.report(at, "%s begins inside of %s: is a line missing?", block, orList(m.block()))
	}
	m.open = append(m.open, block)
	switch block {
	case "manager":
		value, line := m.value()
		id, name, ok := strings.Cut(value, ",")
		if !ok || !whole.MatchString(strings.TrimSpace(id)) {
			m.report(line, "%.60q: want a manager's number, a comma and its name", value)
		}
		m.manager = strings.TrimSpace(name)
	case "worker":
		m.worker = Worker{Manager: m.manager}
		m.worker.Name, _ = m.value()
	case "assigned access specs":
		m.worker.Assigned = []string{}
	case "target assignments":
		m.worker.Targets = []string{}
	case "target":
		name, _ := m.value()
		m.worker.Targets = append(m.worker.Targets, name)
	}
}

func orList(block string) string {
	if block == "" {
		return "the list"
	}
	return block
}

func (m *managerList) end(at int) {
	if m.block() == "worker" {
		if m.worker.Type == "" {
			m.report(at, "worker %.60q has no type: is a line missing?", m.worker.Name)
		}
		m.file.Workers = append(m.file.Workers, m.worker)
	}
	m.open = m.open[:len(m.open)-1]
}

// Keys of a worker's settings, in each of their historical forms.
const (
	keyOutstanding = "'number of outstanding ios,test connection rate,transactions per connection"
	keySeed        = ",use fixed seed,fixed seed value"
	keyDisk        = "'disk maximum size,starting sector"
	keyPattern     = ",data pattern"
)

// settings are the keys that have a value and do not begin a block.
var settings = []string{
	"'manager network address", "'worker type", "'local network interface", "'vi outstanding ios", "'target type",
	"'target manager id, manager name", keyOutstanding, keyOutstanding + keySeed, keyDisk, keyDisk + keyPattern,
}

// setting reads the value of a key, which is in lower case. It returns false when the key is
// unknown.
func (m *managerList) setting(key string) bool {
	if !slices.Contains(settings, key) {
		return false
	}
	value, line := m.value()
	words := strings.Split(strings.ReplaceAll(value, " ", ""), ",")
	switch key {
	case "'worker type":
		m.worker.Type = strings.ToUpper(strings.Join(words, ","))
		if !slices.Contains([]string{"DISK", "NETWORK,TCP", "NETWORK,VI"}, m.worker.Type) {
			m.report(line, "worker type %.60q: want DISK, NETWORK,TCP or NETWORK,VI", value)
		}
	case keyOutstanding, keyOutstanding + keySeed:
		m.outstanding(words, key != keyOutstanding, line)
	case keyDisk, keyDisk + keyPattern:
		m.disk(words, key != keyDisk, line)
	}
	return true
}

// outstanding reads the I/Os in flight, ENABLED or DISABLED, the transactions for each
// connection, and in newer files ENABLED or DISABLED for the fixed seed and the seed.
func (m *managerList) outstanding(words []string, seeded bool, line int) {
	want := 3
	if seeded {
		want = 5
	}
	if len(words) != want || !whole.MatchString(words[0]) {
		m.report(line, "%.60q: want %d values, the I/Os in flight first", strings.Join(words, ","), want)
		return
	}
	if m.worker.Outstanding, _ = strconv.Atoi(words[0]); m.worker.Outstanding == 0 { // at most 9 digits
		m.report(line, "0 I/Os in flight: want 1 or more")
	}
	m.worker.ConnectionRate = m.enabled(words[1], line)
	if !seeded {
		return
	}
	if !m.enabled(words[3], line) {
		return
	}
	seed, err := strconv.ParseUint(words[4], 10, 64)
	if err != nil {
		m.report(line, "%.30q is no seed: want a whole number", words[4])
	}
	m.worker.FixedSeed = &seed
}

func (m *managerList) enabled(word string, line int) bool {
	if !strings.EqualFold(word, "ENABLED") && !strings.EqualFold(word, "DISABLED") {
		m.report(line, "%.30q: want ENABLED or DISABLED", word)
	}
	return strings.EqualFold(word, "ENABLED")
}

// disk reads the number of sectors in use, the first sector, and in newer files the data pattern.
// A file without a data pattern means a repeated byte (Worker.cpp, the constructor).
func (m *managerList) disk(words []string, patterned bool, line int) {
	want := 2
	if patterned {
		want = 3
	}
	if len(words) != want {
		m.report(line, "%.60q: want %d values", strings.Join(words, ","), want)
		return
	}
	var err error
	if m.worker.SizeSectors, err = strconv.ParseUint(words[0], 10, 64); err != nil {
		m.report(line, "%.30q is no number of sectors", words[0])
	}
	if m.worker.StartSector, err = strconv.ParseUint(words[1], 10, 64); err != nil {
		m.report(line, "%.30q is no sector", words[1])
	}
	if !patterned {
		return
	}
	if m.worker.Pattern, err = strconv.Atoi(words[2]); err != nil || m.worker.Pattern < 0 || m.worker.Pattern > 2 {
		m.report(line, "data pattern %.30q: want 0, 1 or 2", words[2])
	}
}
