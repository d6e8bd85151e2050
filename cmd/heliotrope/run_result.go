package main

import (
	"fmt"
	"io"
	"path/filepath"

	"heliotrope/analysis/dataset"
	"heliotrope/analysis/summary"
	"heliotrope/internal/trial"
	"heliotrope/workflows"
)

// result is how a campaign ended.
type result struct {
	Name       string             `json:"name"`
	WorkflowID string             `json:"workflow_id"`
	Outcome    outcome            `json:"outcome"`
	Failure    string             `json:"failure,omitempty"`
	Progress   workflows.Progress `json:"progress"`
	Dataset    string             `json:"dataset"` // the campaign's folder of Parquet files
	Summary    string             `json:"summary"` // path of the report
	UI         string             `json:"ui,omitempty"`
}

func (s *session) result(shot snapshot, input workflows.CampaignInput) result {
	folder := dataset.CampaignFolder(input.DataDir, input.Name)
	return result{Name: input.Name, WorkflowID: shot.WorkflowID, Outcome: shot.Outcome, Failure: shot.Failure,
		Progress: shot.Status.Progress, Dataset: folder, Summary: filepath.Join(folder, dataset.SummaryFile), UI: s.ui}
}

// exit is the exit code for the result; nil for success.
func (r result) exit() error {
	if r.Outcome == outcomeCompleted && r.Progress.Verdicts[trial.Valid] > 0 {
		return nil
	}
	return exitCode(exitFailure)
}

// printResult shows the result, and the summary of the dataset. Even when the dataset
// cannot be read, it shows how the campaign ended.
func printResult(out io.Writer, r result, asJSON bool) error {
	if asJSON {
		if err := printJSON(out, r); err != nil {
			return err
		}
		return r.exit()
	}
	if err := printSummary(out, r.Dataset); err != nil {
		fmt.Fprintf(out, "no summary: %v\n", err)
	}
	shot := snapshot{Outcome: r.Outcome, Status: workflows.CampaignStatus{Name: r.Name, Progress: r.Progress}}
	fmt.Fprintf(out, "\n%s\n", shot.headline())
	if r.Failure != "" {
		fmt.Fprintln(out, "because:", printable(r.Failure))
	}
	if r.Outcome == outcomeCompleted && r.exit() != nil {
		fmt.Fprintln(out, "no trial was valid: the reasons are in the summary")
	}
	fmt.Fprintf(out, "\n  summary  %s\n  dataset  %s\n", r.Summary, r.Dataset)
	if r.UI != "" {
		fmt.Fprintf(out, "  UI       %s\n", r.UI)
	}
	return r.exit()
}

// printSummary prints the tables of the campaign's summary.
func printSummary(out io.Writer, folder string) error {
	read, err := summary.Read(folder)
	if err != nil {
		return err
	}
	return summary.WriteTable(out, read)
}
