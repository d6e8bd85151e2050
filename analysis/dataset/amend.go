package dataset

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"heliotrope/internal/campaign"
	"heliotrope/internal/fault"
	"heliotrope/internal/trial"
)

// Stop is the rule by which the campaign stops by precision: the rule in its file, or that
// of the last event that changed it. It is nil when there is none.
func (r *Record) Stop() *campaign.Stop {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.index.stop
}

// Until is the time after which no trial is begun, as somebody has set it since the
// campaign last ended; zero when nobody has.
func (r *Record) Until() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.index.until
}

// Amend notes an event that somebody asked for and that may change the plan. Under the
// folder's lock it calls change, which can read the plan as it is then and returns the
// event's Amendment and Detail. When change returns an error, nothing is noted. An event
// whose ID was noted before is not noted again but returned as it was noted; when that one
// is of another request, the error is fault.BadInput.
func (r *Record) Amend(ctx context.Context, asked CampaignEvent, change func(plan func() (campaign.Begun, error)) (amendment campaign.Amendment, detail string, err error)) (CampaignEvent, error) {
	noted := asked
	err := r.change(ctx, func() error {
		if before, was := r.noted(asked.ID); was {
			if !before.asks(asked) {
				return fault.New(fault.BadInput, "event %s is there already, and is another: %s, asked for by %s because of %q", asked.ID, before.Name, before.By, before.Why)
			}
			noted = before
			return nil
		}
		amendment, detail, err := change(r.begun)
		if err != nil {
			return err
		}
		noted.Amendment, noted.Detail = amendment.Text(), detail
		return r.note(noted)
	})
	return noted, err
}

// asks says whether two events are of the same request.
func (e CampaignEvent) asks(other CampaignEvent) bool {
	return e.Name == other.Name && e.Lane == other.Lane && e.Trial == other.Trial && e.By == other.By && e.Why == other.Why
}

// noted finds an event by its ID.
func (r *Record) noted(id string) (CampaignEvent, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	event, was := r.index.events.byID[id]
	return event, was && id != ""
}

// begun is the plan as it is now, for the functions that change it.
func (r *Record) begun() (campaign.Begun, error) {
	spec, err := r.Spec()
	if err != nil {
		return campaign.Begun{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	plan := campaign.Begun{Spec: spec, Stop: r.index.stop}
	closed := map[int]bool{}
	for _, planned := range r.index.trials {
		plan.Trials = append(plan.Trials, planned.Trial)
		closed[planned.Sequence] = planned.standing == trial.Settled
	}
	plan.Closed = func(sequence int) bool { return closed[sequence] }
	return plan, nil
}

// Spec is the campaign file that the campaign was begun with, completed with this program's
// defaults. The settings that its trials use are in Settings.
func (r *Record) Spec() (*campaign.Spec, error) {
	folder := filepath.Join(r.folder, planFolder)
	path := filepath.Join(folder, specFile)
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	spec, err := campaign.Parse(path, text, func(name string) ([]byte, error) {
		return os.ReadFile(filepath.Join(folder, filesFolder, name))
	})
	if err != nil {
		return nil, fault.New(fault.BadInput, "this program does not understand the campaign file that the campaign was begun with: %w", err)
	}
	return spec, nil
}
