package activities

import (
	"time"

	"heliotrope/activities/machine"
	"heliotrope/internal/cause"
	"heliotrope/internal/trial"
)

// Known is what the workflow knows of an attempt when it ends. Fields of steps that were
// not reached are zero.
type Known struct {
	SpecSHA256  string         `json:"spec_sha256"`
	Verdict     trial.Verdict  `json:"verdict"`
	Cause       cause.Code     `json:"cause,omitempty"`
	Reason      string         `json:"reason,omitempty"`
	Swept       Swept          `json:"swept"`
	Provisioned Provisioned    `json:"provisioned"`
	WarmedUp    machine.Steady `json:"warmed_up"`
	Migrated    Migrated       `json:"migrated"`
	Looked      Looked         `json:"looked"` // at the end of phase after
	Collected   Collected      `json:"collected"`
	Verified    Verified       `json:"verified"`
	Found       Found          `json:"found"` // by the evidence of a failure
}

// ConcludeInput is what is known of an attempt that has ended, besides what its steps have
// left in its work folder.
type ConcludeInput struct {
	Target
	Known Known     `json:"known"`
	Ended time.Time `json:"ended"`
}

// Concluded is the attempt's verdict after its data was judged.
type Concluded struct {
	Verdict trial.Verdict `json:"verdict"`
	Cause   cause.Code    `json:"cause,omitempty"`
	Reason  string        `json:"reason,omitempty"`
	Figures
}
