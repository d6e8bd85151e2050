package workflows

import (
	"time"

	"heliotrope/activities"
	"heliotrope/internal/campaign"
	"heliotrope/internal/cause"
	"heliotrope/internal/inventory"
	"heliotrope/internal/trial"
)

// Lane is one testbed of a campaign.
type Lane = trial.Lane

// CampaignInput starts a campaign.
type CampaignInput struct {
	Name string `json:"name"`
	// SpecYAML and Files, the texts of Iometer's files that the spec names, are there
	// in the first run only: the dataset keeps them.
	SpecYAML   string            `json:"spec_yaml,omitempty"`
	SpecSHA256 string            `json:"spec_sha256"` // hex; of Files too, where there are any
	Files      map[string][]byte `json:"files,omitempty"`
	DataDir    string            `json:"data_dir"` // absolute path on the controller
	Lanes      []Lane            `json:"lanes"`
	// MaxEvents is from how many events of its history on a campaign, or a lane,
	// continues as new; 0 is defaultMaxEvents.
	MaxEvents int `json:"max_events,omitempty"`
	// QuarantineAfter is how many attempts in a row must not have been measured until
	// a lane's testbed is in quarantine; 0 leaves it to the campaign's limits.
	QuarantineAfter int           `json:"quarantine_after,omitempty"`
	State           CampaignState `json:"state"` // zero at the start
}

// CampaignState is what a campaign carries from run to run. What was measured
// is in the dataset alone.
type CampaignState struct {
	Progress Progress `json:"progress"`
	// Lanes are what each told last, and Orders what it was told to do, by its name.
	Lanes  map[string]LaneReport `json:"lanes,omitempty"`
	Orders map[string]Orders     `json:"orders,omitempty"`
	// Cancelling: the lanes were cancelled, and have not all ended.
	Cancelling bool `json:"cancelling,omitempty"`
	// Canceller is who cancels it and why, from when he says so until that is noted.
	Canceller *activities.Steering `json:"canceller,omitempty"`
}

// Progress is how far a campaign is: what its dataset held when a lane last
// looked.
type Progress struct {
	Started  time.Time             `json:"started,omitzero"` // of its first trials, whatever was in between
	Total    int                   `json:"total"`
	Verdicts map[trial.Verdict]int `json:"verdicts,omitempty"`
	Causes   map[cause.Code]int    `json:"causes,omitempty"` // of the trials that are not valid
	Retried  int                   `json:"retried"`          // attempts beyond the first
	// Precise is how precise the results were when they were last judged, for
	// a campaign that stops by precision, and JudgedDone how many trials were done
	// then. Enough says that no more trials are needed.
	Precise    *activities.Precise `json:"precise,omitempty"`
	JudgedDone int                 `json:"judged_done,omitempty"`
	Enough     bool                `json:"enough,omitempty"`
	// PlanSHA256 is the hash of the plan in the dataset, and Dataset the identity of that.
	PlanSHA256 string `json:"plan_sha256,omitempty"`
	Dataset    string `json:"dataset,omitempty"`
	// TrialSeconds is the time that finished trials took, summed, for forecasts.
	TrialSeconds float64 `json:"trial_seconds"`
}

// Done is how many trials have a verdict.
func (p Progress) Done() int { return done(p.Verdicts) }

func done(verdicts map[trial.Verdict]int) int {
	sum := 0
	for _, verdict := range []trial.Verdict{trial.Valid, trial.TargetFailed, trial.Invalid, trial.Skipped} {
		sum += verdicts[verdict]
	}
	return sum
}

// take brings the progress up to what a lane found in the dataset, unless that
// is older than what is known.
func (p *Progress) take(found activities.Counts) {
	next := *p
	next.Total, next.Verdicts, next.Causes = found.Total, found.Verdicts, found.Causes
	next.Retried, next.TrialSeconds = found.Retried, found.Seconds
	if next.Total > p.Total || next.Total == p.Total && next.Done()+next.Retried >= p.Done()+p.Retried {
		*p = next
	}
}

// CampaignStatus answers StatusQuery.
type CampaignStatus struct {
	Name       string         `json:"name"`
	SpecSHA256 string         `json:"spec_sha256"`
	Kind       inventory.Kind `json:"kind"`
	DataDir    string         `json:"data_dir"`
	State      string         `json:"state"` // planning, running, finishing, cancelling, finished, cancelled
	Progress   Progress       `json:"progress"`
	Running    []RunningTrial `json:"running"` // at most one for each lane
	// Lanes are what each told last.
	Lanes []LaneReport `json:"lanes,omitempty"`
	// Controls are those that did not show what they must, when the last summary was written.
	Controls []string `json:"controls,omitempty"`
}

// RunningTrial is a trial that a lane runs now.
type RunningTrial struct {
	Lane       string    `json:"lane"`
	WorkflowID string    `json:"workflow_id"`
	Sequence   int       `json:"sequence"`
	CellID     string    `json:"cell_id"`
	Started    time.Time `json:"started"`
	Attempt    int       `json:"attempt,omitempty"` // from 1
}

// TrialStatus answers StatusQuery of a trial.
type TrialStatus struct {
	Key      string      `json:"key"`
	CellID   string      `json:"cell_id"`
	Lane     string      `json:"lane"`
	Phase    trial.Phase `json:"phase"`
	Since    time.Time   `json:"since"` // of the phase, on the server's clock
	Attempt  int         `json:"attempt"`
	Attempts int         `json:"attempts"`          // at most
	Problem  string      `json:"problem,omitempty"` // of the attempt before
	Cause    cause.Code  `json:"cause,omitempty"`   // the same, by its code
}

// Orders are what a campaign tells a lane to do.
type Orders = activities.Orders

// LaneInput starts a lane.
type LaneInput struct {
	Campaign   string `json:"campaign"`
	Execution  string `json:"execution"` // of the campaign: the ID of its first run
	DataDir    string `json:"data_dir"`
	Dataset    string `json:"dataset"` // identity of the campaign's folder
	PlanSHA256 string `json:"plan_sha256"`
	SpecSHA256 string `json:"spec_sha256"`
	Lane       Lane   `json:"lane"`
	activities.Settings
	QuarantineAfter int `json:"quarantine_after"`
	MaxEvents       int `json:"max_events"`
	// ReportEvery is how long it is silent at least while nothing but the trial changes.
	ReportEvery time.Duration `json:"report_every,omitempty"`
	Orders      Orders        `json:"orders"`
	State       LaneState     `json:"state"`
}

// LaneState is what a lane carries from run to run.
type LaneState struct {
	Report   LaneReport `json:"report"`
	Reported time.Time  `json:"reported,omitzero"`
	// Bad are the trials, by their numbers, whose attempts in a row were not
	// measured, and Lost how many of the last ended without a verdict.
	Bad  []int `json:"bad,omitempty"`
	Lost int   `json:"lost,omitempty"`
	// Quarantines counts those since the last attempt that was measured.
	Quarantines int `json:"quarantines,omitempty"`
	// Left is the workflow ID of a trial that may still be ending on the testbed.
	Left string `json:"left,omitempty"`
	// Waits counts how often in a row it had to wait for the same thing.
	Waits int `json:"waits,omitempty"`
	// BadTrial is the last of which an attempt was not measured, and Before how that ended.
	BadTrial campaign.Trial `json:"bad_trial,omitzero"`
	Before   TrialResult    `json:"before,omitzero"`
}

// LaneReport answers StatusQuery of a lane. The lane sends it to its campaign as
// well; each says all that there is to know.
type LaneReport struct {
	Lane      string        `json:"lane"`
	Execution string        `json:"execution"` // of the campaign that started it
	State     string        `json:"state"`
	Since     time.Time     `json:"since,omitzero"` // of State
	Why       string        `json:"why,omitempty"`  // it runs no trials, and what to do
	Orders    int           `json:"orders"`         // version of those that it has
	Trial     *RunningTrial `json:"trial,omitempty"`
	// Quarantine is set while the testbed is in quarantine.
	Quarantine *Quarantine `json:"quarantine,omitempty"`
	// Released is the last order of that kind that was carried out.
	Released int               `json:"released,omitempty"`
	Found    activities.Counts `json:"found"` // in the dataset, when it last claimed
	// Precise is how precise the results were when they were last judged, and Judged how
	// many trials were done when the lane learnt of it.
	Precise *activities.Precise `json:"precise,omitempty"`
	Judged  int                 `json:"judged,omitempty"`
	Enough  bool                `json:"enough,omitempty"`
}

// States of a lane.
const (
	LaneStarting    = "starting"
	LaneRunning     = "running"
	LaneWaiting     = "waiting" // for something that somebody may have to mend
	LanePaused      = "paused"
	LaneQuarantined = "quarantined"
	LaneEnded       = "ended" // there was nothing left for it
	LaneDrained     = "drained"
	LaneCancelled   = "cancelled"
	LaneFailed      = "failed"
	LaneLost        = "lost" // its workflow has ended without a word
)

// Over says whether the lane's workflow has ended.
func (r LaneReport) Over() bool {
	switch r.State {
	case LaneEnded, LaneDrained, LaneCancelled, LaneFailed, LaneLost:
		return true
	}
	return false
}

// idle says that it waits for an order, or for its testbed to be fit again.
func (r LaneReport) idle() bool { return r.State == LanePaused || r.State == LaneQuarantined }

// Quarantine is why a testbed gets no trials.
type Quarantine struct {
	Since  time.Time  `json:"since"`
	Reason string     `json:"reason"`
	Cause  cause.Code `json:"cause,omitempty"` // of the last attempt
	By     string     `json:"by,omitempty"`    // who ordered it; "" is the lane itself
	// Checks is how often the testbed was looked at since, Problem what was found the
	// last time, and Next when it is looked at again; zero is never.
	Checks  int       `json:"checks,omitempty"`
	Problem string    `json:"problem,omitempty"`
	Next    time.Time `json:"next,omitzero"`
	// GaveBack: its block is free for others.
	GaveBack bool `json:"gave_back,omitempty"`
}
