package workflows

import (
	"fmt"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"heliotrope/internal/campaign"
	"heliotrope/internal/fault"
	"heliotrope/internal/trial"
)

// TrialInput starts a trial.
type TrialInput struct {
	Campaign   string          `json:"campaign"`
	SpecSHA256 string          `json:"spec_sha256"`
	DataDir    string          `json:"data_dir"`
	Lane       Lane            `json:"lane"`
	Trial      campaign.Trial  `json:"trial"`
	Phases     campaign.Phases `json:"phases"`
	DiskMiB    int             `json:"disk_mib"`
	Limits     campaign.Limits `json:"limits"`
	// Began is when a simulated trial begins; zero for a real one.
	Began time.Time `json:"began,omitzero"`
}

// TrialResult is how a trial ended.
type TrialResult struct {
	Verdict  trial.Verdict `json:"verdict"`
	Reason   string        `json:"reason,omitempty"`
	Attempts int           `json:"attempts"`
	Seconds  float64       `json:"seconds"` // from the first attempt's start
}

// Trial executes one trial: it tries until an attempt has a result, or the
// attempts are used up. The system under test failing is a result. Whatever
// happens, the testbed is left as it was.
func Trial(ctx workflow.Context, input TrialInput) (TrialResult, error) {
	status := TrialStatus{CellID: input.Trial.CellID, Lane: input.Lane.Name, Attempts: input.Limits.Attempts}
	if err := workflow.SetQueryHandler(ctx, StatusQuery, func() (TrialStatus, error) { return status, nil }); err != nil {
		return TrialResult{}, err
	}
	started := workflow.Now(ctx)
	result := TrialResult{Verdict: trial.Invalid}
	for n := 1; n <= max(1, input.Limits.Attempts); n++ {
		a := newAttempt(input, n, &status)
		result.Attempts = n
		var err error
		result.Verdict, result.Reason, err = a.execute(ctx)
		if err != nil {
			return result, err
		}
		details := a.details()
		status.Problem = result.Reason
		workflow.SetCurrentDetails(ctx, details+"\nVerdict: **"+string(result.Verdict)+"** "+result.Reason+"\n")
		if result.Verdict != trial.Invalid || a.hopeless {
			break
		}
	}
	result.Seconds = workflow.Now(ctx).Sub(started).Seconds()
	if err := workflow.UpsertTypedSearchAttributes(ctx, attrVerdict.ValueSet(string(result.Verdict))); err != nil {
		return result, err
	}
	if result.Verdict == trial.Skipped {
		return result, temporal.NewCanceledError(result)
	}
	return result, nil
}

// sequenceText is how a trial's number is written, so that it sorts.
func sequenceText(sequence int) string { return fmt.Sprintf("%05d", sequence) }

// verdictOf judges an attempt by the error that ended it.
func verdictOf(err error) (trial.Verdict, string) {
	if err == nil {
		return trial.Valid, ""
	}
	switch fault.Of(err) {
	case fault.TargetFailed:
		return trial.TargetFailed, fault.Reason(err)
	case fault.Cancelled:
		return trial.Skipped, "cancelled"
	}
	return trial.Invalid, fault.Reason(err)
}
