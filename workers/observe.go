package workers

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/hooks"
	"heliotrope/internal/poll"
	"heliotrope/internal/trial"
	"heliotrope/workflows"
)

// Observation is the state of a controller's running campaigns.
type Observation struct {
	At            time.Time
	Campaigns     []ObservedCampaign
	DatabaseBytes int64 // 0: there is no embedded server
}

// ObservedCampaign is a running campaign.
type ObservedCampaign struct {
	Name      string
	Started   time.Time
	LastValid time.Time                 // when its last valid trial ended; zero: there is none yet
	Status    *workflows.CampaignStatus // nil: the campaign did not answer
	// DatasetBytes is the size of the campaign's folder at the last measurement; 0: not
	// measured yet.
	DatasetBytes int64
}

// lastSign is when the campaign last made progress.
func (c ObservedCampaign) lastSign() time.Time {
	if c.LastValid.IsZero() {
		return c.Started
	}
	return c.LastValid
}

// lanes counts the campaign's lanes by their last reported states.
func (c ObservedCampaign) lanes() map[string]int {
	states := map[string]int{}
	for _, lane := range c.Status.Lanes {
		states[lane.State]++
	}
	return states
}

// Observer looks at the running campaigns: for metrics, and for hooks that wait for a
// campaign that makes no progress. It decides nothing about them.
type Observer struct {
	Client client.Client
	Queue  string // the controller's queue
	// Database is the path of the embedded server's database; "" when there is none.
	Database string
	Hooks    hooks.Hooks
	// Seen, when set, is called with each observation. Folders are only measured when it is
	// set.
	Seen func(Observation)
	Log  zerolog.Logger

	sizes   *sizes               // nil: sizes are not wanted
	told    map[string]time.Time // by campaign and hook: the last valid trial when the hook was told
	telling sync.WaitGroup
}

const (
	observeEvery = 10 * time.Second
	// observeLimit is for one observation, and answerLimit for one query of a campaign.
	observeLimit = time.Minute
	answerLimit  = 5 * time.Second
)

// Run observes until ctx ends.
func (o *Observer) Run(ctx context.Context) {
	defer o.telling.Wait()
	if o.Seen != nil {
		o.sizes = newSizes(ctx)
	}
	for {
		o.once(ctx)
		if poll.Pause(ctx, observeEvery) != nil {
			return
		}
	}
}

func (o *Observer) once(ctx context.Context) {
	limited, cancel := context.WithTimeout(ctx, observeLimit)
	defer cancel()
	observed, err := o.Look(limited)
	if err != nil {
		if ctx.Err() == nil {
			o.Log.Warn().Err(err).Msg("the campaigns that run cannot be observed")
		}
		return
	}
	if o.Seen != nil {
		o.Seen(observed)
	}
	o.tellOfSilence(ctx, observed)
}

// Look observes once.
func (o *Observer) Look(ctx context.Context) (Observation, error) {
	found, err := o.Client.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{PageSize: 1000,
		Query: fmt.Sprintf("ExecutionStatus = 'Running' AND WorkflowType = '%s' AND TaskQueue = '%s'", workflows.CampaignName, o.Queue)})
	if err != nil {
		return Observation{}, fmt.Errorf("list the campaigns that run: %w", err)
	}
	observed := Observation{At: time.Now(), DatabaseBytes: databaseSize(o.Database)}
	for _, info := range found.GetExecutions() {
		one, err := o.campaign(ctx, info)
		if err != nil {
			return observed, err
		}
		observed.Campaigns = append(observed.Campaigns, one)
	}
	return observed, nil
}

func (o *Observer) campaign(ctx context.Context, info *workflow.WorkflowExecutionInfo) (ObservedCampaign, error) {
	id := info.GetExecution().GetWorkflowId()
	one := ObservedCampaign{Name: strings.TrimPrefix(id, workflows.CampaignID("")), Started: info.GetStartTime().AsTime()}
	valid, err := o.Client.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{PageSize: 1, // the newest
		Query: fmt.Sprintf("WorkflowType = '%s' AND HeliotropeCampaign = '%s' AND HeliotropeVerdict = '%s' AND ExecutionStatus = 'Completed'",
			workflows.TrialName, one.Name, trial.Valid)})
	if err != nil {
		return one, fmt.Errorf("ask for the last valid trial of campaign %s: %w", one.Name, err)
	}
	for _, last := range valid.GetExecutions() {
		one.LastValid = last.GetCloseTime().AsTime()
	}
	one.Status = o.status(ctx, id)
	if one.Status != nil && one.Status.Progress.Started.After(time.Time{}) {
		one.Started = one.Status.Progress.Started // the start of its first run
	}
	var folder string
	if err := converter.GetDefaultDataConverter().FromPayload(info.GetMemo().GetFields()["data_dir"], &folder); err == nil && folder != "" {
		one.DatasetBytes = o.sizes.of(dataset.CampaignFolder(folder, one.Name))
	}
	return one, nil
}

// status queries a campaign; nil when it does not answer in time.
func (o *Observer) status(ctx context.Context, id string) *workflows.CampaignStatus {
	limited, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	value, err := o.Client.QueryWorkflow(limited, id, "", workflows.StatusQuery)
	var status workflows.CampaignStatus
	if err != nil || value.Get(&status) != nil {
		return nil
	}
	return &status
}

// tellOfSilence tells hooks about campaigns that have had no valid trial for long. Each
// hook is told once, until there is a valid trial again.
func (o *Observer) tellOfSilence(ctx context.Context, observed Observation) {
	for _, campaign := range observed.Campaigns {
		for i, hook := range o.Hooks.All {
			key, last := fmt.Sprintf("%s %d", campaign.Name, i), campaign.lastSign()
			silent := observed.At.Sub(last)
			if !slices.Contains(hook.On, hooks.NoValidTrial) || silent < hook.After || o.told[key].Equal(last) {
				continue
			}
			if o.told == nil {
				o.told = map[string]time.Time{}
			}
			o.told[key] = last
			event := hooks.Event{Kind: hooks.NoValidTrial, When: observed.At, Campaign: campaign.Name,
				Reason: fmt.Sprintf("no trial has ended valid for %s, since %s", silent.Round(time.Minute), last.UTC().Format(time.RFC3339))}
			o.telling.Go(func() {
				if err := o.Hooks.Once(ctx, hook, event); err != nil {
					o.Log.Warn().Err(err).Str("event", string(event.Kind)).Str("campaign", event.Campaign).Msg("a hook was not told")
				}
			})
		}
	}
}

// databaseSize is the size of an SQLite database, including its log.
func databaseSize(path string) int64 {
	if path == "" {
		return 0
	}
	size := int64(0)
	for _, name := range []string{path, path + "-wal", path + "-shm"} {
		if info, err := os.Stat(name); err == nil {
			size += info.Size()
		}
	}
	return size
}
