package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"heliotrope/analysis/dataset"
	"heliotrope/analysis/summary"
	"heliotrope/internal/inventory"
	"heliotrope/internal/load/iolog"
	"heliotrope/internal/load/results"
	"heliotrope/internal/load/spec"
	"heliotrope/internal/trial"
)

// exportOptions are the arguments of export.
type exportOptions struct{ campaign, phase, file, write string }

func newIometerExport() *cobra.Command {
	o := exportOptions{}
	cmd := &cobra.Command{
		Use:   "export DIR",
		Short: "Write a campaign's results as Iometer 1.1.0 does (CSV)",
		Long: `Write the valid trials of a campaign's dataset (DATA/campaign=NAME), or of a data folder, as
Iometer 1.1.0 writes its results: a test for each trial, of one of its phases. I/Os are counted
as Iometer counts them after a ramp-up: as many as are in flight when the phase begins are left
out first, and the time counts from the last of them. So the numbers are not quite those of
table phases. Columns that are not known are empty.

The dataset has the names of access specifications; their lines, queue depths and workers are in
the campaign file, which --file names. Well-known ones have their lines without it.`,
		Example: `  heliotrope iometer export data/campaign=quick > quick.csv
  heliotrope iometer export data --campaign quick --phase after --file quick.yaml --write after.csv`,
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd, args[0]) },
	}
	flags := cmd.Flags()
	flags.StringVar(&o.campaign, "campaign", "", "the campaign, where the data folder has several")
	flags.StringVar(&o.phase, "phase", dataset.Before, "phase of the trials: before, during (the migration), or after")
	flags.StringVar(&o.file, "file", "", "the campaign file")
	flags.StringVar(&o.write, "write", "", "write to this file, not to standard output")
	return cmd
}

func (o *exportOptions) run(cmd *cobra.Command, path string) error {
	if !slices.Contains([]string{dataset.Before, dataset.During, dataset.After}, o.phase) {
		return usageError{fmt.Errorf("--phase %q: want before, during or after", o.phase)}
	}
	folder, err := o.folder(path)
	if err != nil {
		return err
	}
	tests, left, err := o.tests(folder)
	if err != nil {
		return fmt.Errorf("export %s: %w", folder, err)
	}
	if len(left) > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "left out: %s\n", printable(strings.Join(left, "; ")))
	}
	if len(tests) == 0 {
		return fmt.Errorf("export %s: no trial has results of phase %s", folder, o.phase)
	}
	if o.write == "" {
		return results.Write(cmd.OutOrStdout(), tests)
	}
	return writeFile(o.write, func(w io.Writer) error { return results.Write(w, tests) })
}

// folder is the folder of the one campaign.
func (o *exportOptions) folder(path string) (string, error) {
	folders, err := campaignFolders(path)
	if err != nil {
		return "", err
	}
	var names []string
	for _, folder := range folders {
		absolute, err := filepath.Abs(folder)
		if err != nil {
			return "", err
		}
		name := dataset.CampaignName(absolute)
		if name == o.campaign || o.campaign == "" && len(folders) == 1 {
			return folder, nil
		}
		names = append(names, name)
	}
	if o.campaign != "" {
		return "", usageError{fmt.Errorf("%s has no campaign %q: it has %s", path, o.campaign, strings.Join(names, ", "))}
	}
	return "", usageError{fmt.Errorf("%s has several campaigns: choose one of %s with --campaign", path, strings.Join(names, ", "))}
}

// writeFile writes a file; its error includes that of closing the file.
func writeFile(path string, write func(io.Writer) error) error {
	file, err := os.Create(path)
	if err != nil {
		return usageError{err}
	}
	if err := write(file); err != nil {
		_ = file.Close()
		return err
	}
	return file.Close()
}

// tests are a campaign's tests; left lists the trials that have none, with the reasons.
func (o *exportOptions) tests(folder string) (tests []results.Test, left []string, err error) {
	rows, err := dataset.ReadAttempts(folder)
	if err != nil {
		return nil, nil, err
	}
	phases, err := dataset.ReadPhases(folder)
	if err != nil {
		return nil, nil, err
	}
	accesses, err := o.accesses(rows)
	if err != nil {
		return nil, nil, err
	}
	byTrial := map[string]dataset.Phase{}
	for _, phase := range phases {
		if phase.Phase == o.phase {
			byTrial[phase.Trial] = phase
		}
	}
	for i := range rows {
		row := &rows[i]
		phase, known := byTrial[row.Key]
		switch {
		case !row.Counted:
			continue // another attempt of its trial counts
		case row.Verdict != string(trial.Valid):
			left = append(left, row.Key+" ("+cmp.Or(row.Verdict, "no verdict")+")")
			continue
		case row.IODetail != nil && *row.IODetail == iolog.DetailHistogram:
			left = append(left, row.Key+" (some of its I/Os are in histograms only)")
			continue
		case !known || row.Folder == "":
			left = append(left, row.Key+" (no phase "+o.phase+")")
			continue
		}
		path := filepath.Join(folder, filepath.FromSlash(row.Folder), dataset.IOs.Name+".parquet")
		counted, err := recordPhase(dataset.ReadIO(path), phase.StartedTsNs, phase.EndedTsNs)
		if err != nil {
			return nil, nil, err
		}
		if counted.runNs() <= 0 {
			left = append(left, row.Key+" (its phase ends before the I/Os that were in flight)")
			continue
		}
		tests = append(tests, testOfTrial(row, phase, accesses(row), counted))
	}
	return tests, left, nil
}

// accesses finds the access specification of a trial: in the campaign file, if that is the
// one that ran, or among the well-known specifications, whose names nothing else has.
// Fields that are not known are 0.
func (o *exportOptions) accesses(rows []dataset.Trial) (func(*dataset.Trial) spec.Access, error) {
	planned := map[int]spec.Access{} // by sequence
	if o.file != "" {
		given, err := loadRequest(o.file, "")
		if err != nil {
			return nil, err
		}
		sum := given.sha256()
		for _, row := range rows {
			if row.SpecSHA256 != "" && row.SpecSHA256 != sum {
				return nil, usageError{fmt.Errorf("%s, or one of the files that it names, is not what ran: the dataset has SHA-256 %s, the file %s", o.file, row.SpecSHA256, sum)}
			}
		}
		for _, one := range given.trials {
			planned[one.Sequence] = one.Cell.Access
		}
	}
	return func(row *dataset.Trial) spec.Access {
		if access, known := planned[int(row.Sequence)]; known && access.Name == row.Access {
			return access.Complete()
		}
		access := spec.Access{Name: row.Access}
		for _, known := range spec.Standard() {
			if known.Name == row.Access {
				access.Lines, access.Workers, access.Targets = known.Lines, 1, 1
			}
		}
		return access
	}, nil
}

// testOfTrial is a trial in the form in which Iometer writes a test.
func testOfTrial(row *dataset.Trial, phase dataset.Phase, access spec.Access, counted recorded) results.Test {
	kind := ""
	if row.TestbedKind != string(inventory.Emulated) && row.TestbedKind != string(inventory.Hardware) {
		kind = "; " + summary.KindSays(row.TestbedKind)
	}
	// Of a specification, Iometer writes only the lines.
	written := spec.Access{Name: access.Name, Lines: access.Lines}
	test := results.Test{
		Version:     fmt.Sprintf("1.1.0 (heliotrope %s%s)", row.BinaryVersion, kind),
		Description: fmt.Sprintf("trial %s; %s; %s", row.Key, row.CellID, phase.Phase),
		At:          time.Unix(0, phase.StartedTsNs).UTC(), Specs: []spec.Access{written},
	}
	all := counted.values(access)
	raw := counted.raw()
	for name, value := range all {
		raw[name] = value
	}
	if access.Workers > 0 {
		all[results.Workers], raw[results.Workers] = float64(access.Workers), float64(access.Workers)
		all[results.Disks], raw[results.Disks] = float64(access.Targets), float64(access.Targets)
	}
	all[results.Managers] = 1
	test.Rows = append(test.Rows, results.Row{Type: "ALL", Name: "All", Access: access.Name, Values: all},
		results.Row{Type: "MANAGER", Name: trial.Guest, Access: access.Name, Values: raw})
	// The rows of table io do not say which worker and target they belong to.
	if access.Workers == 1 && access.Targets == 1 {
		one := without(raw, results.Workers)
		test.Rows = append(test.Rows, results.Row{Type: "WORKER", Name: "Worker 1", Access: access.Name, Values: one},
			results.Row{Type: "DISK", Name: "disk", Values: without(one, results.Disks)})
	}
	return test
}

// without is a copy of some values without one of them.
func without(values map[string]float64, name string) map[string]float64 {
	rest := map[string]float64{}
	for other, value := range values {
		if other != name {
			rest[other] = value
		}
	}
	return rest
}
