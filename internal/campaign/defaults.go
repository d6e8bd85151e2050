package campaign

import (
	"time"

	"heliotrope/internal/wan"
)

// defaults returns the values of settings that a file may leave out.
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
