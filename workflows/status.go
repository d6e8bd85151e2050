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
	// SpecYAML, and Files with the texts of Iometer's files that the spec names, are only
	// set in the campaign's first run: the dataset keeps them.
	SpecYAML   string            `json:"spec_yaml,omitempty"`
	SpecSHA256 string            `json:"spec_sha256"` // hex; includes Files, where there are any
	Files      map[string][]byte `json:"files,omitempty"`
	DataDir    string            `json:"data_dir"` // absolute path on the controller
	Lanes      []Lane            `json:"lanes"`
	// MaxEvents is the number of history events from which on a campaign or a lane
	// continues as new; 0 stands for defaultMaxEvents.
	MaxEvents int `json:"max_events,omitempty"`
	// QuarantineAfter is how many attempts in a row must fail to be measured before a
	// lane's testbed is put into quarantine; 0 leaves that to the campaign's limits.
	QuarantineAfter int           `json:"quarantine_after,omitempty"`
	State           CampaignState `json:"state"` // zero at the start
}

// CampaignState is what a campaign carries from run to run. Measured data is only in the
// dataset.
type CampaignState struct {
	Progress Progress `json:"progress"`
	// By the lanes' names: Lanes has the last report of each lane, and Orders its orders.
	Lanes  map[string]LaneReport `json:"lanes,omitempty"`
	Orders map[string]Orders     `json:"orders,omitempty"`
	// Heard is when each lane was last heard, or asked.
	Heard map[string]time.Time `json:"heard,omitempty"`
	// Cancelling says that the lanes were cancelled and have not all ended.
	Cancelling bool `json:"cancelling,omitempty"`
	// Canceller is who cancels the campaign and why, from the signal that says so until
	// that is noted.
	Canceller *activities.Steering `json:"canceller,omitempty"`
}

// Progress is how far a campaign is: what its dataset held when a lane last looked.
type Progress struct {
	Started  time.Time             `json:"started,omitzero"` // when its first trials started, regardless of interruptions
	Total    int                   `json:"total"`
	Verdicts map[trial.Verdict]int `json:"verdicts,omitempty"`
	Causes   map[cause.Code]int    `json:"causes,omitempty"` // of the trials that are not valid
	Retried  int                   `json:"retried"`          // attempts beyond the first
	// Precise is how precise the results were when they were last judged, for a campaign
	// that stops by precision, and JudgedDone is how many trials were done then. Enough
	// says that no more trials are needed.
	Precise    *activities.Precise `json:"precise,omitempty"`
	JudgedDone int                 `json:"judged_done,omitempty"`
	Enough     bool                `json:"enough,omitempty"`
	// PlanSHA256 is the hash of the plan in the dataset, and Dataset the dataset's
	// identity.
	PlanSHA256 string `json:"plan_sha256,omitempty"`
	Dataset    string `json:"dataset,omitempty"`
	// TrialSeconds is the sum of the durations of finished trials, for forecasts.
	TrialSeconds float64 `json:"trial_seconds"`
}

// Done is the number of trials that have a verdict.
func (p Progress) Done() int { return done(p.Verdicts) }

func done(verdicts map[trial.Verdict]int) int {
	sum := 0
	for _, verdict := range []trial.Verdict{trial.Valid, trial.TargetFailed, trial.Invalid, trial.Skipped} {
		sum += verdicts[verdict]
	}
	return sum
}

// take updates the progress to what a lane found in the dataset, unless that is older than
// the current progress.
func (p *Progress) take(found activities.Counts) {
	next := *p
	next.Total, next.Verdicts, next.Causes = found.Total, found.Verdicts, found.Causes
	next.Retried, next.TrialSeconds = found.Retried, found.Seconds
	if next.Total > p.Total || next.Total == p.Total && next.Done()+next.Retried >= p.Done()+p.Retried {
		*p = next
	}
}

// CampaignStatus is a campaign's answer to StatusQuery.
type CampaignStatus struct {
	Name       string         `json:"name"`
	SpecSHA256 string         `json:"spec_sha256"`
	Kind       inventory.Kind `json:"kind"`
	DataDir    string         `json:"data_dir"`
	State      string         `json:"state"` // planning, running, finishing, cancelling, finished, cancelled
	Progress   Progress       `json:"progress"`
	Running    []RunningTrial `json:"running"` // at most one for each lane
	// Lanes are the last reports of the lanes.
	Lanes []LaneReport `json:"lanes,omitempty"`
	// Controls are the controls that did not show what they must, as of the last summary.
	Controls []string `json:"controls,omitempty"`
}

// RunningTrial is a trial that a lane is running.
type RunningTrial struct {
	Lane       string    `json:"lane"`
	WorkflowID string    `json:"workflow_id"`
	Sequence   int       `json:"sequence"`
	CellID     string    `json:"cell_id"`
	Started    time.Time `json:"started"`
	Attempt    int       `json:"attempt,omitempty"` // from 1
}

// TrialStatus is a trial's answer to StatusQuery.
type TrialStatus struct {
	Key      string      `json:"key"`
	CellID   string      `json:"cell_id"`
	Lane     string      `json:"lane"`
	Phase    trial.Phase `json:"phase"`
	Since    time.Time   `json:"since"` // of the phase, on the server's clock
	Attempt  int         `json:"attempt"`
	Attempts int         `json:"attempts"`          // the most that there may be
	Problem  string      `json:"problem,omitempty"` // of the previous attempt
	Cause    cause.Code  `json:"cause,omitempty"`   // of the previous attempt, as a code
}

// Orders are what a campaign tells a lane to do.
type Orders = activities.Orders

// LaneInput starts a lane.
type LaneInput struct {
	Campaign   string `json:"campaign"`
	Execution  string `json:"execution"` // of the campaign: run ID of its first run
	DataDir    string `json:"data_dir"`
	Dataset    string `json:"dataset"` // identity of the campaign's folder
	PlanSHA256 string `json:"plan_sha256"`
	SpecSHA256 string `json:"spec_sha256"`
	Lane       Lane   `json:"lane"`
	activities.Settings
	QuarantineAfter int `json:"quarantine_after"`
	MaxEvents       int `json:"max_events"`
	// ReportEvery is the shortest time between two reports while only the trial changes.
	ReportEvery time.Duration `json:"report_every,omitempty"`
	Orders      Orders        `json:"orders"`
	State       LaneState     `json:"state"`
}

// LaneState is what a lane carries from run to run.
type LaneState struct {
	Report   LaneReport `json:"report"`
	Reported time.Time  `json:"reported,omitzero"`
	// Bad are the numbers of the trials whose attempts, in a row, were not measured; Lost
	// is how many of the last ones ended without a verdict.
	Bad  []int `json:"bad,omitempty"`
	Lost int   `json:"lost,omitempty"`
	// Quarantines is the number of quarantines since the last attempt that was measured.
	Quarantines int `json:"quarantines,omitempty"`
	// Left is the workflow ID of a trial that may still be ending on the testbed.
	Left string `json:"left,omitempty"`
	// Waits is how often in a row the lane has waited for the same thing.
	Waits int `json:"waits,omitempty"`
	// BadTrial is the last trial with an attempt that was not measured, and Before is how
	// that attempt ended.
	BadTrial campaign.Trial `json:"bad_trial,omitzero"`
	Before   TrialResult    `json:"before,omitzero"`
}

// LaneReport is a lane's answer to StatusQuery. The lane also sends it to its campaign;
// each report is complete by itself.
type LaneReport struct {
	Lane      string        `json:"lane"`
	Execution string        `json:"execution"` // of the campaign that started it
	State     string        `json:"state"`
	Since     time.Time     `json:"since,omitzero"` // of State
	Why       string        `json:"why,omitempty"`  // why it runs no trials, and what to do about that
	Orders    int           `json:"orders"`         // version of the orders that it has
	Trial     *RunningTrial `json:"trial,omitempty"`
	// Quarantine is set while the testbed is in quarantine.
	Quarantine *Quarantine `json:"quarantine,omitempty"`
	// Released is the number of the last release order that was carried out.
	Released int               `json:"released,omitempty"`
	Found    activities.Counts `json:"found"` // what the dataset held when the lane last claimed
	// Precise is how precise the results were when they were last judged, and Judged is how
	// many trials were done when the lane learnt of it.
	Precise *activities.Precise `json:"precise,omitempty"`
	Judged  int                 `json:"judged,omitempty"`
	Enough  bool                `json:"enough,omitempty"`
}

// States of a lane.
const (
	LaneStarting    = "starting"
	LaneRunning     = "running"
	LaneWaiting     = "waiting" // for something that somebody may have to repair
	LanePaused      = "paused"
	LaneQuarantined = "quarantined"
	LaneEnded       = "ended" // nothing was left for it
	LaneDrained     = "drained"
	LaneCancelled   = "cancelled"
	LaneFailed      = "failed"
	LaneLost        = "lost" // its workflow has ended without a report
)

// Over says whether the lane's workflow has ended.
func (r LaneReport) Over() bool {
	switch r.State {
	case LaneEnded, LaneDrained, LaneCancelled, LaneFailed, LaneLost:
		return true
	}
	return false
}

// idle says that the lane waits for an order, or until its testbed is fit again.
func (r LaneReport) idle() bool { return r.State == LanePaused || r.State == LaneQuarantined }

// Quarantine says why a testbed gets no trials.
type Quarantine struct {
	Since  time.Time  `json:"since"`
	Reason string     `json:"reason"`
	Cause  cause.Code `json:"cause,omitempty"` // of the last attempt
	By     string     `json:"by,omitempty"`    // who ordered it; "": the lane itself
	// Checks is how often the testbed was looked at since, Problem is what the last look
	// found, and Next is when the next look is; zero for never.
	Checks  int       `json:"checks,omitempty"`
	Problem string    `json:"problem,omitempty"`
	Next    time.Time `json:"next,omitzero"`
	// GaveBack says that the lane's block was given back for others.
	GaveBack bool `json:"gave_back,omitempty"`
}
