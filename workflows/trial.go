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

// TrialInput starts an attempt of a trial.
type TrialInput struct {
	Campaign   string         `json:"campaign"`
	SpecSHA256 string         `json:"spec_sha256"`
	DataDir    string         `json:"data_dir"`
	Dataset    string         `json:"dataset"` // identity of the campaign's folder
	Lane       Lane           `json:"lane"`
	Trial      campaign.Trial `json:"trial"`
	Attempt    int            `json:"attempt"` // from 1
	activities.Settings
	// Before is how the trial's previous attempt ended, where that is known.
	Before TrialResult `json:"before,omitzero"`
	// Began is when a simulated trial begins; zero for a real one.
	Began time.Time `json:"began,omitzero"`
}

// TrialResult is how an attempt of a trial ended.
type TrialResult struct {
	Verdict trial.Verdict `json:"verdict"`
	Cause   cause.Code    `json:"cause,omitempty"`
	Reason  string        `json:"reason,omitempty"`
	Attempt int           `json:"attempt"`
	Seconds float64       `json:"seconds"`
	activities.Figures
}

// Trial executes one attempt of a trial. A failure of the system under test is a result.
// Whatever happens, the testbed is left as it was. The lane's next claim decides whether
// there is another attempt.
func Trial(ctx workflow.Context, input TrialInput) (TrialResult, error) {
	status := TrialStatus{CellID: input.Trial.CellID, Lane: input.Lane.Name, Attempts: max(1, input.Limits.Attempts),
		Problem: input.Before.Reason, Cause: input.Before.Cause}
	if err := workflow.SetQueryHandler(ctx, StatusQuery, func() (TrialStatus, error) { return status, nil }); err != nil {
		return TrialResult{}, err
	}
	started := workflow.Now(ctx)
	a := newAttempt(input, input.Attempt, &status)
	concluded, err := a.execute(ctx)
	result := TrialResult{Verdict: concluded.Verdict, Cause: concluded.Cause, Reason: concluded.Reason,
		Attempt: input.Attempt, Seconds: workflow.Now(ctx).Sub(started).Seconds(), Figures: concluded.Figures}
	if err != nil {
		return result, err
	}
	workflow.SetCurrentDetails(ctx, a.details()+verdictText(result))
	if err := workflow.UpsertTypedSearchAttributes(ctx, attrPhase.ValueSet(string(status.Phase)), attrVerdict.ValueSet(string(result.Verdict))); err != nil {
		return result, err
	}
	if result.Verdict == trial.Skipped {
		return result, temporal.NewCanceledError(result)
	}
	return result, nil
}

// sequenceText is a trial's number in a form that sorts.
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
