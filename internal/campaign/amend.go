package campaign

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Kinds of changes to a plan that has begun.
const (
	AmendSkip   = "skip"
	AmendRepeat = "repeat"
	AmendAdd    = "add"
	AmendStop   = "stop-rule"
)

// Limits of one change.
const (
	MaxTimes      = 1000     // repetitions of a cell
	MaxCellsBytes = 64 << 10 // bytes of the text that defines cells
	maxMore       = 10_000   // trials that one change may add: the change stores all of them
)

// Amendment is the result of one change to a plan that has begun. It contains everything that
// follows from the change, so that a later version of the program can replay it even if that
// version would derive something else from the same change.
type Amendment struct {
	// Skip are the numbers of trials that will not be run.
	Skip []int `json:"skip,omitempty"`
	// Trials are added after all others; their numbers continue from the last.
	Trials []Trial `json:"trials,omitempty"`
	// Rule is the stop rule from now on; nil leaves it unchanged.
	Rule *Rule `json:"rule,omitempty"`
	// Until is the time after which no trial is begun, from now on; nil leaves it unchanged.
	Until *Until `json:"until,omitempty"`
}

// Text returns the amendment as JSON; "" when it changes nothing.
func (a Amendment) Text() string {
	text, err := json.Marshal(a)
	if err != nil || string(text) == "{}" {
		return "" // the error never occurs: these are plain structs of texts and numbers
	}
	return string(text)
}

// Rule is a stop rule; its Stop is nil when there is none.
type Rule struct {
	Stop *Stop `json:"stop,omitempty"`
}

// Until is a time after which no trial is begun; the zero time sets no limit.
type Until struct {
	At time.Time `json:"at,omitzero"`
}

// Begun is a plan that has begun: the frozen plan with all amendments so far. Its methods for
// changes do not modify it. Each returns the amendment and a sentence that describes it, or an
// error that lists all problems in one line.
type Begun struct {
	Spec   *Spec   // of the frozen plan
	Trials []Trial // by their numbers
	Stop   *Stop   // the rule that applies now
	// Closed reports whether a trial, by its number, is done or skipped.
	Closed func(sequence int) bool
}

// Skip takes a trial, by its number, or the open trials of a cell out of the plan. A result that
// a skipped trial has or still gets counts.
func (b Begun) Skip(sequence int, cellID string) (Amendment, string, error) {
	var wrong problems
	switch {
	case (sequence != 0) == (cellID != ""):
		wrong.add("name what is to be skipped: a trial by its number, or a cell by its ID")
	case sequence != 0:
		wrong.add(b.trialProblem(sequence))
		return Amendment{Skip: []int{sequence}}, fmt.Sprintf("trial %d is skipped", sequence), wrong.err()
	case !slices.ContainsFunc(b.Trials, func(trial Trial) bool { return trial.CellID == cellID }):
		wrong.add(b.unknown(cellID))
	}
	if err := wrong.err(); err != nil {
		return Amendment{}, "", err
	}
	open := b.open(func(trial Trial) bool { return trial.CellID == cellID })
	if len(open) == 0 {
		wrong.add(fmt.Sprintf("no trial of cell %s is left to skip", cellID))
	}
	return Amendment{Skip: open}, fmt.Sprintf("skipped: %s of cell %s", count(len(open), "trial"), cellID), wrong.err()
}

// open returns the numbers of the trials for which of is true and that are not closed.
func (b Begun) open(of func(Trial) bool) []int {
	var open []int
	for _, trial := range b.Trials {
		if of(trial) && !b.Closed(trial.Sequence) {
			open = append(open, trial.Sequence)
		}
	}
	return open
}

// trialProblem returns why a trial cannot be skipped; "" when it can.
func (b Begun) trialProblem(sequence int) string {
	switch {
	case sequence < 1 || sequence > len(b.Trials):
		return fmt.Sprintf("there is no trial %d: the plan has 1 to %d", sequence, len(b.Trials))
	case b.Closed(sequence):
		return fmt.Sprintf("trial %d is done already, or skipped", sequence)
	}
	return ""
}

// Repeat adds repetitions of a cell of the plan.
func (b Begun) Repeat(cellID string, times int) (Amendment, string, error) {
	var wrong problems
	wrong.add(b.cellProblem(cellID))
	cell, _ := b.cell(cellID)
	return b.more([]Cell{cell}, times, wrong)
}

// Add adds cells that the plan does not have; see AddedCells.
func (b Begun) Add(file, text string, times int) (Amendment, string, error) {
	cells, err := b.AddedCells(file, text)
	if err != nil {
		return Amendment{}, "", errors.New(strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	return b.more(cells, times, nil)
}

// more makes the trials of cells in new blocks after all existing ones, with the seeds and
// directions that a longer Plan has there: one by this code, whatever planned the existing ones.
func (b Begun) more(cells []Cell, times int, wrong problems) (Amendment, string, error) {
	total := len(b.Trials)
	switch more := len(cells) * times; {
	case times < 1 || times > MaxTimes:
		wrong.add(fmt.Sprintf("%d times: want 1 to %d", times, MaxTimes))
	case more > maxMore:
		wrong.add(fmt.Sprintf("%d cells, %d times, are more than %d trials: add fewer at once", len(cells), times, maxMore))
	case total+more > maxTrials:
		wrong.add(fmt.Sprintf("%d trials and %d more are more than %d", total, more, maxTrials))
	}
	if err := wrong.err(); err != nil {
		return Amendment{}, "", err
	}
	first := lastBlock(b.Trials) + 1
	trials := b.Spec.repeated(cells, first, times)
	for i := range trials {
		trials[i].Sequence = total + i + 1
	}
	said := fmt.Sprintf("%s more: %s, %s", count(len(trials), "trial"),
		span("number", total+1, total+len(trials)), span("block", first, first+times-1))
	if b.Stop != nil {
		said += ", unless the stop rule ends the campaign before"
	}
	return Amendment{Trials: trials}, said, nil
}

func lastBlock(trials []Trial) int {
	last := 0
	for _, trial := range trials {
		last = max(last, trial.Block)
	}
	return last
}

// cell returns the cell with an ID among the trials that are not the sentinel's.
func (b Begun) cell(id string) (Cell, bool) {
	i := slices.IndexFunc(b.Trials, func(trial Trial) bool { return trial.CellID == id && !trial.Sentinel })
	if i < 0 {
		return Cell{}, false
	}
	return b.Trials[i].Cell, true
}

// cellProblem returns why a cell cannot be repeated; "" when it can.
func (b Begun) cellProblem(id string) string {
	if id == "" {
		return "name the cell to repeat, by its ID"
	}
	if _, known := b.cell(id); known {
		return ""
	}
	if sentinel, has := b.Spec.SentinelCell(); has && sentinel.ID() == id {
		return fmt.Sprintf("cell %s is the sentinel's only, which is run among other trials: add it as a cell of its own", id)
	}
	return b.unknown(id)
}

// fewCells is the largest number of cells that a sentence lists.
const fewCells = 6

func (b Begun) unknown(id string) string {
	var known []string
	for _, trial := range b.Trials {
		if !slices.Contains(known, trial.CellID) {
			known = append(known, trial.CellID)
		}
	}
	if len(known) > fewCells {
		return fmt.Sprintf("the plan has no cell %q: its %d are in `heliotrope plan`", id, len(known))
	}
	return fmt.Sprintf("the plan has no cell %q: want %s", id, choice(known))
}

// problems lists what is wrong with input that is not from a file.
type problems []string

// add adds a problem; "" adds none.
func (p *problems) add(problem string) {
	if problem != "" {
		*p = append(*p, problem)
	}
}

// err returns all problems in one line; nil when there are none.
func (p problems) err() error {
	if len(p) == 0 {
		return nil
	}
	return errors.New(strings.Join(p, "; "))
}

// count returns "1 trial", "3 trials".
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// span returns "block 4", "blocks 4 to 6".
func span(what string, first, last int) string {
	if first == last {
		return fmt.Sprintf("%s %d", what, first)
	}
	return fmt.Sprintf("%ss %d to %d", what, first, last)
}
