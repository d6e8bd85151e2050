package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"heliotrope/internal/load/fio"
	"heliotrope/internal/load/icf"
	"heliotrope/internal/load/spec"
)

func newIometer() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "iometer",
		Short: "Read Iometer's configurations, and write its results",
		Long: `Take the workloads of Iometer's configurations (.icf) into a campaign file, and write a
campaign's results as Iometer does. No Iometer is needed: a campaign's engines run the load.`,
		Example: `  heliotrope iometer list mail.icf                       # what is in it, and what runs it
  heliotrope iometer import mail.icf >> campaign.yaml    # for a file without access_specifications
  heliotrope iometer export data/campaign=quick > quick.csv`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newIometerList(), newIometerImport(), newIometerExport())
	return cmd
}

// icfFile is the part of one of Iometer's configurations that we use.
type icfFile struct {
	File        string    `json:"file"`
	Version     string    `json:"version"`
	Description string    `json:"description,omitempty"`
	Kind        string    `json:"kind,omitempty"` // of the test, in Iometer's words
	RunTimeS    float64   `json:"run_time_s"`
	RampUpS     float64   `json:"ramp_up_s"`
	Outstanding []int     `json:"outstanding,omitempty"` // levels that the test cycles through
	Specs       []icfSpec `json:"specifications"`
}

// icfSpec is one access specification of the file. A specification with a Problem cannot be
// run.
type icfSpec struct {
	Name    string       `json:"name"`
	Access  *spec.Access `json:"access,omitempty"`
	Lines   int          `json:"lines"`
	Needs   []string     `json:"needs,omitempty"` // features that not every program supports
	Engines []string     `json:"engines"`
	Fio     []string     `json:"fio_cannot,omitempty"`
	Notes   []string     `json:"notes,omitempty"`
	Problem string       `json:"problem,omitempty"`
}

// readICF reads a configuration; any error in it is bad input.
func readICF(file string) (icfFile, error) {
	in, err := os.Open(file)
	if err != nil {
		return icfFile{}, usageError{fmt.Errorf("configuration of Iometer: %w", err)}
	}
	defer in.Close()
	parsed, err := icf.Parse(file, in)
	if err != nil {
		return icfFile{}, err
	}
	result := icfFile{File: file, Version: parsed.Version, Description: parsed.Description, Kind: parsed.Kind,
		RunTimeS: parsed.RunTime.Seconds(), RampUpS: parsed.RampUp.Seconds(), Specs: []icfSpec{}}
	if parsed.Kind == "CYCLE_OUTSTANDING_IOS" {
		result.Outstanding, _ = parsed.Depths() // a level that is not understood is in the notes
	}
	for _, access := range parsed.Specs {
		result.Specs = append(result.Specs, specOf(parsed, access))
	}
	return result, nil
}

func specOf(file *icf.File, written spec.Access) icfSpec {
	one := icfSpec{Name: written.Name, Lines: len(written.Lines), Needs: needs(written.Lines), Engines: []string{}}
	access, notes, err := file.Access(written.Name)
	if err != nil {
		one.Problem = err.Error()
		return one
	}
	one.Access, one.Notes, one.Engines = &access, notes, append(one.Engines, spec.EngineOwn)
	for _, problem := range fio.Unmappable(access) {
		one.Fio = append(one.Fio, problem.Setting+": "+problem.Message)
	}
	if len(one.Fio) == 0 {
		one.Engines = append(one.Engines, spec.EngineFio)
	}
	return one
}

// needs lists the features of some lines that not every program supports.
func needs(lines []spec.Line) (words []string) {
	for word, has := range map[string]func(spec.Line) bool{
		"burst":        func(l spec.Line) bool { return l.Burst > 1 },
		"delay":        func(l spec.Line) bool { return l.DelayMs > 0 },
		"mixed random": func(l spec.Line) bool { return l.RandomPercent > 0 && l.RandomPercent < 100 },
		"reply":        func(l spec.Line) bool { return l.ReplyBytes > 0 },
	} {
		if slices.ContainsFunc(lines, has) {
			words = append(words, word)
		}
	}
	slices.Sort(words)
	return words
}

func newIometerList() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list FILE…",
		Short: "List the access specifications of Iometer's configurations (.icf)",
		Long: `List the access specifications of Iometer's configurations: how many lines each has, what
it needs, the settings of the workers that it is assigned to, which engine runs it exactly
(and why not fio), and what is not taken over. Every problem of a file is told with its line.

Exit codes: 0 all were read, 2 some were not.`,
		Example: `  heliotrope iometer list mail.icf
  heliotrope iometer list *.icf --json | jq -r '.files[].specifications[] | select(.problem) | .name'`,
		Args: usageArgs(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			files := []icfFile{}
			var wrong []error
			for _, arg := range args {
				file, err := readICF(arg)
				if err != nil {
					wrong = append(wrong, err)
					continue
				}
				files = append(files, file)
			}
			var err error
			if asJSON {
				err = printJSON(cmd.OutOrStdout(), map[string]any{"files": files})
			} else {
				err = printICF(cmd.OutOrStdout(), files)
			}
			if err != nil || len(wrong) == 0 {
				return err
			}
			return usageError{errors.Join(wrong...)}
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON: an object whose files is a list")
	return cmd
}

// printICF shows configurations to people.
func printICF(out io.Writer, files []icfFile) error {
	for _, file := range files {
		fmt.Fprintf(out, "%s: Version %s%s\n", file.File, printable(file.Version), testOf(file))
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "SPECIFICATION\tLINES\tNEEDS\tOUTSTANDING\tWORKERS\tTARGETS\tENGINES")
		for _, one := range file.Specs {
			settings := "–\t–\t–"
			if one.Access != nil {
				full := one.Access.Complete()
				settings = fmt.Sprintf("%d\t%d\t%d", full.Outstanding, full.Workers, full.Targets)
			}
			fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\n", printable(one.Name), one.Lines, orDash(strings.Join(one.Needs, ", ")), settings, orDash(strings.Join(one.Engines, ", ")))
		}
		if err := w.Flush(); err != nil {
			return err
		}
		common := file.common()
		for _, said := range common {
			fmt.Fprintf(out, "each: %s\n", printable(said))
		}
		for _, one := range file.Specs {
			for _, said := range one.says(common) {
				fmt.Fprintf(out, "%s: %s\n", printable(one.Name), printable(said))
			}
		}
	}
	return nil
}

// testOf describes a configuration's test.
func testOf(file icfFile) string {
	text := ""
	if file.Description != "" {
		text += ", " + strconv.Quote(file.Description)
	}
	if file.Kind != "" {
		text += fmt.Sprintf(", %s, run time %s, ramp-up %s", file.Kind, ofSeconds(file.RunTimeS), ofSeconds(file.RampUpS))
	}
	if len(file.Outstanding) > 0 {
		text += ", outstanding: " + icf.Levels(file.Outstanding)
	}
	return text
}

func ofSeconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// says lists what is known of a specification, without what is common to all.
func (s icfSpec) says(common []string) (lines []string) {
	if s.Problem != "" {
		return []string{"cannot be run: " + s.Problem}
	}
	for _, reason := range s.Fio {
		lines = append(lines, "not with fio: "+reason)
	}
	for _, note := range s.Notes {
		lines = append(lines, "note: "+note)
	}
	return slices.DeleteFunc(lines, func(line string) bool { return slices.Contains(common, line) })
}

// common lists what is true of every specification that can be run, where there are
// several.
func (f icfFile) common() (lines []string) {
	runnable := 0
	for _, one := range f.Specs {
		if one.Problem != "" {
			continue
		}
		said := one.says(nil)
		if runnable++; runnable == 1 {
			lines = said
		}
		lines = slices.DeleteFunc(lines, func(line string) bool { return !slices.Contains(said, line) })
	}
	if runnable < 2 {
		return nil
	}
	return lines
}

func newIometerImport() *cobra.Command {
	var names []string
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Write a campaign file's access_specifications for one of Iometer's configurations",
		Long: `Write what a campaign file needs to run the access specifications of one of Iometer's
configurations: a piece of YAML with access_specifications, and comments with what belongs
into matrix and what is not taken over. The numbers stay in Iometer's file: a campaign
keeps them, and the file's SHA-256, when it is started. The file's path is written as it is given;
in a campaign file it starts at that file's folder.

Exit codes: 0 it was written, 2 the file, or one of the specifications asked for, cannot be run.`,
		Example: `  heliotrope iometer import mail.icf >> campaign.yaml
  heliotrope iometer import mail.icf --spec "12k; 70% Read; 100% random" --spec burst`,
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			file, err := readICF(args[0])
			if err != nil {
				return err
			}
			if err := file.keep(names); err != nil {
				return err
			}
			return printImport(cmd.OutOrStdout(), file)
		},
	}
	cmd.Flags().StringArrayVar(&names, "spec", nil, "import this specification only; may be given again")
	return cmd
}

// keep keeps only the specifications that were asked for, if any were.
func (f *icfFile) keep(names []string) error {
	if len(names) == 0 {
		return nil
	}
	var kept []icfSpec
	for _, name := range names {
		i := slices.IndexFunc(f.Specs, func(one icfSpec) bool { return strings.EqualFold(one.Name, name) })
		switch {
		case i < 0:
			return usageError{fmt.Errorf("%s has no access specification %q; see `heliotrope iometer list`", f.File, name)}
		case f.Specs[i].Problem != "":
			return usageError{fmt.Errorf("access specification %q cannot be run: %s", name, f.Specs[i].Problem)}
		}
		kept = append(kept, f.Specs[i])
	}
	f.Specs = kept
	return nil
}

// printImport writes a part of a campaign file.
func printImport(out io.Writer, file icfFile) error {
	fmt.Fprintf(out, "# %s, Version %s%s\naccess_specifications:\n", printable(file.File), printable(file.Version), printable(testOf(file)))
	var names []string
	common := file.common()
	for _, said := range common {
		fmt.Fprintf(out, "  # each: %s\n", printable(said))
	}
	for _, one := range file.Specs {
		for _, said := range one.says(common) {
			fmt.Fprintf(out, "  # %s: %s\n", strconv.Quote(one.Name), printable(said))
		}
		if one.Problem != "" {
			continue
		}
		name := ownName(one.Name, file.File)
		names = append(names, strconv.Quote(name))
		fmt.Fprintf(out, "  - name: %s\n", strconv.Quote(name))
		fmt.Fprintf(out, "    workload: { icf: %s, spec: %s }\n", strconv.Quote(file.File), strconv.Quote(one.Name))
	}
	if len(names) == 0 {
		return usageError{fmt.Errorf("%s has no access specification that can be run; see `heliotrope iometer list`", file.File)}
	}
	_, err := fmt.Fprintf(out, "# matrix:\n#   access: [%s]\n", strings.Join(names, ", "))
	if len(file.Outstanding) > 0 {
		_, err = fmt.Fprintf(out, "#   outstanding: %s\n", icf.Levels(file.Outstanding))
	}
	return err
}

// ownName is a specification's name in a campaign; the names of well-known specifications
// are taken already.
func ownName(name, file string) string {
	if slices.ContainsFunc(spec.Standard(), func(known spec.Access) bool { return known.Name == name }) {
		return name + " of " + filepath.Base(file)
	}
	return name
}
