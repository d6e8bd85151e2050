// Package icf reads Iometer's configuration files (.icf), of every generation.
package icf

import (
	"io"
	"time"

	"heliotrope/internal/load/spec"
)

// File is what a configuration says.
type File struct {
	Version, Description string
	RunTime, RampUp      time.Duration
	Kind                 string // NORMAL, CYCLE_OUTSTANDING_IOS, …
	Queue, Disks, Cycled Range  // Cycled: workers
	Specs                []spec.Access
	Workers              []Worker
}

// Range is a test's steps.
type Range struct {
	Start, End, Step int
	Exponential      bool
}

// Worker is one of Iometer's workers and its settings.
type Worker struct {
	Manager, Name, Type      string
	Outstanding, Pattern     int
	FixedSeed                *uint64
	SizeSectors, StartSector uint64
	Assigned, Targets        []string
	ConnectionRate           bool
}

// Parse reads a configuration of at most 4 MiB, or says all that is wrong with
// it in a *strict.Error. Its name is what the problems call it.
func Parse(name string, r io.Reader) (*File, error) { panic("not built") }

// Access is one of its specifications with the settings of the worker that it
// is assigned to, and notes of what is not taken over.
func (f *File) Access(name string) (spec.Access, []string, error) { panic("not built") }
