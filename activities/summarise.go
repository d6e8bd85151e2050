package activities

import (
	"context"
	"fmt"
	"path/filepath"

	"go.temporal.io/sdk/activity"

	"heliotrope/activities/pulse"
	"heliotrope/analysis/dataset"
	"heliotrope/analysis/summary"
	"heliotrope/internal/inventory"
)

// SummariseInput names a campaign.
type SummariseInput struct {
	Campaign   string         `json:"campaign"`
	DataDir    string         `json:"data_dir"`
	SpecSHA256 string         `json:"spec_sha256"`
	Kind       inventory.Kind `json:"kind"` // of the testbed
	// State is the campaign's state from now on: see dataset.State; "" leaves it as it is.
	State string `json:"state,omitempty"`
}

// Summarised is a campaign's summary on disk.
type Summarised struct {
	Path   string `json:"path"` // of summary.md
	Trials int    `json:"trials"`
	// Problems are files that were missing, or damaged and set aside.
	Problems []string `json:"problems,omitempty"`
	// Controls are the controls that did not show what they must.
	Controls []string `json:"controls,omitempty"`
	// Medians are those of the first cells.
	Medians []Median `json:"medians,omitempty"`
}

// maxProblems is how many problems and failed controls a result names; the log has all of
// them.
const maxProblems = 20

// Summarise merges the rows of all attempts into the campaign's tables, and writes the
// manifest and the summary.
func (c *Collector) Summarise(ctx context.Context, input SummariseInput) (Summarised, error) {
	working, p, stop := pulse.Start(ctx, datasetSilence)
	defer stop()
	p.Done(pulse.Step{Step: "merge the rows of campaign " + input.Campaign})
	summarised, err := c.summarise(working, input)
	return summarised, pulse.Result(working, err)
}

// noteEnd notes how the campaign ended, once for each of its executions.
func noteEnd(ctx context.Context, record *dataset.Record, state string) error {
	event := dataset.CampaignEvent{Name: dataset.EventEnded, Detail: state}
	if activity.IsActivity(ctx) {
		event.ID = "ended/" + activity.GetInfo(ctx).WorkflowExecution.RunID
	}
	return record.Event(ctx, event)
}

func (c *Collector) summarise(ctx context.Context, input SummariseInput) (Summarised, error) {
	record, err := c.Records.of(ctx, input.DataDir, input.Campaign, "")
	if err != nil {
		return Summarised{}, err
	}
	if err := stillOurs(ctx, record); err != nil {
		return Summarised{}, err
	}
	folder := record.Folder()
	if input.State != "" {
		if err := record.SetState(ctx, input.State); err != nil {
			return Summarised{}, err
		}
		if err := noteEnd(ctx, record, input.State); err != nil {
			return Summarised{}, err
		}
	}
	compacted, err := record.Compact(ctx, c.Version)
	if err != nil {
		return Summarised{}, fmt.Errorf("merge the campaign's rows: %w", err)
	}
	summarised := Summarised{Path: filepath.Join(folder, dataset.SummaryFile), Trials: compacted.Trials}
	for _, name := range compacted.Removed {
		activity.GetLogger(ctx).Info("what an attempt that was never concluded had written is removed", "path", name)
	}
	for _, problem := range compacted.Problems {
		activity.GetLogger(ctx).Warn("the dataset has a problem", "problem", problem.String())
		if len(summarised.Problems) < maxProblems {
			summarised.Problems = append(summarised.Problems, problem.String())
		}
	}
	written, err := summary.WriteSummary(folder)
	if err != nil {
		return Summarised{}, fmt.Errorf("write the summary: %w", err)
	}
	failed := written.FailedControls()
	for _, control := range failed {
		activity.GetLogger(ctx).Warn("a control failed", "control", control)
	}
	if input.State != "" && input.State != dataset.StateRunning {
		c.Records.letGo(record) // it takes some kB for each trial
	}
	summarised.Controls, summarised.Medians = failed[:min(maxProblems, len(failed))], mediansOf(&written)
	return summarised, nil
}
