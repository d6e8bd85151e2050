package campaign

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"heliotrope/internal/strict"
)

// AddedCells reads cells to be added to a plan from a text with the single setting include, as in
// the campaign file. A factor that is not named has the matrix's level; the matrix must then have
// only one. A *strict.Error lists all problems; file is the text's name in them. No host is
// contacted.
func (b Begun) AddedCells(file, text string) ([]Cell, error) {
	var added struct {
		Include []Match `yaml:"include"`
	}
	document := strict.Decode(file, []byte(text), &added)
	c := checker{document, b.Spec}
	if c.Need("include") {
		c.Check("include", len(added.Include) > 0, "is empty: want at least one cell")
	}
	for i, match := range added.Include {
		c.include(fmt.Sprintf("include[%d]", i), match)
	}
	var cells []Cell
	if document.Err() == nil && !b.tooMany(c, len(added.Include)) {
		cells = b.added(c, added.Include)
	}
	if err := document.Err(); err != nil {
		return nil, err
	}
	return cells, nil
}

func (b Begun) tooMany(c checker, cells int) bool {
	if len(b.Trials)+cells <= maxTrials {
		return false
	}
	c.Report("include", "%d trials and %d cells are more than %d trials", len(b.Trials), cells, maxTrials)
	return true
}

// added makes the cells, and checks what follows from their factors together.
func (b Begun) added(c checker, matches []Match) []Cell {
	access, hypervisors := b.Spec.access(), b.Spec.Hypervisors()
	known := map[string]bool{}
	var spellings []string // of WAN profiles
	for _, trial := range b.Trials {
		known[trial.CellID] = known[trial.CellID] || !trial.Sentinel
		if !slices.Contains(spellings, trial.Cell.WAN) {
			spellings = append(spellings, trial.Cell.WAN)
		}
	}
	var cells []Cell
	for i, match := range matches {
		at := fmt.Sprintf("include[%d]", i)
		match.WAN, spellings = settled(match.WAN, spellings)
		cell := b.Spec.Matrix.with(match).cells(access)[0]
		id := cell.ID()
		if known[id] {
			c.Report(at, "repeats the cell %s, of which `repeat` runs more", id)
		}
		known[id] = true
		if !slices.Contains(hypervisors, cell.Hypervisor) {
			c.Report(at+".hypervisor", "%s is none of this campaign's, %s: its testbeds have no other", cell.Hypervisor, choice(hypervisors))
		}
		for _, refused := range b.Spec.refusals(cell) {
			c.Report(at+"."+refused.factor, "%s", refused)
		}
		if crowded, is := b.Spec.crowd(cell, 0, TestbedEmulated); is {
			c.Report(at+".guest_memory_mib", "%s", crowded)
		}
		cells = append(cells, cell)
	}
	c.diskHolds(cells)
	return cells
}

// settled returns the spelling of a known WAN profile that shapes alike, or else text itself; ""
// stays "".
func settled(text string, spellings []string) (string, []string) {
	if text == "" {
		return "", spellings
	}
	profile := mustProfile(text)
	if i := slices.IndexFunc(spellings, func(other string) bool { return sameWAN(mustProfile(other), profile) }); i >= 0 {
		return spellings[i], spellings
	}
	return profile.String(), append(spellings, profile.String())
}

// Completed returns the rule with its defaults filled in.
func (s Stop) Completed() Stop {
	s.Min = cmp.Or(s.Min, defaultStopMin)
	return s
}

// ChangeStop makes another rule end the campaign by precision; nil means no rule. If its max is
// less than the number of blocks left in the frozen plan, the trials beyond max are skipped
// permanently.
func (b Begun) ChangeStop(stop *Stop) (Amendment, string, error) {
	var wrong problems
	if stop == nil {
		if b.Stop == nil {
			wrong.add("there is no stop rule already")
		}
		return Amendment{Rule: &Rule{}}, "the campaign stops when all its trials are done", wrong.err()
	}
	rule := stop.Completed()
	wrong = b.stopProblems(rule)
	left := b.lastOpen()
	switch {
	case b.Spec.Order == OrderSequential:
		wrong.add("the campaign's order is sequential, but a stop rule is asked after whole blocks")
	case rule.Max > left:
		wrong.add(fmt.Sprintf("stop.max: %d: the plan has %s", rule.Max, count(left, "block")))
	}
	beyond := b.open(func(trial Trial) bool { return trial.Block > rule.Max && trial.Block <= b.Spec.Repetitions })
	said := fmt.Sprintf("the campaign stops when %s is known to ± %g %%, after %d to %d blocks", rule.Metric, rule.RelativeCIPercent, rule.Min, rule.Max)
	if len(beyond) > 0 {
		said += fmt.Sprintf("; %s of the blocks beyond: skipped", count(len(beyond), "trial"))
	}
	return Amendment{Skip: beyond, Rule: &Rule{Stop: &rule}}, said, wrong.err()
}

// lastOpen returns the last block of the frozen plan with an open trial, which limits a rule's
// max; when none is open, it is the plan's last block.
func (b Begun) lastOpen() int {
	last := 0
	for _, sequence := range b.open(func(trial Trial) bool { return trial.Block <= b.Spec.Repetitions }) {
		last = max(last, b.Trials[sequence-1].Block)
	}
	return cmp.Or(last, b.Spec.Repetitions)
}

// stopProblems lists the problems of a rule by itself, as they would be found in a campaign file.
func (b Begun) stopProblems(stop Stop) problems {
	var wrong problems
	text := fmt.Sprintf("stop: {metric: %q, relative_ci_percent: %s, min: %d, max: %d}\n", stop.Metric,
		strconv.FormatFloat(stop.RelativeCIPercent, 'f', -1, 64), stop.Min, stop.Max)
	var decoded struct {
		Stop Stop `yaml:"stop"`
	}
	document := strict.Decode("", []byte(text), &decoded)
	checker{document, b.Spec}.stop(decoded.Stop)
	var invalid *strict.Error
	if errors.As(document.Err(), &invalid) {
		for _, problem := range invalid.Problems {
			wrong.add(problem.Path + ": " + problem.Message)
		}
	}
	return wrong
}
