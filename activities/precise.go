package activities

import (
	"fmt"
	"math"

	"heliotrope/analysis/precision"
	"heliotrope/internal/campaign"
)

// Precise is how precise a campaign's results are. The details are those of its worst
// group, a cell in one direction.
type Precise struct {
	Enough bool   `json:"enough"`
	Metric string `json:"metric"`
	Cells  int    `json:"cells"` // number of groups
	// Imprecise is how many groups are not precise enough yet.
	Imprecise int    `json:"imprecise"`
	WorstCell string `json:"worst_cell,omitempty"`
	// WorstInfinite of the worst group's WorstValues values are infinite: failures, and
	// loads that did not come back.
	WorstInfinite int `json:"worst_infinite,omitempty"`
	WorstValues   int `json:"worst_values,omitempty"`
	// DecidedAfter is the number of blocks after which the results are forecast to be precise
	// enough; 0 when they are.
	DecidedAfter int `json:"decided_after,omitempty"`
	// HalfWidthPercent is half of the interval of the worst group's median, in percent of
	// the median, with 95 % over all looks; 0 when it is not known.
	HalfWidthPercent float64 `json:"half_width_percent"`
	WantPercent      float64 `json:"want_percent"`
	// MoreTrials forecasts the number of trials that are still needed.
	MoreTrials int `json:"more_trials"`
}

// String describes the precision in a sentence.
func (p Precise) String() string {
	switch {
	case p.Enough:
		return fmt.Sprintf("%s is known to ± %g %% in all %d groups.", p.Metric, p.WantPercent, p.Cells)
	case p.Imprecise == 0 && p.Cells > 0:
		return fmt.Sprintf("%s is known to ± %g %% in all %d groups; it is decided after block %d: about %d more trials.",
			p.Metric, p.WantPercent, p.Cells, p.DecidedAfter, p.MoreTrials)
	}
	known := "not known yet"
	switch {
	case p.HalfWidthPercent > 0:
		known = fmt.Sprintf("known to ± %.1f %%", p.HalfWidthPercent)
	case p.WorstInfinite > 0:
		known = fmt.Sprintf("∞ in %d of %d trials", p.WorstInfinite, p.WorstValues)
	}
	return fmt.Sprintf("%s is %s in the worst group, %s; ± %g %% is wanted, which %d of %d groups miss: about %d more trials.",
		p.Metric, known, p.WorstCell, p.WantPercent, p.Imprecise, p.Cells, p.MoreTrials)
}

// preciseOf keeps what a workflow needs.
func preciseOf(result precision.Result, stop campaign.Stop, blocks int, trialsPerBlock float64) Precise {
	precise := Precise{Enough: result.Enough, Metric: stop.Metric, WantPercent: stop.RelativeCIPercent,
		Cells: len(result.Cells), MoreTrials: int(math.Ceil(float64(result.MoreRepetitions) * trialsPerBlock))}
	if !precise.Enough {
		precise.DecidedAfter = blocks + result.MoreRepetitions
	}
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
		cell := result.Cells[worst]
		precise.WorstCell, precise.WorstInfinite, precise.WorstValues = cell.CellID+" "+cell.Direction, cell.Infinite, cell.Values
		if width := cell.HalfWidthPercent; width != nil {
			precise.HalfWidthPercent = *width
		}
	}
	return precise
}
