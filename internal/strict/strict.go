// Package strict decodes the YAML files that users write, and remembers where each setting is in
// the file.
//
// It promises that nothing is guessed and nothing is ignored: unknown and repeated settings,
// wrong types, empty values, anchors and further documents are problems, and all problems of a
// file are reported together, each with its line and column. It decodes into a struct with yaml
// tags. Fields may be strings, ints, float64s, bools, durations, addresses, structs (also inlined
// ones), lists of these, maps of these by name, and pointers, which are nil when the setting is
// missing. A default is the value that the struct has before decoding.
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

// String returns one line: inventory.yaml:16:16: machines[0].ssh.address: "foo" is not host:port.
func (p Problem) String() string {
	where := fmt.Sprintf("%s:%d:%d: ", p.File, p.Line, p.Column)
	if p.Path != "" {
		where += p.Path + ": "
	}
	return where + p.Message
}

// Error lists everything that is wrong with a file. It is bad input: a command should exit with
// 2.
type Error struct {
	Problems []Problem // at least one, in the order of the file
}

// Error returns one line for each problem.
func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, problem := range e.Problems {
		lines[i] = problem.String()
	}
	return strings.Join(lines, "\n")
}

// position is a place in a file.
type position struct{ line, column int }

// Document is a decoded file that can be checked further. A setting is named by its path:
// machines[0].ssh.address, matrix.wan[2]; "" is the whole file.
type Document struct {
	file     string
	at       map[string]position // by path; only settings that were decoded without a problem
	failed   map[string]bool     // paths that have a problem already
	problems []Problem
}

// Decode fills the struct that target points to from the only document in data. file is the
// file's name in problems. Document.Err has the problems found so far; the caller must check only
// settings that are Given.
func Decode(file string, data []byte, target any) *Document {
	d := &Document{file: file, at: map[string]position{}, failed: map[string]bool{}}
	d.decode(data, target)
	return d
}

// Given reports whether a setting is in the file and was decoded without a problem.
func (d *Document) Given(setting string) bool {
	_, ok := d.at[setting]
	return ok
}

// Need reports whether a setting is given. When it is missing, Need records a problem at the
// mapping that lacks it, but never a second one for the same setting.
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

// Check records a problem for a given setting unless ok is true. It ignores a setting that is not
// given.
func (d *Document) Check(setting string, ok bool, format string, values ...any) {
	if d.Given(setting) && !ok {
		d.report(d.at[setting], setting, format, values...)
	}
}

// Report records a problem at the setting, or at the nearest mapping around it.
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

// Clean reports whether neither a setting nor anything below it has a problem.
func (d *Document) Clean(setting string) bool {
	for path := range d.failed {
		if path == setting || strings.HasPrefix(path, setting+".") || strings.HasPrefix(path, setting+"[") {
			return false
		}
	}
	return true
}

// Err returns all problems so far as an *Error in the order of the file, or nil.
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

// parentOf returns the mapping or list that contains a setting.
func parentOf(setting string) string {
	return setting[:max(0, strings.LastIndexAny(setting, ".["))]
}
