// Package driver says what every driver, of a hypervisor or of a storage
// system, tells about itself beside doing its work: what it needs of a machine,
// what there is to count, what its bytes on the WAN look like, what explains a
// failure, and what it could leave behind. Whoever watches, judges or cleans up
// asks the drivers, and knows none of them by name.
//
// It promises that no method changes anything on a machine.
package driver

import (
	"context"

	"heliotrope/internal/witness"
)

// Facets are what a driver tells about itself. Machines are named as in the
// inventory; a driver that has no business with a machine tells nothing of it.
type Facets interface {
	// Check looks whether the machines have what the driver needs: programs,
	// kernel modules, free ports, rights. Each problem is one of package problem,
	// with the machine, what was looked at, what is there, and what to do;
	// several are joined. What a problem is for is the driver's to classify
	// (package fault): nil means that the first trial will not fail for a
	// reason that could be seen beforehand.
	Check(ctx context.Context) error
	// Sources finds what is counted on a machine while a disk of ours is
	// there.
	Sources(ctx context.Context, machine string) ([]witness.Source, error)
	// Traffic is by what the driver's bytes on the WAN are known.
	Traffic() []witness.Class
	// Evidence is what may explain a failure on a machine.
	Evidence(machine string) []Evidence
	// Leftovers is a constant text for sh(1) that prints a line for each thing
	// of the driver's kind on the machine: "ours" and the thing when it carries
	// the testbed's label, otherwise "other" and the thing. Its arguments are
	// the testbed's label and the machine's data folder; "" looks at nothing.
	Leftovers(machine string) string
	// Versions is a constant text for sh(1) that prints a line of a name and a
	// version for each program or kernel module that the measurement depends
	// on; what is not there is left out. "" tells nothing.
	Versions(machine string) string
}

// Evidence is one file of a failure's evidence, and the command whose output it
// keeps. No such command prints a key or an environment.
type Evidence struct {
	File string // its name, unique for a machine: "domains.txt"
	Args []string
}
