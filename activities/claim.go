package activities

import (
	"context"
	"encoding/json"
	"os"
	"time"

	"heliotrope/analysis/dataset"
	"heliotrope/analysis/precision"
	"heliotrope/internal/campaign"
	"heliotrope/internal/cause"
	"heliotrope/internal/fault"
	"heliotrope/internal/fault/wire"
	"heliotrope/internal/inventory"
	"heliotrope/internal/trial"
)

// ClaimInput asks for a lane's next trial.
type ClaimInput struct {
	Campaign   string `json:"campaign"`
	DataDir    string `json:"data_dir"`
	Dataset    string `json:"dataset"` // identity of the campaign's folder
	PlanSHA256 string `json:"plan_sha256"`
	Lane       string `json:"lane"` // "": it asks only what is left
	// GiveBack frees what is not done of the lane's block: the lane is in
	// quarantine, or drained.
	GiveBack bool `json:"give_back,omitempty"`
	// Until is when no trial is begun any more; Now is the workflow's time.
	Until time.Time      `json:"until,omitzero"`
	Now   time.Time      `json:"now"`
	Stop  *campaign.Stop `json:"stop,omitempty"` // as it is now
}

// What a lane does next.
const (
	NextTrial   = "trial"
	NextNothing = "nothing" // all is done, or other lanes have it
	NextEnough  = "enough"  // the results are precise
	NextUntil   = "until"   // the time is over
)

// Claimed is what a lane does next. The dataset alone says what is done: asked
// again without an attempt in between, it answers the same.
type Claimed struct {
	Next    string         `json:"next"`
	Trial   campaign.Trial `json:"trial,omitzero"`
	Attempt int            `json:"attempt,omitempty"` // one more than the last of which there is a trace
	Began   time.Time      `json:"began,omitzero"`    // of a simulated trial: they never overlap
	Precise *Precise       `json:"precise,omitempty"` // by the newest look; nil before the first
	Dataset Counts         `json:"dataset"`           // what the folder holds
}

// Counts are what a campaign's folder holds.
type Counts struct {
	Total    int                   `json:"total"` // trials, with those that were added
	Verdicts map[trial.Verdict]int `json:"verdicts,omitempty"`
	Causes   map[cause.Code]int    `json:"causes,omitempty"`  // of the trials that are not valid
	Retried  int                   `json:"retried,omitempty"` // attempts beyond the first
	Seconds  float64               `json:"seconds,omitempty"` // that finished trials took, summed
}

// Claim gives a lane its next trial, from what the folder says is done. It reads
// nothing but what it needs: it is over in some ms.
func (p *Planner) Claim(ctx context.Context, input ClaimInput) (Claimed, error) {
	claimed, err := p.claim(ctx, input)
	return claimed, wire.ToTemporal(err)
}

func (p *Planner) claim(ctx context.Context, input ClaimInput) (Claimed, error) {
	record, err := p.Records.of(ctx, input.DataDir, input.Campaign, input.Dataset)
	if err != nil {
		return Claimed{}, err
	}
	if err := stillOurs(ctx, record); err != nil {
		return Claimed{}, err
	}
	if sum := record.Identity().PlanSHA256; input.PlanSHA256 != "" && sum != input.PlanSHA256 {
		return Claimed{}, fault.New(fault.BadInput, "the plan in %s is not the one that the campaign began with", record.Folder())
	}
	claimed := Claimed{Next: NextNothing}
	if input.GiveBack {
		err := record.GiveBack(ctx, input.Lane)
		claimed.Dataset = holds(record)
		return claimed, err
	}
	if claimed.Precise, err = look(ctx, record, input.Stop); err != nil {
		return Claimed{}, err
	}
	claimed.Dataset = holds(record)
	switch {
	case claimed.Precise != nil && claimed.Precise.Enough:
		claimed.Next = NextEnough
	case record.Left() == 0:
	case !input.Until.IsZero() && !input.Now.Before(input.Until):
		claimed.Next = NextUntil
	case input.Lane == "":
		claimed.Next = NextTrial
	default:
		return claimed, claimed.take(ctx, record, input)
	}
	return claimed, nil
}

// take claims a trial for the lane.
func (c *Claimed) take(ctx context.Context, record *dataset.Record, input ClaimInput) error {
	next, found, err := record.Claim(ctx, input.Lane)
	if err != nil || !found {
		return err
	}
	if err := runs(ctx, record); err != nil {
		return err
	}
	c.Next, c.Trial, c.Attempt = NextTrial, next.Trial, next.Attempt
	ref := trial.Ref{Campaign: input.Campaign, Trial: next.Trial, Attempt: next.Attempt}
	for hasTrace(Target{DataDir: input.DataDir, Ref: ref}) {
		ref.Attempt++
	}
	c.Attempt = ref.Attempt
	if identity := record.Identity(); identity.TestbedKind == string(inventory.Simulated) {
		c.Began = identity.Created.Add(time.Duration(next.Trial.Sequence) * time.Hour)
	}
	return nil
}

// runs notes that the campaign runs, where its folder says that it has ended: the
// server's database is a copy from before that.
func runs(ctx context.Context, record *dataset.Record) error {
	state, err := dataset.ReadState(record.Folder())
	if err != nil || state.State == dataset.StateRunning {
		return err
	}
	return record.SetState(ctx, dataset.StateRunning)
}

// hasTrace says whether an attempt was begun that left no row, as one that was terminated:
// its name is on the hosts, and must not be used again.
func hasTrace(target Target) bool {
	for _, path := range []string{target.WorkFolder(), target.WorkFolder() + beforeSuffix} {
		if _, err := os.Lstat(path); err == nil {
			return true
		}
	}
	return false
}

// look tells how precise the results are, by the newest look that is due; nil when none
// is. The rows of its blocks do not change any more, so it is made once.
func look(ctx context.Context, record *dataset.Record, stop *campaign.Stop) (*Precise, error) {
	if stop == nil {
		return nil, nil //nolint:nilnil // no rule is no error
	}
	done, due := record.BlocksDone(), 0
	for _, at := range stop.Looks() {
		if at <= done {
			due = at
		}
	}
	if due == 0 {
		return nil, nil //nolint:nilnil // no look is no error
	}
	text, err := record.Look(ctx, due, *stop, func(rows []dataset.Trial) ([]byte, error) {
		result, err := precision.Cells(rows, *stop, due)
		if err != nil {
			return nil, fault.As(fault.BadInput, err)
		}
		return json.Marshal(preciseOf(result, *stop, due, trialsPerBlock(record, due)))
	})
	if err != nil {
		return nil, err
	}
	var precise Precise
	if err := json.Unmarshal(text, &precise); err != nil {
		return nil, fault.New(fault.BadInput, "the look after block %d in %s: %w", due, record.Folder(), err)
	}
	return &precise, nil
}

// trialsPerBlock is how many trials the first blocks have, each.
func trialsPerBlock(record *dataset.Record, blocks int) float64 {
	trials := 0
	for _, planned := range record.Plan() {
		if planned.Block <= blocks {
			trials++
		}
	}
	return float64(trials) / float64(blocks)
}

// holds is what a folder holds.
func holds(record *dataset.Record) Counts { return Counts(record.Counts()) }
