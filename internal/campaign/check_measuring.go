package campaign

import (
	"slices"
	"time"

	"heliotrope/internal/ledger"
)

// Limits of the settings of a measurement.
const (
	minPhase   = time.Second
	maxPhase   = 24 * time.Hour
	maxLimit   = 7 * 24 * time.Hour
	minRetain  = time.Minute
	maxRetain  = 24 * time.Hour         // the longest lease of a host
	minRound   = 100 * time.Millisecond // of the steady state: shorter rounds have only a handful of I/Os
	minWindow  = 3                      // rounds: a line always fits two exactly
	maxWindow  = 100
	minDiskMiB = 16
	maxLedger  = 1024 // MiB: it is read back after each trial
	// diskPerIO is how many of the largest I/Os must fit into the load's part of the disk, so
	// that random I/Os find different places.
	diskPerIO = 16
)

// measuring checks the settings that say how long and how well is measured.
func (c checker) measuring() {
	c.phases()
	c.steadyState()
	recovery, after := c.spec.Recovery, c.spec.Phases.After
	c.Check("recovery.within_percent", isShare(recovery.WithinPercent) && recovery.WithinPercent > 0,
		"%g: want more than 0, up to 100", recovery.WithinPercent)
	c.Check("recovery.for", recovery.For >= minPhase, "%s: want at least %s", recovery.For, minPhase)
	if c.Clean("recovery.for") && c.Clean("phases.after") {
		c.Check("recovery.for", recovery.For <= after, "%s is more than phases.after, %s: it could never be seen", recovery.For, after)
	}
	c.limits()
	c.disk()
}

func (c checker) phases() {
	p := c.spec.Phases
	c.Check("phases.warm_up", p.WarmUp <= maxPhase, "%s is more than %s", p.WarmUp, maxPhase)
	c.Check("phases.before", p.Before >= minPhase && p.Before <= maxPhase, "%s: want %s to %s", p.Before, minPhase, maxPhase)
	c.Check("phases.after", p.After >= minPhase && p.After <= maxPhase, "%s: want %s to %s", p.After, minPhase, maxPhase)
	c.Check("phases.warm_up_max", p.WarmUpMax <= maxPhase, "%s is more than %s", p.WarmUpMax, maxPhase)
	ramp := c.spec.rampUp()
	c.Check("phases.warm_up", p.WarmUp >= ramp, "%s is less than an access specification's ramp_up, %s", p.WarmUp, ramp)
	if c.Clean("phases") {
		c.Check("phases.warm_up_max", p.WarmUpMax >= p.WarmUp, "%s is less than warm_up, %s", p.WarmUpMax, p.WarmUp)
	}
}

func (c checker) steadyState() {
	s, most := c.spec.SteadyState, c.spec.Phases.WarmUpMax
	c.Check("steady_state.round", s.Round >= minRound && s.Round <= maxPhase, "%s: want %s to %s", s.Round, minRound, maxPhase)
	c.Check("steady_state.window", s.Window >= minWindow && s.Window <= maxWindow, "%d: want %d to %d", s.Window, minWindow, maxWindow)
	c.Check("steady_state.range_percent", s.RangePercent > 0, "%g: want more than 0", s.RangePercent)
	c.Check("steady_state.slope_percent", s.SlopePercent > 0, "%g: want more than 0", s.SlopePercent)
	if c.Clean("steady_state") && c.Clean("phases") {
		c.Check("phases.warm_up_max", s.window() <= most, "%s is less than the %d rounds of %s of steady_state: it could never be steady",
			most, s.Window, s.Round)
	}
}

func (c checker) limits() {
	p, l := c.spec.Phases, c.spec.Limits
	c.Check("limits.attempts", l.Attempts >= 1 && l.Attempts <= maxAttempts, "%d: want 1 to %d", l.Attempts, maxAttempts)
	c.Check("limits.migration", l.Migration >= minPhase && l.Migration <= maxLimit, "%s: want %s to %s", l.Migration, minPhase, maxLimit)
	c.Check("limits.trial", l.Trial >= minPhase && l.Trial <= maxLimit, "%s: want %s to %s", l.Trial, minPhase, maxLimit)
	c.Check("limits.rtt_tolerance_ms", l.RTTToleranceMs > 0, "%g ms: want more than 0", l.RTTToleranceMs)
	c.Check("limits.rtt_tolerance_percent", l.RTTTolerancePercent > 0, "%g: want more than 0", l.RTTTolerancePercent)
	c.Check("limits.min_throughput_percent", isShare(l.MinThroughputPercent), "%g: want 0 to 100", l.MinThroughputPercent)
	c.Check("limits.spread_ms", l.SpreadMs > 0, "%g ms: want more than 0", l.SpreadMs)
	c.Check("limits.clock_uncertainty_ms", l.ClockUncertaintyMs > 0, "%g ms: want more than 0", l.ClockUncertaintyMs)
	c.Check("limits.min_free_mib", l.MinFreeMiB >= 0, "%d MiB is negative", l.MinFreeMiB)
	c.Check("limits.retain", l.Retain == 0 || l.Retain >= minRetain && l.Retain <= maxRetain, "%s: want 0 or %s to %s", l.Retain, minRetain, maxRetain)
	need := p.WarmUpMax + p.Before + l.Migration + p.After
	if c.Clean("phases") && c.Clean("limits") && c.Clean("steady_state") && l.Trial <= need {
		c.Report("limits.trial", "%s is not more than warm_up_max, before, a migration of limits.migration, and after: %s", l.Trial, need)
	}
}

func (c checker) disk() {
	s, d := c.spec, c.spec.Disk
	c.Check("disk.size_mib", d.SizeMiB >= minDiskMiB && d.SizeMiB <= maxMiB, "%d MiB: want %d to %d", d.SizeMiB, minDiskMiB, maxMiB)
	c.Check("disk.ledger_mib", d.LedgerMiB >= 1 && d.LedgerMiB <= maxLedger, "%d MiB: want 1 to %d", d.LedgerMiB, maxLedger)
	c.Check("disk.precondition", slices.Contains(preconditions, d.Precondition), "%q is not known: want %s", d.Precondition, choice(preconditions))
	if !c.Clean("disk") || !c.Clean("limits") || !c.Clean("phases") {
		return
	}
	half := 2*d.LedgerMiB <= d.SizeMiB
	c.Check("disk.ledger_mib", half, "%d MiB are more than half of the disk's %d MiB", d.LedgerMiB, d.SizeMiB)
	need := s.ledgerMiB()
	if d.LedgerMiB < need {
		holds := time.Duration(d.LedgerMiB<<20/ledger.RecordBytes) * ledger.Interval
		c.Report("disk.ledger_mib", "%d MiB hold the writes of %s, but limits.migration, a minute and phases.after are %s: want %d MiB",
			d.LedgerMiB, holds.Round(time.Second), s.ledgerTime(), need)
	}
	if !c.Given("disk.ledger_mib") && !half {
		c.Report("disk.size_mib", "%d MiB: the ledger of limits.migration, a minute and phases.after, %s, needs %d MiB, and may have half: want %d MiB",
			d.SizeMiB, s.ledgerTime(), need, 2*need)
	}
	if need > maxLedger {
		c.Report("limits.migration", "%s: with a minute and phases.after, the ledger needs %d MiB, and may have %d", s.Limits.Migration, need, maxLedger)
	}
}

// diskHolds checks that the loads of the cells fit on the disk besides the ledger.
func (c checker) diskHolds(cells []Cell) {
	loadMiB := c.spec.Disk.SizeMiB - c.spec.Disk.LedgerMiB
	seen := map[string]bool{}
	for _, cell := range cells {
		access := cell.Access
		if seen[access.Name] {
			continue
		}
		largest := access.LongestBytes()
		if need := int64(largest) * diskPerIO * int64(access.Targets); need > int64(loadMiB)<<20 {
			seen[access.Name] = true
			c.Report("disk.size_mib", "%d MiB beside the ledger hold less than %d I/Os of %d bytes, of access specification %s: want at least %d MiB",
				loadMiB, diskPerIO*access.Targets, largest, access.Name, (need+1<<20-1)>>20+int64(c.spec.Disk.LedgerMiB))
			continue
		}
		for _, problem := range access.Problems(int64(loadMiB) << 20) {
			seen[access.Name] = true
			at := "disk.size_mib"
			if problem.Setting == "outstanding" { // the cell has the factor's level
				at = "matrix.outstanding"
			}
			c.Report(at, "access specification %s, %s: %s", access.Name, problem.Setting, problem.Message)
		}
	}
}

// isShare reports whether a number is a share in percent.
func isShare(percent float64) bool { return percent >= 0 && percent <= 100 }
