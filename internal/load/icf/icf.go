// Package icf reads Iometer's configuration files (.icf) of every generation.
//
// It promises that a file is read as Iometer 1.1.0 reads it, or refused with a list of all that
// is wrong and the lines: it guesses nothing and never takes over half a file. Keys may be in any
// case; spaces, tabs, CRLF and a byte-order mark do not matter. The form of a line decides how it
// is read, not the file's version. The format is defined by Iometer's source: ICF_ifstream.cpp,
// PageSetup.cpp, AccessSpecList.cpp, Manager.cpp and Worker.cpp.
//
// It differs from Iometer in three ways. A specification's name ends at the last comma of its
// line, in Iometer at the first, so that names with commas stay whole. Letters in numbers are
// refused, where Iometer reads 12k as 12. And a section that does not end or is not known means
// that the file was cut off.
//
// It is dangerous to trust the end of a file from before 1998.05.21: its specifications have no
// end mark, so a file that was cut off after one of them looks complete.
package icf

import (
	"cmp"
	"io"
	"slices"
	"time"

	"heliotrope/internal/load/spec"
	"heliotrope/internal/strict"
)

// File is the content of a configuration.
type File struct {
	Version, Description string
	RunTime, RampUp      time.Duration
	Kind                 string // NORMAL, CYCLE_OUTSTANDING_IOS, …; "" when the file has no test setup
	Queue, Disks, Cycled Range  // Cycled: of workers
	Specs                []spec.Access
	Workers              []Worker

	name   string
	places []place // of Specs
	open   bool    // unlike a file that Iometer saves, it does not end with its version
}

// place is what is known of a specification besides its numbers.
type place struct {
	name       int      // the file's line with the name
	lines      []int    // the file's lines with the specification's lines
	assignment string   // NONE, ALL, DISK or NET: which workers run it when they have no list
	notes      []string // what is not taken over
}

// Range describes the steps of a test.
type Range struct {
	Start, End, Step int // End is 0 when the file has none, for Disks and Cycled
	Exponential      bool
}

// Worker is one of Iometer's workers and its settings.
type Worker struct {
	Manager, Name, Type      string // Type: DISK, or NETWORK,TCP, or NETWORK,VI
	Outstanding, Pattern     int    // Pattern: 0 one byte repeated, 1 pseudo-random, 2 random
	FixedSeed                *uint64
	SizeSectors, StartSector uint64   // 0: the whole disk
	Assigned, Targets        []string // nil: the file has no list; Assigned: one name for each step of the test, including Idle
	ConnectionRate           bool
}

// Limits of a file.
const (
	maxBytes     = 4 << 20
	maxLineBytes = 4096
	maxSpecs     = 10_000
	maxProblems  = 1000 // more come from one mistake
)

// Parse reads a configuration of at most 4 MiB. If anything is wrong, a *strict.Error lists all
// problems; name is the file's name in them.
func Parse(name string, r io.Reader) (*File, error) {
	p := &parser{file: &File{name: name}, numbered: map[string]int{}}
	text, err := io.ReadAll(io.LimitReader(r, maxBytes+1))
	if err != nil {
		p.report(1, "cannot be read: %v", err)
		return nil, p.err()
	}
	if p.split(text) {
		p.parse()
	}
	if err := p.err(); err != nil {
		return nil, err
	}
	return p.file, nil
}

// err returns the problems in the order of the file, or nil.
func (p *parser) err() error {
	if len(p.problems) == 0 {
		return nil
	}
	slices.SortStableFunc(p.problems, func(a, b strict.Problem) int { return cmp.Compare(a.Line, b.Line) })
	return &strict.Error{Problems: p.problems}
}
