package campaign

import (
	"fmt"
	"time"

	"heliotrope/internal/strict"
	"heliotrope/internal/wan"
)

// defaults returns the values of settings that a file may leave out, except for those that depend on the rest of
// the file: complete and completeLimits fill these in.
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
		Recovery:    Recovery{WithinPercent: 10, For: 5 * time.Second},
		Disk:        DiskSpec{SizeMiB: DefaultDiskMiB, Precondition: PreconditionFill},
		Limits: Limits{
			Attempts: 3, Migration: 10 * time.Minute, Trial: 30 * time.Minute,
			RTTToleranceMs: 2, RTTTolerancePercent: 3, MinThroughputPercent: 20, SpreadMs: wan.DefaultSpreadMs, ClockUncertaintyMs: 20, MinFreeMiB: 256,
		},
	}
}

// DefaultJudging returns by what the measurements of a campaign are judged whose file sets nothing of it.
func DefaultJudging() (Limits, SteadyState, Recovery) {
	s := defaults()
	return s.Limits, s.SteadyState, s.Recovery
}

// DefaultDiskMiB is the size of the disk under test in campaigns that give none.
const DefaultDiskMiB = 64

// Defaults that depend on the file's content.
const (
	lanProfile       = "lan"            // of package wan: no shaping
	defaultPause     = 5 * time.Second  // of a control that pauses the guest
	defaultWatch     = 30 * time.Second // of a control without a migration
	defaultStopMin   = 5                // repetitions
	emulatedSpreadMs = 500              // the emulated processors cannot send 100 Mbit/s in time
)

// complete fills in the defaults that depend on the file's content; completeLimits fills in those
// that depend on its cells.
func (s *Spec) complete(document *strict.Document) {
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
		*s.Stop = s.Stop.Completed()
	}
	if s.Stop != nil && !document.Given("repetitions") {
		s.Repetitions = s.Stop.Max
	}
	if !document.Given("limits.spread_ms") && s.Testbed == TestbedEmulated {
		s.Limits.SpreadMs = emulatedSpreadMs
	}
	if !document.Given("phases.warm_up") {
		s.Phases.WarmUp = max(s.Phases.WarmUp, s.rampUp())
	}
	if !document.Given("phases.warm_up_max") {
		s.Phases.WarmUpMax = max(3*s.Phases.WarmUp, s.SteadyState.window())
	}
	if !document.Given("recovery.for") {
		s.Recovery.For = min(s.Recovery.For, s.Phases.After)
	}
}

// rampUp returns the longest ramp-up of the campaign's own access specifications.
func (s *Spec) rampUp() time.Duration {
	longest := time.Duration(0)
	for _, access := range s.Access {
		longest = max(longest, access.RampUp)
	}
	return longest
}
