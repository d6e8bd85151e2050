// Package icf reads Iometer's configuration files (.icf), of every generation.
//
// It promises that a file is read as Iometer 1.1.0 reads it, or refused with
// all that is wrong, each with its line: nothing is guessed and nothing half
// done. Keys may be in any case; blanks, tabs, CRLF and a byte-order mark do
// not matter. The form of a line decides, not the file's version. What the
// format is stands in Iometer's source: ICF_ifstream.cpp, PageSetup.cpp,
// AccessSpecList.cpp, Manager.cpp and Worker.cpp.
//
// It differs from Iometer in three ways. A specification's name ends at the
// last comma of its line, Iometer's at the first, so that names with commas are
// whole. Letters in numbers are refused, where Iometer reads 12 of 12k. And a
// section that does not end, or that is not known, is a file that was cut.
//
// It is dangerous to trust the end of a file of before 1998.05.21: its
// specifications have no end mark, and a file that was cut after one of them
// looks whole.
package icf

import (
	"cmp"
	"io"
	"slices"
	"time"

	"heliotrope/internal/load/spec"
	"heliotrope/internal/strict"
)

// File is what a configuration says.
type File struct {
	Version, Description string
	RunTime, RampUp      time.Duration
	Kind                 string // NORMAL, CYCLE_OUTSTANDING_IOS, …; "" when the file has no test setup
	Queue, Disks, Cycled Range  // Cycled: workers
	Specs                []spec.Access
	Workers              []Worker

	name   string
	places []place // of Specs
	open   bool    // does not end with its version, as what Iometer saves does
}

// place is what is known of a specification beside its numbers.
type place struct {
	name       int      // line of its name
	lines      []int    // lines of its lines
	assignment string   // NONE, ALL, DISK or NET: which workers get it when they have no list
	notes      []string // what is not taken over
}

// Range is a test's steps.
type Range struct {
	Start, End, Step int // End is 0 where a file has none: Disks and Cycled
	Exponential      bool
}

// Worker is one of Iometer's workers and its settings.
type Worker struct {
	Manager, Name, Type      string // Type: DISK, or NETWORK,TCP, or NETWORK,VI
	Outstanding, Pattern     int    // Pattern: 0 one byte repeated, 1 pseudo-random, 2 random
	FixedSeed                *uint64
	SizeSectors, StartSector uint64   // 0: the whole disk
	Assigned, Targets        []string // nil: the file has no list; Assigned: one for each step of the test, Idle too
	ConnectionRate           bool
}

// Limits of a file.
const (
	maxBytes     = 4 << 20
	maxLineBytes = 4096
	maxSpecs     = 10_000
	maxProblems  = 1000 // more of them are of one mistake
)

// Parse reads a configuration of at most 4 MiB, or says all that is wrong with
// it in a *strict.Error. Its name is what the problems call it.
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

// err is what is wrong, in the order of the file, or nil.
func (p *parser) err() error {
	if len(p.problems) == 0 {
		return nil
	}
	slices.SortStableFunc(p.problems, func(a, b strict.Problem) int { return cmp.Compare(a.Line, b.Line) })
	return &strict.Error{Problems: p.problems}
}
