// Package part says what a driver brings to the witness's program.
package part

import (
	"context"
	"io"

	"github.com/google/uuid"

	"heliotrope/internal/witness"
	"heliotrope/internal/witness/sampler"
)

// Part is what one driver brings to the witness's program.
type Part struct {
	// Readers of the driver's counters, and what the counters mean.
	Readers  sampler.Readers
	Counters []witness.Counter
	// Classes are the names of the driver's classes of traffic on the WAN, which
	// several drivers may share.
	Classes []string
	// Watchers of a hypervisor's domains, by the driver's name for them.
	Watchers map[string]Watcher
}

// Watcher watches the domain of that UUID and writes lines as
// witness.DomainsFile has them until the context ends, which is no error. A
// domain that the first look finds has a spacing of 0, and a watch line each
// second proves that somebody looks.
type Watcher func(ctx context.Context, out io.Writer, domain uuid.UUID) error
