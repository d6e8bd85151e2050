package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"heliotrope/activities"
	"heliotrope/internal/campaign"
)

// steering is a command that steers a campaign, with an update of the same name to the
// campaign's workflow.
type steering struct {
	update, short, long string
	args                string   // arguments after NAME
	examples            []string // what follows NAME in the examples
	flags               func(cmd *cobra.Command, what *activities.Steering)
	fill                func(args []string, what *activities.Steering) error // nil: there are no arguments
}

// none is the argument that removes the current rule or time.
const none = "none"

// newSteering are the commands that steer a campaign.
func newSteering() []*cobra.Command {
	var commands []*cobra.Command
	for _, group := range [][]steering{laneSteering, planSteering, endSteering} {
		for _, one := range group {
			command := one.command()
			if one.update == activities.SteerResume {
				command = newResume(command)
			}
			commands = append(commands, command)
		}
	}
	return commands
}

func laneFlag(cmd *cobra.Command, what *activities.Steering) {
	cmd.Flags().StringVar(&what.Lane, "lane", "", "the lane that is meant, by its testbed's name; default: all")
}

func laneArg(args []string, what *activities.Steering) error {
	what.Lane = args[0]
	return nil
}

// laneSteering are the commands about what a lane does.
var laneSteering = []steering{
	{
		update: activities.SteerPause, short: "Begin no more trials, until resume",
		long: `Begin no more trials, on one lane or on all. Trials that run go on to their ends.
With --now they are ended, their attempts count for nothing, and they are run again
after resume. The hosts are as before in both cases.`,
		examples: []string{`--why "the WAN is needed for a backup"`, `--lane rack-2 --now --why "a disk is to be changed"`},
		flags: func(cmd *cobra.Command, what *activities.Steering) {
			laneFlag(cmd, what)
			cmd.Flags().BoolVar(&what.Now, "now", false, "end the trials that run, too")
		},
	},
	{
		update: activities.SteerResume, short: "Go on after pause or drain",
		long:     `Go on with trials after pause or drain, on one lane or on all.`,
		examples: []string{`--why "the backup is done"`, `--lane rack-2 --why "the new disk is in"`},
		flags:    laneFlag,
	},
	{
		update: activities.SteerDrain, short: "End a lane after its trial; others run the rest",
		long: `End a lane after its trial, for good or until resume. What is left of its block is
for the other lanes. The last lane that runs is drained with --force only: then
nothing is run any more, and cancel may be what is wanted.`,
		examples: []string{`--lane rack-2 --why "the hosts go back on Friday"`},
		flags: func(cmd *cobra.Command, what *activities.Steering) {
			laneFlag(cmd, what)
			cmd.Flags().BoolVar(&what.Force, "force", false, "even where no lane is left that runs")
		},
	},
	{
		update: activities.SteerQuarantine, args: "LANE", short: "Give a lane's testbed no more trials, until release",
		long: `Give a lane's testbed no more trials. The one that runs goes on to its end, and what is
left of its block is for the other lanes. A lane does so by itself when too many
attempts in a row were not measured; what a person has ordered ends with release only.`,
		examples: []string{`rack-2 --why "its clocks jump"`},
		fill:     laneArg,
	},
	{
		update: activities.SteerRelease, args: "LANE", short: "Take a lane's testbed out of quarantine",
		long: `Take a lane's testbed out of quarantine. The testbed is looked at first, and stays there
while it lacks something; --force does without.`,
		examples: []string{`rack-2 --why "the time server is back"`},
		flags: func(cmd *cobra.Command, what *activities.Steering) {
			cmd.Flags().BoolVar(&what.Force, "force", false, "without a look at the testbed")
		},
		fill: laneArg,
	},
}

func timesFlag(cmd *cobra.Command, what *activities.Steering) {
	cmd.Flags().IntVar(&what.Times, "times", 1, fmt.Sprintf("how often, 1 to %d", campaign.MaxTimes))
}

// planSteering are the commands about which trials are run.
var planSteering = []steering{
	{
		update: activities.SteerSkip, args: "TRIAL|CELL", short: "Do not run a trial, or what is left of a cell",
		long: `Do not run a trial, by its number in the plan, or all trials of a cell that are not done,
by its ID. An attempt that runs goes on, and its result counts. Nothing runs a trial
again that was skipped, but repeat runs more of its cell.`,
		examples: []string{`17 --why "its seed is known to hang the guest"`, `CELL --why "it shows nothing new"`},
		fill: func(args []string, what *activities.Steering) error {
			sequence, err := strconv.Atoi(args[0])
			if err != nil {
				what.Cell = args[0]
				return nil
			}
			if what.Trial = sequence; sequence < 1 {
				return fmt.Errorf("%q is no number of a trial: they begin with 1", args[0])
			}
			return nil
		},
	},
	{
		update: activities.SteerRepeat, args: "CELL", short: "Run a cell more often",
		long: `Run a cell more often than the plan says. The new trials come behind all others, each
in a block of its own.`,
		examples: []string{`CELL --times 5 --why "it spreads more than the others"`},
		flags:    timesFlag,
		fill: func(args []string, what *activities.Steering) error {
			what.Cell = args[0]
			return nil
		},
	},
	{
		update: activities.SteerAdd, args: "FILE", short: "Run cells that the plan does not have",
		long: `Run cells that the plan does not have. The file has the setting include, as in the
campaign file, and nothing else; - is standard input. The new trials come behind all
others, in blocks of their own. The hosts are not asked whether they can.`,
		examples: []string{`more.yaml --times 10 --why "what about a slower WAN?"`,
			`- --why "one look" < cells.yaml`},
		flags: timesFlag,
		fill: func(args []string, what *activities.Steering) (err error) {
			what.Cells, err = cellsOf(args[0], os.Stdin)
			return err
		},
	},
}

// cellsOf reads the text of a file; - stands for standard input.
func cellsOf(path string, stdin io.Reader) (string, error) {
	in := stdin
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return "", fmt.Errorf("cells: %w", err)
		}
		defer file.Close() //nolint:errcheck // it was read only
		in = file
	}
	text, err := io.ReadAll(io.LimitReader(in, campaign.MaxCellsBytes+1))
	if err != nil {
		return "", fmt.Errorf("cells: %w", err)
	}
	if len(text) > campaign.MaxCellsBytes {
		return "", fmt.Errorf("%s is longer than %d bytes: add fewer cells at once", path, campaign.MaxCellsBytes)
	}
	return string(text), nil
}

// endSteering are the commands about when a campaign ends.
var endSteering = []steering{
	{
		update: activities.SteerStop, args: "RULE", short: "Change the rule by which a campaign stops by precision",
		long: `Change the rule by which a campaign stops by precision. RULE is new, with the same
settings as in the campaign file, or none. Its max may not be more than the plan's
blocks: repeat adds some. After a look that was made already, the 95 % are no longer
shared as they were planned.`,
		examples: []string{`new --metric blackout_ms --relative-ci-percent 5 --max 40 --why "10 % told nothing"`, `none --why "all of it"`},
		flags: func(cmd *cobra.Command, what *activities.Steering) {
			what.Stop = &campaign.Stop{}
			cmd.Flags().StringVar(&what.Stop.Metric, "metric", "", "as stop.metric in the campaign file")
			cmd.Flags().Float64Var(&what.Stop.RelativeCIPercent, "relative-ci-percent", 0, "as stop.relative_ci_percent")
			cmd.Flags().IntVar(&what.Stop.Min, "min", 0, "as stop.min")
			cmd.Flags().IntVar(&what.Stop.Max, "max", 0, "as stop.max")
		},
		fill: func(args []string, what *activities.Steering) error {
			given := *what.Stop != campaign.Stop{}
			switch {
			case args[0] == none && !given:
				what.None, what.Stop = true, nil
			case args[0] == none:
				return errors.New("none takes no settings of a rule")
			case args[0] != "new":
				return fmt.Errorf("%q is no rule: want new, with its settings, or none", args[0])
			case !given:
				return errors.New("a new rule wants --metric, --relative-ci-percent and --max")
			}
			return nil
		},
	},
	{
		update: activities.SteerUntil, args: "TIME", short: "Begin no trial after a time",
		long: `Begin no trial after a time; the campaign then ends when those that run have. TIME is
2026-12-24T06:00:00+01:00, or "2026-12-24 06:00" of here, or 36h from now, or none.`,
		examples: []string{`36h --why "the hosts are lent until Monday"`, `none --why "we may keep them"`},
		fill: func(args []string, what *activities.Steering) (err error) {
			if args[0] == none {
				what.None = true
				return nil
			}
			what.Until, err = timeOf(args[0], time.Now())
			return err
		},
	},
}

// timeOf parses a time as people write it: with a time zone, in local time, or as a
// duration from now.
func timeOf(text string, now time.Time) (time.Time, error) {
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at, nil
	}
	for _, form := range []string{"2006-01-02 15:04", time.DateTime} {
		if at, err := time.ParseInLocation(form, text, now.Location()); err == nil {
			return at, nil
		}
	}
	if length, err := time.ParseDuration(text); err == nil {
		return now.Add(length).Truncate(time.Second), nil
	}
	return time.Time{}, fmt.Errorf("%q is no time: want 2006-01-02T15:04:05+01:00, \"2006-01-02 15:04\", 36h, or none", text)
}
