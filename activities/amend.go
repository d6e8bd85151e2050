package activities

import (
	"context"
	"time"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/campaign"
	"heliotrope/internal/fault"
	"heliotrope/internal/fault/wire"
)

// AmendInput is an update that a campaign or one of its lanes has taken.
type AmendInput struct {
	Campaign string    `json:"campaign"`
	DataDir  string    `json:"data_dir"`
	Dataset  string    `json:"dataset"` // identity of the campaign's folder
	ID       string    `json:"id"`      // of the update; unique, also among the updates of later runs
	At       time.Time `json:"at"`
	Update   string    `json:"update"`
	Steering Steering  `json:"steering"`
	// Answer says what the update does, where that does not depend on the plan.
	Answer string `json:"answer,omitempty"`
}

// Amended is the result of an update.
type Amended struct {
	Answer string `json:"answer"` // one sentence
	Total  int    `json:"total"`  // number of trials in the plan
	// Stop is the rule that holds now; nil when there is none.
	Stop *campaign.Stop `json:"stop,omitempty"`
}

// Amend notes an update in the dataset, with its changes of the plan. An update that is not
// possible is refused and not noted. The same update is noted once, and always gets the
// same answer.
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

// change returns the update's changes of the plan, and the answer to the update.
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
