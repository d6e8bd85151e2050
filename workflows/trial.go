package workflows

import (
	"fmt"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"heliotrope/activities"
	"heliotrope/internal/campaign"
	"heliotrope/internal/cause"
	"heliotrope/internal/fault"
	"heliotrope/internal/fault/wire"
	"heliotrope/internal/trial"
)

// TrialInput starts a trial.
type TrialInput struct {
	Campaign   string         `json:"campaign"`
	SpecSHA256 string         `json:"spec_sha256"`
	DataDir    string         `json:"data_dir"`
	Lane       Lane           `json:"lane"`
	Trial      campaign.Trial `json:"trial"`
	activities.Settings
	// Began is when a simulated trial begins; zero for a real one.
	Began time.Time `json:"began,omitzero"`
}

// TrialResult is how a trial ended.
type TrialResult struct {
	Verdict  trial.Verdict `json:"verdict"`
	Cause    cause.Code    `json:"cause,omitempty"`
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
		concluded, err := a.execute(ctx)
		result.Verdict, result.Cause, result.Reason = concluded.Verdict, concluded.Cause, concluded.Reason
		if err != nil {
			return result, err
		}
		details := a.details()
		status.Problem, status.Cause = result.Reason, result.Cause
		workflow.SetCurrentDetails(ctx, details+verdictText(result))
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
func verdictOf(err error) activities.Concluded {
	if err == nil {
		return activities.Concluded{Verdict: trial.Valid}
	}
	verdict := trial.Invalid
	switch wire.Of(err) {
	case fault.TargetFailed:
		verdict = trial.TargetFailed
	case fault.Cancelled:
		return activities.Concluded{Verdict: trial.Skipped, Cause: cause.Cancelled, Reason: "cancelled"}
	}
	return activities.Concluded{Verdict: verdict, Cause: wire.CauseOf(err), Reason: wire.Reason(err)}
}
