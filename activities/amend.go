package activities

import (
	"context"
	"time"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/campaign"
	"heliotrope/internal/fault"
	"heliotrope/internal/fault/wire"
)

// AmendInput is an update that a campaign, or a lane of it, has taken.
type AmendInput struct {
	Campaign string    `json:"campaign"`
	DataDir  string    `json:"data_dir"`
	Dataset  string    `json:"dataset"` // identity of the campaign's folder
	ID       string    `json:"id"`      // of the update, which no other one has: also none of a later run
	At       time.Time `json:"at"`
	Update   string    `json:"update"`
	Steering Steering  `json:"steering"`
	// Answer says what it comes to, where that does not depend on the plan.
	Answer string `json:"answer,omitempty"`
}

// Amended is what came of an update.
type Amended struct {
	Answer string `json:"answer"` // one sentence
	Total  int    `json:"total"`  // trials of the plan
	// Stop is the rule that holds now; nil for none.
	Stop *campaign.Stop `json:"stop,omitempty"`
}

// Amend notes an update in the dataset, with what it changes of the plan. What cannot
// be is refused, and noted nowhere. The same update is noted once, and answered alike.
func (p *Planner) Amend(ctx context.Context, input AmendInput) (Amended, error) {
	amended, err := p.amend(ctx, input)
	return amended, wire.ToTemporal(err)
}

func (p *Planner) amend(ctx context.Context, input AmendInput) (Amended, error) {
	record, err := p.Records.of(ctx, input.DataDir, input.Campaign, input.Dataset)
	if err != nil {
		return Amended{}, err
	}
	if err := stillOurs(ctx, record); err != nil {
		return Amended{}, err
	}
	what := input.Steering
	asked := dataset.CampaignEvent{ID: input.ID, TsNs: input.At.UnixNano(), Name: input.Update, Lane: what.Lane, Trial: int32(what.Trial), //nolint:gosec // a number of the plan
		By: what.Who(), Why: what.Why}
	event, err := record.Amend(ctx, asked, input.change)
	if err != nil {
		return Amended{}, err
	}
	return Amended{Answer: event.Detail, Total: record.Counts().Total, Stop: record.Stop()}, nil
}

// change is what the update changes of the plan, and the answer to it.
func (i AmendInput) change(plan func() (campaign.Begun, error)) (amendment campaign.Amendment, answer string, err error) {
	switch i.Update {
	case SteerSkip, SteerRepeat, SteerAdd, SteerStop:
	case SteerUntil:
		return campaign.Amendment{Until: &campaign.Until{At: i.Steering.Until}}, i.Answer, nil
	default:
		return campaign.Amendment{}, i.Answer, nil
	}
	begun, err := plan()
	if err != nil {
		return campaign.Amendment{}, "", err
	}
	what := i.Steering
	switch i.Update {
	case SteerSkip:
		amendment, answer, err = begun.Skip(what.Trial, what.Cell)
	case SteerRepeat:
		amendment, answer, err = begun.Repeat(what.Cell, what.Times)
	case SteerAdd:
		amendment, answer, err = begun.Add("cells", what.Cells, what.Times)
	case SteerStop:
		amendment, answer, err = begun.ChangeStop(what.Stop)
	}
	return amendment, answer, fault.As(fault.BadInput, err)
}
