// Package results reads and writes Iometer's result files (CSV).
package results

import (
	"io"
	"time"

	"heliotrope/internal/load/spec"
)

// Test is one of a file's tests.
type Test struct {
	Version, Description string
	At                   time.Time
	Specs                []spec.Access
	Rows                 []Row
}

// Row is one row of results. Values are by the newest generation's names of columns.
type Row struct {
	Type, Name, Access string
	Values             map[string]float64
}

// Read reads all tests of a file. Its name is what problems call it.
func Read(name string, r io.Reader) ([]Test, error) { panic("not built") }

// Write writes tests as Iometer 1.1.0 does.
func Write(w io.Writer, tests []Test) error { panic("not built") }
