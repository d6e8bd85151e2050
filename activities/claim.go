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
	Lane       string `json:"lane"` // "": only asks what is left
	// GiveBack frees what is not done of the lane's block, because the lane is in
	// quarantine or drained.
	GiveBack bool `json:"give_back,omitempty"`
	// Until is the time after which no trial is begun; Now is the workflow's time.
	Until time.Time      `json:"until,omitzero"`
	Now   time.Time      `json:"now"`
	Stop  *campaign.Stop `json:"stop,omitempty"` // the rule that holds now
}

// What a lane should do next.
const (
	NextTrial   = "trial"
	NextNothing = "nothing" // everything is done, or claimed by other lanes
	NextEnough  = "enough"  // the results are precise enough
	NextUntil   = "until"   // the time in Until has passed
)

// Claimed is what a lane should do next. Only the dataset knows what is done: asked again
// without an attempt in between, it gives the same answer.
type Claimed struct {
	Next    string         `json:"next"`
	Trial   campaign.Trial `json:"trial,omitzero"`
	Attempt int            `json:"attempt,omitempty"` // one more than the number of the last known attempt
	Began   time.Time      `json:"began,omitzero"`    // of a simulated trial: simulated trials never overlap
	Precise *Precise       `json:"precise,omitempty"` // found by the newest look; nil before the first look
	Dataset Counts         `json:"dataset"`           // what the folder holds
}

// Counts are what a campaign's folder holds.
type Counts struct {
	Total    int                   `json:"total"` // trials, including added ones
	Verdicts map[trial.Verdict]int `json:"verdicts,omitempty"`
	Causes   map[cause.Code]int    `json:"causes,omitempty"`  // of the trials that are not valid
	Retried  int                   `json:"retried,omitempty"` // attempts beyond the first
	Seconds  float64               `json:"seconds,omitempty"` // sum of the durations of finished trials
}

// Claim gives a lane its next trial, according to what the folder says is done. It reads
// only what it needs, and takes a few milliseconds.
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

// runs notes that the campaign runs, when its folder says that it has ended: the server's
// database is a copy from before that.
func runs(ctx context.Context, record *dataset.Record) error {
	state, err := dataset.ReadState(record.Folder())
	if err != nil || state.State == dataset.StateRunning {
		return err
	}
	return record.SetState(ctx, dataset.StateRunning)
}

// hasTrace says whether an attempt was begun that left no row, for instance because it was
// terminated. Its name is on the hosts, so it must not be used again.
func hasTrace(target Target) bool {
	for _, path := range []string{target.WorkFolder(), target.WorkFolder() + beforeSuffix} {
		if _, err := os.Lstat(path); err == nil {
			return true
		}
	}
	return false
}

// look says how precise the results are, by the newest look that is due; nil when none is
// due. The rows of that look's blocks no longer change, so each look is made once.
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

// trialsPerBlock is the mean number of trials in each of the first blocks.
func trialsPerBlock(record *dataset.Record, blocks int) float64 {
	trials := 0
	for _, planned := range record.Plan() {
		if planned.Block <= blocks {
			trials++
		}
	}
	return float64(trials) / float64(blocks)
}

// holds counts what a folder holds.
func holds(record *dataset.Record) Counts { return Counts(record.Counts()) }
