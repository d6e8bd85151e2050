package campaign

import (
	"fmt"
	"os"
	"time"

	"heliotrope/internal/strict"
)

// Load reads and checks a campaign file. A file with problems is a
// *strict.Error that holds all of them.
func Load(path string) (*Spec, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("campaign: %w", err)
	}
	return Parse(path, data)
}

// Parse checks a campaign and fills in the defaults. The file's name is what
// its problems call it, in a *strict.Error that holds all of them. Neither the
// inventories that it names nor any host are looked at.
func Parse(file string, data []byte) (*Spec, error) {
	spec := defaults()
	document := strict.Decode(file, data, spec)
	if document.Given("") {
		for i := range spec.Access {
			if !document.Given(fmt.Sprintf("access_specifications[%d].outstanding", i)) {
				spec.Access[i].Outstanding = 1
			}
		}
		checker{document, spec}.campaign()
	}
	if err := document.Err(); err != nil {
		return nil, err
	}
	return spec, nil
}

// defaults is what a file need not say.
func defaults() *Spec {
	return &Spec{
		Lanes:  1,
		Matrix: Matrix{Hypervisor: []string{"xen"}, DRBDProtocol: []string{"C"}},
		Order:  OrderBlocks,
		Phases: Phases{WarmUp: 20 * time.Second, Before: 30 * time.Second, After: 30 * time.Second},
		Disk:   DiskSpec{SizeMiB: 64},
		Limits: Limits{
			Attempts: 3, Migration: 10 * time.Minute, Trial: 30 * time.Minute, RTTToleranceMs: 5, MinFreeMiB: 256,
		},
	}
}

// LaneCount is how many trials run side by side: one on each testbed.
func (s *Spec) LaneCount() int {
	switch s.Testbed {
	case TestbedHosts:
		return len(s.Inventories)
	case TestbedSimulated:
		return s.Lanes
	}
	return 1
}
