package campaign

import (
	"fmt"
	"slices"
)

// minStop is the smallest number of repetitions that a stop rule may ask for. Judging precision
// takes more of them; see package precision.
const minStop = 3

var (
	directions = []string{Outbound, Return, Balanced}
	controls   = []string{ControlNone, ControlLAN, ControlPause}
	metrics    = []string{"blackout_ms", "total_migration_ms", "recovery_ms", "io_lost_s"}
)

// design checks the settings that make trials from the cells: how often the cells are run, in
// which order and direction, and what is run besides them.
func (c checker) design() {
	s := c.spec
	c.Check("order", slices.Contains(orders, s.Order), "%q is not known: want %s", s.Order, choice(orders))
	c.Check("directions", slices.Contains(directions, s.Directions), "%q is not known: want %s", s.Directions, choice(directions))
	for i, control := range s.Controls {
		c.control(fmt.Sprintf("controls[%d]", i), control)
	}
	if s.Sentinel != nil {
		c.check("sentinel.every", s.Sentinel.Every >= 1 && s.Sentinel.Every <= maxTrials, "%d: want 1 to %d", s.Sentinel.Every, maxTrials)
		c.beside("sentinel", s.Sentinel.Match)
	}
	if s.Stop == nil {
		c.check("repetitions", s.Repetitions >= 1 && s.Repetitions <= maxTrials, "%d: want 1 to %d", s.Repetitions, maxTrials)
		return
	}
	c.Check("repetitions", false, "is not for a campaign that stops by precision: stop.max is the most")
	c.stop(*s.Stop)
}

func (c checker) control(at string, control Control) {
	c.check(at+".control", slices.Contains(controls, control.Control), "%q is not known: want %s", control.Control, choice(controls))
	c.beside(at, control.Match)
	if control.Control == ControlNone || control.Control == ControlPause {
		for _, factor := range migrationFactors {
			c.Check(at+"."+factor, false, "is for a migration, which control %s has none of", control.Control)
		}
	}
	if control.Control == ControlLAN {
		c.Check(at+".wan", false, "is lan for this control: leave it out")
		c.Check(at+".hold", false, "is for %s and %s only: a migration takes what it takes", ControlNone, ControlPause)
		return
	}
	c.Check(at+".hold", control.Hold >= minPhase, "%s: want at least %s", control.Hold, minPhase)
	if most := c.spec.Limits.Migration; control.Hold > most && c.Clean(at) && c.Clean("limits.migration") {
		c.Report(at+".hold", "%s is more than limits.migration, %s, which is as long as a trial waits", control.Hold, most)
	}
}

// beside checks the levels of a cell that is run besides the matrix. In such a cell a factor that
// is not named has the first of the matrix's levels.
func (c checker) beside(at string, match Match) {
	c.levels(at, match)
	if levels := c.spec.Matrix.Storage; match.Storage == "" && len(levels) > 0 {
		c.owned(at, levels[0])
	}
}

func (c checker) stop(stop Stop) {
	c.check("stop.metric", slices.Contains(metrics, stop.Metric), "%q is not known: want %s", stop.Metric, choice(metrics))
	c.check("stop.relative_ci_percent", stop.RelativeCIPercent > 0, "%g: want more than 0", stop.RelativeCIPercent)
	c.Check("stop.min", stop.Min >= minStop && stop.Min <= maxTrials, "%d: want %d to %d", stop.Min, minStop, maxTrials)
	c.check("stop.max", stop.Max >= minStop && stop.Max <= maxTrials, "%d: want %d to %d", stop.Max, minStop, maxTrials)
	if c.Given("stop.max") && c.Clean("stop") {
		c.Check("stop.max", stop.Max >= stop.Min, "%d is less than stop.min, %d", stop.Max, stop.Min)
	}
	if c.Clean("stop") && c.Clean("directions") {
		c.enoughValues(stop)
	}
	c.Check("order", c.spec.Order != OrderSequential, "is sequential, but stop is asked after whole blocks: want %s", OrderBlocks)
}

// enoughValues checks that a stop rule can stop: that each direction has as many values as an
// interval of the median needs.
func (c checker) enoughValues(stop Stop) {
	values, of := stop.Max, "blocks"
	if c.spec.Directions == Balanced {
		values, of = stop.Max/2, "blocks in one direction"
	}
	c.check("stop.max", values >= stop.Fewest(), "%d: an interval of the median wants %d values when it is looked at %d times, but there are %d %s: "+
		"more blocks are wanted, or fewer looks (a higher stop.min)", stop.Max, stop.Fewest(), len(stop.Looks()), values, of)
}

// sentinel checks that a sentinel on testbeds that are up in turn has other trials on its
// testbed.
func (c checker) sentinel() {
	cell, ok := c.spec.SentinelCell()
	if !ok || !c.spec.inTurn() {
		return
	}
	if !slices.ContainsFunc(c.spec.Cells(), func(other Cell) bool { return other.Hypervisor == cell.Hypervisor }) {
		c.Report("sentinel.hypervisor", "%s is no other cell's: its testbed would be started for the sentinel alone", cell.Hypervisor)
	}
}

// tooMany reports a campaign with too many trials, without making the trials.
func (c checker) tooMany() bool {
	s := c.spec
	repetitions, and := 1, ""
	if c.Clean("repetitions") && c.Clean("stop") {
		repetitions = max(1, s.Repetitions)
	}
	cells := s.Matrix.count() + len(s.Include) + len(s.Controls)
	trials := cells * repetitions
	if s.Sentinel != nil {
		trials, and = trials+sentinels(trials, s.Sentinel.Every), " and the sentinel"
	}
	if trials <= maxTrials {
		return false
	}
	c.Report("matrix", "%d cells × %d repetitions%s are more than %d trials", cells, max(1, s.Repetitions), and, maxTrials)
	return true
}
