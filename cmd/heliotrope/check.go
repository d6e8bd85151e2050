package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"heliotrope/analysis/dataset"
)

func newCheck() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check DIR",
		Short: "Verify a dataset against its manifest",
		Long: `Verify a campaign's dataset (DATA/campaign=NAME), or all of a data folder, against the
manifests: every file is there, unchanged, and has the rows that the manifest
says. Nothing is changed. Exit code 1 when something is wrong.`,
		Example: `  heliotrope check data
  heliotrope check data/campaign=quick --json | jq '.[].problems'`,
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			folders, err := campaignFolders(args[0])
			if err != nil {
				return err
			}
			var checks []checked
			for _, folder := range folders {
				one, err := check(cmd.Context(), folder)
				if err != nil {
					return fmt.Errorf("check %s: %w", folder, err)
				}
				checks = append(checks, one)
			}
			return printChecks(cmd, checks, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// checked is the result of checking one campaign's dataset.
type checked struct {
	Folder   string            `json:"folder"`
	Files    int               `json:"files"` // in the manifest
	Rows     int64             `json:"rows"`
	Problems []dataset.Problem `json:"problems"`
	// State is what a reader must know of the campaign first, such as that it still runs.
	State string `json:"state,omitempty"`
}

// campaignFolders are the campaigns' folders in a data folder, or the campaign's folder
// that path itself names.
func campaignFolders(path string) ([]string, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, usageError{fmt.Errorf("dataset: %w", err)}
	}
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if dataset.CampaignName(absolute) != "" {
		return []string{path}, isNamedRight(absolute)
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, usageError{fmt.Errorf("dataset: %w", err)}
	}
	var folders []string
	for _, entry := range entries {
		if entry.IsDir() && dataset.CampaignName(entry.Name()) != "" {
			folders = append(folders, filepath.Join(path, entry.Name()))
			if err := isNamedRight(filepath.Join(absolute, entry.Name())); err != nil {
				return nil, err
			}
		}
	}
	if len(folders) == 0 {
		return nil, usageError{fmt.Errorf("%s is neither a campaign's dataset (campaign=NAME) nor holds one", path)}
	}
	return folders, nil
}

// isNamedRight refuses a campaign's folder that was renamed: its name is a column of every
// table when several campaigns are read together.
func isNamedRight(folder string) error {
	identity, err := dataset.ReadIdentity(folder)
	if err != nil {
		return nil //nolint:nilerr // it is older than identities, or damaged, which is reported elsewhere
	}
	if name := dataset.CampaignName(folder); identity.Campaign != name {
		return usageError{fmt.Errorf("%s holds the dataset of campaign %s: name the folder campaign=%s again", folder, identity.Campaign, identity.Campaign)}
	}
	return nil
}

// checkFiles checks a folder. When something seems wrong it checks again while nobody
// writes, because a running campaign replaces its tables before its manifest.
func checkFiles(ctx context.Context, folder string) ([]dataset.Problem, error) {
	problems, err := dataset.Check(folder)
	if len(problems) == 0 || err != nil {
		return problems, err
	}
	unlock, err := dataset.LockFolder(ctx, folder)
	if err != nil { // an older dataset, or one that cannot be written to
		return problems, nil //nolint:nilerr // nobody writes to it
	}
	defer unlock()
	return dataset.Check(folder)
}

func check(ctx context.Context, folder string) (checked, error) {
	problems, err := checkFiles(ctx, folder)
	one := checked{Folder: folder, Problems: append([]dataset.Problem{}, problems...)}
	if err != nil {
		return one, err
	}
	state, err := dataset.ReadState(folder)
	if one.State = state.Text(); err != nil || len(problems) > 0 {
		return one, err
	}
	manifest, err := dataset.ReadManifest(folder)
	if errors.Is(err, fs.ErrNotExist) { // nothing is in the tables yet
		return one, nil
	}
	for _, file := range manifest.Files {
		one.Files++
		one.Rows += file.Rows
	}
	return one, err
}

func printChecks(cmd *cobra.Command, checks []checked, asJSON bool) error {
	var code error
	for _, one := range checks {
		if len(one.Problems) > 0 {
			code = exitCode(exitFailure)
		}
	}
	out := cmd.OutOrStdout()
	if asJSON {
		if err := printJSON(out, checks); err != nil {
			return err
		}
		return code
	}
	for _, one := range checks {
		if one.State != "" {
			fmt.Fprintf(out, "%s: %s\n", one.Folder, one.State)
		}
		if len(one.Problems) == 0 {
			fmt.Fprintf(out, "%s: %d files, %d rows: as the manifest says\n", one.Folder, one.Files, one.Rows)
			continue
		}
		for _, problem := range one.Problems {
			fmt.Fprintf(out, "%s: %s: %s\n", one.Folder, problem.Path, printable(problem.Text))
		}
	}
	return code
}
