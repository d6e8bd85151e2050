package campaign

import (
	"fmt"
	"time"

	"heliotrope/internal/strict"
)

// Parse checks a campaign and fills in the defaults. The file's name is what
// its problems call it, in a *strict.Error that holds all of them. Neither the
// inventories that it names nor any host are looked at.
func Parse(file string, data []byte) (*Spec, error) {
	spec := defaults()
	document := strict.Decode(file, data, spec)
	if document.Given("") {
		spec.complete(document)
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
		Lanes: 1,
		Matrix: Matrix{
			Hypervisor: []string{Xen}, DRBDProtocol: []string{"C"}, MirrorCopy: []string{FullCopy},
			Migration: []string{PreCopy}, AutoConverge: []bool{false}, BandwidthMiBPerS: []int{0}, MaxDowntimeMs: []int{0},
		},
		Directions:  Outbound,
		Order:       OrderBlocks,
		Phases:      Phases{WarmUp: 20 * time.Second, Before: 30 * time.Second, After: 30 * time.Second},
		SteadyState: SteadyState{Round: 2 * time.Second, Window: 5, RangePercent: 20, SlopePercent: 10},
		Recovery:    Recovery{WithinPercent: 10},
		Disk:        DiskSpec{SizeMiB: 64, LedgerMiB: 8},
		Limits: Limits{
			Attempts: 3, Migration: 10 * time.Minute, Trial: 30 * time.Minute,
			RTTToleranceMs: 2, RTTTolerancePercent: 3, MinThroughputPercent: 20, ClockUncertaintyMs: 20, MinFreeMiB: 256,
		},
	}
}

// Defaults that depend on what the file says.
const (
	lanProfile       = "lan"            // of package wan: shapes nothing
	defaultPause     = 5 * time.Second  // of a control that pauses the guest
	defaultWatch     = 30 * time.Second // of a control without a migration
	defaultStopMin   = 5                // repetitions
	defaultRecovered = 5 * time.Second  // or the phase after, when that is shorter
)

// complete fills in the defaults that depend on what the file says.
func (s *Spec) complete(document *strict.Document) {
	for i := range s.Access {
		if !document.Given(fmt.Sprintf("access_specifications[%d].outstanding", i)) {
			s.Access[i].Outstanding = 1
		}
	}
	for i := range s.Controls {
		control, given := &s.Controls[i], document.Given(fmt.Sprintf("controls[%d].hold", i))
		switch {
		case control.Control == ControlLAN:
			control.WAN = lanProfile
		case control.Control == ControlPause && !given:
			control.Hold = defaultPause
		case control.Control == ControlNone && !given:
			control.Hold = defaultWatch
		}
	}
	if s.Stop != nil && !document.Given("stop.min") {
		s.Stop.Min = defaultStopMin
	}
	if s.Stop != nil && !document.Given("repetitions") {
		s.Repetitions = s.Stop.Max
	}
	if !document.Given("phases.warm_up_max") {
		s.Phases.WarmUpMax = max(3*s.Phases.WarmUp, s.SteadyState.window())
	}
	if !document.Given("recovery.for") {
		s.Recovery.For = min(defaultRecovered, s.Phases.After)
	}
}

// window is how long a load must have run to be called steady.
func (s SteadyState) window() time.Duration { return time.Duration(s.Window) * s.Round }

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
