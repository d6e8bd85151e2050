// Package driver defines what every driver, of a hypervisor or of a storage
// system, says about itself in addition to doing its work: what it needs of a
// machine, what can be counted, how its bytes on the WAN are recognised, what may
// explain a failure, and what it could leave behind. The code that watches,
// judges or cleans up asks the drivers, and knows none of them by name.
//
// It promises that no method changes anything on a machine.
package driver

import (
	"context"

	"heliotrope/internal/witness"
)

// Facets are what a driver says about itself. Machines are named as in the
// inventory; for a machine that a driver does not use, it returns nothing.
type Facets interface {
	// Check checks whether the machines have what the driver needs: programs,
	// kernel modules, free ports, rights. Each problem is one of package problem:
	// it names the machine, what was looked at, what was found, and what to do.
	// Several problems are joined. The driver gives each problem its class
	// (package fault). nil means that the first trial will not fail for a reason
	// that could be seen beforehand.
	Check(ctx context.Context) error
	// Sources finds what can be counted on a machine while a disk of ours is
	// there.
	Sources(ctx context.Context, machine string) ([]witness.Source, error)
	// Traffic says how the driver's bytes on the WAN are recognised.
	Traffic() []witness.Class
	// Evidence is what may explain a failure, to be collected from a machine.
	Evidence(machine string) []Evidence
	// Leftovers is a constant text for sh(1) that prints a line for each thing of
	// the driver's kind on the machine: "ours" and the thing when it carries the
	// testbed's label, otherwise "other" and the thing. Its arguments are the
	// testbed's label and the machine's data folder. When Leftovers is "",
	// nothing is looked for.
	Leftovers(machine string) string
	// Versions is a constant text for sh(1) that prints, for each program or
	// kernel module that the measurement depends on, a line with its name and
	// version. One that is not installed is left out. When Versions is "", there
	// is nothing to ask.
	Versions(machine string) string
}

// Evidence is one file of a failure's evidence and the command whose output the
// file keeps. No such command prints a key or an environment.
type Evidence struct {
	File string // its name, unique for a machine: "domains.txt"
	Args []string
}
