package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"heliotrope/analysis/dataset"
	"heliotrope/analysis/summary"
)

func newCompact() *cobra.Command {
	return &cobra.Command{
		Use:   "compact DIR",
		Short: "Merge all rows of a dataset into its tables",
		Long: `Merge the rows of all attempts of a campaign's dataset (DATA/campaign=NAME), or of all of a
data folder, into its tables, and write the manifest and the summary. A campaign does
that by itself when it ends, and now and then before; it may still run. Files that are
damaged are named and set aside. When it runs no more, files of attempts that were never
concluded are removed.`,
		Example: `  heliotrope compact data
  heliotrope compact data/campaign=quick && heliotrope check data/campaign=quick`,
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			folders, err := campaignFolders(args[0])
			if err != nil {
				return err
			}
			for _, folder := range folders {
				if err := compact(cmd, folder); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// compact compacts the dataset of one campaign.
func compact(cmd *cobra.Command, folder string) error {
	record, err := dataset.Open(cmd.Context(), folder, "")
	if err != nil {
		return err
	}
	compacted, err := record.Compact(cmd.Context(), version)
	if err != nil {
		return err
	}
	if _, err := summary.WriteSummary(folder); err != nil {
		return fmt.Errorf("write the summary of %s: %w", folder, err)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s: %d attempts in its tables\n", folder, compacted.Trials)
	for _, name := range compacted.Removed {
		fmt.Fprintf(cmd.OutOrStdout(), "%s: removed %s: its attempt was never concluded\n", folder, printable(name))
	}
	for _, problem := range compacted.Problems {
		fmt.Fprintf(cmd.OutOrStdout(), "%s: %s: %s\n", folder, problem.Path, printable(problem.Text))
	}
	return nil
}
