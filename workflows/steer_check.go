package workflows

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"heliotrope/activities"
	"heliotrope/internal/campaign"
	"heliotrope/internal/cause"
	"heliotrope/internal/fault"
)

// stand is the part of a campaign's state that decides whether an update is refused.
type stand struct {
	campaign string
	state    string // see CampaignStatus
	now      time.Time
	trials   int // number of trials in the plan
	lanes    []laneStand
}

// laneStand is the state of a lane: its orders and its last report.
type laneStand struct {
	name   string
	orders Orders
	report LaneReport
}

func (l laneStand) quarantined() bool { return l.orders.Quarantine != "" || l.report.Quarantine != nil }

// runs says that the lane runs trials now, or will when an obstacle is gone, or, when
// nothing was left for it, when there are trials again.
func (l laneStand) runs() bool {
	return !l.orders.Drain && (!l.report.Over() || l.report.State == LaneEnded)
}

// takes are the arguments of each update, besides who asks and why.
var takes = map[string][]string{
	activities.SteerPause:      {"lane", "now"},
	activities.SteerResume:     {"lane"},
	activities.SteerDrain:      {"lane", "force"},
	activities.SteerQuarantine: {"lane"},
	activities.SteerRelease:    {"lane", "force"},
	activities.SteerSkip:       {"trial", "cell"},
	activities.SteerRepeat:     {"cell", "times"},
	activities.SteerAdd:        {"cells", "times"},
	activities.SteerStop:       {"stop", "none"},
	activities.SteerUntil:      {"until", "none"},
}

// BeingPlanned is the code of the refusal that ends by itself: the campaign's plan is just
// being made, and the same update may be tried again. Nothing counts failures by it.
const BeingPlanned cause.Code = "being-planned"

// refuse is why an update is not possible in the campaign's state, with all reasons in one
// line; nil when it may be tried. The dataset decides whether cells and trials are
// possible.
func (s stand) refuse(update string, what activities.Steering) error {
	switch s.state {
	case "planning":
		if s.trials == 0 {
			return fault.Because(fault.BadInput, BeingPlanned, fmt.Errorf("campaign %s is just being planned: try again in a moment", s.campaign))
		}
	case "running":
	default:
		return fault.New(fault.BadInput, "campaign %s is %s: there is nothing to steer", s.campaign, s.state)
	}
	var wrong []string
	for _, given := range what.Given() {
		if !slices.Contains(takes[update], given) {
			wrong = append(wrong, fmt.Sprintf("%s takes no %s", update, given))
		}
	}
	switch why := strings.TrimSpace(what.Why); {
	case why == "":
		wrong = append(wrong, "say why: the dataset keeps it")
	case len(what.Why)+len(what.By) > activities.MaxWhyBytes:
		wrong = append(wrong, fmt.Sprintf("who and why are longer than %d bytes", activities.MaxWhyBytes))
	}
	if problem := s.problem(update, what); problem != "" {
		wrong = append(wrong, problem)
	}
	if len(wrong) > 0 {
		return fault.New(fault.BadInput, "%s", strings.Join(wrong, "; "))
	}
	return nil
}

// problem is what is wrong with an update's own arguments; "" when nothing is.
func (s stand) problem(update string, what activities.Steering) string {
	switch update {
	case activities.SteerPause, activities.SteerResume, activities.SteerDrain, activities.SteerQuarantine, activities.SteerRelease:
		return s.laneProblem(update, what)
	case activities.SteerSkip:
		switch {
		case (what.Trial != 0) == (what.Cell != ""):
			return "name what is to be skipped: a trial by its number, or a cell by its ID"
		case what.Cell == "" && (what.Trial < 1 || what.Trial > s.trials):
			return fmt.Sprintf("there is no trial %d: the plan has 1 to %d", what.Trial, s.trials)
		}
	case activities.SteerRepeat, activities.SteerAdd:
		switch {
		case what.Times < 1 || what.Times > campaign.MaxTimes:
			return fmt.Sprintf("times: %d: want 1 to %d", what.Times, campaign.MaxTimes)
		case update == activities.SteerRepeat && what.Cell == "":
			return "name the cell to repeat, by its ID"
		case update == activities.SteerAdd && what.Cells == "":
			return "cells is empty: want a text with the campaign file's setting include"
		case len(what.Cells) > campaign.MaxCellsBytes:
			return fmt.Sprintf("cells is longer than %d bytes: add fewer at once", campaign.MaxCellsBytes)
		}
	case activities.SteerStop:
		if (what.Stop != nil) == what.None {
			return "want a rule as stop, or none: true"
		}
	case activities.SteerUntil:
		return s.untilProblem(what)
	default:
		return fmt.Sprintf("%q is no way to steer", update)
	}
	return ""
}

func (s stand) untilProblem(what activities.Steering) string {
	switch {
	case what.Until.IsZero() == !what.None:
		return "want a time as until, or none: true"
	case what.None && !slices.ContainsFunc(s.lanes, func(l laneStand) bool { return !l.orders.Until.IsZero() }):
		return "no time is set"
	case !what.None && !what.Until.After(s.now):
		return fmt.Sprintf("until: %s is past: it is %s", what.Until.UTC().Format(time.RFC3339), s.now.UTC().Format(time.RFC3339))
	}
	return ""
}

// meant are the lanes that an update is meant for.
func (s stand) meant(lane string) []laneStand {
	if lane == "" {
		return s.lanes
	}
	return slices.DeleteFunc(slices.Clone(s.lanes), func(l laneStand) bool { return l.name != lane })
}

func (s stand) laneProblem(update string, what activities.Steering) string {
	lanes := s.meant(what.Lane)
	if len(lanes) == 0 {
		var names []string
		for _, lane := range s.lanes {
			names = append(names, lane.name)
		}
		return fmt.Sprintf("campaign %s has no lane %q: want %s", s.campaign, what.Lane, strings.Join(names, ", "))
	}
	// any says whether a condition is true of any of the lanes that are meant.
	any := func(is func(laneStand) bool) bool { return slices.ContainsFunc(lanes, is) }
	of := "no lane"
	if what.Lane != "" {
		of = "lane " + what.Lane
	}
	switch update {
	case activities.SteerPause:
		pause := activities.HowToPause(what)
		if !any(func(l laneStand) bool { return l.orders.Pause != pause && l.orders.Pause != activities.PauseNow }) {
			return s.already(what.Lane, "paused")
		}
	case activities.SteerResume:
		if !any(func(l laneStand) bool { return l.orders.Pause != "" || l.orders.Drain }) {
			return negative(of, "paused or drained")
		}
	case activities.SteerDrain:
		if !any(func(l laneStand) bool { return !l.orders.Drain }) {
			return s.already(what.Lane, "drained")
		}
		others := func(l laneStand) bool { return l.runs() && what.Lane != "" && l.name != what.Lane }
		if !what.Force && !slices.ContainsFunc(s.lanes, others) {
			return "no lane would be left that runs: force it, or cancel the campaign"
		}
	case activities.SteerQuarantine, activities.SteerRelease:
		return quarantineProblem(update, what, lanes[0])
	}
	return ""
}

func quarantineProblem(update string, what activities.Steering, lane laneStand) string {
	release := update == activities.SteerRelease
	switch {
	case what.Lane == "":
		return "name the lane to " + update
	case release && !lane.quarantined():
		return negative("lane "+what.Lane, "in quarantine")
	case !release && lane.orders.Quarantine != "":
		return "lane " + what.Lane + " is in quarantine already"
	}
	return ""
}

func (s stand) already(lane, what string) string {
	if lane == "" {
		return "all lanes are " + what + " already"
	}
	return "lane " + lane + " is " + what + " already"
}

// negative returns "no lane is paused" or "lane a is not paused", for example.
func negative(of, what string) string {
	if of == "no lane" {
		return of + " is " + what
	}
	return of + " is not " + what
}
