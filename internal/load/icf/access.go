package icf

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"heliotrope/internal/load/spec"
	"heliotrope/internal/strict"
)

// patterns are the data patterns, by Iometer's numbers (IOCommon.h).
var patterns = []string{spec.PatternRepeating, spec.PatternFixed, spec.PatternRandom}

// Access returns one of the file's specifications, by its name in any case, with the settings of
// the workers that it is assigned to. The strings are notes on what is not taken over. A
// specification that Iometer accepts and Heliotrope does not run is a *strict.Error with its
// lines.
func (f *File) Access(name string) (spec.Access, []string, error) {
	i := f.index(name)
	if i < 0 {
		return spec.Access{}, nil, fmt.Errorf("%s has no access specification %q: it has %s", f.name, name, f.names())
	}
	access, at := f.Specs[i], f.places[i]
	access.Lines = slices.Clone(access.Lines)
	notes := slices.Clone(at.notes)
	more, err := f.worked(&access, at)
	if err != nil {
		return spec.Access{}, nil, fmt.Errorf("%s: access specification %q: %w", f.name, access.Name, err)
	}
	notes = append(notes, more...)
	notes = append(notes, f.tested(&access)...)
	if f.open {
		notes = append(notes, "the file does not end with its version, as what Iometer saves does: its workers may be cut off")
	}
	if problems := access.Problems(0); len(problems) > 0 {
		invalid := &strict.Error{}
		for _, problem := range problems {
			invalid.Problems = append(invalid.Problems, strict.Problem{File: f.name, Line: at.line(problem.Setting), Column: 1,
				Message: ofLine.ReplaceAllString(problem.Setting, "") + ": " + problem.Message})
		}
		return spec.Access{}, nil, invalid
	}
	return access, notes, nil
}

// ofLine matches the beginning of a setting's name that repeats what the reported line of the
// file says already.
var ofLine = regexp.MustCompile(`^lines\[\d+\]\.`)

// names lists the specifications' names for an error.
func (f *File) names() string {
	if len(f.Specs) == 0 {
		return "none"
	}
	var names []string
	for _, access := range f.Specs {
		names = append(names, strconv.Quote(access.Name))
	}
	return strings.Join(names, ", ")
}

// line returns the file's line of a setting such as lines[1].size_bytes.
func (p place) line(setting string) int {
	var i int
	if _, err := fmt.Sscanf(setting, "lines[%d]", &i); err == nil && i < len(p.lines) {
		return p.lines[i]
	}
	return p.name
}

// worked takes over the settings of the workers that a specification is assigned to. Settings
// that one load cannot combine are refused.
func (f *File) worked(access *spec.Access, at place) (notes []string, err error) {
	var disks []Worker
	networks := 0
	for _, worker := range f.Workers {
		switch {
		case worker.step(access.Name, at.assignment) < 0:
		case worker.Type == "DISK":
			disks = append(disks, worker)
		default:
			networks++
		}
	}
	switch {
	case len(disks) == 0 && networks > 0:
		return nil, fmt.Errorf("only network workers have it, and there is no network load here")
	case len(disks) == 0:
		return []string{"no worker of the file has it: outstanding I/Os, workers and targets are the defaults"}, nil
	case networks > 0:
		notes = append(notes, "its network workers are left out")
	}
	first := disks[0]
	step := first.step(access.Name, at.assignment)
	for _, worker := range disks {
		switch {
		case worker.ConnectionRate:
			return nil, fmt.Errorf("worker %q tests the connection rate, which a disk here does not have", worker.Name)
		case worker.step(access.Name, at.assignment) != step:
			return nil, differ("places in their lists", first.Name, 1+step, worker.Name, 1+worker.step(access.Name, at.assignment))
		case worker.Outstanding != first.Outstanding:
			return nil, differ("outstanding I/Os", first.Name, first.Outstanding, worker.Name, worker.Outstanding)
		case len(worker.Targets) != len(first.Targets):
			return nil, differ("numbers of targets", first.Name, len(first.Targets), worker.Name, len(worker.Targets))
		case worker.Pattern != first.Pattern:
			return nil, differ("data patterns", first.Name, first.Pattern, worker.Name, worker.Pattern)
		case seed(worker) != seed(first):
			return nil, differ("fixed seeds", first.Name, seed(first), worker.Name, seed(worker))
		}
	}
	access.Outstanding, access.Workers, access.Pattern, access.FixedSeed = first.Outstanding, len(disks), patterns[first.Pattern], first.FixedSeed
	access.Targets = max(1, len(first.Targets))
	if others := f.beside(access.Name, step); len(others) > 0 {
		notes = append(notes, fmt.Sprintf("other workers run %s at the same time: they are left out", strings.Join(others, ", ")))
	}
	return append(notes, regions(disks)...), nil
}

// step returns the step of the test, from 0, in which a worker runs a specification: the
// specification's place in the worker's list (Worker::SetAccess). When the file has no lists, the
// specification's default assignment decides. step is -1 when the worker does not run it.
func (w Worker) step(name, assignment string) int {
	if w.Assigned != nil {
		return slices.IndexFunc(w.Assigned, func(assigned string) bool { return strings.EqualFold(assigned, name) })
	}
	if assignment == "ALL" || assignment == "DISK" && w.Type == "DISK" || assignment == "NET" && w.Type != "DISK" {
		return 0
	}
	return -1
}

// beside returns the names of the other specifications that workers run in a step of the test.
func (f *File) beside(name string, step int) (others []string) {
	for _, worker := range f.Workers {
		if step >= len(worker.Assigned) {
			continue
		}
		if other := worker.Assigned[step]; !strings.EqualFold(other, name) && !strings.EqualFold(other, idle) && !slices.Contains(others, other) {
			others = append(others, other)
		}
	}
	return others
}

func differ(what, one string, first any, other string, second any) error {
	return fmt.Errorf("its workers have different %s (%q %v, %q %v), which is not one load: make them alike in the file, or write the specification out", what, one, first, other, second)
}

// seed returns a worker's fixed seed as text.
func seed(w Worker) string {
	if w.FixedSeed == nil {
		return "none"
	}
	return strconv.FormatUint(*w.FixedSeed, 10)
}

// regions returns notes on what is not taken over of the workers' disks.
func regions(workers []Worker) (notes []string) {
	var names []string
	part := false
	for _, worker := range workers {
		names = append(names, worker.Targets...)
		part = part || worker.SizeSectors != 0 || worker.StartSector != 0
	}
	slices.Sort(names)
	if names = slices.Compact(names); len(names) > 0 {
		notes = append(notes, fmt.Sprintf("its targets (%s) are the guest's one disk here, in as many equal parts as a worker has targets", strings.Join(names, ", ")))
	}
	if part {
		notes = append(notes, "the disk's maximum size and starting sector are not taken over: the whole disk is used")
	}
	return notes
}

// tested takes over the settings of the test setup.
func (f *File) tested(access *spec.Access) (notes []string) {
	access.RampUp = f.RampUp
	if f.RunTime != 0 {
		notes = append(notes, fmt.Sprintf("the run time of %s is not taken over: see phases", f.RunTime))
	}
	switch f.Kind {
	case "", "NORMAL":
	case "CYCLE_OUTSTANDING_IOS":
		levels := "no levels that are understood"
		if depths, err := f.Depths(); err == nil {
			levels = Levels(depths)
		}
		notes = append(notes, "the test cycles its outstanding I/Os: write factor outstanding: "+levels)
	default:
		notes = append(notes, fmt.Sprintf("the test's cycling (%s) is not taken over: write a campaign's levels instead", f.Kind))
	}
	return notes
}

// Depths returns the queue depths that the test cycles through.
func (f *File) Depths() ([]int, error) {
	return spec.Depths(f.Queue.Start, f.Queue.End, f.Queue.Step, f.Queue.Exponential)
}

// Levels formats a factor's levels as a campaign file writes them.
func Levels(levels []int) string {
	texts := make([]string, len(levels))
	for i, level := range levels {
		texts[i] = strconv.Itoa(level)
	}
	return "[" + strings.Join(texts, ", ") + "]"
}
