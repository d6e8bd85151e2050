// Package strict decodes the YAML files that users write, and remembers where
// each setting stood.
//
// It promises that nothing is guessed and nothing is passed over: unknown and
// repeated settings, wrong types, empty values, anchors and further documents
// are problems, and all problems of a file come together, each with its line
// and column. What is decoded is a struct with yaml tags; its fields may be
// strings, ints, float64s, bools, durations, addresses, structs (inlined ones
// too), lists of them, maps of them by name, and pointers, which are nil when
// nothing is given.
// A default is what the struct holds before it is decoded.
package strict

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problem is one thing wrong with a file.
type Problem struct {
	File    string `json:"file"`
	Line    int    `json:"line"`           // from 1
	Column  int    `json:"column"`         // from 1
	Path    string `json:"path,omitempty"` // of the setting, such as machines[0].ssh.address; empty for the whole file
	Message string `json:"message"`
}

// String is one line: inventory.yaml:16:16: machines[0].ssh.address: "foo" is not host:port.
func (p Problem) String() string {
	where := fmt.Sprintf("%s:%d:%d: ", p.File, p.Line, p.Column)
	if p.Path != "" {
		where += p.Path + ": "
	}
	return where + p.Message
}

// Error is everything wrong with a file: bad input, so a command line
// should exit with 2.
type Error struct {
	Problems []Problem // at least one, in the order of the file
}

// Error has one line for each problem.
func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, problem := range e.Problems {
		lines[i] = problem.String()
	}
	return strings.Join(lines, "\n")
}

// position is where in a file something stands.
type position struct{ line, column int }

// Document is a decoded file, to be checked further. Settings are named by
// their path: machines[0].ssh.address, matrix.wan[2]; "" is the whole file.
type Document struct {
	file     string
	at       map[string]position // by path; only settings that were decoded well
	failed   map[string]bool     // paths that have a problem already
	problems []Problem
}

// Decode fills the struct that target points to from the one document in
// data. The file's name is what problems call it. What is wrong so far is in
// Document.Err; only settings that are Given are to be checked.
func Decode(file string, data []byte, target any) *Document {
	d := &Document{file: file, at: map[string]position{}, failed: map[string]bool{}}
	d.decode(data, target)
	return d
}

// Given says whether a setting is in the file and was decoded well.
func (d *Document) Given(setting string) bool {
	_, ok := d.at[setting]
	return ok
}

// Need says whether a setting is given, and reports it when it is missing, at
// the mapping that lacks it. Nothing is reported twice.
func (d *Document) Need(setting string) bool {
	if d.Given(setting) {
		return true
	}
	parent := parentOf(setting)
	if !d.failed[setting] && d.Given(parent) {
		d.report(d.at[parent], setting, "is missing")
	}
	return false
}

// Check reports a given setting unless it is as it must be. A setting that is
// not given is as it must be.
func (d *Document) Check(setting string, ok bool, format string, values ...any) {
	if d.Given(setting) && !ok {
		d.report(d.at[setting], setting, format, values...)
	}
}

// Report reports a setting where it stands, or where the nearest mapping
// around it does.
func (d *Document) Report(setting, format string, values ...any) {
	at, nearest := position{1, 1}, setting
	for {
		if found, ok := d.at[nearest]; ok {
			at = found
			break
		}
		if nearest == "" {
			break
		}
		nearest = parentOf(nearest)
	}
	d.report(at, setting, format, values...)
}

// Clean says whether nothing is wrong with a setting and all below it.
func (d *Document) Clean(setting string) bool {
	for path := range d.failed {
		if path == setting || strings.HasPrefix(path, setting+".") || strings.HasPrefix(path, setting+"[") {
			return false
		}
	}
	return true
}

// Err is everything reported so far, an *Error in the order of the file, or nil.
func (d *Document) Err() error {
	if len(d.problems) == 0 {
		return nil
	}
	problems := slices.Clone(d.problems)
	slices.SortStableFunc(problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return &Error{Problems: problems}
}

func (d *Document) report(at position, path, format string, values ...any) {
	d.failed[path] = true
	d.problems = append(d.problems, Problem{
		File: d.file, Line: at.line, Column: at.column, Path: path, Message: fmt.Sprintf(format, values...),
	})
}

// parentOf is the mapping or list around a setting.
func parentOf(setting string) string {
	return setting[:max(0, strings.LastIndexAny(setting, ".["))]
}
