package workflows

import (
	"time"

	"heliotrope/activities"
	"heliotrope/internal/cause"
	"heliotrope/internal/inventory"
	"heliotrope/internal/trial"
)

// Names by which the workflows are registered: a rename breaks running
// campaigns.
const (
	CampaignName = "Campaign"
	TrialName    = "Trial"
	// StatusQuery asks a Campaign for a CampaignStatus, a Trial for a TrialStatus.
	StatusQuery = "status"
)

// CampaignID is the workflow ID of a campaign.
func CampaignID(name string) string { return "campaign/" + name }

// Lane is one testbed of a campaign.
type Lane = trial.Lane

// CampaignInput starts a campaign.
type CampaignInput struct {
	Name       string `json:"name"`
	SpecYAML   string `json:"spec_yaml"`
	SpecSHA256 string `json:"spec_sha256"` // hex; of Files too, where there are any
	// Files are the texts of Iometer's files that the spec names, as they were
	// when the campaign was started.
	Files   map[string][]byte `json:"files,omitempty"`
	DataDir string            `json:"data_dir"` // absolute path on the controller
	Lanes   []Lane            `json:"lanes"`
	// TrialsPerRun is after how many trials the workflow continues as new.
	TrialsPerRun int      `json:"trials_per_run"`
	State        Progress `json:"state"` // zero at the start
}

// Progress is what a campaign carries from run to run: counters and references.
type Progress struct {
	Started  time.Time             `json:"started,omitzero"`
	Total    int                   `json:"total"`
	Next     int                   `json:"next"` // sequence of the next trial to start
	Verdicts map[trial.Verdict]int `json:"verdicts,omitempty"`
	Causes   map[cause.Code]int    `json:"causes,omitempty"` // of the trials that are not valid
	Retried  int                   `json:"retried"`          // attempts beyond the first
	// Precise is how precise the results were when they were last judged, for
	// a campaign that stops by precision; Judged is before which block that
	// was, and JudgedDone how many trials were done. Enough says that no more trials are needed.
	Precise    *activities.Precise `json:"precise,omitempty"`
	Judged     int                 `json:"judged,omitempty"`
	JudgedDone int                 `json:"judged_done,omitempty"`
	Enough     bool                `json:"enough,omitempty"`
	// PlanSHA256 is the hash of the plan file in the data folder.
	PlanSHA256 string `json:"plan_sha256,omitempty"`
	// TrialSeconds is the time that finished trials took, summed, for forecasts.
	TrialSeconds float64 `json:"trial_seconds"`
}

// Done is how many trials have a verdict.
func (p Progress) Done() int {
	done := 0
	for _, verdict := range []trial.Verdict{trial.Valid, trial.TargetFailed, trial.Invalid, trial.Skipped} {
		done += p.Verdicts[verdict]
	}
	return done
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
	Problem  string      `json:"problem,omitempty"` // of the last attempt
	Cause    cause.Code  `json:"cause,omitempty"`   // the same, by its code
}
