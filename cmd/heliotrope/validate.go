package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"heliotrope/deploy/lab"
	"heliotrope/internal/campaign"
	"heliotrope/internal/strict"
)

func newValidate() *cobra.Command {
	var asJSON, schema bool
	cmd := &cobra.Command{
		Use:   "validate FILE…",
		Short: "Check campaign files; every problem at once, with its line and column",
		Long: `Check campaign files, and the inventories that they name. Every problem is reported
at once, with its line and column. No host is touched: what only the hosts can tell
is checked when the campaign is run.

Exit codes: 0 all are right, 2 some are not.`,
		Example: `  heliotrope validate examples/quick.yaml
  heliotrope validate campaigns/*.yaml --json | jq '.files[].problems'
  heliotrope validate --schema > campaign.schema.json   # for an editor`,
		Args: usageArgs(func(cmd *cobra.Command, args []string) error {
			if schema {
				return cobra.NoArgs(cmd, args)
			}
			return cobra.MinimumNArgs(1)(cmd, args)
		}),
		RunE: func(cmd *cobra.Command, args []string) error {
			if schema {
				_, err := io.WriteString(cmd.OutOrStdout(), campaign.Schema)
				return err
			}
			return validate(cmd, args, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON: an object whose files is a list, with the problems of each")
	cmd.Flags().BoolVar(&schema, "schema", false, "print the JSON Schema of campaign files instead")
	return cmd
}

// validation is the result of checking one campaign file.
type validation struct {
	File     string           `json:"file"`
	Valid    bool             `json:"valid"`
	Name     string           `json:"name,omitempty"`
	Cells    int              `json:"cells,omitempty"`
	Trials   int              `json:"trials,omitempty"`   // the most, when there is a stop rule
	Controls []string         `json:"controls,omitempty"` // of the cells: "none 30s", "pause 5s", "lan"
	Sentinel string           `json:"sentinel,omitempty"` // its cell's ID
	Every    int              `json:"every,omitempty"`    // number of trials after which the sentinel is run
	Stop     string           `json:"stop,omitempty"`     // the stop rule, in words
	Warnings []string         `json:"warnings,omitempty"` // about a correct file: what it asks for cannot end well
	Problems []strict.Problem `json:"problems"`           // a line of 0 means that the problem has no place in the file
}

// validate checks files. It reports correct files on standard output and problems on
// standard error; as JSON, everything goes to standard output.
func validate(cmd *cobra.Command, files []string, asJSON bool) error {
	results := make([]validation, len(files))
	var wrong []error
	for i, file := range files {
		var err error
		if results[i], err = validateFile(file); err != nil {
			wrong = append(wrong, err)
		}
		if err == nil && !asJSON {
			fmt.Fprintf(cmd.OutOrStdout(), "%s: campaign %s is right: %s\n", file, results[i].Name, results[i])
			for _, warning := range results[i].Warnings {
				fmt.Fprintf(cmd.ErrOrStderr(), "%s: warning: %s\n", file, warning)
			}
		}
	}
	if asJSON {
		if err := printJSON(cmd.OutOrStdout(), map[string]any{"files": results}); err != nil {
			return err
		}
	}
	switch {
	case len(wrong) == 0:
		return nil
	case asJSON:
		return exitCode(exitBadInput)
	}
	return usageError{errors.Join(wrong...)}
}

// validateFile checks a campaign file and the inventories that it names; the error says
// everything that the result's Problems say.
func validateFile(file string) (validation, error) {
	result := validation{File: file, Problems: []strict.Problem{}}
	r, err := loadRequest(file, "")
	if err == nil {
		result.summarise(r)
		err = checkInventories(r)
	}
	result.Valid = err == nil
	result.Problems = append(result.Problems, problemsOf(file, err)...)
	return result, err
}

// summarise sets what the campaign would be.
func (v *validation) summarise(r *request) {
	v.Name, v.Trials, v.Warnings = r.spec.Name, len(r.trials), r.warnings()
	for _, cell := range r.spec.Cells() {
		v.Cells++
		if cell.Control != "" {
			v.Controls = append(v.Controls, controlOf(cell))
		}
	}
	if cell, ok := r.spec.SentinelCell(); ok {
		v.Sentinel, v.Every = cell.ID(), r.spec.Sentinel.Every
	}
	if r.spec.Stop != nil {
		v.Stop = stopOf(*r.spec.Stop)
	}
}

// String says what a campaign would be, such as "14 cells, 181 trials; controls: pause 5s".
func (v validation) String() string {
	text := cellsAndTrials(v.Cells, v.Trials)
	if len(v.Controls) > 0 {
		text += "; " + plural(len(v.Controls), "control") + ": " + strings.Join(v.Controls, ", ")
	}
	if v.Sentinel != "" {
		text += fmt.Sprintf("; sentinel: %s, every %d %s", v.Sentinel, v.Every, plural(v.Every, "trial"))
	}
	if v.Stop != "" {
		text += "; stop: " + v.Stop
	}
	return text
}

// checkInventories reads the inventories that a campaign names, and checks whether they are of its hypervisor and can
// have its WANs.
func checkInventories(r *request) error {
	var found findings
	beds := loadLanes(r.inventories(), &found)
	for _, bed := range beds {
		checkHypervisor(bed.lane, r.trials, &found)
	}
	checkPaths(beds, r.trials, &found)
	return found.err()
}

// inventories are the paths of the inventories that a campaign names.
func (r *request) inventories() []string {
	paths := make([]string, len(r.spec.Inventories))
	for i, path := range r.spec.Inventories {
		paths[i] = r.path(path)
	}
	return paths
}

// warnings are about what a campaign asks for that cannot end well, or that it does not
// get.
func (r *request) warnings() []string {
	warnings, memoryMiB := slices.Clone(r.spec.Notes), r.guestMemoryMiB()
	for _, crowded := range r.spec.TooCrowded(memoryMiB) {
		warnings = append(warnings, crowded.String())
	}
	for _, slow := range r.spec.TooSlow(memoryMiB) {
		warnings = append(warnings, slow.String())
	}
	for _, late := range r.spec.TooLate(memoryMiB) {
		warnings = append(warnings, late.String())
	}
	if idle := r.spec.IdleLanes(r.trials); idle != "" {
		warnings = append(warnings, idle)
	}
	return warnings
}

// guestMemoryMiB is the memory of guests for which the campaign file sets none, as far as
// it is known without asking a host. Of several inventories it is the smallest; 0 when it
// is not known.
func (r *request) guestMemoryMiB() int {
	if r.spec.Testbed == campaign.TestbedEmulated {
		return lab.DefaultOptions().GuestMiB
	}
	least := 0
	for _, bed := range loadLanes(r.inventories(), new(findings)) {
		if memory := bed.inventory.Guest.MemoryMiB; least == 0 || memory < least {
			least = memory
		}
	}
	return least
}

// problemsOf lists the problems in an error. Those that are not about a line of a file are
// reported for the given file.
func problemsOf(file string, err error) []strict.Problem {
	if err == nil {
		return nil
	}
	var joined interface{ Unwrap() []error }
	if errors.As(err, &joined) {
		var problems []strict.Problem
		for _, part := range joined.Unwrap() {
			problems = append(problems, problemsOf(file, part)...)
		}
		return problems
	}
	var invalid *strict.Error
	if errors.As(err, &invalid) {
		return invalid.Problems
	}
	return []strict.Problem{{File: file, Message: err.Error()}}
}

func cellsAndTrials(cells, trials int) string {
	return fmt.Sprintf("%d %s, %d %s", cells, plural(cells, "cell"), trials, plural(trials, "trial"))
}

// plural is a noun in the number that its count needs.
func plural(count int, noun string) string {
	if count == 1 {
		return noun
	}
	return noun + "s"
}
