package activities

import (
	"context"
	"fmt"
	"math"

	"heliotrope/activities/pulse"
	"heliotrope/analysis/dataset"
	"heliotrope/analysis/precision"
	"heliotrope/internal/campaign"
	"heliotrope/internal/fault"
	"heliotrope/internal/inventory"
)

// PreciseInput names a campaign, and says what is precise enough.
type PreciseInput struct {
	Campaign   string         `json:"campaign"`
	DataDir    string         `json:"data_dir"`
	SpecSHA256 string         `json:"spec_sha256"`
	Kind       inventory.Kind `json:"kind"` // of the testbed
	Stop       campaign.Stop  `json:"stop"`
	// TrialsPerBlock is how many trials a block has, controls and sentinels
	// among them.
	TrialsPerBlock float64 `json:"trials_per_block"`
}

// Precise is how precise a campaign's results are: those of its worst cell.
type Precise struct {
	Enough bool   `json:"enough"`
	Metric string `json:"metric"`
	Cells  int    `json:"cells"`
	// Imprecise is how many cells are not precise enough yet.
	Imprecise int    `json:"imprecise"`
	WorstCell string `json:"worst_cell,omitempty"`
	// HalfWidthPercent is half of the 95 % interval of the worst cell's
	// median, in percent of it; 0 when it is not known yet.
	HalfWidthPercent float64 `json:"half_width_percent"`
	WantPercent      float64 `json:"want_percent"`
	// MoreTrials is a forecast of the trials still needed.
	MoreTrials int `json:"more_trials"`
}

// String says it in a sentence.
func (p Precise) String() string {
	if p.Enough {
		return fmt.Sprintf("%s is known to ± %g %% in all %d cells.", p.Metric, p.WantPercent, p.Cells)
	}
	known := "not known yet"
	if p.HalfWidthPercent > 0 {
		known = fmt.Sprintf("known to ± %.1f %%", p.HalfWidthPercent)
	}
	return fmt.Sprintf("%s is %s in the worst cell, %s; ± %g %% is wanted, which %d of %d cells miss: about %d more trials.",
		p.Metric, known, p.WorstCell, p.WantPercent, p.Imprecise, p.Cells, p.MoreTrials)
}

// Precise judges how precise a campaign's results are.
func (c *Collector) Precise(ctx context.Context, input PreciseInput) (Precise, error) {
	working, p, stop := pulse.Start(ctx, datasetSilence)
	defer stop()
	p.Done(pulse.Step{Step: "how precise is " + input.Stop.Metric + "?"})
	folder := dataset.CampaignFolder(input.DataDir, input.Campaign)
	if _, err := dataset.CompactCampaign(folder, c.provenance(input.Campaign, input.SpecSHA256, input.Kind)); err != nil {
		return Precise{}, pulse.Result(working, fmt.Errorf("merge the campaign's rows: %w", err))
	}
	rows, err := dataset.ReadAttempts(folder)
	if err != nil {
		return Precise{}, pulse.Result(working, err)
	}
	result, err := precision.Cells(rows, input.Stop)
	if err != nil {
		return Precise{}, pulse.Result(working, fault.As(fault.BadInput, err))
	}
	return preciseOf(result, input), nil
}

// preciseOf keeps what a workflow needs.
func preciseOf(result precision.Result, input PreciseInput) Precise {
	stop := input.Stop
	precise := Precise{Enough: result.Enough, Metric: stop.Metric, WantPercent: stop.RelativeCIPercent,
		Cells: len(result.Cells), MoreTrials: int(math.Ceil(float64(result.MoreRepetitions) * input.TrialsPerBlock))}
	worst := -1
	for i, cell := range result.Cells {
		if cell.Precise {
			continue
		}
		precise.Imprecise++
		if worst < 0 || cell.WantN > result.Cells[worst].WantN {
			worst = i
		}
	}
	if worst >= 0 {
		precise.WorstCell = result.Cells[worst].CellID
		if width := result.Cells[worst].HalfWidthPercent; width != nil {
			precise.HalfWidthPercent = *width
		}
	}
	return precise
}
