package workflows

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/activities"
	"heliotrope/internal/campaign"
	"heliotrope/internal/fault"
)

// twoLanes is a campaign with running lanes a and b.
func twoLanes() stand {
	return stand{campaign: "quick", state: "running", now: time.Date(2026, 12, 1, 8, 0, 0, 0, time.UTC), trials: 12, lanes: []laneStand{
		{name: "a", report: LaneReport{State: LaneRunning}}, {name: "b", report: LaneReport{State: LaneRunning}}}}
}

// TestRefusals: each validator's sentence.
func TestRefusals(t *testing.T) {
	ordered := func(change func(*Orders)) stand {
		s := twoLanes()
		change(&s.lanes[0].orders)
		return s
	}
	all := func(change func(*Orders)) stand {
		s := ordered(change)
		s.lanes[1].orders = s.lanes[0].orders
		return s
	}
	state := func(name string) stand {
		s := twoLanes()
		s.state = name
		return s
	}
	because := func(what activities.Steering) activities.Steering {
		what.Why = "lunch"
		return what
	}
	rule := &campaign.Stop{Metric: "io_lost_s", RelativeCIPercent: 5, Max: 12}
	empty := twoLanes()
	empty.state, empty.trials = "planning", 0
	ended := twoLanes()
	ended.lanes[1].report.State = LaneFailed
	for name, test := range map[string]struct {
		stand  stand
		update string
		what   activities.Steering
		want   string
	}{
		"just begun": {empty, "pause", because(activities.Steering{}), "campaign quick is just being planned: try again in a moment"},
		"finishing":  {state("finishing"), "pause", because(activities.Steering{}), "campaign quick is finishing: there is nothing to steer"},
		"finished":   {state("finished"), "skip", because(activities.Steering{Trial: 3}), "campaign quick is finished: there is nothing to steer"},
		"cancelling": {state("cancelling"), "until", because(activities.Steering{None: true}), "campaign quick is cancelling: there is nothing to steer"},
		"cancelled":  {state("cancelled"), "add", because(activities.Steering{}), "campaign quick is cancelled: there is nothing to steer"},

		"no reason":         {twoLanes(), "pause", activities.Steering{Why: " "}, "say why: the dataset keeps it"},
		"a long reason":     {twoLanes(), "pause", activities.Steering{Why: strings.Repeat("x", 1001)}, "who and why are longer than 1000 bytes"},
		"what is another's": {twoLanes(), "pause", because(activities.Steering{Trial: 7, Times: 2}), "pause takes no trial; pause takes no times"},
		"all at once":       {twoLanes(), "repeat", activities.Steering{Lane: "a", Cell: "x"}, "repeat takes no lane; say why: the dataset keeps it; times: 0: want 1 to 1000"},
		"unknown":           {twoLanes(), "frobnicate", because(activities.Steering{}), `"frobnicate" is no way to steer`},

		"an unknown lane":       {twoLanes(), "pause", because(activities.Steering{Lane: "c"}), `campaign quick has no lane "c": want a, b`},
		"paused":                {ordered(func(o *Orders) { o.Pause = activities.PauseAfterTrial }), "pause", because(activities.Steering{Lane: "a"}), "lane a is paused already"},
		"paused now":            {ordered(func(o *Orders) { o.Pause = activities.PauseNow }), "pause", because(activities.Steering{Lane: "a"}), "lane a is paused already"},
		"all are paused":        {all(func(o *Orders) { o.Pause = activities.PauseNow }), "pause", because(activities.Steering{Now: true}), "all lanes are paused already"},
		"not paused":            {twoLanes(), "resume", because(activities.Steering{Lane: "a"}), "lane a is not paused or drained"},
		"none is paused":        {twoLanes(), "resume", because(activities.Steering{}), "no lane is paused or drained"},
		"drained":               {ordered(func(o *Orders) { o.Drain = true }), "drain", because(activities.Steering{Lane: "a"}), "lane a is drained already"},
		"the last lane":         {ordered(func(o *Orders) { o.Drain = true }), "drain", because(activities.Steering{Lane: "b"}), "no lane would be left that runs: force it, or cancel the campaign"},
		"the last that runs":    {ended, "drain", because(activities.Steering{Lane: "a"}), "no lane would be left that runs"},
		"all lanes":             {twoLanes(), "drain", because(activities.Steering{}), "no lane would be left that runs"},
		"quarantine of none":    {twoLanes(), "quarantine", because(activities.Steering{}), "name the lane to quarantine"},
		"in quarantine":         {ordered(func(o *Orders) { o.Quarantine = "clocks" }), "quarantine", because(activities.Steering{Lane: "a"}), "lane a is in quarantine already"},
		"not in quarantine":     {twoLanes(), "release", because(activities.Steering{Lane: "a"}), "lane a is not in quarantine"},
		"release of none":       {twoLanes(), "release", because(activities.Steering{}), "name the lane to release"},
		"release of a stranger": {twoLanes(), "release", because(activities.Steering{Lane: "c"}), `has no lane "c"`},

		"skip nothing":     {twoLanes(), "skip", because(activities.Steering{}), "name what is to be skipped: a trial by its number, or a cell by its ID"},
		"skip two things":  {twoLanes(), "skip", because(activities.Steering{Trial: 1, Cell: "x"}), "name what is to be skipped"},
		"skip beyond":      {twoLanes(), "skip", because(activities.Steering{Trial: 13}), "there is no trial 13: the plan has 1 to 12"},
		"skip below":       {twoLanes(), "skip", because(activities.Steering{Trial: -1}), "there is no trial -1"},
		"repeat never":     {twoLanes(), "repeat", because(activities.Steering{Cell: "x"}), "times: 0: want 1 to 1000"},
		"repeat too often": {twoLanes(), "repeat", because(activities.Steering{Cell: "x", Times: 1001}), "times: 1001: want 1 to 1000"},
		"repeat nothing":   {twoLanes(), "repeat", because(activities.Steering{Times: 1}), "name the cell to repeat, by its ID"},
		"add never":        {twoLanes(), "add", because(activities.Steering{Cells: "x", Times: -1}), "times: -1: want 1 to 1000"},
		"add nothing":      {twoLanes(), "add", because(activities.Steering{Times: 1}), "cells is empty"},
		"add a book":       {twoLanes(), "add", because(activities.Steering{Cells: strings.Repeat("x", 65537), Times: 1}), "cells is longer than 65536 bytes"},
		"no rule":          {twoLanes(), "stop-rule", because(activities.Steering{}), "want a rule as stop, or none: true"},
		"rule and none":    {twoLanes(), "stop-rule", because(activities.Steering{Stop: rule, None: true}), "want a rule as stop, or none: true"},
		"no time":          {twoLanes(), "until", because(activities.Steering{}), "want a time as until, or none: true"},
		"no time to take":  {twoLanes(), "until", because(activities.Steering{None: true}), "no time is set"},
		"in the past": {twoLanes(), "until", because(activities.Steering{Until: time.Date(2026, 12, 1, 7, 59, 0, 0, time.UTC)}),
			"until: 2026-12-01T07:59:00Z is past: it is 2026-12-01T08:00:00Z"},
	} {
		t.Run(name, func(t *testing.T) {
			err := test.stand.refuse(test.update, test.what)
			require.ErrorContains(t, err, test.want)
			assert.Equal(t, fault.BadInput, fault.Of(err))
			assert.Equal(t, name == "just begun", fault.CauseOf(err) == BeingPlanned, "commands wait for the end of this refusal")
			assert.NotContains(t, err.Error(), "\n")
		})
	}
}

func TestNotRefused(t *testing.T) {
	paused := twoLanes()
	paused.lanes[0].orders = Orders{Pause: activities.PauseAfterTrial, Drain: true, Quarantine: "clocks", Until: paused.now}
	own := twoLanes() // in quarantine by itself
	own.lanes[0].report.Quarantine = &Quarantine{}
	again := twoLanes()
	again.state = "planning" // in a later run of the workflow
	idle := twoLanes()
	idle.lanes[1].report.State = LaneEnded // it runs what the other leaves
	for name, test := range map[string]struct {
		stand  stand
		update string
		what   activities.Steering
	}{
		"pause":                   {twoLanes(), "pause", activities.Steering{}},
		"pause the other":         {paused, "pause", activities.Steering{}},
		"pause sooner":            {paused, "pause", activities.Steering{Lane: "a", Now: true}},
		"resume one of two":       {paused, "resume", activities.Steering{}},
		"drain one of two":        {twoLanes(), "drain", activities.Steering{Lane: "a"}},
		"the other is idle":       {idle, "drain", activities.Steering{Lane: "a"}},
		"drain all":               {twoLanes(), "drain", activities.Steering{Force: true}},
		"keep it in quarantine":   {own, "quarantine", activities.Steering{Lane: "a"}},
		"release":                 {own, "release", activities.Steering{Lane: "a", Force: true}},
		"release what is ordered": {paused, "release", activities.Steering{Lane: "a"}},
		"skip":                    {twoLanes(), "skip", activities.Steering{Trial: 12}},
		"no time any more":        {paused, "until", activities.Steering{None: true}},
		"after it went on as new": {again, "pause", activities.Steering{}},
	} {
		t.Run(name, func(t *testing.T) {
			test.what.Why = "lunch"
			require.NoError(t, test.stand.refuse(test.update, test.what))
		})
	}
}
