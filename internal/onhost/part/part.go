// Package part defines what a driver contributes to the witness's program.
package part

import (
	"context"
	"io"

	"github.com/google/uuid"

	"heliotrope/internal/witness"
	"heliotrope/internal/witness/sampler"
)

// Part is what one driver contributes to the witness's program.
type Part struct {
	// Readers read the driver's counters, and Counters say what these mean.
	Readers  sampler.Readers
	Counters []witness.Counter
	// Classes are the names of the driver's classes of traffic on the WAN, which
	// several drivers may share.
	Classes []string
	// Watchers watch a hypervisor's domains; the key is the driver's name for
	// the watcher.
	Watchers map[string]Watcher
}

// Watcher watches the domain with that UUID and writes lines in the format of
// witness.DomainsFile until the context ends, which is no error. A domain that
// the first look finds has a spacing of 0, and a watch line every second proves
// that the watcher is alive.
type Watcher func(ctx context.Context, out io.Writer, domain uuid.UUID) error
