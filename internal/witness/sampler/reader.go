package sampler

import (
	"math"
	"path"
	"slices"
	"strconv"

	"heliotrope/internal/witness"
)

// Reader reads the counters of one source.
type Reader interface {
	// Read adds the source's counters to a sample; a counter that cannot be read is left out.
	// frequent asks for a sample of the guest's disk alone, with only witness.DiskNames and
	// witness.DiskWork.
	Read(to *Sample, frequent bool)
	// Close closes the files that stay open.
	Close()
}

// Open makes the reader of a source. It opens nothing that does not exist yet.
type Open func(source witness.Source, roots Roots) Reader

// Roots are the folders where the kernel's file systems are mounted; tests use others.
type Roots struct{ Proc, Sys string }

// Readers are the drivers' readers by their names. witness.BlockReader and
// witness.InterfaceReader are always known.
type Readers map[string]Open

// Sample collects the counters of one source, as lines `role name value`.
type Sample struct {
	Role   string
	buffer []byte
}

// Text returns the lines that were added.
func (s *Sample) Text() string { return string(s.buffer) }

// Value adds a counter if the text is a number that is not negative.
func (s *Sample) Value(name string, digits []byte) {
	if len(digits) == 0 {
		return
	}
	for _, c := range digits {
		if c < '0' || c > '9' {
			return
		}
	}
	s.buffer = append(append(append(append(s.buffer, s.Role...), ' '), name...), ' ')
	s.buffer = append(append(s.buffer, digits...), '\n')
}

// Number adds a counter.
func (s *Sample) Number(name string, value int64) {
	s.buffer = witness.AppendCounter(s.buffer, s.Role, name, value)
}

// Scaled adds a number multiplied by factor, if the text is a number and the product does not
// overflow.
func (s *Sample) Scaled(name string, digits []byte, factor int64) {
	if value, err := strconv.ParseInt(string(digits), 10, 64); err == nil && value <= math.MaxInt64/factor {
		s.Number(name, value*factor)
	}
}

// Columns adds the words of the first line as the values of the names, as far as both go. Unless
// wanted is nil, it adds only the names in wanted.
func (s *Sample) Columns(names []string, text []byte, wanted []string) {
	i := 0
	for word := range Words(firstLine(text)) {
		if i == len(names) {
			return
		}
		if wanted == nil || slices.Contains(wanted, names[i]) {
			s.Value(names[i], word)
		}
		i++
	}
}

// block reads a block device. Its file stays open, so a frequent sample is one system call.
type block struct{ stat *Kept }

func openBlock(source witness.Source, roots Roots) Reader {
	return block{Keep(path.Join(roots.Sys, "class/block", path.Base(source.Device), "stat"), 1<<9)}
}

func (b block) Read(to *Sample, frequent bool) {
	var wanted []string
	if frequent {
		wanted = witness.DiskNames
	}
	to.Columns(diskNames, b.stat.Read(), wanted)
}

func (b block) Close() { b.stat.Close() }

// card reads a network interface.
type card struct{ files []*Kept }

func openCard(source witness.Source, roots Roots) Reader {
	var c card
	for _, name := range traffic {
		c.files = append(c.files, Keep(path.Join(roots.Sys, "class/net", source.Device, "statistics", name), 1<<6))
	}
	return c
}

func (c card) Read(to *Sample, _ bool) {
	for i, file := range c.files {
		to.Columns(traffic[i:i+1], file.Read(), nil)
	}
}

func (c card) Close() {
	for _, file := range c.files {
		file.Close()
	}
}
